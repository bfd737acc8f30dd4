"""ar-search --swarm, and two agents who race: the real queue and its driver, before a pool that only
pretends to run."""
import json, os, re, signal, subprocess, sys, time, traceback
from pathlib import Path
import pytest
from autoresearch import search
from autoresearch.contract import get_profile, write_json
from autoresearch.queue import Driver, commit_canvas, jobs, pending_jobs, stop_job, submit_commit
from autoresearch.repo import Session, current_session, swarming, tip
from autoresearch.run import read_json
import lab
from lab import BIN, ROOT, TAG, ar, environ, rows, until

sys.path.insert(0, str(ROOT/'bench'))
import agents, swarm # bench/agents.py, bench/swarm.py

@pytest.fixture(scope='module')
def origin(tmp_path_factory):
    "A session in which nothing ran, and what a real run of it leaves"
    home = tmp_path_factory.mktemp('origin')
    lab.setup(lab.example(home/'repo', rule='strict'))
    return home, swarm.template(session(home/'repo'), home)

def session(root): return Session(get_profile('polynomial', root/'settings.ini'), TAG)

@pytest.fixture
def root(origin, tmp_path):
    home,_ = origin
    subprocess.run(['cp', '-a', home/'repo', tmp_path/'repo'], check=True)
    return tmp_path/'repo'

def drive(root, origin, slots, left):
    "Main of the driver's process"
    os.chdir(root)
    os.environ.pop('AUTORESEARCH_PROFILE', None)
    s = session(root)
    pool = swarm.SimulatedPool([swarm.CORE]*slots, swarm.measured(s, *origin[1]))
    def until():
        time.sleep(.02)
        return (root/'stop').exists() or os.getppid() != left
    with Driver(s, pool) as d: d.run(until)

class driving:
    "A swarm at work while the block lasts"
    def __init__(self, root, origin, slots=3): self.root,self.args = root, (origin, slots)
    def __enter__(self):
        me = os.getpid()
        self.pid = os.fork()
        if not self.pid:
            code = 1
            try:
                drive(self.root, *self.args, me)
                code = 0
            except BaseException: traceback.print_exc()
            finally: os._exit(code)
        until(lambda: read_json(session(self.root).dir/'swarm/status.json').get('slots'))
    def __exit__(self, *_):
        (self.root/'stop').touch()
        code = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        (self.root/'stop').unlink()
        assert code == 0

def sound(root, trials):
    "Every trial has one row, no code two, and the branch is the chain of keeps"
    s = session(root)
    notes = [n for n in s.experiments() if n.get('status') in ('keep', 'discard', 'crash')]
    of_search = sorted(int(n['by'].split('/')[1]) for n in notes if n['by'].startswith('search-'))
    assert of_search == list(range(1, trials+1)), of_search
    assert len({n['code'] for n in notes}) == len(notes) == len(rows(root))
    kept = [float(r[1]) for r in rows(root) if r[3] == 'keep']
    assert kept == sorted(kept, reverse=True) and len(set(kept)) == len(kept)
    line = lab.git(root, 'log', '--format=%h', '--abbrev=7', f'autoresearch/{TAG}').split()
    assert [r[0] for r in rows(root) if r[3] == 'keep'][::-1] == line[:len(kept)]
    return notes

def test_a_search_feeds_the_swarm_and_leaves_the_checkout_alone(root, origin):
    r = ar(root, 'ar-search', '--swarm', '--trials', '6', ok=False)
    assert r.returncode == 1 and 'no swarm is running: ar-swarm start' in r.stderr
    lab.edit(root, '# of the polynomial', '# my thought')
    mine = (root/'canvas.ipynb').read_bytes()
    with driving(root, origin):
        said = json.loads(ar(root, 'ar-search', '--swarm', '--trials', '12', '--json').stdout)
        assert (said['done'], said['queued'], said['state']) == (12, 0, 'ended'), said
        assert '12 trials, as asked' in said['why']
        sound(root, 12)
        alone = ar(root, 'ar-search', '--trials', '1', ok=False)
        assert alone.returncode == 1 and 'a swarm is at work' in alone.stderr
        assert 'ar-search --swarm' in alone.stderr
    assert (root/'canvas.ipynb').read_bytes() == mine
    s = session(root)
    assert read_json(s.dir/'search.json')['asked'] == dict(trials=12, hours=0., sampler='local',
        seed=0, swarm=True)

def test_killed_and_gone_on_with(root, origin):
    "Twice, with submissions in the queue: none is made again, and all get their rows"
    with driving(root, origin):
        for at in (3, 7):
            proc = subprocess.Popen([BIN/'ar-search', '--swarm', '--trials', '14'], cwd=root,
                env=environ(), stdout=subprocess.DEVNULL, stderr=subprocess.STDOUT)
            os.chdir(root)
            until(lambda: len(jobs(session(root))) > at, every=.01)
            proc.kill()
            assert proc.wait() == -signal.SIGKILL
        r = ar(root, 'ar-search', '--swarm', '--trials', '14')
        assert 'going on after' in r.stdout and '\n14 trials:' in r.stdout, r.stdout
        sound(root, 14)

def test_two_agents_race_for_ideas_and_submissions(root, origin, monkeypatch, tmp_path):
    "The agents of bench/agents.py, by the same commands; what must hold is looked at by the same code"
    monkeypatch.setattr(agents, 'ar', lab.ar)
    monkeypatch.setattr(agents, 'TAG', TAG)
    for i,(name,value) in enumerate(agents.IDEAS[:5]):
        ar(root, 'ar-ideas', 'add', f'{name} = {value}', '--gain', f'{.1-.005*i:.3f}')
    names = agents.NAMES[:2]
    with driving(root, origin, 2):
        pids = {}
        for k in names:
            lab.git(root, 'worktree', 'add', '-q', '-b', f'autoresearch/{TAG}-{k}', tmp_path/k)
            if pid := os.fork():
                pids[k] = pid
                continue
            code = 1
            try:
                said = agents.Agent(tmp_path/k, 1, k).work()
                (tmp_path/f'{k}.json').write_text(json.dumps(said))
                code = 0
            except BaseException: traceback.print_exc()
            finally: os._exit(code)
        assert [os.waitstatus_to_exitcode(os.waitpid(p, 0)[1]) for p in pids.values()] == [0, 0]
    said = {k: json.loads((tmp_path/f'{k}.json').read_text()) for k in names}
    assert sum(len(o['tried']) for o in said.values()) >= 4, said
    agents.check_ideas(root, said)
    agents.check_branch(root, names)
    agents.check_ledger(root, said)
    agents.check_left(root, [tmp_path/k for k in names])

def queue_of(root, *values, agent=''):
    "Queue edits of the base commit's constants by hand"
    s = session(root)
    at = tip(s)
    nb = json.loads(s.file(at, s.p.canvas))
    made = []
    for name,value in values:
        new = json.loads(json.dumps(nb))
        for c in new['cells']:
            c['source'] = re.sub(rf'^({name} = )\S+', rf'\g<1>{value}', ''.join(c['source']),
                flags=re.M).splitlines(True)
        commit = commit_canvas(s, new, at, f'{name} {value}')
        made.append(submit_commit(s, commit, at, f'{name} {value}', by='ar-submit', agent=agent))
    return s, made

def screen():
    lines = []
    return lines, search.SimpleNamespace(say=lines.append, show=lambda text: None,
        put=lambda percent, text: lines.append(text))

def turns(s, state, n, slots, loop=None):
    "So many turns of a search, before a pool of which nothing comes back"
    folder = s.dir/'swarm'
    folder.mkdir(exist_ok=True)
    each = [dict(slot=f'h/{k}', job='', progress={}) for k in range(slots)]
    write_json(folder/'status.json', dict(state='running', slots=each))
    loop = loop or search.Loop(time.monotonic(), lambda: None)
    lines,bar = screen()
    for _ in range(n): assert not search.swarm_turn(s, state, bar, loop)
    return loop, lines

def test_what_is_queued_is_not_proposed_again(root, monkeypatch):
    "Others' submissions count for the pool's size, and nothing is queued twice, or once taken back"
    os.chdir(root)
    monkeypatch.setattr(search, 'swarming', lambda p: 1)
    s,made = queue_of(root, ('DEGREE', '3'), ('RATE', '0.8'), agent='ada')
    state = search.opened(s, search.asked_for(40, 0., 'local', 0, False, True))
    loop,_ = turns(s, state, 6, 3)
    assert len(pending_jobs(s)) == 5 # three slots and two, of which two are the agent's
    own = [j for j in pending_jobs(s) if search.trial_of(state, j)]
    assert [search.trial_of(state, j) for j in own] == [1, 2, 3]
    stop_job(s, own[1]['id'])
    loop,lines = turns(s, state, 2, 3, loop)
    fresh = pending_jobs(s)[-1]
    assert search.trial_of(state, fresh) == 4 and len(pending_jobs(s)) == 5
    assert len({j['code'] for j in jobs(s)}) == 6
    assert any(l.startswith(f"{own[1]['id']} stopped") for l in lines)
    assert search.used_trials(s, state, jobs(s)) == (3, 4)
    left,_ = search.swarm_left(s, dict(state, asked=dict(trials=5, hours=0.)), jobs(s), 3, 0.)
    assert left == 2
    in_time = dict(state, asked=dict(trials=0, hours=.3*3.5/3600)) # three rounds of 0.3 s
    assert search.swarm_left(s, in_time, jobs(s), 3, 0.)[0] == 3*3-5

def canvas_of(*lines):
    return dict(cells=[dict(cell_type='code', id='hparams', source='\n'.join(lines))])

def waits(values, i=0, code=''): return search.Tried(values, None, i, code=code, pending=True)

def test_a_lie_and_what_it_does(root, monkeypatch):
    assert [search.lie([0., 1., 5.], k) for k in ('min', 'mean', 'max')] == [0., 2., 5.]
    assert search.lie([]) == 0.
    nb = canvas_of('A = 0.04 # [0.01 .. 0.16 log]', 'B = 0.2 # [0.0 .. 0.6]', 'C = 5 # [1 .. 9]')
    p = get_profile('polynomial', root/'settings.ini')
    now = dict(A='0.04', B='0.2', C='5')
    for sampler in ('local', 'tpe', 'random'):
        tried = [search.Tried(now, 1., 0), search.Tried({**now, 'A': '0.05'}, 1.1, 1)]
        for i in range(8):
            change,_ = search.propose(nb, p, tried, sampler, 0)
            tried.append(waits({**now, **change}, 2+i))
        every = [tuple(t.values.items()) for t in tried]
        assert len(set(every)) == len(every), sampler

def test_optuna_is_told_what_runs(root):
    optuna = pytest.importorskip('optuna')
    p = get_profile('polynomial', root/'settings.ini')
    constants = search.read_constants(canvas_of('A = 2 # [1 .. 9]'), p)
    tried = [search.Tried(dict(A='2'), 1., 0), search.Tried(dict(A='3'), None, 1),
        waits(dict(A='4'), 2), waits(dict(A='2'), 3)]
    study,_ = search.make_study(constants, tried, 'lower', 'tpe', 0)
    states = optuna.trial.TrialState
    assert [t.state for t in study.trials] == [states.COMPLETE, states.PRUNED, states.RUNNING]
    assert study.sampler._constant_liar
