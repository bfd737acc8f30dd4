"""Sessions of the real ratchet on profile `tiny`, recorded under bench/sessions/.

    python bench/sessions.py run aa --out S/aa-1 --part 1/3       # goes on where it was stopped
    python bench/sessions.py run planted --out S/planted-04 --part 4/20 --until 600
    python bench/sessions.py all --plan evening --cores 5-31 --out S --until 660
    python bench/sessions.py record S bench/sessions              # what stays of them, small
    python bench/sessions.py show bench/sessions                  # the table of RESULTS.md

Each session is a clone of the last commit with a cache of its own, set up by `ar-setup`, and every
run in it is asked for as an agent asks, by `ar-run` in a process of its own. Kinds:

`aa`       twenty edits that change nothing that matters, judged by `confirm` after `ar-calibrate`.
`strict`   the same edits under `rule = strict`, which needs no calibration.
`planted`  twenty edits with the same true gain: the session begins with an UNEMBEDDING_LR that is
           too low by so much (`LOW`, found by `seeds.py` beforehand), each edit puts it right, to
           another last digit. After a keep the session is rewound, so that each edit meets the
           same best; or each has a session of its own (`--part k/20`).
`audit`    thirty small random edits of one or two hyperparameters under `strict`, so that what was
           lucky is kept, with examinations; `ar-audit` after it.

`--budget` sets another time budget of `tiny`, seconds; `--cores` holds the session to processors,
one thread on each. `all` runs a plan of sessions side by side, each on cores of its own, and keeps
the cores of those that have ended at the same work, so that the others' machine does not change
under them: it did where a loop of Python took their place (RESULTS.md)."""
import argparse, json, math, os, random, re, shutil, signal, statistics, subprocess, sys, time
from pathlib import Path
from seeds import edited, numbers

ROOT = Path(__file__).resolve().parent.parent
LOW = '0.0021' # UNEMBEDDING_LR of the planted sessions' start; it ought to be 0.004
TAG = 'bench'
TRIES = 4 # of a command that could not run

# Cell, old name, new name: a local name, found nowhere else in its cell
RENAMED = [('rope', 'rates', 'speeds'), ('rope', 'angles', 'turns'), ('init', 'bound', 'edge'),
    ('init', 'made', 'tables'), ('init', 'c', 'conf'), ('init', 'e', 'table'),
    ('schedules', 'down', 'falling'), ('loop', 'smooth', 'average'), ('loop', 'peak', 'fastest'),
    ('loop', 'losses', 'pair'), ('loop', 't_last', 'earlier'), ('loop', 'value', 'before'),
    ('step', 'total', 'summed'), ('step', 'momentum', 'inertia'), ('build', 'said', 'words'),
    ('build', 'T', 'length'), ('passes', 'first', 'initial'), ('build', 'c', 'conf')]
# Cell, old text, new text
REWRITTEN = [
    ('schedules', 'def lr_multiplier(progress):', 'def lr_multiplier(progress, more=None):'),
    ('schedules', 'def muon_momentum(step):', 'def muon_momentum(step, more=None):')]

def is_cell(c, id): return c['cell_type'] == 'code' and c.get('id') == id

def change(canvas, cell, change):
    "Give one cell of a notebook other source"
    nb = json.loads(canvas.read_text(encoding='utf8'))
    found = [c for c in nb['cells'] if is_cell(c, cell)]
    if len(found) != 1: raise SystemExit(f'{canvas}: {len(found)} cells are called {cell}')
    was = ''.join(found[0]['source'])
    now = change(was)
    if now == was: raise SystemExit(f'{canvas}: nothing in {cell} was changed')
    found[0]['source'] = now.splitlines(keepends=True)
    canvas.write_text(json.dumps(nb, indent=1, ensure_ascii=False) + '\n', encoding='utf8')

def renaming(old, new): return lambda text: re.sub(rf'(?<![\w.]){old}\b', new, text)
def replacing(old, new): return lambda text: edited(text, {old: new})

def equal_edits():
    "Edits that change nothing that matters: message, function of the canvas"
    named = [(f'{cell}: {old} is called {new}', cell, renaming(old, new))
        for cell,old,new in RENAMED]
    more = [(f'{cell}: {new.split("(")[0][4:]} takes one argument more', cell,
        replacing(old, new)) for cell,old,new in REWRITTEN]
    def edit(cell, how): return lambda canvas: change(canvas, cell, how)
    return [(said, edit(cell, how)) for said,cell,how in named+more]

def planted_edits():
    "Edits with one true gain: UNEMBEDDING_LR from LOW to 0.004, in another digit each"
    def edit(rate): return lambda canvas: change(canvas, 'hparams',
        lambda text: re.sub(r'(?m)^UNEMBEDDING_LR = \S+', f'UNEMBEDDING_LR = {rate}', text))
    rates = [f'{.004*(1 + (i-10)*1e-4):.7f}' for i in range(1, 21)]
    return [(f'UNEMBEDDING_LR {o}', edit(o)) for o in rates]

# Hyperparameters that a random edit changes, and the most it changes them by, as a factor
RANDOM = dict(EMBEDDING_LR=1.5, UNEMBEDDING_LR=1.5, MATRIX_LR=1.4, SCALAR_LR=1.5, WEIGHT_DECAY=1.5,
    ROPE_BASE=2., X0_INIT=1.5, RESID_INIT=1.1, WARMDOWN_RATIO=1.3, MOMENTUM_END=1.02)

def random_edits(n=30):
    "Small random changes of one or two hyperparameters"
    draw = random.Random(17)
    def one():
        chosen = draw.sample(list(RANDOM), draw.choice([1, 1, 2]))
        return {k: RANDOM[k]**draw.uniform(-1, 1) for k in chosen}
    def edit(factors):
        def scale(text):
            for k,f in factors.items():
                text = re.sub(rf'(?m)^({k} = )(\S+)', lambda m: m[1] + scaled(m[2], f), text)
            return text
        return lambda canvas: change(canvas, 'hparams', scale)
    drawn = [one() for _ in range(n)]
    return [(f'random {i}: ' + ', '.join(f'{k} x {f:.2f}' for k,f in o.items()), edit(o))
        for i,o in enumerate(drawn, 1)]

def scaled(text, factor):
    "A number as the canvas has it, times `factor`; three digits"
    v = float(text.replace('_', ''))*factor
    return f'{min(v, .99) if v < 1 else v:.3g}'.replace('e+0', 'e')

class Kind:
    "What a kind of session is made of"
    def __init__(self, edits, rule='confirm', calibrate=5, start=None, flags=()):
        self.edits,self.rule,self.calibrate,self.start = edits, rule, calibrate, start
        self.flags = list(flags)

def low_start(canvas):
    "The canvas that the planted sessions begin with"
    change(canvas, 'hparams',
        lambda text: re.sub(r'(?m)^UNEMBEDDING_LR = \S+', f'UNEMBEDDING_LR = {LOW}', text))

KINDS = dict(aa=Kind(equal_edits, flags=['--no-examine']),
    strict=Kind(equal_edits, 'strict', 0, flags=['--no-examine']),
    planted=Kind(planted_edits, start=low_start, flags=['--no-examine']),
    audit=Kind(random_edits, 'strict', 0))

def make_commands(folder):
    "The commands of pyproject.toml as scripts, of whatever checkout comes first on the path"
    folder.mkdir(parents=True, exist_ok=True)
    text = (ROOT/'pyproject.toml').read_text(encoding='utf8')
    for name,module,call in re.findall(r'(?m)^(ar-\w+) = "([\w.]+):(\w+)"', text):
        f = folder/name
        f.write_text(f'#!{sys.executable}\nimport sys\nfrom {module} import {call}\n'
            f"if __name__ == '__main__': sys.exit({call}())\n")
        f.chmod(0o755)

class Session:
    "A session in a folder: clone, cache, environment, log"
    def __init__(self, folder, kind, part, budget, cores, walls):
        self.walls = walls
        self.folder,self.kind,self.cores = Path(folder).resolve(), KINDS[kind], cores
        self.repo,self.log,self.budget = self.folder/'repo', self.folder/'session.log', budget
        k,n = map(int, part.split('/'))
        self.edits = self.kind.edits()[k-1::n]
        threads = {o: str(len(cores)) for o in ('OMP_NUM_THREADS', 'MKL_NUM_THREADS')}
        self.env = {**os.environ, **(threads if cores else {}), 'PYTHONPATH': str(self.repo),
            'AUTORESEARCH_PROFILE': 'tiny', 'CUDA_VISIBLE_DEVICES': '', 'PYTHONUNBUFFERED': '1',
            'AUTORESEARCH_CACHE': str(self.folder/'cache'),
            'PATH': f"{self.folder/'bin'}{os.pathsep}{os.environ['PATH']}"}

    def run(self, cmd, check=True):
        "A command in the clone; its output goes to the log and is given back"
        t0 = time.time()
        r = subprocess.run(cmd, cwd=self.repo, env=self.env, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, text=True)
        with open(self.log, 'a') as f:
            said = ' '.join([Path(cmd[0]).name, *map(str, cmd[1:])])
            f.write(f'$ {said}   [{r.returncode}, {time.time()-t0:.1f} s]\n{r.stdout}\n')
        if check and r.returncode: raise SystemExit(f'{said}: {r.stdout[-2000:]}')
        return r

    def ask(self, name, *args, check=True):
        return self.run([str(self.folder/f'bin/ar-{name}'), *args], check)

    def make(self, source, cache):
        "Clone and settings, cache and ar-setup, where they are not there yet"
        if (self.folder/'made').exists(): return
        shutil.rmtree(self.folder, ignore_errors=True)
        make_commands(self.folder/'bin')
        subprocess.run(['git', 'clone', '--quiet', '--no-hardlinks', str(source), str(self.repo)],
            check=True)
        ini = self.repo/'settings.ini'
        text = ini.read_text(encoding='utf8')
        head,tiny = text.split('[tiny]\n')
        if self.budget: tiny = re.sub(r'(?m)^time_budget = .*', f'time_budget = {self.budget}',
            tiny, count=1)
        head = re.sub(r'(?m)^rule = .*', f'rule = {self.kind.rule}', head, count=1)
        ini.write_text(f'{head}[tiny]\n{tiny}', encoding='utf8')
        if self.kind.start: self.kind.start(self.repo/'nbs/02_train.ipynb')
        for k,v in (('name', 'bench'), ('email', 'bench@localhost')):
            self.run(['git', 'config', f'user.{k}', v])
        if self.kind.start: self.export()
        if self.run(['git', 'status', '--porcelain']).stdout:
            self.run(['git', 'commit', '-qam', 'where this session begins'])
        if cache:
            for f in Path(cache).parent.glob(f'{Path(cache).name}*'):
                shutil.copytree(f, self.folder/f.name)
        else: self.ask('prepare')
        self.ask('setup', TAG, '--walls', self.walls)
        (self.folder/'made').touch()

    def export(self):
        "The module of an edited canvas"
        code = ('from nbdev.export import nb_export; import os; os.environ["IN_TEST"] = "1"; '
            'nb_export("nbs/02_train.ipynb", lib_path="autoresearch")')
        self.run([sys.executable, '-c', code])

    def rows(self):
        f = self.repo/'results.tsv'
        lines = f.read_text().splitlines()[1:] if f.exists() else []
        return [o.split('\t') for o in lines]

    def has(self, said): # a row's description may say more, that the run was disturbed for example
        return any(said in o[4] for o in self.rows())

    def go(self, until):
        "Baseline, calibration, and all experiments that have no row yet"
        each = 0.
        def late(): return until and time.time() + 1.1*each > until
        if not self.rows(): self.ask('run', '-m', 'baseline', *self.kind.flags)
        best = self.rows()[0][0]
        for _ in range(TRIES): # a run that was disturbed counts for nothing and ends the command
            if not self.kind.calibrate: break
            r = self.ask('calibrate', '-n', str(self.kind.calibrate), check=False)
            if not r.returncode: break
        for said,edit in self.edits:
            if self.has(said): continue
            if late(): return False
            t0 = time.time()
            if self.kind.start and self.rows()[-1][3] == 'keep' and len(self.rows()) > 1:
                self.ask('run', '--rewind', best)
            for _ in range(TRIES):
                self.ask('status', check=False) # what was cut off is taken back
                canvas = self.repo/'nbs/02_train.ipynb'
                if not self.run(['git', 'status', '--porcelain', canvas]).stdout: edit(canvas)
                r = self.ask('run', '-m', said, *self.kind.flags, check=False)
                if self.has(said): break
            else: raise SystemExit(f'{said}: no row: {r.stdout[-2000:]}')
            each = max(each, time.time()-t0)
        return True

    def end(self, done):
        "What the commands say of it in the end"
        said = self.ask('status', '--json', check=False)
        if not said.returncode: (self.folder/'status.json').write_text(said.stdout)
        if done and self.kind is KINDS['audit']: self.ask('audit', check=False)

AGAIN = """import os, sys, tempfile
from autoresearch.contract import get_profile
from autoresearch.run import run_experiment
p = get_profile(path='settings.ini')
with tempfile.TemporaryDirectory() as d:
    run_experiment(p.root/p.canvas, f'{d}/run', p, bar=False, walls='none')
"""

def go_on(s, until):
    "Run the canvas to the end, unrecorded: the others' machine must not change under them"
    while (left := until-time.time()) > 0:
        cmd = [sys.executable, '-c', AGAIN]
        proc = subprocess.Popen(cmd, cwd=s.repo, env=s.env, stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL, start_new_session=True)
        try: proc.wait(left)
        except subprocess.TimeoutExpired: os.killpg(proc.pid, signal.SIGTERM)

def run(args):
    "One session"
    cores = numbers(args.cores)
    if cores: os.sched_setaffinity(0, cores)
    until = time.time() + args.until if args.until else 0
    s = Session(args.out, args.kind, args.part, args.budget, cores, args.walls)
    try:
        s.make(args.source, args.cache)
        done = s.go(until)
        s.end(done)
    except SystemExit as e:
        print(f'{args.out}: {e}', flush=True)
        done = False
    else: print(f'{args.out}: {"done" if done else "not done"}, {len(s.rows())} rows', flush=True)
    if until and args.busy: go_on(s, until)
    return 0 if done else 1

# Name: kind, parts, cores for each part
PLANS = dict(evening=[('planted', 20, 1), ('aa', 5, 1), ('strict', 2, 1)],
    planted=[('planted', 20, 1)], small=[('planted', 1, 1), ('strict', 1, 1)])

def all_of(args):
    "A plan of sessions side by side"
    out,cores = Path(args.out).resolve(), numbers(args.cores)
    out.mkdir(parents=True, exist_ok=True)
    cache = out/'cache'
    env = {**os.environ, 'AUTORESEARCH_PROFILE': 'tiny', 'AUTORESEARCH_CACHE': str(cache),
        'PYTHONPATH': str(args.source), 'CUDA_VISIBLE_DEVICES': ''}
    make_commands(out/'bin')
    if not (out/'cache-tiny/tokens').exists():
        subprocess.run([out/'bin/ar-prepare'], env=env, cwd=args.source, check=True)
    procs = []
    for kind,n,each in PLANS[args.plan]:
        for k in range(1, n+1):
            own,cores = cores[:each], cores[each:]
            if len(own) < each: raise SystemExit(f'--cores {args.cores} are too few for the plan')
            cmd = [sys.executable, __file__, 'run', kind, '--out', f'{out}/{kind}-{k:02d}',
                '--part', f'{k}/{n}', '--cores', ','.join(map(str, own)), '--cache', str(cache),
                '--source', str(args.source), '--until', str(args.until), '--busy',
                '--budget', args.budget, '--walls', args.walls]
            with open(out/f'{kind}-{k:02d}.log', 'a') as f:
                procs.append(subprocess.Popen(cmd, stdout=f, stderr=subprocess.STDOUT))
    for p in procs: p.wait()

LEFT_OUT = ('marks phases held load knows fused walls host contract counts overran lease nonce '
    'block lint said exit batches').split()

def noted(folder, curves):
    "What stays of an experiment's notes: without what its runs say twice"
    n = json.loads((folder/'experiment.json').read_text())
    runs = [*(n.get('runs') or []), *(n.get('best_runs') or [])]
    for o in [n, *runs]:
        for k in LEFT_OUT: o.pop(k, None)
    for o in runs:
        for k in ('machine', 'code', 'claimed', 'examined'): o.pop(k, None)
    try: progress = json.loads((folder/'progress.json').read_text()) if curves else {}
    except (OSError, ValueError): progress = {}
    if progress: n |= {k: shortened(progress.get(k)) for k in ('columns', 'curve')}
    return n

def shortened(v):
    "Numbers in six digits, also within lists"
    if isinstance(v, list): return [shortened(o) for o in v]
    return float(f'{v:.6g}') if isinstance(v, float) else v

def record(args):
    "What stays of sessions: ledger, notes, log, status; no notebook, no weights"
    for folder in sorted(Path(args.sessions).glob('*/repo')):
        new = Path(args.to)/folder.parent.name
        new.mkdir(parents=True, exist_ok=True)
        if (folder/'results.tsv').exists(): shutil.copy(folder/'results.tsv', new)
        audits = sorted(folder.glob(f'runs/{TAG}/audit/*-rows.npy'))
        if audits: (new/'audit').mkdir(exist_ok=True)
        for f in audits:
            for o in (f, f.with_name(f.name.replace('-rows.npy', '.json'))):
                if o.exists(): shutil.copy(o, new/'audit')
        log = (folder.parent/'session.log').read_text().replace(str(folder), '.')
        log = re.sub(r'(?ms)^(\$ ar-status --json[^\n]*\n).*?(?=^\$ |\Z)', r'\1', log)
        (new/'session.log').write_text(log)
        found = sorted(folder.glob(f'runs/{TAG}/*/experiment.json'))
        lines = [json.dumps(noted(f.parent, args.curves)) for f in found]
        (new/'notes.jsonl').write_text('\n'.join(lines) + '\n')

def table(head, rows):
    for r in [head, ['---']*len(head), *rows]: print('| ' + ' | '.join(map(str, r)) + ' |')
    print(flush=True)

def is_experiment(n): return n.get('status') in ('keep', 'discard', 'crash')
def value_of(n): return n.get('value') or 0.

def session_row(folder):
    "A line on a recorded session"
    notes = [json.loads(l) for l in (folder/'notes.jsonl').read_text().splitlines() if l]
    rows = [l.split('\t') for l in (folder/'results.tsv').read_text().splitlines()[1:]]
    tried = [n for n in notes if is_experiment(n)][1:]
    runs = sum(max(1, len(n.get('runs') or [])) + len(n.get('best_runs') or []) for n in notes)
    noise = next((n['noise'] for n in tried if n.get('noise')), None)
    first = f"{noise['sigma']:.4f} ({noise['df']})" if isinstance(noise, dict) else ''
    status = [r[3] for r in rows[1:]]
    return dict(name=folder.name, kind=folder.name.rsplit('-', 1)[0], tried=len(status),
        kept=status.count('keep'), crashed=status.count('crash'), runs=runs, sigma=first,
        notes=notes, experiments=tried)

def show(args):
    "Print the tables of RESULTS.md"
    found = [session_row(f.parent) for f in sorted(Path(args.sessions).glob('*/notes.jsonl'))]
    table(['session', 'experiments', 'kept', 'crashes', 'runs', 'first sigma (degrees of freedom)'],
        [[o[k] for k in ('name', 'tried', 'kept', 'crashed', 'runs', 'sigma')] for o in found])
    kinds = sorted({o['kind'] for o in found})
    of = lambda k: [o for o in found if o['kind'] == k]
    count = lambda k, name: sum(o[name] for o in of(k))
    table(['kind', 'sessions', 'experiments', 'kept', 'runs'],
        [[k, len(of(k)), count(k, 'tried'), count(k, 'kept'), count(k, 'runs')] for k in kinds])
    planted(of('planted'))
    minutes(found)

def minutes(sessions):
    "How fast the machine was, minute by minute"
    runs = {}
    for o in sessions:
        for n in o['notes']:
            for r in [*(n.get('runs') or []), *(n.get('best_runs') or [])]:
                if r.get('rate'): runs[o['name'], r['dir']] = r
    if not runs: return
    begun = min(r['time'] for r in runs.values())
    by = {}
    for r in runs.values(): by.setdefault(int((r['time']-begun)//60), []).append(r)
    table(['minute', 'runs', 'steps, median', 'tokens/s, median', 'least', 'most'],
        [[m, len(g), *(f'{f([o[k] for o in g]):,.0f}' for f,k in ((statistics.median, 'steps'),
            (statistics.median, 'rate'), (min, 'rate'), (max, 'rate')))]
            for m,g in sorted(by.items())])

def planted(sessions):
    "What the planted gain came to: each edit's first run beside the runs of its start before it"
    from autoresearch.judge import noise_of
    groups,gains,more = [], [], []
    for o in sessions:
        tried = o['experiments'][:1]
        start = [n for n in o['notes'] if is_start(n, tried)]
        groups.append(start)
        for r in [n['runs'][0] for n in tried if n.get('runs')]:
            gains.append(statistics.mean(map(value_of, start)) - r['value'])
            more.append(r['steps'] - statistics.mean(n['steps'] for n in start))
    if len(gains) < 2: return
    noise = noise_of([[value_of(n) for n in g] for g in groups])
    slope,share = within(groups)
    m,error = statistics.mean(gains), statistics.stdev(gains)/math.sqrt(len(gains))
    print(f'planted: sigma {noise.sigma:.4f} ({noise.low:.4f} .. {noise.high:.4f}, {noise.df} '
        f'degrees of freedom) within the starts of {len(groups)} sessions; steps explain '
        f'{share:.0%} of it, {slope:+.4f} a step. Gain of {len(gains)} first runs {m:.4f} ± '
        f'{error:.4f}, {m/noise.sigma:.2f} ± {error/noise.sigma:.2f} sigma; they had '
        f'{statistics.mean(more):+.1f} steps, without which {m + slope*statistics.mean(more):.4f}, '
        f'{(m + slope*statistics.mean(more))/noise.sigma:.2f} sigma\n')

def is_start(n, tried):
    "Is it the baseline or a repeat of it, before the first edit was judged?"
    if n.get('status') not in ('keep', 'repeat') or not n.get('steps'): return False
    return n not in tried and (not tried or n['started'] < tried[0]['started'])

def within(groups):
    "Slope of value on steps within groups, and the share of variance that it explains"
    pairs = [(n['steps'] - statistics.mean(o['steps'] for o in g),
        value_of(n) - statistics.mean(map(value_of, g))) for g in groups for n in g]
    slope = sum(x*y for x,y in pairs)/sum(x*x for x,_ in pairs)
    left = sum((y-slope*x)**2 for x,y in pairs)
    return slope, 1 - left/sum(y*y for _,y in pairs)

def arguments():
    "The command line"
    kept = argparse.RawDescriptionHelpFormatter
    a = argparse.ArgumentParser(description=__doc__, formatter_class=kept)
    sub = a.add_subparsers(dest='what', required=True)
    def common(o):
        o.add_argument('--out', required=True)
        o.add_argument('--source', default=str(ROOT), help='repository that is cloned')
        o.add_argument('--cores', default='', help='processors, like 5-31')
        o.add_argument('--budget', default='', help='time budget, s; the profile\'s if left out')
        o.add_argument('--walls', default='auto', help='as ar-setup takes it')
        o.add_argument('--until', type=float, default=0, help='end after so many seconds')
    r = sub.add_parser('run', help='one session')
    r.add_argument('kind', choices=[*KINDS])
    common(r)
    r.add_argument('--part', default='1/1', help='every how-manyth edit: k/n')
    r.add_argument('--cache', default='', help='prepared cache that is copied')
    r.add_argument('--busy', action='store_true', help='keep the cores busy to the end')
    o = sub.add_parser('all', help='a plan of sessions')
    common(o)
    o.add_argument('--plan', choices=[*PLANS], default='evening')
    w = sub.add_parser('show', help='print the tables')
    w.add_argument('sessions')
    c = sub.add_parser('record', help='copy what stays')
    c.add_argument('sessions')
    c.add_argument('to')
    c.add_argument('--curves', action='store_true', help='with loss curves, for early stop')
    return a.parse_args()

def main():
    args = arguments()
    if args.what == 'run': sys.exit(run(args))
    else: dict(all=all_of, record=record, show=show)[args.what](args)

if __name__ == '__main__': main()
