"""A repository of the torch-free example and the commands in it: what the tests of the ratchet and
the search stand on."""
import os, re, shutil, subprocess, sys, time
from pathlib import Path
from autoresearch.run import processes_of, read_json

ROOT = Path(__file__).parent.parent
BIN = Path(sys.executable).parent
TAG = 'nov1'

def environ(**more):
    "The environment of a command: this package, the example's only profile"
    env = {k: v for k,v in os.environ.items()
        if k not in ('AUTORESEARCH_PROFILE', 'AUTORESEARCH_NONCE')}
    return {**env, 'PYTHONPATH': str(ROOT), 'PYTHONUNBUFFERED': '1', **more}

def sh(root, *args, ok=True, **env):
    r = subprocess.run([str(a) for a in args], cwd=root, env=environ(**env), capture_output=True,
        text=True, timeout=120)
    assert not ok or r.returncode == 0, (args, r.stdout, r.stderr)
    return r

def git(root, *args): return sh(root, 'git', *args).stdout.strip()
def ar(root, command, *args, ok=True, **env): return sh(root, BIN/command, *args, ok=ok, **env)
def rows(root): return [l.split('\t') for l in (root/'results.tsv').read_text().splitlines()[1:]]

def rows_as_tried(root):
    "The ledger's rows without what a busy machine adds to a description"
    return [[re.sub(r' \(disturbed[^()]*\)$', '', o) for o in r] for r in rows(root)]

def commit(root, message='by hand'):
    return git(root, '-c', 'user.name=t', '-c', 'user.email=t@example.org',
        'commit', '-qam', message)

def example(root, **settings):
    "The example as a repository of its own"
    shutil.copytree(ROOT/'examples/polynomial', root,
        ignore=shutil.ignore_patterns('runs', '__pycache__', 'results.tsv', 'run.log'))
    text = (root/'settings.ini').read_text()
    # so that no run counts as disturbed by whatever else runs here
    settings = dict(clock='cpu') | settings
    for k,v in settings.items(): text = re.sub(rf'^{k} = .*$', f'{k} = {v}', text, flags=re.M)
    (root/'settings.ini').write_text(text)
    (root/'.gitignore').write_text('runs/\nresults.tsv\nrun.log\n__pycache__/\n')
    git(root, 'init', '-q', '-b', 'main', '--template=')
    git(root, 'add', '-A')
    commit(root, 'start')
    return root

def edit(root, old, new, canvas='canvas.ipynb'):
    f = root/canvas
    text = f.read_text()
    assert old in text
    f.write_text(text.replace(old, new))

def setup(root, *args, **env): return ar(root, 'ar-setup', TAG, *args, **env)
def run(root, message='an idea', *args, ok=True, **env):
    return ar(root, 'ar-run', '-m', message, *args, ok=ok, **env)

def until(test, seconds=20, every=.02):
    t0 = time.time()
    while time.time()-t0 < seconds:
        if res := test(): return res
        time.sleep(every)
    raise AssertionError(f'not within {seconds} s')

def sound(root):
    "What must hold whenever nothing runs"
    assert not list((root/'runs').rglob('journal.json')), 'a journal is left'
    assert not list((root/'.git').rglob('*.lock')), 'a lock of git is left'
    fsck = sh(root, 'git', 'fsck', '--connectivity-only', ok=False)
    assert fsck.returncode == 0 and 'missing' not in fsck.stdout+fsck.stderr, fsck
    nonces = {m for f in (root/'runs').rglob('experiment.json') if (m := read_json(f).get('nonce'))}
    assert not [p for n in nonces for p in processes_of(n)], 'a process of a run is alive'
    return git(root, 'status', '--porcelain')
