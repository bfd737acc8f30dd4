"""How much does the value of an unchanged canvas vary, idle and beside other work?

    python bench/noise.py [--n 20] [--cases 0,1,2] [--clock cpu] [--cores 0-3] [--out noise.tsv]

Runs the canvas N times for each case, where a case is the number of processes beside it that never
rest; this script starts and ends them. All runs have one seed, so what varies is the machine.
Prints per case n, untrusted, the value's range and standard deviation, steps, tokens/s and seconds
on the wall; each run is a line of the TSV. `--clock` measures with the budget counted otherwise
than the profile says, by a settings.ini of its own in a copy of the code; `--cores` keeps runs and
neighbours on these processors, so that several can go on side by side."""
import argparse, os, re, shutil, statistics, subprocess, sys, tempfile
from contextlib import contextmanager
from pathlib import Path
from autoresearch.contract import get_profile
from autoresearch.prepare import prepare
from autoresearch.run import rate_of, run_experiment

ROOT = Path(__file__).resolve().parent.parent
COLUMNS = ('case status value steps tokens_per_s wall_s overran_s others run_cores pressure '
    'threads reason').split()

def processors(text):
    "0-3,6 -> {0, 1, 2, 3, 6}"
    parts = [[int(n) for n in o.split('-')] for o in text.split(',') if o]
    return {i for o in parts for i in range(o[0], o[-1]+1)}

def code_with(folder, profile, clock):
    "A copy of the code whose settings count the budget by `clock`; gives the profile there"
    made = shutil.ignore_patterns('__pycache__', '_proc')
    for name in ('autoresearch', 'nbs'): shutil.copytree(ROOT/name, folder/name, ignore=made)
    text = (ROOT/'settings.ini').read_text(encoding='utf8')
    head,section = text.split(f'[{profile}]\n')
    section,*others = re.split(r'^(?=\[)', section, maxsplit=1, flags=re.M)
    if clock: section = f'clock = {clock}\n' + re.sub(r'^clock = .*\n', '', section, flags=re.M)
    text = f'{head}[{profile}]\n{section}{"".join(others)}'
    (folder/'settings.ini').write_text(text, encoding='utf8')
    return get_profile(profile, folder/'settings.ini')

@contextmanager
def neighbours(n):
    "n processes that never rest, ended at the end whatever happens"
    procs = [subprocess.Popen([sys.executable, '-c', 'while True: pass']) for _ in range(n)]
    try: yield
    finally:
        for p in procs:
            p.kill()
            p.wait()

def measured(case, r):
    "The columns of one run"
    clock = r.record.get('clock', {})
    return dict(case=case, status=r.status, value=r.value, steps=r.block.get('num_steps', 0),
        tokens_per_s=rate_of(r.record), wall_s=r.seconds, overran_s=clock.get('overran', 0.),
        others=r.load.get('others', 0.), run_cores=r.load.get('run', 0.),
        pressure=r.load.get('pressure'), threads=clock.get('threads', 0), reason=r.reason)

def shown(v): return f'{v:.6f}' if isinstance(v, float) else str(v).replace('\t', ' ')

def summary(case, rows):
    "A line on the runs of one case"
    good = [o for o in rows if o['status'] == 'ok']
    untrusted = sum(o['status'] == 'untrusted' for o in rows)
    failed = len(rows)-len(good)-untrusted
    line = f'beside {case}: n {len(rows)}, untrusted {untrusted}, other failures {failed}'
    if not good: return line
    def span(k, f): return f'{min(o[k] for o in good):{f}} .. {max(o[k] for o in good):{f}}'
    deviation = statistics.stdev(o['value'] for o in good) if len(good) > 1 else 0.
    spread = max(o['value'] for o in good) - min(o['value'] for o in good)
    overran = max(o['overran_s'] for o in good)
    return (f'{line}\n  value {span("value", ".4f")} '
        f'(spread {spread:.4f}, standard deviation {deviation:.4f})'
        f'\n  steps {span("steps", "d")}, {span("tokens_per_s", ",.0f")} tokens/s'
        f'\n  {span("wall_s", ".0f")} s on the wall, overran by {overran:.2f} s at most')

def arguments():
    "The command line"
    kept = argparse.RawDescriptionHelpFormatter
    a = argparse.ArgumentParser(description=__doc__, formatter_class=kept)
    a.add_argument('--n', type=int, default=20, help='runs of each case')
    a.add_argument('--cases', default='0,1,2', help='processes beside the run, one number a case')
    a.add_argument('--clock', choices=['wall', 'cpu'], default='',
        help='count the budget so; as the profile says when left out')
    a.add_argument('--cores', default='',
        help='processors to stay on, like 0-3 or 4,5; all when left out')
    a.add_argument('--profile', default='tiny')
    a.add_argument('--seed', type=int, default=42)
    a.add_argument('--out', default='noise.tsv', help='a line a run')
    return a.parse_args()

def one_run(folder, p, case, i, seed):
    "Run the canvas once more; the columns of its line"
    run_dir = folder/f'runs/{case}-{i:03d}'
    return measured(case, run_experiment(folder/p.canvas, run_dir, p, seed, bar=False))

def main():
    args = arguments()
    if args.cores: os.sched_setaffinity(0, processors(args.cores))
    folder = Path(tempfile.mkdtemp(prefix='noise-'))
    p = code_with(folder, args.profile, args.clock)
    prepare(p)
    print(f'profile {p.name}, clock {p.clock}, budget {p.time_budget:g} s, {args.n} runs a case',
        flush=True)
    with open(args.out, 'w') as out:
        print(*COLUMNS, sep='\t', file=out, flush=True)
        for case in map(int, args.cases.split(',')):
            rows = []
            with neighbours(case):
                for i in range(args.n):
                    rows.append(one_run(folder, p, case, i, args.seed))
                    print(*[shown(rows[-1][k]) for k in COLUMNS], sep='\t', file=out, flush=True)
            print(summary(case, rows), flush=True)
    shutil.rmtree(folder)

if __name__ == '__main__': main()
