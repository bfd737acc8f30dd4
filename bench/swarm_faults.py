"""What a pool of Ray's is worth on this machine, and what it survives.

    python bench/swarm_faults.py trials [--profile tiny] [--n 12] [--workers 2] [--budget 0]
    python bench/swarm_faults.py kills [--n 60] [--seed 1]

`trials`: the same edits through Ray and one after the other, each in a session of its own: wall
clock of both, rows, and whether the frontier is monotone. Profile `polynomial` is the torch-free
example, whose runs take a second. `kills`: a session of that example, fed all the while, in which
Ray's worker, the run's process, the driver, what keeps it, the keeper actor, the raylet, the
cluster's store and the process that holds Ray are killed (SIGKILL) at random moments. Afterwards no
row may be lost or doubled, no process of a run be alive, no slot be held, no folder be left."""
import argparse, json, os, random, re, shutil, signal, subprocess, sys, tempfile, time
from collections import Counter
from contextlib import suppress
from pathlib import Path
import psutil

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
BIN = Path(sys.executable).parent
TAG = 'swarm1'
FACTORS = (.5, .7, .85, 1.2, 1.5, 2.)

def git(root, *args):
    return subprocess.run(['git', *args], cwd=root, check=True, capture_output=True,
        text=True).stdout.strip()

class Checkout:
    "A repository with a session in it, and the commands there"
    def __init__(self, root, profile, budget):
        self.root,self.profile = Path(root), profile
        if profile == 'polynomial': self._example()
        else: git(ROOT, 'clone', '-q', '--no-hardlinks', str(ROOT), str(root))
        self.env = {k: v for k,v in os.environ.items() if not k.startswith('AUTORESEARCH_')}
        source = ROOT if profile == 'polynomial' else self.root
        self.env |= dict(PYTHONPATH=str(source), XDG_CACHE_HOME=str(self.root.parent/'scratch'))
        if profile != 'polynomial': self.env['AUTORESEARCH_PROFILE'] = profile
        for k,v in dict(user='bench', email='bench@localhost').items():
            git(root, 'config', f'user.{"name" if k == "user" else k}', v)
        if budget: self._shorten(budget)
        self('setup', TAG, '--seed', '42')

    def _example(self):
        shutil.copytree(ROOT/'examples/polynomial', self.root,
            ignore=shutil.ignore_patterns('runs', '__pycache__', 'results.tsv', 'run.log'))
        (self.root/'.gitignore').write_text('runs/\nresults.tsv\nrun.log\n__pycache__/\n')
        settings = self.root/'settings.ini'
        settings.write_text(re.sub(r'^clock = .*$', 'clock = cpu', settings.read_text(), flags=re.M))
        git(self.root, 'init', '-q', '-b', 'main', '--template=')
        git(self.root, 'config', 'user.name', 'bench')
        git(self.root, 'config', 'user.email', 'bench@localhost')
        git(self.root, 'add', '-A')
        git(self.root, 'commit', '-qm', 'start')

    def _shorten(self, budget):
        head,mark,rest = (self.root/'settings.ini').read_text().partition(f'[{self.profile}]')
        rest = re.sub(r'^time_budget = .*$', f'time_budget = {budget:g}', rest, 1, flags=re.M)
        (self.root/'settings.ini').write_text(head + mark + rest)
        git(self.root, 'commit', '-qam', f'a budget of {budget:g} s')

    def __call__(self, command, *args, check=True):
        r = subprocess.run([BIN/f'ar-{command}', *args], cwd=self.root, env=self.env,
            capture_output=True, text=True)
        if check and r.returncode: raise SystemExit(f'ar-{command} {args}: {r.stdout}{r.stderr}')
        return r

    def edit(self, name, factor):
        "Multiply a constant of the canvas, from what it is there"
        path = self.root/('canvas.ipynb' if self.profile == 'polynomial' else 'nbs/02_train.ipynb')
        text = path.read_text()
        found = re.search(rf'(?<=")(    )?{name} = ([\d.]+)', text)
        old,new = found[2], f'{float(found[2])*factor:.6g}'
        path.write_text(text[:found.start(2)] + new + text[found.end(2):])
        return f'{name} {old} -> {new}'

    def rows(self):
        lines = (self.root/'results.tsv').read_text().splitlines()[1:]
        return [l.split('\t') for l in lines]

    def folder(self): return self.root/'runs'/TAG

def edits(profile, n, seed=7):
    "The same edits for every session: (constant, factor)"
    names = ('RATE',) if profile == 'polynomial' else ('MATRIX_LR', 'EMBEDDING_LR', 'UNEMBEDDING_LR',
        'SCALAR_LR', 'WARMDOWN_RATIO')
    rng = random.Random(seed)
    found = []
    while len(found) < n:
        o = rng.choice(names), round(rng.choice(FACTORS)*rng.uniform(.9, 1.1), 4)
        if o not in found: found.append(o)
    return found

def monotone(rows):
    "Is each keep better than the one before?"
    kept = [float(r[1]) for r in rows if r[3] == 'keep']
    return all(b < a for a,b in zip(kept, kept[1:]))

def told(what, seconds, rows):
    kinds = dict(Counter(r[3] for r in rows))
    print(f'{what:<12} {seconds:8.1f} s, {len(rows)} rows {kinds}, monotone {monotone(rows)}',
        flush=True)

def trials(args):
    "The same edits in sequence and through Ray"
    todo = edits(args.profile, args.n)
    taken = {}
    with tempfile.TemporaryDirectory() as tmp:
        one = Checkout(Path(tmp, 'sequence/checkout'), args.profile, args.budget)
        one('run', '-m', 'baseline')
        begun = time.time()
        for name,factor in todo: one('run', '-m', one.edit(name, factor), check=False)
        taken['sequence'] = time.time()-begun
        told('in sequence', taken['sequence'], one.rows())
        many = Checkout(Path(tmp, 'swarm/checkout'), args.profile, args.budget)
        many('run', '-m', 'baseline')
        many('swarm', 'start', '--workers', str(args.workers))
        begun = time.time()
        for name,factor in todo: many('submit', '-m', many.edit(name, factor))
        while len(list((many.folder()/'swarm/done').glob('*.json'))) < args.n: time.sleep(.2)
        taken['swarm'] = time.time()-begun
        told(f'{args.workers} workers', taken['swarm'], many.rows())
        many('swarm', 'stop', '--now')
    print(f"ratio {taken['sequence']/taken['swarm']:.2f}")

def of_session(c):
    "Processes by kind, of this session's swarm"
    mark = f'{c.folder()}/swarm'
    kinds = {k: [] for k in VICTIMS}
    for p in psutil.process_iter():
        with suppress(psutil.Error):
            line,env = ' '.join(p.cmdline()), p.environ()
            if str(c.root) not in env.get('PWD', '')+p.cwd()+line and env.get(
                'AUTORESEARCH_SWARM') != mark and str(c.root.parent) not in env.get('XDG_CACHE_HOME', ''): continue
            kind = next((k for k,how in VICTIMS.items() if how in line), '')
            if kind: kinds[kind].append(p)
    return kinds

VICTIMS = dict(run='import _worker', worker='ray::s', keeper='ray::Keeper', driver='import _driver',
    outer='import _keep', raylet='raylet/raylet', store='gcs/gcs_server', host='import _host')
WEIGHTS = dict(run=6, worker=7, keeper=.7, driver=4, outer=2, raylet=.5, store=.3, host=.3)

def kill_one(c, rng):
    "Kill one process of the swarm with SIGKILL; its kind, '' where there was none of that kind"
    kind = rng.choices([*WEIGHTS], [*WEIGHTS.values()])[0]
    there = of_session(c)[kind]
    if not there: return ''
    rng.choice(there).kill()
    return kind

def nonces(c):
    "The words of all runs that were ever begun"
    texts = [f.read_text() for f in (c.folder()/'swarm').rglob('*.json')]
    return {m for t in texts for m in re.findall(r'"nonce": "(\w+)"', t)}

def check(c, submitted):
    "What must hold once nothing runs; the faults"
    from autoresearch.run import processes_of, read_json
    rows = c.rows()
    done = {f.stem: read_json(f) for f in (c.folder()/'swarm/done').glob('*.json')}
    notes = [read_json(f) for f in sorted(c.folder().glob('[0-9]*-*/experiment.json'))]
    with_row = [n for n in notes if n.get('status') in ('keep', 'discard', 'crash')
        and n.get('kind') != 'repeat']
    numbers = [n['dir'] for n in with_row]
    left = [*(c.root.parent/'scratch').glob('autoresearch-swarm/*/tasks/*/')]
    return {f for f,bad in {
        f'{submitted-set(done)} have no verdict': submitted-set(done),
        f'{len(rows)} rows, {len(with_row)} notes': len(rows) != len(with_row),
        'a number twice': len(numbers) != len(set(numbers)),
        f'rows {len(rows)} of {len(submitted)} submissions and a baseline':
            len(rows) != len({o["number"] for o in done.values() if o.get("number")}),
        'the frontier is not monotone': not monotone(rows),
        'a run is alive': any(processes_of(n) for n in nonces(c)),
        f'folders of tasks are left: {left}': left,
        'a journal is left': list(c.folder().rglob('journal.json'))}.items() if bad}

def restart(c):
    "Start the swarm where its driver is gone for good"
    for _ in range(20):
        if (r := c('swarm', 'start', '--workers', '2', check=False)).returncode == 0: return
        if 'at work' in r.stderr: return
        print('  start:', r.stderr.strip()[-200:], flush=True)
        time.sleep(1)

def wait_at_most(seconds, test):
    end = time.time()+seconds
    while time.time() < end and not test(): time.sleep(.1)

def kills(args):
    "Kill, feed, and look at what is left"
    from autoresearch import queue, repo
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    rng = random.Random(args.seed)
    counts,submitted = Counter(), set()
    with tempfile.TemporaryDirectory() as tmp:
        c = Checkout(Path(tmp, 'kills/checkout'), 'polynomial', 0)
        os.chdir(c.root)
        s = repo.current_session()
        begun = time.time()
        restart(c)
        print(f'the first start took {time.time()-begun:.0f} s', flush=True)
        wait_at_most(120, c.rows)
        begun,n = time.time(), 0
        with suppress(KeyboardInterrupt): # then what was killed so far counts
            while sum(counts.values()) < args.n:
                while len(queue.pending_jobs(s)) < 3:
                    n += 1
                    c.edit('RATE', 1+.003*n*(-1)**n)
                    with suppress(repo.Busy):
                        submitted.add(queue.submit(s, f'edit {n}')['id'])
                if rng.random() < .8: wait_at_most(60, lambda: repo.swarming(s.p)) # else mid-start
                time.sleep(rng.uniform(0., 2*args.pause))
                kind = kill_one(c, rng)
                if kind: counts[kind] += 1
                time.sleep(.1)
                if not of_session(c)['outer']: restart(c)
                if kind: print(f'{sum(counts.values())} {kind}, {len(c.rows())} rows', flush=True)
        took = time.time()-begun
        print(f'{sum(counts.values())} kills in {took:.0f} s: {dict(counts)}', flush=True)
        while queue.pending_jobs(s) and time.time()-begun < took+args.rest:
            if not repo.swarming(s.p): restart(c)
            time.sleep(.3)
        time.sleep(2)
        st = json.loads(c('swarm', 'status', '--json').stdout)['status']
        faults = check(c, submitted)
        faults |= {f"{o['slot']} is held" for o in st['slots'] if o['key']}
        rows = c.rows()
        print(f'{len(submitted)} submissions, {len(rows)} rows '
            f'{dict(Counter(r[3] for r in rows))}; faults: {faults or "none"}', flush=True)
        c('swarm', 'stop', '--now', check=False)
        time.sleep(1)
        alive = [p for some in of_session(c).values() for p in some]
        print(f'processes left after the stop: {alive or "none"}', flush=True)
    sys.exit(bool(faults or alive))

if __name__ == '__main__':
    parser = argparse.ArgumentParser(description=__doc__.partition('\n')[0])
    verbs = parser.add_subparsers(dest='verb', required=True)
    for f in (trials, kills):
        p = verbs.add_parser(f.__name__, help=f.__doc__)
        p.add_argument('--n', type=int, default=12 if f is trials else 60)
        p.set_defaults(call=f)
    verbs.choices['trials'].add_argument('--profile', default='tiny')
    verbs.choices['trials'].add_argument('--workers', type=int, default=2)
    verbs.choices['trials'].add_argument('--budget', type=float, default=0.)
    verbs.choices['kills'].add_argument('--rest', type=float, default=400.,
        help='seconds for what is queued to end after the last kill')
    verbs.choices['kills'].add_argument('--seed', type=int, default=1)
    verbs.choices['kills'].add_argument('--pause', type=float, default=3.,
        help='seconds between two kills, on average')
    args = parser.parse_args()
    args.call(args)
