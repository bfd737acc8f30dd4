"""make demo: a baseline and a few trials of the search in a throwaway clone, results copied to the top of this checkout."""
import os, shutil, subprocess, sys, time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
CLONE = ROOT/'runs'/'demo'/'repo'
RESULTS = ['results.tsv', 'run.log', 'progress.png']
BIN = Path(sys.executable).parent
TRIALS = 9

def call(*cmd, cwd=CLONE, quiet=False):
    "Run a command of the clone's own package; ends the demo with its exit code if it fails"
    env = {**os.environ, 'AUTORESEARCH_PROFILE': 'tiny', 'PYTHONPATH': str(CLONE)}
    print('$', *(Path(cmd[0]).name, *cmd[1:]), flush=True)
    r = subprocess.run(cmd, cwd=cwd, env=env, stdout=subprocess.DEVNULL if quiet else None)
    if r.returncode: sys.exit(r.returncode)

def clone():
    "What the demo needs of git happens in a clone of the last commit: your branch and files stay as they are"
    shutil.rmtree(CLONE.parent/'repo', ignore_errors=True)
    CLONE.parent.mkdir(parents=True, exist_ok=True)
    call('git', 'clone', '--quiet', '--no-hardlinks', str(ROOT), str(CLONE), cwd=ROOT)

def copy_results():
    "To the top, but never over a ledger that is not the last demo's own"
    kept = CLONE.parent
    mine = [n for n in RESULTS if (ROOT/n).exists() and not ((kept/n).exists() and (ROOT/n).read_bytes() == (kept/n).read_bytes())]
    for n in RESULTS: shutil.copyfile(CLONE/n, kept/n)
    if mine: return f'{", ".join(mine)} at the top are not the demo\'s and stay as they are; the demo\'s are in {kept.relative_to(ROOT)}'
    for n in RESULTS: shutil.copyfile(kept/n, ROOT/n)

def main():
    t0 = time.time()
    clone()
    call(BIN/'ar-prepare')
    call(BIN/'ar-setup', 'demo')
    call(BIN/'ar-run', '-m', 'baseline')
    call(BIN/'ar-search', '--trials', str(TRIALS))
    call(BIN/'ar-frontier')
    if note := copy_results(): print(note)
    where = ROOT if not note else CLONE.parent
    ledger = (where/'results.tsv').read_text()
    print(f'\nresults.tsv\n{ledger.expandtabs(12)}\nthe staircase: {os.path.relpath(where/"progress.png")}\n')
    rows = [l.split('\t') for l in ledger.splitlines()[1:]]
    kept = [float(r[1]) for r in rows if r[3] == 'keep']
    print(f'{len(rows)} real experiments in {time.time()-t0:.0f} s: each trained a small language model and measured val_bpb on text it had not seen.')
    if len(kept) > 1: print(f'The ratchet kept {len(kept)-1} of {len(rows)-1} changes: {kept[0]:.6f} -> {kept[-1]:.6f}; each is a commit, the rest went back.')
    else: print(f'The ratchet kept none of {len(rows)-1} changes: the staircase is flat at {kept[0]:.6f}, which happens in so few trials.')
    print('On an H100 type: source .venv/bin/activate && ar-prepare && ar-setup first && ar-search --hours 8, or let an agent follow program.md.')

if __name__ == '__main__': main()
