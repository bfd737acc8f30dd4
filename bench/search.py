"""What the search finds on profile tiny, beside random search and luck; the demo's seeds.

    python bench/search.py compare [--cores 0,1]
    python bench/search.py demo      # what make demo does, for ten seeds

`compare` sets TPE, random search and repeats of the baseline side by side: 16 runs of 10 s, three
seeds each. Each session runs in a clone of the last commit; the first two through ar-search, the
repeats through run_experiment. Finished sessions are appended to bench/sessions/search.tsv or
demo.tsv, and those already there are not run again: remove the file to record all anew. With
`--cores 0,1` two sessions run side by side, each held to one core and one thread, which halves the
time and leaves all arms the same conditions; keep other work off these cores.
"""
import os, re, shutil, subprocess, sys, tempfile, time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from fastcore.script import call_parse
from autoresearch.contract import get_profile
from autoresearch.judge import best_so_far, strict
from autoresearch.ledger import Row, get_ledger
from autoresearch.run import run_experiment
from demo import TRIALS

ROOT = Path(__file__).resolve().parent.parent
SESSIONS = ROOT/'bench/sessions'
HEADER = 'arm\tseed\tnumber\tvalue\tstatus\tseconds\tdescription'

def clone(folder, budget):
    "A clone of the last commit, with a budget of `budget` seconds for tiny if not 0"
    cmd = ['git', 'clone', '--quiet', '--no-hardlinks', str(ROOT), str(folder)]
    subprocess.run(cmd, check=True)
    if not budget: return
    f = folder/'settings.ini'
    head,tiny = f.read_text().split('[tiny]')
    f.write_text(head + '[tiny]' + re.sub(r'time_budget = \d+', f'time_budget = {budget}', tiny))
    who = ['-c', 'user.name=bench', '-c', 'user.email=bench@localhost']
    cmd = ['git', *who, 'commit', '-qam', f'budget {budget} s']
    subprocess.run(cmd, cwd=folder, check=True, capture_output=True)

def environment(folder, lane):
    "The environment of a session in `folder`, with one thread where it has a core of its own"
    one = {k: '1' for k in ('OMP_NUM_THREADS', 'MKL_NUM_THREADS')} if lane is not None else {}
    return {**os.environ, 'PYTHONPATH': str(folder), 'AUTORESEARCH_PROFILE': 'tiny', **one}

def held_to(lane):
    "The command that holds what follows to a core; none where the session has all of them"
    return [] if lane is None else ['taskset', '-c', str(lane)]

def search(folder, env, pin, sampler, seed, runs):
    "One session of ar-search: the rows of its ledger"
    bin = Path(sys.executable).parent
    asked = ['--trials', str(runs-1), '--sampler', sampler, '--seed', str(seed)]
    for cmd in ([bin/'ar-setup', 'bench'], [bin/'ar-search', *asked]):
        subprocess.run([*pin, *cmd], cwd=folder, env=env, check=True, stdout=subprocess.DEVNULL)
    return get_ledger(get_profile('tiny', folder/'settings.ini')).read()[0]

def repeats(folder, env, seed, runs):
    "The unchanged canvas, `runs` times from other initial weights, judged as the ratchet would"
    p = get_profile('tiny', folder/'settings.ini')
    rows = []
    os.environ.update(env)
    for i in range(runs):
        own_seed = 1000*seed+i
        r = run_experiment(folder/p.canvas, folder/f'runs/{i}', p, seed=own_seed, bar=False)
        best = best_so_far([o.value for o in rows if o.status == 'keep'], p.direction)
        status,_ = strict(r.value, best, p.direction, '' if r.ok else r.reason or r.status)
        rows.append(Row(f'{i:07d}', r.value, r.memory_gb, status, f'seed {own_seed}'))
    return rows

def session(arm, seed, runs, budget, lane):
    "Rows of one session as lines of the table"
    with tempfile.TemporaryDirectory() as tmp:
        folder = Path(tmp)/'repo'
        t0 = time.time()
        clone(folder, budget)
        env = environment(folder, lane)
        if arm == 'repeats': rows = repeats(folder, env, seed, runs)
        else: rows = search(folder, env, held_to(lane), arm, seed, runs)
        each = (time.time()-t0)/len(rows)
    cells = [(arm, seed, i, f'{r.value:.6f}', r.status, f'{each:.1f}', r.description)
        for i,r in enumerate(rows)]
    return ['\t'.join(map(str, c)) for c in cells]

def main_of_one(arm, seed, runs, budget, lane):
    "Run one session in a process of its own, held to the lane"
    code = f"""import sys
sys.path.insert(0, {str(ROOT/'bench')!r})
import search
for line in search.session({arm!r}, {seed}, {runs}, {budget}, {lane}): print(line)
"""
    done = subprocess.run([*held_to(lane), sys.executable, '-c', code], env=environment(ROOT, lane),
        check=True, stdout=subprocess.PIPE, text=True)
    return done.stdout

def jobs_of(what):
    "The table to append to, and its sessions as (arm, seed, runs, budget)"
    if what == 'demo': return SESSIONS/'demo.tsv', [('tpe', i, TRIALS+1, 0) for i in range(10)]
    arms = 'tpe', 'random', 'repeats'
    return SESSIONS/'search.tsv', [(arm, seed, 16, 10) for seed in range(3) for arm in arms]

@call_parse
def main(
    what:str, # compare or demo
    cores:str='' # Numbers of cores with commas, each for one session at a time; empty: all for one
):
    "Record what is not recorded yet"
    sys.stdout.reconfigure(line_buffering=True)
    file,jobs = jobs_of(what)
    if not file.exists(): file.write_text(HEADER + '\n')
    have = {tuple(l.split('\t')[:2]) for l in file.read_text().splitlines()[1:]}
    jobs = [j for j in jobs if (j[0], str(j[1])) not in have]
    def work(lane):
        while jobs:
            arm,seed,*how = jobs.pop(0)
            t0 = time.time()
            lines = main_of_one(arm, seed, *how, lane)
            with open(file, 'a') as f: f.write(lines)
            rows = [l.split('\t') for l in lines.splitlines()]
            kept = [float(r[3]) for r in rows if r[4] == 'keep']
            print(f'{arm} seed {seed}: {kept[0]:.6f} -> {kept[-1]:.6f} in {len(kept)} keeps, '
                f'{time.time()-t0:.0f} s')
    lanes = [int(c) for c in cores.split(',')] if cores else [None]
    with ThreadPoolExecutor(len(lanes)) as pool: list(pool.map(work, lanes))
