"""The swarm: a run in a process that dies with its worker, without Ray; and one pool of two workers
behind the real commands, in which a worker is killed."""
import io, json, os, pickle, signal, subprocess, sys, tarfile
from contextlib import suppress
from pathlib import Path
import jsonschema, psutil, pytest
import lab
from autoresearch import repo, swarm
from autoresearch.contract import get_profile
from autoresearch.repo import Refused, Session, read_lock_owner
from autoresearch.run import processes_of, read_json

@pytest.fixture(scope='module')
def home(tmp_path_factory):
    "A session of the torch-free example, and a host's scratch folder of this module's own"
    top = tmp_path_factory.mktemp('swarm')
    before = os.environ.get('XDG_CACHE_HOME')
    os.environ['XDG_CACHE_HOME'] = str(top/'cache')
    root = lab.example(top/'checkout')
    lab.setup(root)
    yield root
    if before is None: del os.environ['XDG_CACHE_HOME']
    else: os.environ['XDG_CACHE_HOME'] = before

def session(root): return Session(get_profile('polynomial', root/'settings.ini'), lab.TAG)

def spec_of(s, nonce, **more):
    "What the driver would hand out for the base commit"
    return dict(dict(key=f's001/{nonce[-1]}', tag=s.tag, profile=s.p.name, base=s.base, commit=s.base,
        seed=42, nonce=nonce, contract=repo.base_copy(s)[1], module='', data=None, pinned=None,
        tells=True, baseline=None, walls='auto', examine=False, bar=None, margin=0., audit=False,
        direction='lower', early=None, pool='autoresearch-test', top=s.top, cores=1, cache=None),
        **more)

def fine(res):
    "Did a run end well? Else its reason is in the failure"
    assert not res['lost']
    assert res['outcome']['status'] == 'ok', res['outcome']['reason']
    return True

def tasks(): return [d for d in (swarm.scratch_folder()/'tasks').glob('*') if d.is_dir()]

def test_a_run_far_from_the_checkout(home):
    s = session(home)
    data,heard = swarm.bundle(home, s.base), []
    res = swarm.run_apart(spec_of(s, 'aaa1'), data, b'', heard.append, every=.1)
    assert res['key'] == 's001/1' and fine(res)
    assert res['machine']['cpus'] == 1 and res['machine']['machine'] is None
    with tarfile.open(fileobj=io.BytesIO(res['folder'])) as tar:
        assert {'record.json', 'run.ipynb', 'run.log'} <= set(tar.getnames())
        record = json.load(tar.extractfile('record.json'))
    assert record['block']['rmse'] > 0 and any('loss' in o for o in heard)
    assert not tasks() and not (home/'runs'/lab.TAG/'001').exists()
    # what it stands on there is checked, not believed
    base = next((swarm.scratch_folder()/'autoresearch-test').rglob('evaluator.py'))
    base.chmod(0o644)
    base.write_text('raise SystemExit')
    res = swarm.run_apart(spec_of(s, 'aaa2'), data, b'')
    assert fine(res)
    res = swarm.run_apart(spec_of(s, 'aaa3', contract='0'*16), data, b'')
    assert 'another version of the package' in res['lost'] and not tasks()

KILLED = ('import os, sys, pickle; from autoresearch.swarm import run_apart; '
    'run_apart(*pickle.load(sys.stdin.buffer))')

def worker(spec, data):
    "A process that makes a run as Ray's worker does"
    p = subprocess.Popen([sys.executable, '-c', KILLED], stdin=subprocess.PIPE,
        env=lab.environ(XDG_CACHE_HOME=os.environ['XDG_CACHE_HOME']))
    p.stdin.write(pickle.dumps((spec, data, b'')))
    p.stdin.close()
    return p

def test_a_run_dies_with_its_worker(home):
    s = session(home)
    data = swarm.bundle(home, s.base)
    p = worker(spec_of(s, 'bbb1'), data)
    lab.until(lambda: processes_of('bbb1'))
    p.kill()
    p.wait()
    lab.until(lambda: not processes_of('bbb1') and not tasks(), 20)
    # nobody is left to clear up: the guard is killed too, and whoever comes next does it
    p = worker(spec_of(s, 'bbb2'), data)
    lab.until(lambda: processes_of('bbb2'))
    every = psutil.Process(p.pid).children(recursive=True)
    for process in [*every, p]:
        with suppress(psutil.NoSuchProcess): process.kill()
    psutil.wait_procs(every, lab.PATIENCE)
    p.wait()
    left = tasks()
    with swarm.task_folder(swarm.scratch_folder()/'tasks/next', 'bbb3'):
        assert [d.name for d in tasks()] == ['next']
    assert len(left) == 1 and not processes_of('bbb2')

def test_shares_of_the_processors(tmp_path, monkeypatch):
    monkeypatch.setattr(swarm, 'cores_here', lambda: list(range(8)))
    first = swarm.claim_cores(3, folder=tmp_path)
    assert list(first) == [0, 1, 2]
    other = swarm._claim(tmp_path, 5, list(range(8)))
    assert sorted(other) == [3, 4, 5, 6, 7]
    with pytest.raises(Refused, match='3 did not come free'):
        swarm.claim_cores(3, .3, tmp_path)
    for fd in other.values(): os.close(fd)
    assert list(swarm.claim_cores(3, folder=tmp_path)) == [3, 4, 5]

def test_a_host_says_why_it_takes_no_part(home, monkeypatch):
    s = session(home)
    asked = dict(digest=swarm.package_digest(), profile=s.p.name, data=None, cache=None, gpus=0,
        cores=1, slots=1, settings=(home/'settings.ini').read_text())
    assert not swarm.host_facts(asked)['fault'] and swarm.host_facts(asked)['facts']['cpus'] == 1
    assert 'another version' in swarm.host_facts(dict(asked, digest='x'))['fault']
    assert 'no profile' in swarm.host_facts(dict(asked, profile='gone'))['fault']
    def lacking(p): raise Refused('no tokens')
    monkeypatch.setattr(swarm, 'session_data', lacking)
    assert f'ar-prepare --profile {s.p.name} there' in swarm.host_facts(asked)['fault']

def test_without_ray(monkeypatch):
    monkeypatch.setattr(swarm, 'find_spec', lambda name: None)
    with pytest.raises(Refused, match='Ray is not installed: .*pip install'): swarm.need_ray()

def told(root, *args, ok=True):
    r = lab.ar(root, 'ar-swarm', *args, '--json', ok=ok)
    res = json.loads(r.stdout)
    if ok: jsonschema.validate(res, swarm.SHAPES['ar-swarm'])
    return res

def done(root): return {f.stem: read_json(f) for f in (root/'runs'/lab.TAG/'swarm/done').glob('*')}

def of_ray(root):
    "Processes that this session's Ray started"
    return swarm._of_swarm(root/'runs'/lab.TAG/'swarm')

def test_a_pool_of_two_workers(home):
    assert told(home)['status'] is None
    assert 'no swarm is running' in told(home, 'stop', ok=False)['error']
    st = told(home, 'start', '--workers', '2')['status']
    try:
        assert st['state'] == 'running' and len(st['slots']) == 2
        assert 'is at work already' in told(home, 'start', ok=False)['error']
        edits = [('DEGREE = 1', 'DEGREE = 2'), ('RATE = 0.5', 'RATE = 0.6')]
        for old,new in edits:
            lab.edit(home, old, new)
            lab.ar(home, 'ar-submit', '-m', new)
        # Ray's worker of one of them is killed: that one is run again
        victim = lab.until(lambda: [p for p in of_ray(home) if 'ray::s' in ' '.join(p.cmdline())])[0]
        victim.kill()
        # so is the driver: what keeps it starts it again, and it goes on
        pid = read_json(home/'runs'/lab.TAG/'swarm/driver.lock')['pid']
        os.kill(pid, signal.SIGKILL)
        lab.until(lambda: len(done(home)) == 3)
        rows = lab.rows(home)
        assert len(rows) == 3 and {r[3] for r in rows} <= {'keep', 'discard'}
        assert [o['state'] for o in done(home).values()] == ['done']*3
        made = told(home, 'agent', 'ada', '--at', str(home.parent/'ada'))
        assert (Path(made['folder'])/'runs').is_symlink()
        assert told(Path(made['folder']))['status']['state'] == 'running'
    finally: lab.ar(home, 'ar-swarm', 'stop', '--now', ok=False)
    assert not read_lock_owner(home/'runs'/lab.TAG/'swarm/ray.lock') # nor is another started
    lab.until(lambda: not of_ray(home), 20)
    assert told(home)['status']['state'] == 'stopped' and not tasks()
    lab.sound(home)
