"""How much does the starting line move from seed to seed, and what do edits' loss curves look like?

    python bench/seeds.py run --seeds 1-5 --out h100/a --until 560   # goes on where it stopped
    python bench/seeds.py run --variants rope,x0 --seeds 1 --out h100/a
    AUTORESEARCH_PROFILE=tiny python bench/seeds.py run --cores 0-15 --each 2 --seeds 1-20 --out t
    python bench/seeds.py pack bench/sessions/h100 h100/a h100/b     # runs.json and rows.npz
    python bench/seeds.py show bench/sessions/h100                   # the tables of RESULTS.md

`run` takes the committed canvas, or an edit of it that `VARIANTS` names, through the package's own
runner, one run after the other or side by side on processors of their own (`--each` a run). What is
kept of a run is a JSON file with its figures and loss curve, and the nats of its validation rows;
`--tar` packs them after each run, for a machine that gives back few files. `show` needs no GPU."""
import argparse, json, math, os, re, shutil, statistics, subprocess, sys, tarfile, time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import SimpleQueue
from types import SimpleNamespace

ROOT = Path(__file__).resolve().parent.parent
CARD = 'name driver_version power.limit clocks.max.sm clocks.sm power.draw temperature.gpu'.split()

# Edits of the canvas by what is replaced
VARIANTS = dict(
    start={},
    half={'TOTAL_BATCH_SIZE = 2**19': 'TOTAL_BATCH_SIZE = 2**18'},
    slow={'MATRIX_LR = 0.04 ': 'MATRIX_LR = 0.02 '},
    fast={'MATRIX_LR = 0.04 ': 'MATRIX_LR = 0.08 '},
    warmdown={'WARMDOWN_RATIO = 0.5 ': 'WARMDOWN_RATIO = 0.75 '},
    x0={'X0_INIT = 0.1 ': 'X0_INIT = 0.5 '},
    resid={'RESID_INIT = 1.0 ': 'RESID_INIT = 0.7 '},
    rope={'ROPE_BASE = 10_000.0 ': 'ROPE_BASE = 200_000.0 '},
    init={'nn.init.uniform_(p, -bound, bound)': 'nn.init.uniform_(p, -8*bound, 8*bound)'},
    embedding={'nn.init.normal_(self.wte.weight)': 'nn.init.normal_(self.wte.weight, std=0.01)'},
    head={'nn.init.normal_(self.lm_head.weight, std=0.001)':
        'nn.init.normal_(self.lm_head.weight, std=0.2)'},
    shallow={'DEPTH = 8 ': 'DEPTH = 6 ', '"ASPECT_RATIO = 64 ': '"ASPECT_RATIO = 85 '},
    window={'SHORT_WINDOW = 1/2 ': 'SHORT_WINDOW = 1/8 '})
# For the sessions of planted gains under `tiny`
LOWER = dict(lr=('MATRIX_LR = 0.04 ', '0.004 0.008 0.012 0.016 0.02'),
    un=('UNEMBEDDING_LR = 0.004 ', '0.001 0.0012 0.0015 0.0019 0.002'),
    emb=('EMBEDDING_LR = 0.6 ', '0.1 0.15 0.2 0.3'))
for name,(old,values) in LOWER.items():
    what = old.split(' = ')[0]
    VARIANTS |= {f'{name}{v}': {f'"{old}': f'"{what} = {v} '} for v in values.split()}

def numbers(text):
    "1-3,6 -> [1, 2, 3, 6]"
    parts = [[int(n) for n in o.split('-')] for o in text.split(',') if o]
    return [i for o in parts for i in range(o[0], o[-1]+1)]

def edited(text, edits):
    "A notebook's text with each of `edits` made exactly once"
    for old,new in edits.items():
        if text.count(old) != 1: raise SystemExit(f'{old!r} stands {text.count(old)} times')
        text = text.replace(old, new)
    return text

def code_of(variant, profile, folder, budget=''):
    "A copy of the code with a variant's edits, with another time budget; gives its root"
    folder = folder/f'{variant}{budget}'
    if folder.exists(): return folder
    new = folder.with_name(f'{folder.name}.new')
    shutil.rmtree(new, ignore_errors=True)
    made = shutil.ignore_patterns('__pycache__', '_proc')
    for name in ('autoresearch', 'nbs'):
        shutil.copytree(ROOT/name, new/name, symlinks=True, ignore=made)
    text = (ROOT/'settings.ini').read_text(encoding='utf8')
    if budget:
        head,section = text.split(f'[{profile}]\n')
        section = re.sub(r'(?m)^time_budget = .*', f'time_budget = {budget}', section, count=1)
        text = f'{head}[{profile}]\n{section}'
    (new/'settings.ini').write_text(text, encoding='utf8')
    canvas = new/'nbs/02_train.ipynb'
    canvas.write_text(edited(canvas.read_text(encoding='utf8'), VARIANTS[variant]),
        encoding='utf8')
    new.rename(folder)
    return folder

class Card:
    "What nvidia-smi says of the card while a run trains, every two seconds"
    def __enter__(self):
        self.lines,self.process = '', None
        ask = ['nvidia-smi', f'--query-gpu={",".join(CARD)}', '--format=csv,noheader,nounits']
        if os.environ.get('CUDA_VISIBLE_DEVICES') != '' and shutil.which(ask[0]):
            self.process = subprocess.Popen([*ask, '-lms', '2000'], stdout=subprocess.PIPE,
                text=True)
        return self
    def __exit__(self, *error):
        if not self.process: return
        self.process.terminate()
        self.lines = self.process.communicate()[0]
    def said(self):
        "Name, driver, limits; medians of clock, power and temperature while it drew power"
        rows = [o.split(', ') for o in self.lines.splitlines() if o.count(', ') == len(CARD)-1]
        if not rows: return {}
        fixed = dict(zip(CARD[:4], rows[0]))
        busy = [r for r in rows if float(r[5]) > .6*float(r[2])]
        moving = {k: statistics.median(float(r[i]) for r in busy)
            for i,k in enumerate(CARD) if i > 3 and busy}
        return {**fixed, **moving}

def one(job):
    "One run in this process, kept as NAME.json and NAME.npy"
    from autoresearch.contract import get_profile
    from autoresearch.run import rate_of, read_json, run_experiment
    out,name,code = Path(job['out']), job['name'], Path(job['code'])
    if job['cores']: os.sched_setaffinity(0, job['cores'])
    p = get_profile(job['profile'], code/'settings.ini')
    run_dir = Path(job['work'])/'runs'/name
    shutil.rmtree(run_dir, ignore_errors=True)
    with Card() as card: r = run_experiment(code/p.canvas, run_dir, p, job['seed'], bar=False,
        code=code, walls=job['walls'])
    clock = r.record.get('clock', {})
    progress = read_json(run_dir/'progress.json')
    host = dict(processor=processor(), cores=os.cpu_count(), card=card.said(),
        torch=(r.record.get('host') or {}).get('torch', ''))
    kept = dict(name=name, variant=job['variant'], seed=job['seed'], profile=p.name,
        budget=p.time_budget, status=r.status, reason=r.reason, value=r.value, seconds=r.seconds,
        time=time.time(), rate=rate_of(r.record), block=r.block, clock=clock, load=r.load,
        phases={k: v.get('seconds') for k,v in r.phases.items()}, walls=r.walls.get('walls', ''),
        host=host, columns=progress.get('columns'), curve=progress.get('curve'),
        commit=os.environ.get('AUTORESEARCH_BENCH_COMMIT', ''))
    if (run_dir/'row_nats.npy').exists(): shutil.copy(run_dir/'row_nats.npy', out/f'{name}.npy')
    if not r.ok: kept['log'] = (run_dir/'run.log').read_text(errors='replace')[-3000:]
    tmp = out/f'{name}.json.new'
    tmp.write_text(json.dumps(kept, default=str))
    tmp.rename(out/f'{name}.json')

def processor():
    "The CPU's name as the system gives it"
    try: lines = Path('/proc/cpuinfo').read_text().splitlines()
    except OSError: return ''
    return next((l.split(':', 1)[1].strip() for l in lines if l.startswith('model name')), '')

def line(o):
    "A run in a line"
    clock = o['clock']
    steps = o['block'].get('num_steps', 0)
    return (f"{o['name']:16} {o['status']:5} {o['value']:.6f} steps {steps} "
        f"{o['rate']:,.0f}/s training {o['block'].get('training_seconds', 0):.2f} "
        f"wall {clock.get('wall_seconds', 0):.1f} all {o['seconds']:.1f} {o['reason'][:200]}")

def run(args):
    "All that is not there yet, as long as time is left"
    begun = time.time()
    profile = os.environ.get('AUTORESEARCH_PROFILE', 'climbmix60')
    out = Path(args.out).resolve()
    work = Path(args.work or f'{out}-work').resolve()
    out.mkdir(parents=True, exist_ok=True)
    lanes,cores = SimpleQueue(), numbers(args.cores)
    n = args.each or len(cores) or 1
    groups = [cores[i:i+n] for i in range(0, len(cores)-n+1, n)] or [[]]
    for o in groups: lanes.put(o)
    longest = [args.guess]
    def go(name, variant, seed):
        lane = lanes.get()
        t0 = time.time()
        try:
            late = args.until and t0-begun + 1.05*longest[0] > args.until
            if late: return f'{name}: no time left'
            env = dict(os.environ, PYTHONPATH=str(ROOT), AUTORESEARCH_PROFILE=profile)
            if lane: env |= {k: str(len(lane)) for k in ('OMP_NUM_THREADS', 'MKL_NUM_THREADS')}
            if profile == 'tiny': env['CUDA_VISIBLE_DEVICES'] = ''
            job = dict(out=str(out), work=str(work), name=name, variant=variant, seed=seed,
                code=str(code[variant]), profile=profile, cores=lane, walls=args.walls)
            r = subprocess.run([sys.executable, __file__, 'one', json.dumps(job)], env=env,
                capture_output=True, text=True)
            longest[0] = max(longest[0], time.time()-t0) if len(groups) > 1 else time.time()-t0
            if r.returncode: return f'{name}: {r.stderr[-1500:]}'
            said = line(json.loads((out/f'{name}.json').read_text()))
            if args.tar: pack_tar(args.tar, out)
            return said
        finally: lanes.put(lane)
    short = f'-b{args.budget}' if args.budget else ''
    variants = args.variants.split(',')
    todo = [(f'{v}{short}-{s}', v, s) for s in numbers(args.seeds) for v in variants]
    todo = [o for o in todo if not (out/f'{o[0]}.json').exists()]
    code = {v: code_of(v, profile, work/'code', args.budget) for _,v,_ in todo}
    with ThreadPoolExecutor(len(groups)) as pool:
        for said in pool.map(lambda o: go(*o), todo): print(said, flush=True)
    if args.tar: pack_tar(args.tar, out)

def pack_tar(path, folder):
    "All files of a folder in one, replaced in one step"
    new = Path(f'{path}.{os.getpid()}.{time.time_ns()}')
    with tarfile.open(new, 'w:gz') as t: t.add(folder, folder.name)
    new.rename(path)

# ---- what is kept, and the tables

def schedule_of(variant, profile):
    "What the optimizer used in a step, as a function of progress and steps done before it"
    text = edited((ROOT/'nbs/02_train.ipynb').read_text(encoding='utf8'), VARIANTS[variant])
    cells = {c['id']: ''.join(c['source']) for c in json.loads(text)['cells'] if 'id' in c}
    names = dict(PROFILE=profile, get_profile=lambda name: SimpleNamespace(name=name))
    for id in ('hparams', 'hparams-tiny', 'schedules'): exec(cells[id], names)
    peaks = [names[k] for k in ('MATRIX_LR', 'EMBEDDING_LR', 'UNEMBEDDING_LR', 'SCALAR_LR')]
    return lambda progress, steps: [*(o*names['lr_multiplier'](progress) for o in peaks),
        names['muon_momentum'](steps), names['weight_decay'](progress), names['TOTAL_BATCH_SIZE']]

def with_schedule(o):
    "A run's curve in the columns of today's progress.json; rates from the canvas' own functions"
    if 'schedule' in o['columns']: return o
    used = schedule_of(o['variant'], o['profile'])
    def point(step, seconds, loss):
        share = seconds/o['budget']
        rates = [float(f'{v:.6g}') for v in used(share, step-1)]
        return [step, round(seconds, 4), round(loss, 5), round(share, 6), rates]
    o['curve'] = [point(*p) for p in o['curve']]
    o['columns'] = 'step seconds loss fraction schedule'.split()
    return o

KEPT = ('machine name variant seed profile budget status reason value seconds time rate block '
    'clock phases walls host columns curve').split()
CLOCK = 'counts training_seconds wall_seconds threads num_steps free_steps free_seconds'.split()

def pack(args):
    "Runs of several machines in runs.json, a line a run, and rows.npz"
    import numpy as np
    to = Path(args.to)
    to.mkdir(parents=True, exist_ok=True)
    lines,names,nats,lengths = [], [], [], None
    for folder in map(Path, args.folders):
        for f in sorted(folder.glob('*.json')):
            o = with_schedule(json.loads(f.read_text())) | dict(machine=folder.name)
            o['clock'] = {k: v for k,v in o['clock'].items() if k in CLOCK}
            lines.append(json.dumps({k: o[k] for k in KEPT if k in o}))
            if not f.with_suffix('.npy').exists(): continue
            rows = np.load(f.with_suffix('.npy'))
            if lengths is None: lengths = rows[:, 1]
            if not (lengths == rows[:, 1]).all(): raise SystemExit(f'{f}: other rows')
            names.append(f'{folder.name}/{o["name"]}')
            nats.append(rows[:, 0])
    (to/'runs.jsonl').write_text('\n'.join(lines) + '\n')
    documents = json.loads(Path(args.documents).read_text()) if args.documents else []
    np.savez_compressed(to/'rows.npz', names=names, nats=np.stack(nats), bytes=lengths,
        documents=np.array([d for o in documents for d in o], dtype=np.int32),
        counts=np.array([len(o) for o in documents], dtype=np.int32))

def read(folder):
    "Runs, nats of each run's rows by its name, bytes of the rows, their documents"
    import numpy as np
    runs = [json.loads(l) for l in (folder/'runs.jsonl').read_text().splitlines()]
    z = np.load(folder/'rows.npz')
    cuts = np.cumsum(z['counts'])[:-1]
    documents = [o.tolist() for o in np.split(z['documents'], cuts)] if len(z['counts']) else None
    return runs, dict(zip(z['names'], z['nats'])), z['bytes'], documents

def table(head, rows):
    for r in [head, ['---']*len(head), *rows]: print('| ' + ' | '.join(map(str, r)) + ' |')
    print(flush=True)

def spread(values):
    "Mean, standard deviation and its interval as text"
    from autoresearch.judge import noise_of
    n = noise_of([values])
    if n is None: return f'{statistics.mean(values):.6f}', '', ''
    return f'{statistics.mean(values):.6f}', f'{n.sigma:.6f}', f'{n.low:.6f} .. {n.high:.6f}'

def line_through(x, y):
    "Slope, its standard error, share of y's variance that it explains, and what is left of it"
    mx,my = statistics.mean(x), statistics.mean(y)
    xx = sum((o-mx)**2 for o in x)
    slope = sum((a-mx)*(b-my) for a,b in zip(x, y))/xx
    left = sum((b-my - slope*(a-mx))**2 for a,b in zip(x, y))
    error = math.sqrt(left/(len(x)-2)/xx)
    return slope, error, 1 - left/sum((b-my)**2 for b in y), math.sqrt(left/(len(x)-2))

def show(args):
    "Print the tables of RESULTS.md"
    from autoresearch.judge import noise_of
    runs,nats,lengths,documents = read(Path(args.folder))
    starts = {}
    others = {}
    for o in runs:
        if o['status'] != 'ok': continue
        if o['name'] == f"start-{o['seed']}": starts.setdefault(o['machine'], []).append(o)
        else: others.setdefault(f"{o['machine']}, {o['name'].rsplit('-', 1)[0]}", []).append(o)
    repeated = {k: g for k,g in others.items() if len(g) > 3}
    steps = lambda o: o['block']['num_steps']
    table(['machine', 'runs', 'mean', 'sigma', '95 % interval', 'steps', 'tokens/s: mean',
        'deviation', 'clock, MHz', '°C', 'W'],
        [[m, len(g), *spread([o['value'] for o in g]),
            f"{min(map(steps, g))} .. {max(map(steps, g))}",
            f"{statistics.mean(o['rate'] for o in g):,.0f}",
            f"{statistics.stdev(o['rate'] for o in g)/statistics.mean(o['rate'] for o in g):.2%}",
            *(f"{statistics.mean(o['host']['card'][k] for o in g):.0f}"
                if all(o['host']['card'] for o in g) else ''
                for k in ('clocks.sm', 'temperature.gpu', 'power.draw'))]
            for m,g in {**starts, **repeated}.items()])
    pooled = noise_of([[o['value'] for o in g] for g in starts.values()])
    if pooled: print(f'pooled: sigma {pooled.sigma:.6f}, {pooled.df} degrees of freedom, '
        f'95 % {pooled.low:.6f} .. {pooled.high:.6f}\n')
    compare_machines(starts)
    compare_texts(starts, nats, lengths, documents)
    compare_steps({**starts, **repeated})
    replay(runs, starts)

def compare_machines(starts):
    "Differences of the same seeds between machines"
    rows = []
    for a in starts:
        for b in list(starts)[list(starts).index(a)+1:]:
            x,y = ({o['seed']: o for o in starts[m]} for m in (a, b))
            both = sorted(x.keys() & y.keys())
            if len(both) < 2: continue
            d = [y[s]['value']-x[s]['value'] for s in both]
            e = statistics.stdev(d)
            r = [math.log(y[s]['rate']/x[s]['rate']) for s in both]
            rows.append([f'{b} less {a}', len(both), f'{statistics.mean(d):+.6f}',
                f'{e/math.sqrt(len(d)):.6f}', f'{e/math.sqrt(2):.6f}',
                f'{statistics.mean(r):+.2%}', f'{statistics.stdev(r)/math.sqrt(len(r)):.2%}'])
    if rows: table(['machines', 'seeds', 'difference', 'its error',
        'sigma of a run under one seed', 'tokens/s', 'error'], rows)

def compare_texts(starts, nats, lengths, documents):
    "Standard error over rows of the difference of two runs"
    import itertools, numpy as np
    from autoresearch.judge import compare_rows
    rows = []
    for m,g in starts.items():
        for kind,labels in (('each row its own', None), ('by document', documents)):
            if kind == 'by document' and not documents: continue
            found = []
            for a,b in itertools.combinations(g, 2):
                pair = [np.stack([nats[f"{m}/{o['name']}"], lengths], 1) for o in (a, b)]
                found.append(compare_rows(*pair, labels))
            rows.append([m, kind, len(found), f'{found[0].rows:,}', f'{found[0].documents:,}',
                f'{statistics.mean(abs(o.gain) for o in found):.6f}',
                f'{statistics.mean(o.error for o in found):.6f}',
                f'{min(o.error for o in found):.6f} .. {max(o.error for o in found):.6f}'])
    table(['machine', 'rows taken', 'pairs', 'rows', 'documents', 'mean size of the difference',
        'mean error over rows', 'from, to'], rows)

def compare_steps(starts):
    "How much of a value is the number of steps"
    import itertools
    from autoresearch.judge import at_equal_steps
    rows = []
    for m,g in starts.items():
        curves = [[p[:3] for p in o['curve']] for o in g]
        pairs = [at_equal_steps(a, b) for a,b in itertools.combinations(curves, 2)]
        size = lambda values: math.sqrt(statistics.mean(v*v for v in values)/2)
        counts = [o['block']['num_steps'] for o in g]
        fit = ['', '', '']
        if len(set(counts)) > 1 and len(g) > 3:
            slope,error,share,left = line_through(counts, [o['value'] for o in g])
            fit = [f'{slope:+.6f} ± {error:.6f}', f'{share:.0%}', f'{left:.6f}']
        rows.append([m, len(g), f'{statistics.mean(counts):.1f}', f'{statistics.stdev(counts):.1f}',
            f'{size([o.at_seconds for o in pairs]):.6f}',
            f'{size([o.at_steps for o in pairs]):.6f}', *fit])
    table(['machine', 'runs', 'steps', 'deviation', 'sigma of the loss at equal time, nats',
        'at equal steps', 'value a step', 'variance explained', 'sigma left'], rows)

def replay(runs, starts):
    "Early stop over recorded curves: every run as a candidate, the other runs of the start as best"
    from autoresearch.judge import early_stop, noise_at_marks, same_schedule
    rows,spent,saved,keeps,cut_keeps,n,others = [], 0., 0., 0, 0, 0, 0
    curve = lambda o: [(p[3], p[2], p[4]) for p in o['curve']]
    for o in runs:
        best = [b for b in starts.get(o['machine'], []) if b['name'] != o['name']]
        if len(best) < 3 or o['status'] != 'ok' or o['budget'] != best[0]['budget']: continue
        curves = [curve(b) for b in best]
        found = early_stop(curve(o), curves, noise_at_marks([curves]))
        values = [b['value'] for b in best]
        gain,noise = statistics.mean(values) - o['value'], statistics.stdev(values)
        share = 1-found.at if found.stop else 0.
        trained = o['clock']['wall_seconds'] - o['clock']['free_seconds']
        n,spent = n+1, spent + o['seconds']
        ending = o['seconds'] - o['clock']['wall_seconds'] - o['phases']['before']
        saved += share*trained + (ending if share else 0.)
        keeps += gain > 0
        cut_keeps += gain > 0 and found.stop
        differs = not all(same_schedule(curve(o), c) for c in curves)
        others += differs
        if found.stop or o['variant'] != 'start' and not differs or gain > 3*noise:
            rows.append([o['machine'], o['name'], f'{gain:+.6f}',
                f'{found.at:.0%}' if found.stop else '-', found.reason])
    table(['machine', 'run', 'gain over the start', 'cut at', 'why'], rows)
    if n: print(f'{n} runs, {others} with another schedule, {keeps} better than the mean of the '
        f'others, {cut_keeps} of those cut; '
        f'{spent:.0f} s of which {saved:.0f} saved: {3600*n/spent:.1f} experiments an hour, '
        f'{3600*n/(spent-saved):.1f} with early stop')

def arguments():
    "The command line"
    kept = argparse.RawDescriptionHelpFormatter
    a = argparse.ArgumentParser(description=__doc__, formatter_class=kept)
    sub = a.add_subparsers(dest='what', required=True)
    r = sub.add_parser('run', help='run what is not there yet')
    r.add_argument('--seeds', default='1-5')
    r.add_argument('--variants', default='start', help=f'of {", ".join(VARIANTS)}')
    r.add_argument('--out', required=True, help='folder of the results')
    r.add_argument('--work', default='', help='folder of code and runs; beside OUT when left out')
    r.add_argument('--cores', default='', help='processors to stay on, like 0-15')
    r.add_argument('--budget', default='', help='time budget, s; the profile\'s when left out')
    r.add_argument('--each', type=int, default=0, help='processors a run; all when left out')
    r.add_argument('--until', type=float, default=0, help='begin no run that would end later, s')
    r.add_argument('--guess', type=float, default=100, help='seconds of the first run, for --until')
    r.add_argument('--walls', default='none')
    r.add_argument('--tar', default='', help='file to pack the results into after each run')
    o = sub.add_parser('one', help='one run; for run')
    o.add_argument('job')
    k = sub.add_parser('pack', help='what stays of the runs')
    k.add_argument('to')
    k.add_argument('folders', nargs='+', help='results of run; a folder is a machine')
    k.add_argument('--documents', default='', help='JSON: the documents of each validation row')
    w = sub.add_parser('show', help='print the tables')
    w.add_argument('folder')
    return a.parse_args()

def main():
    args = arguments()
    if args.what == 'one': one(json.loads(args.job))
    else: dict(run=run, pack=pack, show=show)[args.what](args)

if __name__ == '__main__': main()
