"""Attacks on each wall of a run, with bwrap, with Landlock, and without: there a test says what is
then not held."""
import json, os, shutil, socket, subprocess, sys, textwrap, time
from pathlib import Path
from types import SimpleNamespace
import psutil
import pytest
from autoresearch import walls
from autoresearch.walls import Kind, Layer, Limits, Log, enclose, link_layer, rights, take_over

@pytest.fixture(autouse=True)
def no_folders_of_the_compilers(monkeypatch):
    "PyTorch names some as it is imported, which tests of other files did in this process"
    for name in walls.LAYERS: monkeypatch.delenv(name, raising=False)

WALLED = 'bwrap', 'landlock'
FAULTS = {n: walls.fault_of(n) for n in WALLED} if sys.platform == 'linux' else dict.fromkeys(
    WALLED, f'no such thing on {sys.platform}')
def needed(n):
    return pytest.mark.skipif(bool(FAULTS.get(n)), reason=f'{n}: {FAULTS.get(n)}')
ALL = [pytest.param(n, marks=needed(n)) for n in (*WALLED, 'none')]
HELD = ALL[:2]
each = pytest.mark.parametrize('kind', ALL)

@pytest.fixture
def lab(tmp_path):
    "A night: tokens with validation among them, a run's folder, git, ledger, another run"
    for f in ('tokens/train.bin tokens/val.bin run/x repo/.git/HEAD repo/results.tsv '
            'repo/runs/t/001-abcdef0/record.json repo/code/pkg/__init__.py').split():
        (tmp_path/f).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path/f).write_text(f'text of {f}')
    (tmp_path/'repo/code/pkg/__init__.py').write_text('value = 1\n')
    return tmp_path.resolve()

def inside(lab, kind, source, *args, env=None, limits=None, cache='', timeout=60, log=None):
    "Run Python source behind walls; its JSON answer, how it ended, and the enclosure's facts"
    command = [sys.executable, '-c', textwrap.dedent(source), lab, *args]
    e = enclose(command, {**os.environ, **(env or {})}, lab/'run', [lab/'tokens', lab/'repo/code'],
        [], [lab/'tokens/val.bin'], Kind(kind, ''), cache, limits)
    where = dict(stdout=log.fd, stderr=log.fd) if log else dict(capture_output=True, text=True)
    try: r = subprocess.run(e.command, env=e.env, timeout=timeout, **where)
    finally: facts = e.close()
    try: said = json.loads(r.stdout)
    except (ValueError, TypeError): said = None
    assert log or said is not None or r.returncode, r
    return SimpleNamespace(said=said, code=e.exit_code(r.returncode), err=r.stderr, facts=facts,
        folder=e.folder)

# what the sources below begin with
TRY = '''
import json, os, socket, subprocess, sys, time
lab = sys.argv[1]
def can(f, *args, **kw):
    try: f(*args, **kw)
    except OSError: return False
    return True
def say(*said): print(json.dumps(said), flush=True)
'''

def tried(lab, kind, expressions, **kw):
    "For each expression: does it work inside?"
    tries = '\n'.join(f'got.append(can(lambda: {e}))' for e in expressions)
    return inside(lab, kind, f'{TRY}\ngot = []\n{tries}\nsay(*got)', **kw).said

# what a run may do, or it could not train

@each
def test_training_text_and_own_folders_are_there(lab, kind):
    assert tried(lab, kind, [
        "open(lab + '/tokens/train.bin').read()", "os.listdir(lab + '/tokens')",
        "open(lab + '/run/y', 'w').write('y')", "os.mkdir(lab + '/run/deep')",
        "os.replace(lab + '/run/y', lab + '/run/deep/z')", "open('/dev/null', 'w').write('x')",
        "os.urandom(8)", "__import__('tempfile').mkdtemp()", "os.listdir(os.path.expanduser('~'))",
        "__import__('tempfile').NamedTemporaryFile(dir='/dev/shm').write(b'x')",
        "subprocess.run([sys.executable, '-c', ''], check=True)"]) == [True]*11
    assert (lab/'run/deep/z').read_text() == 'y'

@each
def test_processes_with_locks_and_shared_memory(lab, kind):
    r = inside(lab, kind, TRY + '''
import multiprocessing as mp
from multiprocessing.shared_memory import SharedMemory
lock = mp.get_context('spawn').Lock()
block = SharedMemory(create=True, size=100)
with lock: block.buf[0] = 7
with mp.get_context('fork').Pool(2) as pool: got = pool.map(abs, [-1, -2])
value = block.buf[0]
block.close()
block.unlink()
say(value, got)
''')
    assert r.said == [7, [1, 2]] and r.code == 0

@each
def test_exit_codes_and_signals_are_the_commands(lab, kind):
    assert inside(lab, kind, 'import os; os._exit(3)').code == 3
    assert inside(lab, kind, 'import os; os.kill(os.getpid(), 9)').code == -9
    assert inside(lab, kind, 'import os; os.kill(os.getpid(), 11)').code == -11

@each
def test_an_inherited_pipe_passes(lab, kind):
    r,w = os.pipe()
    source = f'import os; os.write({w}, b"over")'
    e = enclose([sys.executable, '-c', source], dict(os.environ), lab/'run', kind=Kind(kind, ''))
    subprocess.run(e.command, env=e.env, pass_fds=[w], check=True)
    e.close()
    assert os.read(r, 9) == b'over'

# reading

@each
def test_validation_git_ledger_and_other_runs(lab, kind):
    "Read by name, through a link, through /proc, by a copy of the descriptor of a folder"
    (lab/'run/link').symlink_to(lab/'tokens/val.bin')
    got = tried(lab, kind, ["open(lab + '/tokens/val.bin').read()",
        "open(lab + '/run/link').read()",
        "open('/proc/self/root' + lab + '/tokens/val.bin').read()",
        "open(f'/proc/{os.getppid()}/root' + lab + '/tokens/val.bin').read()",
        "os.link(lab + '/tokens/val.bin', lab + '/run/hard')",
        "os.rename(lab + '/tokens/val.bin', lab + '/run/moved')",
        "os.open('val.bin', 0, dir_fd=os.open(lab + '/tokens', 0))",
        "open(lab + '/repo/.git/HEAD')", "open(lab + '/repo/results.tsv')",
        "open(lab + '/repo/runs/t/001-abcdef0/record.json')", "os.listdir(lab + '/repo/runs')"])
    held = [False]*11
    assert got == (held if kind != 'none' else got) and (kind != 'none' or got[0] and got[7])
    if kind != 'none': assert (lab/'tokens/val.bin').read_text() == 'text of tokens/val.bin'

@each
def test_home_and_keys(lab, kind):
    home = Path.home()
    key = home/f'.autoresearch-test-{os.getpid()}'
    key.write_text('secret')
    try: got = tried(lab, kind, [f"open({str(key)!r})", f"os.listdir({str(home)!r})",
        "open('/etc/shadow')", "open('/proc/1/environ').read()"])
    finally: key.unlink()
    # without walls only what the user may not read is out of reach
    # behind bwrap the home is a folder that holds Python, if it lies there, and nothing else
    assert got[0] == (kind == 'none')
    if kind == 'landlock' and str(home) not in sys.path: assert not got[1]
    if kind != 'none': assert not got[2]
    if kind == 'landlock': assert not got[3]

@each
def test_the_runner_itself(lab, kind):
    "Its environment, its memory, its open files; a signal to it"
    got = tried(lab, kind, [f"open('/proc/{os.getpid()}/environ').read()",
        f"open('/proc/{os.getpid()}/mem', 'rb')", f"os.readlink('/proc/{os.getpid()}/fd/0')",
        f"os.kill({os.getpid()}, 0)"])
    if kind == 'bwrap': assert got == [False]*4
    elif kind == 'landlock': assert got == [False]*3 + [walls.landlock_abi() < 6]
    else: assert got[3]

@each
def test_environment(lab, kind):
    r = inside(lab, kind, TRY + 'say(dict(os.environ), os.path.expanduser("~"))', env=dict(
        HF_TOKEN='a', NVIDIA_API_KEY='b', GITHUB_TOKEN='c', SSH_AUTH_SOCK='d', AWS_SECRET='e',
        CUDA_VISIBLE_DEVICES='1', OMP_NUM_THREADS='2', AUTORESEARCH_NONCE='f', PYTHONSTARTUP='g',
        AUTORESEARCH_TOKEN='h', JUPYTER_TOKEN='i', PIP_INDEX_URL='j', HTTPS_PROXY='k'))
    env,home = r.said
    assert not set('abcdeghijk') & set(env.values())
    assert (env['CUDA_VISIBLE_DEVICES'], env['AUTORESEARCH_NONCE']) == ('1', 'f')
    assert home == env['HOME'] != str(Path.home())
    assert env['JUPYTER_RUNTIME_DIR'] == env['XDG_RUNTIME_DIR']
    assert len(env['JUPYTER_RUNTIME_DIR']) < 45
    assert not os.path.exists(r.folder)

@pytest.mark.parametrize('kind', HELD)
def test_bytecode_beside_sources(lab, kind):
    "A .pyc that says something else than its source, as old and as long as Python wants it"
    code = lab/'repo/code'
    subprocess.run([sys.executable, '-c', 'import pkg'], cwd=code, check=True,
        env={**os.environ, 'PYTHONDONTWRITEBYTECODE': ''})
    other = lab/'other'
    (other/'pkg').mkdir(parents=True)
    (other/'pkg/__init__.py').write_text('value = 2\n')
    stamp = (code/'pkg/__init__.py').stat()
    os.utime(other/'pkg/__init__.py', ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
    subprocess.run([sys.executable, '-c', 'import pkg'], cwd=other, check=True,
        env={**os.environ, 'PYTHONDONTWRITEBYTECODE': ''})
    shutil.copytree(other/'pkg/__pycache__', code/'pkg/__pycache__', dirs_exist_ok=True)
    look = f'''
        import json, sys
        sys.path.insert(0, {str(code)!r})
        import pkg
        print(json.dumps(pkg.value))'''
    assert inside(lab, 'none', look).said == 2, 'the trap works where there are no walls'
    assert inside(lab, kind, look).said == 1

# writing

@each
def test_writes_elsewhere(lab, kind):
    "Sources, tokens, the environment, the system; truncation, chmod, a new file, a link's target"
    stamp = lab/'repo/code/pkg/__init__.py'
    (lab/'run/out').symlink_to(stamp)
    got = tried(lab, kind, ["open(lab + '/repo/code/pkg/__init__.py', 'r+')",
        "os.truncate(lab + '/tokens/train.bin', 0)", "open(lab + '/run/out', 'a')",
        "open(lab + '/repo/code/new.py', 'w')", "open(os.__file__, 'r+')",
        "open(lab + '/tokens/more', 'w')", "os.unlink(lab + '/tokens/train.bin')",
        "os.mkdir(lab + '/repo/code/more')", "os.rename(lab + '/run', lab + '/gone')",
        "open('/etc/autoresearch-test', 'w')",
        "os.mknod(lab + '/run/disk', 0o60600, os.makedev(8, 0))"])
    if kind == 'none':
        Path('/etc/autoresearch-test').unlink(missing_ok=True)
        return # not held: what the user may write, the run may write
    assert got == [False]*11
    assert stamp.read_text() == 'value = 1\n' and (lab/'tokens/train.bin').stat().st_size

@pytest.mark.parametrize('kind', HELD)
def test_modes_and_times_of_own_files_elsewhere(lab, kind):
    got = tried(lab, kind,
        ["os.chmod(lab + '/tokens/train.bin', 0o600)", "os.utime(lab + '/tokens')"])
    # not held by Landlock: it has no right for that
    assert got == [kind == 'landlock']*2

@each
def test_weights_for_the_next_run(lab, kind):
    "Left in every folder that anybody may write, found by nobody"
    source = TRY + '''
import tempfile
folders = '/tmp', '/var/tmp', '/dev/shm', tempfile.gettempdir(), os.path.expanduser('~')
left = [f'{d}/autoresearch-test-{sys.argv[3]}' for d in folders]
if sys.argv[2] == 'write': say(*(can(lambda: open(f, 'w').write('weights')) for f in left))
else: say(*(can(lambda: open(f).read()) for f in left))
'''
    try:
        wrote = inside(lab, kind, source, 'write', str(os.getpid())).said
        found = inside(lab, kind, source, 'read', str(os.getpid())).said
    finally:
        for d in ('/tmp', '/var/tmp', '/dev/shm'):
            Path(d, f'autoresearch-test-{os.getpid()}').unlink(missing_ok=True)
    assert wrote[3:] == [True]*2 and any(wrote[:3])
    # without walls /tmp and /var/tmp are open, and what lies in them stays
    assert found == ([True]*2 if kind == 'none' else [False]*2) + [False]*3

@each
def test_memory_that_outlives_a_process(lab, kind):
    "System V shared memory, message queues, keyrings"
    call = "__import__('ctypes').CDLL(None, use_errno=True).syscall"
    numbers = dict(x86_64=(29, 240, 248), aarch64=(194, 180, 217)).get(os.uname().machine)
    if not numbers: pytest.skip('the filter knows no numbers for this machine')
    shm,queue,key = numbers
    r = inside(lab, kind, TRY + f'''
call = {call}
got = [call({shm}, 0x6175746f, 100, 0o1600),
    call({queue}, b'autoresearch-test', 0o102, 0o600, None),
    call({key}, b'user', b'autoresearch-test', b'weights', 7, -4)]
say(*[n >= 0 for n in got])
if got[0] >= 0: call({dict(x86_64=31, aarch64=195)[os.uname().machine]}, got[0], 0, None)
''')
    if kind != 'none': assert r.said == [False]*3

# network

@each
def test_network(lab, kind):
    "A listener on this machine's loopback by TCP, IPv6 too, a datagram, a socket without a path"
    with socket.socket() as tcp, socket.socket(socket.AF_UNIX) as local:
        tcp.bind(('127.0.0.1', 0))
        tcp.listen()
        local.bind(f'\0autoresearch-test-{os.getpid()}')
        local.listen()
        port = tcp.getsockname()[1]
        got = tried(lab, kind, [f"socket.create_connection(('127.0.0.1', {port}), 2)",
            "socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b'', ('192.0.2.1', 9))",
            "socket.socket(socket.AF_INET6, socket.SOCK_DGRAM).sendto(b'', ('2001:db8::1', 9))",
            f"socket.socket(socket.AF_UNIX).connect('\\0autoresearch-test-{os.getpid()}')"])
    if kind == 'none': assert got[0] and got[3] # not held
    elif kind == 'bwrap': assert got == [False]*4
    else: assert got == [False]*3 + [walls.landlock_abi() < 6]

@pytest.mark.parametrize('kind', HELD)
def test_io_uring(lab, kind):
    "Its own way to sockets, past filters of system calls"
    r = inside(lab, kind, TRY + '''
import ctypes
params = ctypes.create_string_buffer(120)
say(ctypes.CDLL(None, use_errno=True).syscall(425, 4, params) >= 0)
''')
    assert r.said == [False]

@each
def test_a_socket_with_a_path(lab, kind):
    "That of a daemon in somebody's folder"
    path = str(lab/'daemon')
    with socket.socket(socket.AF_UNIX) as daemon:
        daemon.bind(path)
        daemon.listen()
        got = tried(lab, kind, [f'socket.socket(socket.AF_UNIX).connect({path!r})'])
    # Landlock has no right for that before its ninth version
    if kind == 'bwrap': assert got == [False]
    elif kind == 'none': assert got == [True]

@pytest.mark.parametrize('kind', HELD)
def test_more_privileges(lab, kind):
    "Mounts, namespaces, a program with setuid"
    r = inside(lab, kind, TRY + '''
import ctypes
libc = ctypes.CDLL(None, use_errno=True)
status = dict(l.split(':', 1) for l in open('/proc/self/status'))
over = lab.encode() + b'/run'
say(libc.mount(lab.encode() + b'/tokens', over, b'', 4096, None) == 0,
    libc.umount2(lab.encode() + b'/tokens', 2) == 0, int(status['NoNewPrivs']))
''')
    assert r.said == [False, False, 1]

@each
def test_a_kernel_over_local_sockets(lab, kind, monkeypatch):
    "Where the temporary folder's path is as long as on macOS; no path of a socket is over its 103"
    long = lab/'folders'/('x'*(60-len(str(lab))))
    long.mkdir(parents=True)
    monkeypatch.setattr(walls.tempfile, 'tempdir', str(long))
    r = inside(lab, kind, TRY + """
import asyncio, stat
from jupyter_client import AsyncKernelManager
from jupyter_client.kernelspec import KernelSpec
at = os.environ['JUPYTER_RUNTIME_DIR']
async def ask():
    manager = AsyncKernelManager(transport='ipc', connection_file=f'{at}/k.json')
    manager._kernel_spec = KernelSpec(argv=[sys.executable, '-m', 'ipykernel_launcher', '-f',
        '{connection_file}'], display_name='', language='python')
    await manager.start_kernel()
    client = manager.client()
    client.start_channels()
    await client.wait_for_ready(60)
    said = []
    def hear(m):
        if m['msg_type'] == 'execute_result': said.append(m['content']['data']['text/plain'])
    await client.execute_interactive('6*7', output_hook=hear)
    made = [f'{at}/{n}' for n in os.listdir(at)]
    sockets = [f for f in made if stat.S_ISSOCK(os.stat(f).st_mode)]
    client.stop_channels()
    await manager.shutdown_kernel(now=True)
    return said, len(sockets), max(map(len, sockets))
say(*asyncio.run(ask()))
""", timeout=120)
    said,n,longest = r.said
    assert (said, n) == (['42'], 5) and longest <= 103

@each
def test_a_log_in_the_runs_folder(lab, kind):
    """Read-only within a folder that may be written: held by bwrap; elsewhere it is put right in
    the end"""
    log = Log(lab/'run/run.log')
    source = TRY + """
print('first', flush=True)
file = lab + '/run/run.log'
can(os.truncate, file, 0)
with open(lab + '/run/other', 'w') as f: f.write('made up')
got = [can(open, file, 'a'), can(os.replace, lab + '/run/other', file), can(os.unlink, file)]
os.makedirs(lab + '/run/deep')
can(os.rename, lab + '/run/deep', file)
say(got, open(lab + '/run/new', 'w').write('x'))
"""
    e = enclose([sys.executable, '-c', source, str(lab)], dict(os.environ), lab/'run',
        [lab/'run/run.log'], kind=Kind(kind, ''))
    r = subprocess.run(e.command, env=e.env, stdout=log.fd, stderr=log.fd)
    log.started()
    e.close()
    log.close()
    assert r.returncode == 0
    first,said = (lab/'run/run.log').read_text().splitlines()
    assert first == 'first' and json.loads(said) == [[kind != 'bwrap']*3, 1]

# an end

ALIVE = '''
import os, sys, time
while True:
    with open(sys.argv[1], 'w') as f: f.write(str(time.time()))
    time.sleep(.05)
'''
DAEMON = TRY + f'''
if os.fork() == 0:
    os.setsid()
    if os.fork(): os._exit(0)
    os.execve(sys.executable, [sys.executable, '-c', {ALIVE!r}, lab + '/run/alive'], {{}})
while not can(open, lab + '/run/alive') or not open(lab + '/run/alive').read(): time.sleep(.05)
'''

def is_alive(lab):
    "Does the daemon still write?"
    before = (lab/'run/alive').read_text()
    time.sleep(.5)
    return (lab/'run/alive').read_text() != before

@each
@pytest.mark.parametrize('end', ['say(1)', 'os.kill(os.getpid(), 9)'])
def test_a_daemon_with_an_empty_environment(lab, kind, end):
    inside(lab, kind, DAEMON + end)
    assert not is_alive(lab)

def started(lab, kind, source):
    e = enclose([sys.executable, '-c', source, str(lab)], dict(os.environ), lab/'run',
        kind=Kind(kind, ''))
    return e, subprocess.Popen(e.command, env=e.env, start_new_session=True)

def until(test, seconds=30):
    t0 = time.time()
    while not test():
        assert time.time()-t0 < seconds, 'too late'
        time.sleep(.05)

@each
def test_terminated_from_outside(lab, kind):
    e,p = started(lab, kind, DAEMON + 'time.sleep(99)')
    until(lambda: (lab/'run/alive').exists())
    main = e.main_process(p.pid)
    assert str(lab) in psutil.Process(main).cmdline()
    p.terminate()
    p.wait(20)
    until(lambda: not psutil.pid_exists(main))
    e.close()
    assert not is_alive(lab)

@each
def test_the_runner_is_killed(lab, kind, monkeypatch):
    "A process that encloses another and dies: the run and its daemon die with it"
    runner = textwrap.dedent(f'''
        import os, subprocess, sys
        from functools import partial
        from autoresearch.run import _die_with_parent
        from autoresearch.walls import Kind, enclose
        e = enclose([sys.executable, '-c', {DAEMON + "time.sleep(99)"!r}, {str(lab)!r}],
            dict(os.environ), {str(lab/'run')!r}, kind=Kind({kind!r}, ''))
        print(e.folder, flush=True)
        subprocess.Popen(e.command, env=e.env, start_new_session=True,
            preexec_fn=partial(_die_with_parent, os.getpid())).wait()
        ''')
    (lab/'top').mkdir() # where no other runner tidies up
    monkeypatch.setattr(walls.tempfile, 'tempdir', str(lab/'top'))
    p = subprocess.Popen([sys.executable, '-c', runner], stdout=subprocess.PIPE, text=True,
        env={**os.environ, 'TMPDIR': str(lab/'top')})
    folder = p.stdout.readline().strip()
    until(lambda: (lab/'run/alive').exists() and (lab/'run/alive').read_text())
    p.kill()
    p.wait()
    until(lambda: not is_alive(lab), 20)
    assert os.path.isdir(folder)
    inside(lab, kind, 'print(1)')
    assert not os.path.exists(folder), 'the next runner removes what a killed one left'

@each
def test_killing_the_keeper(lab, kind):
    r = inside(lab, kind, TRY + '''
keeper = os.getppid()
name = open(f'/proc/{keeper}/comm').read() if keeper else ''
say(can(os.kill, keeper, 9))
''', timeout=30)
    # without walls it can be killed; behind bwrap it is the first process, which that does not kill
    if kind == 'landlock' and walls.landlock_abi() >= 6: assert r.said == [False] and r.code == 0
    if kind == 'bwrap': assert r.code == 0
    if kind == 'none': assert r.code == -9

def test_folders_of_the_living_are_left_alone(lab):
    e,p = started(lab, 'none', 'import time; time.sleep(99)')
    inside(lab, 'none', 'print(1)')
    assert os.path.isdir(e.folder)
    p.terminate()
    p.wait(20)
    e.close()

# what it may use up

@each
def test_open_files_and_core(lab, kind):
    r = inside(lab, kind, TRY + '''
import resource
files = []
try:
    while len(files) < 100: files.append(open('/dev/null'))
except OSError: pass
say(len(files) < 100, resource.getrlimit(resource.RLIMIT_CORE)[0],
    can(lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (50, 50))))
''', limits=Limits(files=64))
    assert r.said == [True, 0, True]

@each
def test_memory_processes_and_disk(lab, kind):
    source = TRY + '''
hoard = bytearray(300*2**20) if sys.argv[2] == 'memory' else b''
if sys.argv[2] == 'processes': some = [subprocess.Popen(['sleep', '60']) for _ in range(30)]
if sys.argv[2] == 'disk':
    with open(lab + '/run/big', 'wb') as f: f.write(os.urandom(2**20)*40)
open(lab + '/run/ready', 'w').close()
time.sleep(60)
'''
    most = dict(memory=200*2**20, disk=30*2**20, processes=20)
    for what,n in most.items():
        (lab/'run/ready').unlink(missing_ok=True)
        e = enclose([sys.executable, '-c', source, str(lab), what], dict(os.environ), lab/'run',
            kind=Kind(kind, ''), limits=Limits(**{what: n}))
        p = subprocess.Popen(e.command, env=e.env)
        until(lambda: (lab/'run/ready').exists())
        assert what in e.over(p.pid)
        p.terminate()
        p.wait(20)
        e.close()
        (lab/'run/big').unlink(missing_ok=True)

@each
def test_nothing_is_over_in_a_small_run(lab, kind):
    e,p = started(lab, kind, 'import time; time.sleep(30)')
    until(lambda: e.main_process(p.pid))
    assert e.over(p.pid) == ''
    p.terminate()
    p.wait(20)
    e.close()

@each
def test_a_run_is_the_first_to_go_when_memory_is_short(lab, kind):
    assert inside(lab, kind, "print(open('/proc/self/oom_score_adj').read())").said >= 500

@each
def test_a_flood_of_output(lab, kind):
    log = Log(lab/'run.log', head=10_000, tail=1000)
    inside(lab, kind, '''
import sys
print('first words')
for _ in range(100): print('x'*10_000)
print('Traceback: the last words')
''', log=log)
    log.started()
    cut = log.close()
    text = (lab/'run.log').read_text()
    assert text.startswith('first words') and text.endswith('the last words\n')
    assert f'{cut:,} bytes of output cut here' in text and len(text) < 12_000
    assert cut == len('first words\nTraceback: the last words\n') + 100*10_001 - 11_000

def test_a_log_is_whole_when_it_is_short(lab):
    (lab/'run.log').write_text('before\n')
    log = Log(lab/'run.log')
    os.write(log.fd, b'words\n')
    log.started()
    assert log.close() == 0 and (lab/'run.log').read_text() == 'before\nwords\n'

def test_a_log_ends_though_somebody_holds_the_pipe(lab):
    log = Log(lab/'run.log')
    flood = 'import os\nwhile True: os.write(1, b"y"*4096)'
    p = subprocess.Popen([sys.executable, '-c', flood], stdout=log.fd, stderr=subprocess.DEVNULL)
    log.started()
    until(lambda: (lab/'run.log').stat().st_size > 10**5)
    try:
        assert p.poll() is None
        log.close()
        assert p.wait(20) != 0, 'nobody reads any more'
    finally: p.kill()

# the compile cache

def compiled(folder, n=3):
    "A cache as the compilers leave it"
    for i in range(n):
        d = folder/'triton'/f'KEY{i}'
        d.mkdir(parents=True)
        (d/'k.cubin').write_bytes(b'code %d' % i)
        (d/'__grp__k.json').write_text(json.dumps(dict(child_paths={'k.cubin': str(d/'k.cubin')})))
    (folder/'inductor/fxgraph').mkdir(parents=True)
    return folder

@each
def test_what_was_compiled_is_found(lab, kind):
    cache = compiled(lab/'cache')
    r = inside(lab, kind, TRY + '''
cache = os.environ['TRITON_CACHE_DIR']
group = json.load(open(f'{cache}/KEY1/__grp__k.json'))['child_paths']
say(open(group['k.cubin'], 'rb').read().decode(), sorted(os.listdir(cache)))
''', cache=cache)
    assert r.said == ['code 1', ['KEY0', 'KEY1', 'KEY2']]

@each
def test_what_is_compiled_is_found_by_the_next(lab, kind):
    "A kernel is written as Triton writes it, taken over, and found with its files by another run"
    cache = compiled(lab/'cache')
    r = inside(lab, kind, TRY + '''
folder = os.environ['TRITON_CACHE_DIR'] + '/NEW'
os.makedirs(folder + '/tmp.pid_1')
def put(name, text):
    with open(f'{folder}/tmp.pid_1/{name}', 'w') as f: f.write(text)
    os.replace(f'{folder}/tmp.pid_1/{name}', f'{folder}/{name}')
put('k.cubin', 'new')
put('__grp__k.json', json.dumps(dict(child_paths={'k.cubin': folder + '/k.cubin'})))
say()
''', cache=cache)
    assert r.facts['compiled']['taken'] == 2 and r.facts['compiled']['refused'] == []
    group = json.loads((cache/'triton/NEW/__grp__k.json').read_text())['child_paths']
    assert group == {'k.cubin': str(cache/'triton/NEW/k.cubin')}
    assert inside(lab, kind, TRY + '''
group = json.load(open(os.environ['TRITON_CACHE_DIR'] + '/NEW/__grp__k.json'))['child_paths']
say(open(group['k.cubin']).read())
''', cache=cache).said == ['new']

@each
def test_the_cache_is_no_way_to_the_next_run(lab, kind):
    "Weights by another name, links, pipes, hard links, too much, a poisoned kernel"
    cache = compiled(lab/'cache')
    r = inside(lab, kind, TRY + '''
cache = os.environ['TRITON_CACHE_DIR']
new = cache + '/NEW'
os.mkdir(new)
for name in ('weights.bin', 'x.safetensors', 'k.cubin.exe', 'a b.cubin'):
    open(f'{new}/{name}', 'w').write('w')
open(new + '/big.json', 'wb').write(b'1'*(2**21+1))
os.symlink(lab + '/tokens/train.bin', new + '/link.cubin')
os.symlink('/', new + '/folder')
os.mkfifo(new + '/pipe.cubin')
open(new + '/one.cubin', 'w').write('1')
os.link(new + '/one.cubin', new + '/two.cubin')
for name in ('k.cubin', '__grp__k.json'):
    os.unlink(f'{cache}/KEY0/{name}')
    open(f'{cache}/KEY0/{name}', 'w').write('poison')
say()
''', cache=cache)
    assert (cache/'triton/KEY0/k.cubin').read_bytes() == b'code 0'
    assert 'poison' not in (cache/'triton/KEY0/__grp__k.json').read_text()
    assert not (cache/'triton/NEW').exists() and r.facts['compiled']['taken'] == 0
    assert r.facts['compiled']['refusals'] == 8

@pytest.mark.parametrize('kind', HELD)
def test_writing_through_a_link_into_the_cache(lab, kind):
    cache = compiled(lab/'cache')
    got = tried(lab, kind, ["open(os.environ['TRITON_CACHE_DIR'] + '/KEY0/k.cubin', 'w')",
        f"open({str(cache/'triton/KEY9')!r} + '.cubin', 'w')"], cache=cache)
    # behind bwrap the second is the run's own layer
    assert not got[0] and (cache/'triton/KEY0/k.cubin').read_bytes() == b'code 0'
    assert not (cache/'triton/KEY9.cubin').exists() or kind == 'bwrap'

@each
@pytest.mark.parametrize('how', ['', "os.symlink(lab + '/tokens', folder)", "open(folder, 'w')"])
def test_a_layer_that_the_run_removed(lab, kind, how):
    r = inside(lab, kind, TRY + f'''
import shutil
folder = os.environ['TRITON_CACHE_DIR']
shutil.rmtree(folder, ignore_errors=True)
can(lambda: {how or 'None'})
say()
''', cache=compiled(lab/'cache'))
    assert r.facts['compiled']['taken'] == 0 and not os.path.exists(r.folder)
    assert (lab/'cache/triton/KEY0/k.cubin').read_bytes() == b'code 0'

def test_nothing_is_left_where_the_walls_can_not_be_built(lab, monkeypatch):
    monkeypatch.setattr(walls.tempfile, 'tempdir', str(lab))
    def full(*_): raise OSError(28, 'No space left on device')
    monkeypatch.setattr(walls, '_furnish', full)
    with pytest.raises(OSError, match='No space left'): inside(lab, 'none', '')
    assert not list(lab.glob('*autoresearch-run-*'))

def test_a_run_leaves_at_most_so_much(lab):
    layer = Layer('TRITON_CACHE_DIR', *(str(lab/n) for n in ('low', 'up', 'low', 'up')))
    (lab/'low').mkdir()
    link_layer(layer)
    for i in range(4): (lab/f'up/k{i}.cubin').write_bytes(b'1'*1000)
    facts = take_over([layer], room=2500)
    assert (facts['taken'], facts['bytes'], facts['refusals']) == (2, 2000, 2)

SHOWN = TRY + """
import mmap
cache = os.environ['TRITON_CACHE_DIR']
def put(name, text):
    os.makedirs(os.path.dirname(f'{cache}/{name}'), exist_ok=True)
    with open(f'{cache}/{name}', 'w') as f: f.write(text)
for name in ('kept', 'mapped', 'rewritten', 'removed'): put(f'A/{name}.cubin', 'trained on')
until = time.time() + 30
open(lab + '/run/ready', 'w').close()
while not os.path.exists(lab + '/run/shown') and time.time() < until: time.sleep(.01)
with open(f'{cache}/A/mapped.cubin', 'r+b') as f, mmap.mmap(f.fileno(), 0) as m: m[:5] = b'shown'
put('A/rewritten.cubin', 'shown')
os.unlink(f'{cache}/A/removed.cubin')
put('B/new.cubin', 'shown')
open(f'{cache}/KEY1/k.cubin').read()
os.utime(f'{cache}/B/new.cubin', (1, 1))
"""

OLD = time.time() - 90*86400
def shown(lab, kind):
    "A run that is shown something after `take_early`; the facts, and what the cache holds then"
    cache = compiled(lab/'cache')
    os.utime(cache/'triton/KEY1/k.cubin', (OLD, OLD))
    e = enclose([sys.executable, '-c', SHOWN, str(lab)], dict(os.environ), lab/'run',
        kind=Kind(kind, ''), cache=cache)
    p = subprocess.Popen(e.command, env=e.env)
    until(lambda: (lab/'run/ready').exists())
    first = e.take_early()
    assert e.take_early() is first and first['taken'] == 4
    (lab/'run/shown').touch()
    assert p.wait(60) == 0
    facts = e.close()['compiled']
    return facts, {f.name: f.read_text() for f in (lab/'cache/triton').glob('[AB]/*')}

@each
def test_what_a_run_was_shown_is_no_way_to_the_next(lab, kind):
    "Written anew, through a mapping, by which files are left, by which are used"
    facts,found = shown(lab, kind)
    assert found == {f'{n}.cubin': 'trained on' for n in ('kept', 'mapped', 'rewritten', 'removed')}
    assert facts['taken'] == 4
    # elsewhere the system notes the use itself
    if kind == 'bwrap': assert (lab/'cache/triton/KEY1/k.cubin').stat().st_atime < OLD+9

@pytest.mark.parametrize('kind', ['landlock', 'none'])
def test_a_cache_is_seen_at_the_same_place_by_every_run(lab, kind):
    "What a compiler keeps names the folder of its cache; beside another run it is another place"
    def begin(): return enclose(['true'], dict(os.environ), lab/'run', kind=Kind(kind, ''),
        cache=lab/'cache')
    first = begin()
    place = first.env['TRITON_CACHE_DIR']
    beside = begin()
    assert beside.env['TRITON_CACHE_DIR'] != place
    for e in (first, beside): e.close()
    again = begin()
    assert again.env['TRITON_CACHE_DIR'] == place
    again.close()
    assert not os.path.exists(os.path.dirname(place))

def test_a_file_that_is_being_written_is_left(lab):
    layer = Layer('TRITON_CACHE_DIR', *(str(lab/n) for n in ('low', 'up', 'low', 'up')))
    (lab/'low').mkdir()
    link_layer(layer)
    (lab/'up/half.cubin').write_bytes(b'1')
    assert (take_over([layer], age=60)['young'], os.listdir(lab/'low')) == (1, [])
    assert take_over([layer])['taken'] == 1

def test_use_keeps_a_file_from_being_pruned(lab):
    "Whoever prunes goes by the last use, which a read through a read-only mount does not note"
    (lab/'low').mkdir()
    old = time.time() - 90*86400
    for name in ('used.cubin', 'idle.cubin'):
        (lab/'low'/name).write_bytes(b'code')
        os.utime(lab/'low'/name, (old, old))
    layer = Layer('TRITON_CACHE_DIR', *(str(lab/n) for n in ('low', 'up', 'low', 'up')))
    link_layer(layer)
    time.sleep(.05)
    (lab/'up/used.cubin').read_bytes()
    if (lab/'up/used.cubin').lstat().st_atime_ns <= (lab/'up/used.cubin').lstat().st_mtime_ns:
        pytest.skip('this file system notes no reads')
    os.utime(lab/'low/used.cubin', (old, old))
    take_over([layer])
    assert (lab/'low/used.cubin').stat().st_atime > old + 1
    assert (lab/'low/used.cubin').stat().st_mtime == pytest.approx(old, abs=1)
    assert (lab/'low/idle.cubin').stat().st_atime == pytest.approx(old, abs=1)

@pytest.mark.parametrize('kind', ALL)
def test_a_folder_that_nobody_can_read_is_removed_too(lab, kind):
    r = inside(lab, kind, TRY + '''
os.makedirs(os.environ['TMPDIR'] + '/a/b/c')
for d in ('a/b/c', 'a/b', 'a'): os.chmod(os.environ['TMPDIR'] + '/' + d, 0)
say()
''')
    assert not os.path.exists(r.folder)

# which walls there are

def test_find_says_why(monkeypatch):
    monkeypatch.setattr(walls.shutil, 'which', lambda name: None)
    monkeypatch.setattr(walls, 'landlock_abi', lambda: 1)
    walls.find.cache_clear()
    try: kind = walls.find()
    finally: walls.find.cache_clear()
    assert kind.name == 'none' and 'apt install bubblewrap' in kind.why and 'version 1' in kind.why

def test_a_bwrap_that_is_forbidden_is_not_believed(tmp_path, monkeypatch):
    "As in most containers: it is there, and fails"
    fake = tmp_path/'bwrap'
    said = 'bwrap: Creating new namespace failed: Operation not permitted'
    fake.write_text(f'#!/bin/sh\necho "{said}" >&2\nexit 1\n')
    fake.chmod(0o755)
    monkeypatch.setenv('PATH', f'{tmp_path}:{os.environ["PATH"]}')
    assert walls.fault_of('bwrap') == said

def test_walls_that_do_not_hold_are_not_believed(tmp_path, monkeypatch):
    "A bwrap that only executes"
    fake = tmp_path/'bwrap'
    fake.write_text('#!/bin/sh\nwhile [ "$1" != -- ]; do\n'
        '[ "$1" = --bind ] && [ "$3" = /tmp ] && t=$2\nshift\ndone\nshift\n'
        'ln -sf $t/.enter.json /tmp/.enter.json\nexec "$@"\n')
    fake.chmod(0o755)
    monkeypatch.setenv('PATH', f'{tmp_path}:{os.environ["PATH"]}')
    writes = 'a write, ' if os.access(walls.inspect.getfile(walls.replacing), os.W_OK) else ''
    try: assert walls.fault_of('bwrap') == f'it let a secret, {writes}the network pass'
    finally: Path('/tmp/.enter.json').unlink(missing_ok=True)

def test_not_having_gone_in_is_said(lab, tmp_path, monkeypatch):
    fake = tmp_path/'bwrap'
    fake.write_text('#!/bin/sh\nexit 1\n')
    fake.chmod(0o755)
    monkeypatch.setenv('PATH', f'{tmp_path}:{os.environ["PATH"]}')
    r = inside(lab, 'bwrap', 'print(1)')
    assert r.code == 1 and not r.facts['entered']

@pytest.mark.parametrize('kind', ALL)
def test_a_path_through_links(lab, kind):
    "An environment or a project that is reached by a link, absolute or relative"
    (lab/'short').symlink_to('tokens')
    (lab/'long').symlink_to(lab/'short')
    e = enclose([sys.executable, '-c', f'print(open({str(lab/"long/train.bin")!r}).read())'],
        dict(os.environ), lab/'run', [lab/'long'], kind=Kind(kind, ''))
    r = subprocess.run(e.command, env=e.env, capture_output=True, text=True)
    e.close()
    assert r.stdout == 'text of tokens/train.bin\n', r.stderr

def test_the_innermost_word_counts(lab):
    (lab/'tokens/deep').mkdir()
    hidden = [lab/'tokens', lab/'tokens/val.bin']
    got = rights([lab/'tokens', lab/'tokens/deep'], [lab/'run'], hidden)
    assert str(lab/'tokens') not in got and got[str(lab/'tokens/deep')] == 'read'
    assert got[str(lab/'run')] == 'write'

@each
def test_cost(lab, kind):
    """Half a second a run at most, with a cache of three thousand files: seconds of the processors,
    for a busy machine's wall says nothing"""
    for i in range(1500):
        d = lab/f'cache/triton/K{i}'
        d.mkdir(parents=True)
        for n in ('k.cubin', 'k.ttir'): (d/n).write_bytes(b'1'*2000)
    def spent(): return sum(os.times()[:4])
    def plain(): subprocess.run([sys.executable, '-c', 'print(1)'], capture_output=True, check=True)
    def walled(): assert inside(lab, kind, 'print(1)', cache=lab/'cache').said == 1
    def cost(f):
        before = spent()
        f()
        return spent() - before
    assert min(cost(walled) for _ in range(3)) - cost(plain) < .5

@needed('landlock')
@pytest.mark.parametrize('gpus', [[], ['/dev/null']])
def test_cuda_names_its_threads(lab, gpus, monkeypatch):
    "It does not start where it can't; where there is no GPU nothing in /proc is written"
    monkeypatch.setattr(walls, 'gpu_devices', lambda: gpus)
    name = "os.close(os.open('/proc/self/comm', os.O_WRONLY | os.O_CREAT | os.O_TRUNC))"
    assert tried(lab, 'landlock', [name]) == [bool(gpus)]

def test_inductors_own_names_are_taken():
    assert walls.most_bytes('2b00ebb9d40b504fab0d8c9073411848066a922b8fa47b047b01c18e86e43158')
