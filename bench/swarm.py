"""What a swarm is worth. `python bench/swarm.py simulate`: the driver of `autoresearch.queue` as it
is, with git, ledger, notes and judge, before a pool that only pretends to run: each run takes 300 s
of a clock of its own, on which the time that the driver's code takes counts in full."""
import argparse, heapq, io, json, math, os, random, re, shutil, subprocess, sys, tarfile, tempfile
import time
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
from autoresearch import queue, ratchet
from autoresearch.contract import get_profile
from autoresearch.ideas import constants_of
from autoresearch.repo import Refused, tip
from autoresearch.run import run_experiment

CORE = dict(cpu='simulated', cpus=1, gpus=0)

def git(root, *args):
    return subprocess.run(['git', *args], cwd=root, check=True, capture_output=True,
        text=True).stdout.strip()

def make_session(root, tag='sim1'):
    "The torch-free example as a repository of its own, with a session in it"
    shutil.copytree(ROOT/'examples/polynomial', root,
        ignore=shutil.ignore_patterns('runs', '__pycache__', 'results.tsv', 'run.log'))
    (root/'.gitignore').write_text('runs/\nresults.tsv\nrun.log\n__pycache__/\n')
    settings = root/'settings.ini' # patience: other work on the machine decides nothing here
    settings.write_text(settings.read_text().replace('wall_limit = 20', 'wall_limit = 200'))
    git(root, 'init', '-q', '-b', 'main', '--template=')
    git(root, 'config', 'user.name', 'simulation')
    git(root, 'config', 'user.email', 'simulation@localhost')
    git(root, 'add', '-A')
    git(root, 'commit', '-qm', 'start')
    os.chdir(root)
    return ratchet.setup(get_profile('polynomial', root/'settings.ini'), tag, walls='none', seed=42)

def template(s, folder):
    "One real run: what it leaves is what the simulated ones leave, but for value, seed and word"
    canvas = folder/'canvas.ipynb'
    word = f'simulated-{os.getpid()}' # whoever ends a run does so by its word
    canvas.write_bytes(s.file(s.base, s.p.canvas))
    result = run_experiment(canvas, folder/'run', s.p, 42, bar=False, code=s.p.root, nonce=word,
        walls='none')
    assert result.ok, result.reason
    names = ('run.ipynb', 'run.log', 'record.json', 'progress.json')
    files = {n: (folder/'run'/n).read_text() for n in names if (folder/'run'/n).exists()}
    return ratchet.outcome_of(result), files, word

def packed(files):
    "A tar file of texts by name"
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode='w:gz', compresslevel=1) as tar:
        for name,text in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data := text.encode())
            tar.addfile(info, io.BytesIO(data))
    return out.getvalue()

class SimulatedPool:
    "A pool whose runs take their time on a clock that is only put forward"
    def __init__(self, classes, measure, seconds=300., seed=0):
        self.names = {f'node{i//8}/{i%8}': facts for i,facts in enumerate(classes)}
        self.runs = {} # key: (spec, slot, began, ends)
        self.held = {} # key: result that was not taken yet
        self.given = set()
        self.measure,self.seconds = measure, seconds
        self.rng = random.Random(seed)
        self.gone = set() # nodes that are lost
        self.is_idle = lambda: True # does the driver wait for nothing but the pool?
        self.start,self.ahead,self.submitted = time.monotonic(), 0., []

    def clock(self): return time.monotonic()-self.start+self.ahead
    @contextmanager
    def aside(self):
        "What other processes do beside the driver takes none of its time"
        begun = time.monotonic()
        yield
        self.ahead -= time.monotonic()-begun

    def slots(self):
        busy = {slot: key for key,(_,slot,*_) in self.runs.items()}
        return [dict(slot=n, host=n.rpartition('/')[0], cls=queue.class_of(f), facts=f,
            busy=busy.get(n, '')) for n,f in self.names.items()
            if n.rpartition('/')[0] not in self.gone]
    def submit(self, spec):
        free = [o for o in self.slots() if not o['busy'] and spec['only'] in (None, o['cls'])]
        free.sort(key=lambda o: o['host'] == spec['avoid'])
        if not free: return ''
        now = self.clock()
        self.runs[spec['key']] = spec, free[0]['slot'], now, now+self.seconds
        self.submitted.append(spec['key'])
        return free[0]['slot']
    def lose(self, host):
        "A node dies, with its runs"
        self.gone.add(host)
        for key,(spec,slot,began,_) in list(self.runs.items()):
            if slot.rpartition('/')[0] != host: continue
            del self.runs[key]
            self.held[key] = dict(key=key, lost='the node died', slot=slot, host=host, began=began,
                ended=self.clock())
    def finished(self):
        ends = {key: o[3] for key,o in self.runs.items()}
        fresh = [k for k in self.held if k not in self.given]
        if not fresh and ends and self.is_idle():
            self.ahead += max(0., min(ends.values())-self.clock())
        elif not fresh: self.ahead += .1 # as long as a real one sleeps
        now = self.clock()
        for key in [k for k,t in ends.items() if t <= now]:
            spec,slot,began,end = self.runs.pop(key)
            self.held[key] = self.measure(spec) | dict(key=key, slot=slot, began=began, ended=end,
                host=slot.rpartition('/')[0], machine=self.names[slot])
        new = [r for k,r in self.held.items() if k not in self.given]
        self.given |= {r['key'] for r in new}
        return new
    def progress(self):
        now = self.clock()
        return {k: dict(percent=100*(now-o[2])/self.seconds) for k,o in self.runs.items()}
    def known(self):
        self.given.clear() # of another driver
        return {*self.runs, *self.held}
    def taken(self, key):
        self.held.pop(key, None)
        self.given.discard(key)
    def cancel(self, key): self.runs.pop(key, None)
    def close(self): self.runs.clear()

def valued(outcome, files, word, spec, value):
    "What a run with a value leaves"
    def own(text): return text.replace(word, spec['nonce'])
    out = json.loads(own(json.dumps(outcome)))
    block = out['record']['block']
    block[next(iter(block))] = value
    out['record']['seed'] = spec['seed']
    texts = {n: own(t) for n,t in files.items()} | {'record.json': json.dumps(out['record'])}
    return dict(lost='', outcome=out, folder=packed(texts), examined=None, audit=None)

def broken(outcome, files, word, why='a cell raised NameError'):
    "What a run with an error leaves"
    out = outcome | dict(status='error', reason=why, record={})
    return dict(lost='', outcome=out, folder=packed({'run.log': why}), examined=None, audit=None)

SIGMA = .002 # standard deviation of a run

def landscape(values):
    "The value of a canvas by its constants, a bowl whose bottom is not where the session begins"
    degree,rate,steps = (float(values[k]) for k in ('DEGREE', 'RATE', 'STEPS'))
    return (.1 + .02*((degree-4)/3)**2 + .02*math.log(rate/1.1)**2 + .02*((steps-480)/200)**2)

def measured(s, *made):
    "What the pool gives for a spec: by the constants of the commit's canvas, with noise by the seed"
    def measure(spec):
        canvas = json.loads(s.file(spec['commit'], s.p.canvas))
        values = constants_of(canvas)
        rng = random.Random(f'{sorted(values.items())} {spec["seed"]}')
        if rng.random() < .03 and spec['bar'] is not None and spec['whose'] == 'candidate': return broken(*made)
        return valued(*made, spec, round(landscape(values) + rng.gauss(0, SIGMA), 6))
    return measure

def proposal(s, rng):
    "An edit of the best: one constant moved"
    nb = json.loads(s.file(tip(s), s.p.canvas))
    values = constants_of(nb)
    name = rng.choice(['DEGREE', 'RATE', 'RATE', 'RATE', 'STEPS', 'STEPS'])
    if name == 'DEGREE': new = str(rng.randint(1, 7))
    elif name == 'RATE': new = f'{float(values["RATE"])*math.exp(rng.gauss(0, .4)):.4f}'
    else: new = str(max(100, int(values['STEPS'])+rng.randint(-120, 120)))
    for c in nb['cells']:
        text = ''.join(c['source'])
        if c['cell_type'] == 'code': c['source'] = re.sub(rf'^({name} = )\S+', rf'\g<1>{new}', text,
            flags=re.M).splitlines(True)
    return nb, f'{name} {new}'

def propose(s, rng, n):
    "Queue `n` edits of the best as a search would"
    at = tip(s)
    while n > 0:
        nb,what = proposal(s, rng)
        try: queue.submit_commit(s, queue.commit_canvas(s, nb, at, what), at, what, by='sim/1')
        except Refused: continue # ran before, or is queued
        n -= 1

def simulate(workers, hours, seed=0):
    "Figures of one simulated swarm, after its baseline"
    tmp = Path(tempfile.mkdtemp(prefix='swarm-', dir=os.environ.get('TMPDIR', '/tmp')))
    try:
        s = make_session(tmp/'r')
        pool = SimulatedPool([CORE]*workers, None, seed=seed)
        with pool.aside():
            pool.measure = measured(s, *template(s, tmp))
            measure = pool.measure
            def beside(spec):
                with pool.aside(): return measure(spec)
            pool.measure = beside
        rng = random.Random(seed)
        with queue.Driver(s, pool) as d:
            pool.is_idle = lambda: not d.ready
            d.run(lambda: d.bar is not None)
            with pool.aside(): queue.submit_repeats(s, 4)
            d.since = d.seen = pool.clock() # nothing is out
            d.busy = d.room = 0.
            d.counts = dict.fromkeys(d.counts, 0)
            def over():
                queued = sum(o['state'] == 'queued' for o in d.jobs.values())
                with pool.aside():
                    if queued < workers+2: propose(s, rng, 2*workers+4-queued)
                return pool.clock()-d.since >= hours*3600
            d.run(over)
            f = d.figures()
        notes = s.experiments()
        return f | dict(workers=workers, hours=hours, efficiency=1-f['idle'],
            again=sum(len(n.get('runs') or []) > 1 for n in notes),
            rebased=sum(bool((n.get('submission') or {}).get('rebased')) for n in notes),
            rows=len(s.ledger.read()[0]))
    finally:
        os.chdir('/')
        shutil.rmtree(tmp)

KEYS = ('workers hours done kept crashed again rebased runs per_hour runs_per_hour idle efficiency '
    'writes_per_second').split()

def main_simulate(args):
    out = Path(args.out)
    out.parent.mkdir(parents=True, exist_ok=True)
    with open(out, 'w') as f: f.write('\t'.join(KEYS) + '\n')
    for n in args.workers:
        hours = args.hours or (4 if n <= 4 else 2 if n <= 16 else 1)
        begun = time.monotonic()
        r = simulate(n, hours)
        r['runs_per_hour'] = r['runs']/hours
        line = [f'{r[k]:.4f}' if isinstance(r[k], float) else str(r[k]) for k in KEYS]
        with open(out, 'a') as f: f.write('\t'.join(line) + '\n')
        print(*(f'{k} {v}' for k,v in zip(KEYS, line)), f'({time.monotonic()-begun:.0f} s)',
            flush=True)

def main():
    p = argparse.ArgumentParser(description=__doc__)
    sub = p.add_subparsers(dest='what', required=True)
    a = sub.add_parser('simulate', help='the real driver before simulated runs of 300 s')
    a.add_argument('--workers', type=int, nargs='+', default=[2**k for k in range(9)])
    a.add_argument('--hours', type=float, default=0, help='simulated; 4 to 1 by size when 0')
    a.add_argument('--out', default=str(ROOT/'bench/swarm/simulated.tsv'))
    a.set_defaults(call=main_simulate)
    args = p.parse_args()
    args.call(args)

if __name__ == '__main__': main()
