"""A repository of the torch-free example and the commands in it: what the tests of the ratchet and
the search stand on."""
import importlib, os, re, runpy, select, shutil, signal, subprocess, sys, threading, time, traceback
from pathlib import Path
from autoresearch.run import processes_of, read_json

ROOT = Path(__file__).parent.parent
BIN = Path(sys.executable).parent
TAG = 'nov1'
# Seconds after which something hangs: it costs nothing where all is well, and no load comes near
PATIENCE = 180

def environ(**more):
    "The environment of a command: this package, the example's only profile"
    env = {k: v for k,v in os.environ.items()
        if k not in ('AUTORESEARCH_PROFILE', 'AUTORESEARCH_NONCE')}
    return {**env, 'PYTHONPATH': str(ROOT), 'PYTHONUNBUFFERED': '1', **more}

def sh(root, *args, ok=True, **env):
    r = subprocess.run([str(a) for a in args], cwd=root, env=environ(**env), capture_output=True,
        text=True, timeout=PATIENCE)
    assert not ok or r.returncode == 0, (args, r.stdout, r.stderr)
    return r

def git(root, *args): return sh(root, 'git', *args).stdout.strip()

def _be_script(root, args, out, env, first):
    "In a forked child: be the command `args[0]`, a script in Python, after a call of `first`"
    code = 1
    try:
        os.chdir(root)
        for fd,w in zip((1, 2), out): os.dup2(w, fd)
        sys.stdout,sys.stderr = (open(fd, 'w', 1, closefd=False) for fd in (1, 2))
        os.environ.clear()
        os.environ.update(env)
        sys.argv[:] = args
        sys.path[:] = [str(BIN), str(ROOT), *filter(None, sys.path)]
        first()
        runpy.run_path(args[0], run_name='__main__')
        code = 0
    except SystemExit as e:
        code = e.code or 0
        if not isinstance(code, int): code = print(code, file=sys.stderr) or 1
    except BaseException: traceback.print_exc()
    finally:
        for f in (sys.stdout, sys.stderr): f.flush()
        os._exit(code)

def forked_script(root, *args, env=None, first=lambda: None):
    """A command of ours like by `subprocess.run`, in a fork of this process: the same script, whose
    modules are imported already; `first` is called there before"""
    module = re.search(r'^from (autoresearch\.\w+) import', Path(args[0]).read_text(), re.M)[1]
    importlib.import_module(module)
    ends = [os.pipe(), os.pipe()]
    pid = os.fork()
    if not pid: _be_script(root, [*args], [w for _,w in ends], env or environ(), first)
    for _,w in ends: os.close(w)
    said,end = {r: b'' for r,_ in ends}, time.monotonic()+PATIENCE
    todo = {*said}
    # to the end of both, as a harness reads: what still holds them keeps it waiting
    while todo and time.monotonic() < end:
        for r in select.select([*todo], [], [], 1)[0]:
            data = os.read(r, 2**16)
            said[r] += data
            if not data: todo.remove(r)
    for r in said: os.close(r)
    if todo: os.kill(pid, signal.SIGKILL)
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    if todo: raise subprocess.TimeoutExpired(args, PATIENCE, *said.values())
    return subprocess.CompletedProcess(args, code, *(o.decode() for o in said.values()))

def ar(root, command, *args, ok=True, **env):
    """A command of ours: in a fork, which spares the imports; with an environment of its own, and
    beside other threads, from nothing"""
    if env or threading.current_thread() is not threading.main_thread():
        return sh(root, BIN/command, *args, ok=ok, **env)
    r = forked_script(root, str(BIN/command), *map(str, args))
    assert not ok or r.returncode == 0, (command, args, r.stdout, r.stderr)
    return r

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
    # so that no run counts as disturbed, or is killed, for whatever else runs here
    settings = dict(clock='cpu', wall_limit=200) | settings
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

def setup(root, *args, **env): return ar(root, 'ar-setup', TAG, '--seed', '42', *args, **env)
def run(root, message='an idea', *args, ok=True, **env):
    return ar(root, 'ar-run', '-m', message, *args, ok=ok, **env)

def until(test, seconds=PATIENCE, every=.02, most=.15):
    "What `test` gives once it is true; asked more and more seldom, for asking costs what is waited for"
    end = time.monotonic()+seconds
    while time.monotonic() < end:
        if res := test(): return res
        time.sleep(every)
        every = min(1.3*every, most)
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
