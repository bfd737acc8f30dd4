"""What the search finds on profile tiny beside random search, and what `make demo` shows.

    python bench/searches.py all --cores 4-31 --out S --budget 8 --until 540
    python bench/searches.py all --plan demo --cores 4-31 --out S --until 540
    python bench/searches.py record S bench/searches      # what stays of them, small
    python bench/searches.py show bench/searches          # the tables of the notebook

`compare` sets two searches side by side, `local` and `random`, sixteen trials each, for ten seeds.
A seed's two sessions begin as one: a clone is set up and its baseline is run, then it is copied, so
that both have the same first run, the same seeds and the same best to begin with. From there each
has a core and one thread of its own, at the same time, so both have the same machine. `demo` is
what `make demo` runs: a baseline and its trials in a session of two cores, with tiny's own budget.

The rule is `strict` for both: a session without calibration is judged by it anyway, and one with
`confirm` would give some trials several runs and others one. Strict keeps luck, of both alike, so
two repeats of each best under fresh seeds follow where time is left, which no choice was made by.
Keeps are not examined (`--no-examine`), which takes as long as a trial and decides nothing here.

A session that was stopped goes on when the same command is given again; one that is complete is
left as it is. Sessions that find no core are left for another call, and named."""
import argparse, json, os, shutil, statistics, subprocess, sys, time
from pathlib import Path
from demo import TRIALS as DEMO
from seeds import numbers
from sessions import ROOT, TAG, Session, make_commands, table

ARMS = 'local', 'random'
SEEDS = 10
TRIALS = 16
REPEATS = 2 # of the best that a session ends with
HEADER = 'arm seed number value status seconds description'.split()

def session(args, name, cores):
    "A session under strict, in a folder of its own"
    return Session(Path(args.out)/name, 'strict', '1/1', args.budget, cores, args.walls)

def begun(args, seed, cores):
    "A session with its baseline"
    s = session(args, f'base-{seed:02d}', cores)
    s.make(args.source, args.cache)
    if not s.rows(): s.ask('run', '-m', 'baseline', '--no-examine')
    return s

def copied(base, args, arm, seed, cores):
    "An arm's session: what the baseline left, copied once"
    s = session(args, f'{arm}-{seed:02d}', cores)
    if not (s.folder/'copied').exists():
        shutil.rmtree(s.folder, ignore_errors=True)
        shutil.copytree(base.folder, s.folder, symlinks=True)
        (s.folder/'copied').touch()
    return s

def made(s): return len(s.rows()) - 1

def searching(s, arm, seed, trials, until):
    "The search, until it has made all trials or the time is over"
    left = trials - made(s)
    if left <= 0: return True
    cmd = [s.folder/'bin/ar-search', '--trials', trials, '--sampler', arm, '--seed', seed,
        '--no-examine']
    with open(s.folder/'search.log', 'a') as f:
        proc = subprocess.Popen([str(o) for o in cmd], cwd=s.repo, env=s.env, stdout=f,
            stderr=subprocess.STDOUT)
        try: proc.wait(max(1, until-time.time()) if until else None)
        except subprocess.TimeoutExpired:
            proc.terminate()
            proc.wait()
    return made(s) >= trials

def repeated(s, until):
    "Runs of the best under fresh seeds, as far as there is time"
    done = (s.folder/'repeats').read_text().split() if (s.folder/'repeats').exists() else []
    each = 0.
    for _ in range(REPEATS-len(done)):
        if until and time.time() + 1.2*each > until: return
        t0 = time.time()
        r = s.ask('run', '--repeat', '--no-examine', check=False)
        if r.returncode: return
        each = time.time()-t0
        with open(s.folder/'repeats', 'a') as f: f.write('done\n')

def one(args):
    "One arm of a seed, in a process of its own"
    cores = numbers(args.cores)
    os.sched_setaffinity(0, cores)
    if args.arm == 'demo':
        s = session(args, f'demo-{args.seed:02d}', cores)
        s.make(args.source, args.cache)
        if not s.rows(): s.ask('run', '-m', 'baseline', '--no-examine')
    else: s = session(args, f'{args.arm}-{args.seed:02d}', cores)
    arm,trials = ('local', DEMO) if args.arm == 'demo' else (args.arm, args.trials)
    done = searching(s, arm, args.seed, trials, args.end)
    if done and args.arm != 'demo': repeated(s, args.end)
    print(f'{s.folder.name}: {made(s)} of {trials} trials', flush=True)

def command(args, what, arm, seed, cores):
    "This script again, for a part of the plan"
    cmd = [sys.executable, __file__, what, '--out', args.out, '--source', args.source,
        '--cache', args.cache, '--budget', args.budget, '--walls', args.walls, '--arm', arm,
        '--seed', seed, '--cores', ','.join(map(str, cores)), '--trials', args.trials,
        '--end', args.end]
    return [str(o) for o in cmd]

def pair(args):
    "Both arms of a seed: one baseline, copied; then side by side, a core each"
    cores = numbers(args.cores)
    os.sched_setaffinity(0, cores[:1]) # on two it would be another machine than the sessions'
    base = begun(args, args.seed, cores[:1])
    for arm,core in zip(ARMS, cores): copied(base, args, arm, args.seed, [core])
    procs = [subprocess.Popen(command(args, 'one', arm, args.seed, [core]))
        for arm,core in zip(ARMS, cores)]
    sys.exit(max(p.wait() for p in procs))

def prepared(args):
    "The cache that sessions copy"
    out = Path(args.out)
    out.mkdir(parents=True, exist_ok=True)
    make_commands(out/'bin')
    env = {**os.environ, 'AUTORESEARCH_PROFILE': 'tiny', 'AUTORESEARCH_CACHE': args.cache,
        'PYTHONPATH': args.source, 'CUDA_VISIBLE_DEVICES': ''}
    if not (out/'cache-tiny/tokens').exists():
        subprocess.run([out/'bin/ar-prepare'], env=env, cwd=args.source, check=True)

def all_of(args):
    "A plan's sessions side by side, two cores a seed"
    args.out,args.source = (str(Path(o).resolve()) for o in (args.out, args.source))
    args.cache = str(Path(args.out)/'cache')
    args.end = time.time() + args.until if args.until else 0
    prepared(args)
    cores = numbers(args.cores)
    room = len(cores)//2
    what,arm = ('pair', 'both') if args.plan == 'compare' else ('one', 'demo')
    seeds = numbers(args.seeds)
    procs = []
    for k,seed in enumerate(seeds[:room]):
        with open(f'{args.out}/{args.plan}-{seed:02d}.log', 'a') as f:
            cmd = command(args, what, arm, seed, cores[2*k:2*k+2])
            procs.append(subprocess.Popen(cmd, stdout=f, stderr=subprocess.STDOUT))
    if seeds[room:]: print('no core for seeds', *seeds[room:], flush=True)
    codes = [p.wait() for p in procs]
    if any(codes): print('with exit codes', *codes, flush=True)
    if args.record: record(argparse.Namespace(sessions=args.out, to=args.record))

def told(folder):
    "A session's experiments as lines of the table: those with a row, then repeats of the best"
    arm,seed = folder.name.rsplit('-', 1)
    rows = [l.split('\t') for l in (folder/'repo/results.tsv').read_text().splitlines()[1:]]
    notes = [json.loads(f.read_text()) for f in
        sorted((folder/f'repo/runs/{TAG}').glob('[0-9]*-*/experiment.json'))]
    took = {n['commit'][:7]: n.get('seconds', 0.) for n in notes if n.get('status') != 'repeat'}
    lines = [(arm, int(seed), i, r[1], r[3], f'{took.get(r[0], 0.):.1f}', r[4])
        for i,r in enumerate(rows)]
    last = max(i for i,n in enumerate(notes) if n.get('status') != 'repeat')
    more = notes[last+1:]
    return lines + [(arm, int(seed), len(rows)+i, f"{n['value']:.6f}", 'repeat',
        f"{n.get('seconds', 0.):.1f}", 'the best again') for i,n in enumerate(more)]

def record(args):
    "What stays of sessions: a table a plan"
    to = Path(args.to)
    to.mkdir(parents=True, exist_ok=True)
    for plan,arms in (('compare', ARMS), ('demo', ('demo',))):
        found = [f.parents[1] for arm in arms
            for f in sorted(Path(args.sessions).glob(f'{arm}-[0-9]*/repo/results.tsv'))]
        if not found: continue
        lines = [HEADER, *(o for f in found for o in told(f))]
        (to/f'{plan}.tsv').write_text(''.join('\t'.join(map(str, o)) + '\n' for o in lines))

def read(path):
    "{(arm, seed): its lines as dicts}"
    found = {}
    for l in path.read_text().splitlines()[1:]:
        o = dict(zip(HEADER, l.split('\t')))
        o |= dict(seed=int(o['seed']), number=int(o['number']), value=float(o['value']))
        found.setdefault((o['arm'], o['seed']), []).append(o)
    return found

def outcome(rows, trials):
    "Baseline, best and keeps after so many trials"
    kept = [o['value'] for o in rows if o['status'] == 'keep' and o['number'] <= trials]
    return dict(first=kept[0], best=kept[-1], gain=kept[0]-kept[-1], steps=len(kept)-1)

def again(rows):
    "The mean of the best's repeats; None without"
    values = [o['value'] for o in rows if o['status'] == 'repeat']
    return statistics.fmean(values) if values else None

def tried(rows): return sum(o['status'] != 'repeat' for o in rows) - 1

def show_compare(found):
    "Gains by seed; as many trials as both arms of a seed have"
    seeds = sorted({seed for _,seed in found if all((arm, seed) in found for arm in ARMS)})
    rows,gains,repeats = [], [], []
    for seed in seeds:
        both = [found[arm, seed] for arm in ARMS]
        n = min(TRIALS, *map(tried, both))
        a,b = (outcome(o, n) for o in both)
        x,y = map(again, both)
        gains.append((a['gain'], b['gain']))
        if x is not None and y is not None: repeats.append((x, y))
        fresh = ['' if o is None else f'{o:.4f}' for o in (x, y)]
        rows.append([seed, n, f"{a['first']:.4f}", f"{a['gain']:.4f}", f"{b['gain']:.4f}",
            a['steps'], b['steps'], *fresh])
    table(['seed', 'trials', 'baseline', *(f'{what} {arm}' for what in
        ('gain,', 'keeps,', 'best again,') for arm in ARMS)], rows)
    if not gains: return
    ours,theirs = (statistics.fmean(o) for o in zip(*gains))
    ratio = f', {ours/theirs:.2f} times' if theirs else ''
    print(f'{sum(a > b for a,b in gains)} of {len(gains)} seeds ahead of random; mean gain '
        f'{ours:.4f} and {theirs:.4f}{ratio}')
    if repeats:
        print(f'under fresh seeds {sum(a < b for a,b in repeats)} of {len(repeats)} ahead; mean '
            + ' and '.join(f'{statistics.fmean(o):.4f}' for o in zip(*repeats)))

def show_demo(found):
    "Steps by seed"
    told = {seed: outcome(rows, DEMO) for (_,seed),rows in sorted(found.items())}
    table(['seed', 'trials', 'baseline', 'best', 'steps'], [[seed, tried(found['demo', seed]),
        f"{o['first']:.4f}", f"{o['best']:.4f}", o['steps']] for seed,o in told.items()])
    print(f"{sum(o['steps'] > 0 for o in told.values())} of {len(told)} seeds took a step")

def show(args):
    "Print the tables"
    folder = Path(args.recorded)
    for name,say in (('first', show_compare), ('compare', show_compare), ('demo', show_demo)):
        if not (folder/f'{name}.tsv').exists(): continue
        print(f'{name}:\n')
        say(read(folder/f'{name}.tsv'))

def arguments():
    "The command line"
    kept = argparse.RawDescriptionHelpFormatter
    a = argparse.ArgumentParser(description=__doc__, formatter_class=kept)
    sub = a.add_subparsers(dest='what', required=True)
    for name,says in (('all', 'a plan of sessions'), ('pair', 'both arms of a seed'),
            ('one', 'one session')):
        o = sub.add_parser(name, help=says)
        o.add_argument('--out', required=True)
        o.add_argument('--source', default=str(ROOT), help='repository that is cloned')
        o.add_argument('--cores', required=True, help='processors, like 4-31; two a seed')
        o.add_argument('--budget', default='', help="time budget, s; the profile's if left out")
        o.add_argument('--walls', default='none', help='as ar-setup takes it')
        o.add_argument('--trials', type=int, default=TRIALS)
        if name == 'all':
            o.add_argument('--plan', choices=['compare', 'demo'], default='compare')
            o.add_argument('--seeds', default=f'0-{SEEDS-1}')
            o.add_argument('--until', type=float, default=0, help='end after so many seconds')
            o.add_argument('--record', default='', help='folder for the tables, at the end')
            continue
        o.add_argument('--cache', default='', help='prepared cache that is copied')
        o.add_argument('--arm', default='')
        o.add_argument('--seed', type=int, default=0)
        o.add_argument('--end', type=float, default=0, help='end at this time')
    w = sub.add_parser('show', help='print the tables')
    w.add_argument('recorded')
    c = sub.add_parser('record', help='write the tables')
    c.add_argument('sessions')
    c.add_argument('to')
    return a.parse_args()

def main():
    args = arguments()
    {'all': all_of, 'pair': pair, 'one': one, 'show': show, 'record': record}[args.what](args)

if __name__ == '__main__': main()
