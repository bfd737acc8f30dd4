"""Submissions and the driver that judges them: agents' worktrees, edits of an older best, lost runs,
a driver killed at every step. The pool is the benches' simulated one: real git, ledger, notes and
judge, and runs whose value is that of their constants."""
import json, os, pickle, random, shutil, signal, subprocess, sys
from pathlib import Path
import pytest
import lab
from autoresearch import queue, ratchet
from autoresearch.repo import (Refused, add_agent, current_session, edit_base, object_kind, own_refs,
    swarming, tip)
from autoresearch.run import read_json
from lab import TAG, ar, edit, git, rows, sound
from test_ratchet import ended, forked

sys.path.insert(0, str(lab.ROOT/'bench'))
from swarm import (CORE, SimulatedPool, broken, make_session, measured, packed, proposal,  # noqa: E402
    template, valued)

OWN = f'refs/autoresearch/{TAG}'
BASE,CUBIC,QUINTIC = 'DEGREE = 1 ', 'DEGREE = 3 ', 'DEGREE = 5 '
VALUES = {'1': .5, '2': .45, '3': .3, '4': .25, '5': .2, '6': .4}

def by_degree(s, made, **values):
    "Value by the degree and the rate; what `values` has for a seed's whole canvas beats it"
    def measure(spec):
        text = s.file(spec['commit'], s.p.canvas).decode()
        if 'crash_here' in text: return broken(*made)
        degree = text.partition('DEGREE = ')[2][0]
        rate = .01*('RATE = 0.7 ' in text) - .01*('RATE = 0.4 ' in text)
        return valued(*made, spec, VALUES[degree] - rate)
    return measure

@pytest.fixture(scope='module')
def made(tmp_path_factory):
    "A session that nothing ran in, and what a real run leaves"
    tmp = tmp_path_factory.mktemp('queue')
    s = make_session(tmp/'r', TAG)
    return tmp, template(s, tmp)

@pytest.fixture
def here(made, tmp_path, monkeypatch):
    "A copy of it: the session, its driver's pool"
    tmp,run = made
    root = Path(shutil.copytree(tmp/'r', tmp_path/'r', symlinks=True))
    monkeypatch.chdir(root)
    monkeypatch.delenv('AUTORESEARCH_PROFILE', raising=False)
    s = current_session()
    return s, run

def pool_for(s, run, n=2, **named): return SimulatedPool([CORE]*n, by_degree(s, run), **named)
def drive(s, pool, until=None):
    "Until nothing waits"
    with queue.Driver(s, pool) as d: d.run(until or (lambda: d.bar is not None and not d.jobs))
    return d
def submit(s, old, new, message='an idea', **named):
    edit(s.p.root, old, new)
    return queue.submit(s, message, **named)
def statuses(s): return [r[3] for r in rows(ratchet.main_of(s).p.root)]
def numbers(s): return [n['dir'].split('-')[0] for n in s.experiments()]

def check_whole(s):
    "What must hold whenever no driver is at work: a row and notes for each verdict, one line of keeps"
    s = ratchet.main_of(s)
    sound(s.p.root)
    notes = [n for n in s.experiments() if n['status'] in ('keep', 'discard', 'crash')]
    assert [(n['commit'][:7], n['status']) for n in notes] == [
        (r[0], r[3]) for r in rows(s.p.root)]
    kept = [n['commit'] for n in notes if n['status'] == 'keep']
    line = git(s.p.root, 'rev-list', '--first-parent', '--reverse', f'{s.base}..{s.ref}').split()
    assert line == [c for c in kept if c != s.base] and s.rev(s.ref) == tip(s)
    done = [o for o in queue.jobs(s) if o['state'] == 'done']
    named = [(n.get('submission') or {}).get('id') for n in s.experiments()]
    assert sorted(filter(None, named)) == sorted(o['id'] for o in done)
    assert not [d for d in os.listdir(s.dir/'swarm') if d.startswith('s0')
        and (s.dir/'swarm/done'/f'{d}.json').exists()]

def test_a_submission_from_the_main_checkout(here):
    s,run = here
    o = submit(s, BASE, CUBIC, 'a cubic')
    assert o['id'] == 's001' and o['parent'] == s.base and not o['again']
    assert not git(s.p.root, 'status', '--porcelain') and BASE in (s.p.root/s.p.canvas).read_text()
    assert s.rev(f'{OWN}/swarm/s001') == o['commit']
    with pytest.raises(Refused, match='as committed'): queue.submit(s, 'nothing')
    edit(s.p.root, BASE, CUBIC) # typed again
    again = queue.submit(s, 'a cubic')
    assert again['again'] and again['id'] == 's001' and BASE in (s.p.root/s.p.canvas).read_text()
    assert 'ar-swarm start' in queue.pending_line(s, o)
    drive(s, pool_for(s, run))
    assert statuses(s) == ['keep', 'keep'] and numbers(s) == ['001', '002']
    assert CUBIC in (s.p.root/s.p.canvas).read_text() and s.rev('HEAD') == o['commit']
    code,lines,facts = queue.wait_for(s, 's001')
    assert code == 0 and 'status:   keep' in lines and facts['experiment']['number'] == 2
    assert s.experiments()[1]['submission']['id'] == 's001'
    edit(s.p.root, CUBIC, BASE)
    with pytest.raises(Refused, match='ran before, as experiment 1'): queue.submit(s, 'back')
    check_whole(s)

def test_the_command(here):
    s,run = here
    edit(s.p.root, BASE, CUBIC)
    said = json.loads(ar(s.p.root, 'ar-submit', '-m', 'a cubic', '--json').stdout)
    import jsonschema
    jsonschema.validate(said, queue.SHAPES['ar-submit'])
    assert said['submission'] == 's001' and said['queued'] == 1
    r = ar(s.p.root, 'ar-wait', 's001', '--timeout', '0', ok=False)
    assert r.returncode == 2 and 's001 queued behind 0; no swarm' in r.stdout
    assert 'no submission of session' in ar(s.p.root, 'ar-wait', 's9', ok=False).stderr
    drive(s, pool_for(s, run))
    told = json.loads(ar(s.p.root, 'ar-wait', '--any', '--json').stdout)
    jsonschema.validate(told, ratchet.SHAPES['ar-wait'])
    assert told['submission'] == 's001' and told['experiment']['status'] == 'keep'
    assert 'nothing that was submitted' in ar(s.p.root, 'ar-wait', '--any', ok=False).stderr
    assert 'status:   keep' in ar(s.p.root, 'ar-wait', 's001').stdout # by name as often as one likes
    submit(s, CUBIC, QUINTIC)
    assert 'taken back, no row' in ar(s.p.root, 'ar-stop', 's003').stdout
    assert queue.job(s, 's003')['state'] == 'stopped'
    check_whole(s)

def agent(s, name, folder):
    a = add_agent(s, name, folder)
    os.chdir(folder)
    return current_session()

def test_agents_in_worktrees(here, tmp_path):
    s,run = here
    drive(s, pool_for(s, run))
    a,b = (agent(s, name, tmp_path/name) for name in ('ada', 'bob'))
    assert (a.agent, b.agent, a.tag) == ('ada', 'bob', TAG)
    assert not git(a.p.root, 'status', '--porcelain') # links are overlooked
    edit(a.p.root, BASE, CUBIC)
    os.chdir(a.p.root)
    for command in (['ar-run', '-m', 'x'], ['ar-calibrate'], ['ar-run', '--rewind', s.base]):
        r = ar(a.p.root, *command, ok=False)
        assert r.returncode == 1 and 'worktree of agent ada' in r.stderr and 'ar-submit' in r.stderr
    assert 'baseline' in ar(a.p.root, 'ar-status').stdout
    first = queue.submit(a, 'a cubic')
    assert first['agent'] == 'ada' and BASE in (a.p.root/s.p.canvas).read_text()
    edit(b.p.root, BASE, CUBIC)
    with pytest.raises(Refused, match='s002 by ada'): queue.submit(b, 'a cubic, too')
    edit(b.p.root, CUBIC, QUINTIC)
    second = queue.submit(b, 'a quintic')
    drive(s, pool_for(s, run))
    # the quintic was made on the baseline; the cubic was kept meanwhile: both change one line, so
    # the quintic stands against the cubic as it ran, and is better
    last = s.experiments()[-1]
    assert [n['status'] for n in s.experiments()] == ['keep', 'keep', 'keep']
    assert 'clashes with the best' in last['reason'] and 'hparams' in last['reason']
    assert last['parent'] == s.experiments()[1]['commit'] and len(last['runs']) == 1
    code,lines,facts = queue.wait_for(a, '')
    assert facts['submission'] == first['id'] and a.rev('HEAD') == tip(s)
    assert QUINTIC in (a.p.root/s.p.canvas).read_text()
    assert not git(a.p.root, 'status', '--porcelain') and a.rev(a.own_ref) == tip(s)
    assert queue.wait_for(b, '')[2]['submission'] == second['id']
    assert object_kind(s.p.root, f'refs/heads/autoresearch/{TAG}-ada') == 'commit'
    check_whole(s)

def test_a_worktree_by_hand_is_an_agents(here, tmp_path):
    s,run = here
    git(s.p.root, 'worktree', 'add', '-q', '-b', f'autoresearch/{TAG}-eve', tmp_path/'eve', 'HEAD')
    said = ar(tmp_path/'eve', 'ar-status').stdout
    assert f'autoresearch/{TAG}' in said and (tmp_path/'eve/runs').is_symlink()
    assert not git(tmp_path/'eve', 'status', '--porcelain')
    assert (s.p.root/'.git/info/exclude').read_text().count('/runs') == 1
    ar(tmp_path/'eve', 'ar-status')
    assert (s.p.root/'.git/info/exclude').read_text().count('/runs') == 1
    assert (s.p.root/'runs').is_dir() and not (s.p.root/'runs').is_symlink()

def test_an_edit_of_an_older_best_is_put_onto_the_best_and_run_again(here):
    s,run = here
    drive(s, pool_for(s, run))
    submit(s, BASE, CUBIC, 'a cubic')
    o = submit(s, 'RATE = 0.5 ', 'RATE = 0.7 ', 'longer steps')
    drive(s, pool_for(s, run))
    last = s.experiments()[-1]
    assert statuses(s) == ['keep', 'keep', 'keep']
    assert last['submission']['id'] == o['id'] and last['parent'] == s.experiments()[1]['commit']
    assert last['submission']['rebased'][0]['from'] == o['commit'] != last['commit']
    text = (s.p.root/s.p.canvas).read_text()
    assert CUBIC in text and 'RATE = 0.7 ' in text and last['value'] == pytest.approx(.29)
    assert (s.dir/last['dir']/'before').is_dir() # what ran on the older best
    check_whole(s)

def test_what_is_no_gain_even_there_is_not_run_again(here):
    s,run = here
    drive(s, pool_for(s, run))
    submit(s, BASE, CUBIC)
    submit(s, 'RATE = 0.5 ', 'RATE = 0.4 ', 'shorter steps')
    pool = pool_for(s, run)
    drive(s, pool)
    assert statuses(s) == ['keep', 'keep', 'discard'] and len(pool.submitted) == 2
    assert 'which is not the best any more' in s.experiments()[-1]['reason']
    check_whole(s)

def test_a_live_edit_stays_while_the_branch_moves(here):
    s,run = here
    drive(s, pool_for(s, run))
    o = submit(s, BASE, CUBIC)
    edit(s.p.root, 'RATE = 0.5 ', 'RATE = 0.7 ') # a person goes on
    drive(s, pool_for(s, run))
    text = (s.p.root/s.p.canvas).read_text()
    assert s.rev('HEAD') == o['commit'] and BASE in text and 'RATE = 0.7 ' in text
    assert edit_base(s) == s.base == s.rev(f'{OWN}/edit-base')
    ar(s.p.root, 'ar-run', '-m', 'longer steps', '--background') # put onto the best first
    r = ar(s.p.root, 'ar-wait')
    assert 'changed:  RATE' in r.stdout and 'DEGREE' not in r.stdout, r.stdout
    assert not object_kind(s.p.root, f'{OWN}/edit-base')
    check_whole(s)

def test_a_crash_and_a_run_that_is_lost_twice(here):
    s,run = here
    drive(s, pool_for(s, run))
    submit(s, 'budget = Budget(profile)', 'crash_here = 1/0', 'a crash')
    o = submit(s, BASE, CUBIC, 'a cubic')
    pool = SimulatedPool([CORE]*24, by_degree(s, run)) # three nodes
    with queue.Driver(s, pool) as d:
        d.step()
        where = {r['host'] for j in d.jobs.values() for r in j['runs']}
        pool.lose(where.pop())
        d.run(lambda: len(pool.submitted) >= 3)
        again = {slot.rpartition('/')[0] for _,slot,*_ in pool.runs.values()}
        for host in again: pool.lose(host)
        d.run(lambda: not d.jobs)
    notes = s.experiments()[1:]
    assert {n['class'] for n in notes} <= {'error', 'lost'} and notes[-1]['status'] == 'crash'
    lost = next(n for n in notes if n['class'] == 'lost')
    assert 'lost 2 times' in lost['reason'] and lost['submission']['id'] in ('s001', 's002', 's003')
    assert sum(k.startswith(lost['submission']['id']) for k in pool.submitted) == 2
    check_whole(s)

def test_the_noise_is_known_and_the_judge_wants_more_runs(here):
    s,run = here
    drive(s, pool_for(s, run))
    queue.submit_repeats(s, 4)
    def measure(spec):
        rng = random.Random(f'{spec["commit"]} {spec["seed"]}')
        value = .5 - .004*(CUBIC in s.file(spec['commit'], s.p.canvas).decode())
        return valued(*run, spec, value + rng.gauss(0, .001))
    submit(s, BASE, CUBIC, 'a cubic')
    pool = SimulatedPool([CORE]*4, measure)
    drive(s, pool)
    last = s.experiments()[-1]
    assert last['rule'] == 'confirm' and len(last['runs']) > 1 and len(last['best_runs']) > 0
    assert all((s.dir/r['dir']/'record.json').exists() for r in last['runs'])
    assert [n['status'] for n in s.experiments()].count('repeat') == 4
    check_whole(s)

def test_other_commands_are_refused_while_a_swarm_works(here):
    s,run = here
    with queue.Driver(s, pool_for(s, run)) as d:
        d.step()
        assert swarming(s.p) == os.getpid()
        for command in (['ar-run', '-m', 'x'], ['ar-calibrate']):
            r = ar(s.p.root, *command, ok=False)
            assert r.returncode == 1 and 'a swarm is at work' in r.stderr
        assert 'autoresearch' in ar(s.p.root, 'ar-status').stdout
        with pytest.raises(Refused, match='a swarm is at work'): queue.Driver(s, d.pool).__enter__()
        edit(s.p.root, BASE, CUBIC)
        o = queue.submit(s, 'a cubic')
        assert f'of {len(d.pool.slots())} slots' in queue.pending_line(s, o)
        queue.stop_job(s, o['id'])
        d.run(lambda: d.bar is not None and not d.jobs)
    assert queue.job(s, o['id'])['state'] == 'stopped' and statuses(s) == ['keep']
    st = read_json(s.dir/'swarm/status.json')
    assert st['state'] == 'stopped' and st['done'] == 1 and len(st['slots']) == 2
    check_whole(s)

# A driver killed

class LastingPool(SimulatedPool):
    "One that outlives its driver: what it holds lies in a file"
    def __init__(self, file, measure):
        super().__init__([CORE]*2, measure)
        self.file = file
        if file.exists(): self.__dict__ |= pickle.loads(file.read_bytes())
    def keep(self):
        state = {k: getattr(self, k) for k in ('runs', 'held', 'gone', 'ahead', 'submitted')}
        new = self.file.with_suffix('.new')
        new.write_bytes(pickle.dumps(state))
        new.rename(self.file)
    def submit(self, spec):
        name = super().submit(spec)
        self.keep()
        return name
    def finished(self):
        new = super().finished()
        self.keep()
        return new
    def taken(self, key):
        super().taken(key)
        self.keep()

def counting(hit):
    "Call `hit(label)` before and after whatever the driver does to the world"
    def wrap(owner, name, says):
        orig = getattr(owner, name)
        def wrapped(*a, **k):
            label = says(*a, **k)
            if label: hit(f'before {label}')
            res = orig(*a, **k)
            if label: hit(f'after {label}')
            return res
        setattr(owner, name, wrapped)
    asks = ('rev-parse', 'cat-file', 'ls-tree', 'symbolic-ref', 'for-each-ref', 'var', 'config',
        'merge-base', 'worktree', 'rev-list')
    wrap(subprocess, 'run',
        lambda cmd, **k: cmd[0] == 'git' and cmd[1] not in asks and f'git {cmd[1]}')
    for name in ('replace', 'rename'): wrap(os, name, lambda a, b: f'rename to {Path(b).name}')
    wrap(os, 'write', lambda fd, data: b'\t' in data and 'append')
    for name in ('submit', 'taken'): wrap(LastingPool, name, lambda *a: name)

def driver(root, run, file, at=None, points=None):
    "What a forked driver does; it dies at point `at`"
    def call():
        s = current_session()
        pool = LastingPool(file, by_degree(s, run))
        seen = []
        def hit(label):
            seen.append(label)
            if at == len(seen)-1: os.kill(os.getpid(), signal.SIGKILL)
        if at is not None or points: counting(hit)
        drive(s, pool)
        if points: points.write_text('\n'.join(seen))
        return 0
    return call

@pytest.fixture(scope='module')
def queued(made, tmp_path_factory):
    "Four submissions that wait for a baseline, and at how many points their driver may die"
    tmp,run = made
    folder = tmp_path_factory.mktemp('queued')
    root = Path(shutil.copytree(tmp/'r', folder/'r', symlinks=True))
    with pytest.MonkeyPatch.context() as m:
        m.chdir(root)
        m.delenv('AUTORESEARCH_PROFILE', raising=False)
        s = current_session()
        for old,new in [(BASE, CUBIC), ('RATE = 0.5 ', 'RATE = 0.7 '), (BASE, QUINTIC),
                ('budget = Budget(profile)', 'crash_here = 1/0')]: submit(s, old, new, new)
    whole = Path(shutil.copytree(root, folder/'whole', symlinks=True))
    pid = forked(whole, driver(whole, run, folder/'pool', points=folder/'points'), folder/'log')
    assert ended(pid) == 0, (folder/'log').read_text()
    return root, (folder/'points').read_text().splitlines(), rows(whole)

def killed_at(queued, made, tmp_path, at):
    "The session after a driver that died there, and another that went on; the first one's point"
    source,points,_ = queued
    root = Path(shutil.copytree(source, tmp_path/f'r{at}', symlinks=True))
    file,log = tmp_path/f'pool{at}', tmp_path/f'log{at}'
    assert ended(forked(root, driver(root, made[1], file, at), log)) == -signal.SIGKILL
    assert ended(forked(root, driver(root, made[1], file), log)) == 0, (points[at], log.read_text())
    return root

def check_killed(queued, made, tmp_path, monkeypatch, ats):
    monkeypatch.delenv('AUTORESEARCH_PROFILE', raising=False)
    for at in ats:
        root = killed_at(queued, made, tmp_path, at)
        monkeypatch.chdir(root)
        s = current_session()
        point = queued[1][at]
        assert sorted(r[4] for r in rows(root)) == sorted(r[4] for r in queued[2]), point
        assert sorted(r[3] for r in rows(root)) == sorted(r[3] for r in queued[2]), point
        pool = pickle.loads((tmp_path/f'pool{at}').read_bytes())
        assert not pool['runs'] and not pool['held'], point
        check_whole(s)
        shutil.rmtree(root)

def test_a_driver_killed(queued, made, tmp_path, monkeypatch):
    rng = random.Random(7)
    check_killed(queued, made, tmp_path, monkeypatch, rng.sample(range(len(queued[1])), 5))

@pytest.mark.slow
def test_a_driver_killed_anywhere(queued, made, tmp_path, monkeypatch):
    check_killed(queued, made, tmp_path, monkeypatch, range(0, len(queued[1]), 5))

# Machines of several kinds

OTHER = dict(cpu='another', cpus=1, gpus=0)

def noisy(s, run, shift=0.):
    "By the degree, with noise by the seed; on the other machine all is lower by `shift`"
    def measure(spec):
        text = s.file(spec['commit'], s.p.canvas).decode()
        value = VALUES[text.partition('DEGREE = ')[2][0]] + .2*('RATE = 0.4 ' in text)
        value += random.Random(f'{text} {spec["seed"]}').gauss(0, .001)
        there = spec['only'] == queue.class_of(OTHER)
        return valued(*run, spec, value - shift*there)
    return measure

def test_another_class_screens_and_decides_nothing(here):
    s,run = here
    drive(s, SimulatedPool([CORE]*2, noisy(s, run)))
    queue.submit_repeats(s, 4)
    drive(s, SimulatedPool([CORE]*4, noisy(s, run)))
    submit(s, BASE, CUBIC, 'a cubic')
    submit(s, BASE, QUINTIC, 'a quintic')
    loser = submit(s, 'RATE = 0.5 ', 'RATE = 0.4 ', 'shorter steps')
    pool = SimulatedPool([CORE, OTHER], noisy(s, run, shift=.3)) # all of it would be a gain
    drive(s, pool)
    notes = {n['submission']['id']: n for n in s.experiments() if n['status'] != 'repeat'}
    print(pool.submitted, s.experiments()[-1]['noise'])
    n = notes[loser['id']]
    assert n['status'] == 'discard' and 'screened on 1 CPU core' in n['reason'] and n['runs'] == []
    assert any(k.startswith('class-') for k in pool.submitted)
    assert all(m['machine']['cpu'] == 'simulated' for k,m in notes.items() if k != loser['id'])
    assert [n['status'] for n in notes.values()].count('keep') >= 2
    check_whole(s)

def test_no_machine_at_home_any_more(here):
    s,run = here
    drive(s, pool_for(s, run))
    submit(s, BASE, CUBIC, 'a cubic')
    pool = SimulatedPool([OTHER]*2, by_degree(s, run))
    drive(s, pool)
    assert [(n['status'], n['machine']['cpu']) for n in s.experiments()] == [('keep', 'simulated'),
        ('repeat', 'another'), ('keep', 'another')]
    assert 'the machine changed: CPU simulated -> another' in s.experiments()[1]['break']
    assert pool.submitted == ['s003/1', 's002/1']
    check_whole(s)

def test_an_agents_expedition_beside_the_branch(here, tmp_path):
    s,run = here
    drive(s, pool_for(s, run))
    a = agent(s, 'ada', tmp_path/'ada')
    lab.ar(a.p.root, 'ar-expedition', 'start', '--steps', '2', '--why', 'over the hill')
    submit(s, 'RATE = 0.5 ', 'RATE = 0.7 ', 'longer steps') # the branch goes on meanwhile
    o = submit(a, 'DEGREE = 1 ', 'DEGREE = 6 ', 'far too many')
    assert o['kind'] == 'step' and a.rev('HEAD') == o['commit']
    edit(a.p.root, 'DEGREE = 6 ', QUINTIC)
    with pytest.raises(Refused, match=f'{o["id"]} of expedition 1 has no'): queue.submit(a, 'fewer')
    drive(s, pool_for(s, run))
    assert [n['status'] for n in s.experiments()] == ['keep', 'keep', 'discard']
    second = queue.submit(a, 'fewer')
    drive(s, pool_for(s, run))
    code,lines,_ = queue.wait_for(a, second['id'])
    assert any('step 2, ' in l for l in lines if l.startswith('line:')), lines
    assert a.rev('HEAD') == second['commit'] and s.rev(s.ref) == tip(s)
    lab.ar(a.p.root, 'ar-expedition', 'finish')
    drive(s, pool_for(s, run))
    last = s.experiments()[-1]
    assert (last['kind'], last['status'], last['description']) == ('join', 'keep', 'over the hill')
    text = (s.p.root/s.p.canvas).read_text()
    assert QUINTIC in text and 'RATE = 0.7 ' in text # onto what was kept meanwhile
    ended = read_json(s.dir/'expeditions/1.json')
    assert ended['owner'] == 'ada' and ended['state'] == 'joined'
    queue.wait_for(a, last['submission']['id'])
    assert a.rev('HEAD') == tip(s) and not git(a.p.root, 'status', '--porcelain')
    check_whole(s)
