"""make demo: one real experiment in a throwaway clone, its results copied to the top of this checkout."""
import os, shutil, subprocess, sys, time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
CLONE = ROOT/'runs'/'demo'/'repo'
RESULTS = ['results.tsv', 'run.log', 'progress.png']
BIN = Path(sys.executable).parent

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
    call(BIN/'ar-frontier')
    if note := copy_results(): print(note)
    where = ROOT if not note else CLONE.parent
    log = (where/'run.log').read_text()
    print('\nrun.log, last lines\n' + log[log.rindex('\n---\n')+1:].strip())
    print(f'\nresults.tsv\n{(where/"results.tsv").read_text().expandtabs(12)}')
    print(f'one experiment from clone to picture in {time.time()-t0:.0f} s')
    print(f'the staircase: {os.path.relpath(where/"progress.png")}')

if __name__ == '__main__': main()
