"""What the search finds on profile tiny, beside random search and luck; and the table of the demo's seeds.

    python bench/search.py compare [--cores 0,1]  # TPE, random search and repeats of the baseline: 16 runs of 10 s, three seeds each
    python bench/search.py demo                   # what make demo does, for ten seeds

Each session runs in a clone of the last commit; the first two through ar-search, the repeats through run_experiment. Finished sessions are appended to bench/sessions/search.tsv or
demo.tsv, and those already there are not run again: remove the file to record all anew. With `--cores 0,1` two sessions run side by side,
each held to one core and one thread, which halves the time and leaves all arms the same conditions; keep other work off these cores.
"""
import os, re, shutil, subprocess, sys, tempfile, time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from fastcore.script import call_parse
from autoresearch.contract import get_profile
from autoresearch.ledger import Row, get_ledger
from autoresearch.run import run_experiment, verdict
from demo import TRIALS

ROOT = Path(__file__).resolve().parent.parent
SESSIONS = ROOT/'bench/sessions'
HEADER = 'arm\tseed\tnumber\tvalue\tstatus\tseconds\tdescription'

def clone(folder, budget):
    "A clone of the last commit, with the budget of profile tiny set to `budget` seconds if that is not 0"
    git = lambda *args: subprocess.run(['git', *args], cwd=folder, check=True, capture_output=True)
    subprocess.run(['git', 'clone', '--quiet', '--no-hardlinks', str(ROOT), str(folder)], check=True)
    if budget:
        f = folder/'settings.ini'
        head,tiny = f.read_text().split('[tiny]')
        f.write_text(head + '[tiny]' + re.sub(r'time_budget = \d+', f'time_budget = {budget}', tiny))
        git('-c', 'user.name=bench', '-c', 'user.email=bench@localhost', 'commit', '-qam', f'budget {budget} s')

def environment(folder, lane):
    one = {k: '1' for k in ('OMP_NUM_THREADS', 'MKL_NUM_THREADS')} if lane is not None else {}
    return {**os.environ, 'PYTHONPATH': str(folder), 'AUTORESEARCH_PROFILE': 'tiny', **one}

def search(folder, env, pin, sampler, seed, runs):
    "One session of ar-search: the rows of its ledger"
    bin = Path(sys.executable).parent
    for cmd in ([bin/'ar-setup', 'bench'], [bin/'ar-search', '--trials', str(runs-1), '--sampler', sampler, '--seed', str(seed)]):
        subprocess.run([*pin, *cmd], cwd=folder, env=env, check=True, stdout=subprocess.DEVNULL)
    return get_ledger(get_profile('tiny', folder/'settings.ini')).read()[0]

def repeats(folder, env, pin, seed, runs):
    "The unchanged canvas, `runs` times, each from other initial weights, judged as the ratchet would"
    p,rows = get_profile('tiny', folder/'settings.ini'), []
    os.environ.update(env)
    for i in range(runs):
        r = run_experiment(folder/p.canvas, folder/f'runs/{i}', p, seed=1000*seed+i, bar=False)
        rows.append(Row(f'{i:07d}', r.value, r.memory_gb, verdict(r, rows, p.direction)[0], f'seed {1000*seed+i}'))
    return rows

def session(arm, seed, runs, budget, lane):
    "Rows of one session as lines of the table"
    with tempfile.TemporaryDirectory() as tmp:
        folder,t0 = Path(tmp)/'repo', time.time()
        pin = ['taskset', '-c', str(lane)] if lane is not None else []
        clone(folder, budget)
        rows = (repeats if arm == 'repeats' else search)(folder, environment(folder, lane), pin, *([] if arm == 'repeats' else [arm]), seed, runs)
        each = (time.time()-t0)/len(rows)
    return [f'{arm}\t{seed}\t{i}\t{r.value:.6f}\t{r.status}\t{each:.1f}\t{r.description}' for i,r in enumerate(rows)]

def main_of_one(arm, seed, runs, budget, lane):
    "Run one session in a process of its own, held to the lane"
    code = f'import sys; sys.path.insert(0, {str(ROOT/"bench")!r}); import search; print("\\n".join(search.session({arm!r}, {seed}, {runs}, {budget}, {lane})))'
    pin = ['taskset', '-c', str(lane)] if lane is not None else []
    return subprocess.run([*pin, sys.executable, '-c', code], env=environment(ROOT, lane), check=True, stdout=subprocess.PIPE, text=True).stdout

@call_parse
def main(
    what:str, # compare or demo
    cores:str='' # Comma-separated numbers of cores, each for one session at a time; empty: one session with all of them
):
    "Record what is not recorded yet"
    sys.stdout.reconfigure(line_buffering=True)
    if what == 'compare': file,jobs = SESSIONS/'search.tsv', [(arm, seed, 16, 10) for seed in range(3) for arm in ('tpe', 'random', 'repeats')]
    else: file,jobs = SESSIONS/'demo.tsv', [('tpe', seed, TRIALS+1, 0) for seed in range(10)]
    if not file.exists(): file.write_text(HEADER + '\n')
    have = {tuple(l.split('\t')[:2]) for l in file.read_text().splitlines()[1:]}
    jobs = [j for j in jobs if (j[0], str(j[1])) not in have]
    def work(lane):
        while jobs:
            job = jobs.pop(0)
            t0,lines = time.time(), main_of_one(*job, lane)
            with open(file, 'a') as f: f.write(lines)
            values = [float(l.split('\t')[3]) for l in lines.splitlines() if l.split('\t')[4] == 'keep']
            print(f'{job[0]} seed {job[1]}: {values[0]:.6f} -> {values[-1]:.6f} in {len(values)} keeps, {time.time()-t0:.0f} s')
    lanes = [int(c) for c in cores.split(',')] if cores else [None]
    with ThreadPoolExecutor(len(lanes)) as pool: list(pool.map(work, lanes))
