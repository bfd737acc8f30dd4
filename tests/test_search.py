"""ar-search on the torch-free example: killed and resumed, in turns with an agent, on bad input."""
import json, os, random, re, shutil, signal, subprocess, time
from pathlib import Path
import pytest
from autoresearch import search
from autoresearch.contract import get_profile, install_line
from autoresearch.ratchet import search_state
from autoresearch.repo import Session, lock_holder
from autoresearch.run import read_json
from conftest import made_once
from lab import (BIN, PATIENCE, ROOT, TAG, ar, commit, edit, environ, example, git, run, setup, sh,
    sound, until)
from lab import rows_as_tried as rows # a run beside other work is measured again, and says so

def begin(root, *args):
    return subprocess.Popen([BIN/'ar-search', *args], cwd=root, env=environ(),
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)

def profile(root): return get_profile('polynomial', root/'settings.ini')
def session(root): return Session(profile(root), TAG)

def looked(root): return search_state(session(root))

def all_by(root):
    return [n['by'] for d in sorted((root/'runs'/TAG).glob('[0-9]*-*'))
        if (n := read_json(d/'experiment.json')).get('status') in ('keep', 'discard', 'crash')]

def monotone(root):
    "The branch is the chain of keeps, each better than the one before"
    kept = [r for r in rows(root) if r[3] == 'keep']
    log = git(root, 'log', '--format=%h', '--abbrev=7', f'autoresearch/{TAG}').split()
    assert [float(r[1]) for r in kept] == sorted({float(r[1]) for r in kept}, reverse=True)
    assert log[:len(kept)] == [r[0] for r in kept][::-1]

@pytest.fixture(scope='module')
def begun(base, tmp_path_factory):
    """A session that nobody ran anything in, one with its baseline, and one with a trial of the
    search too: to be copied"""
    return made_once(base, 'begun', begin_sessions, tmp_path_factory.mktemp('begun'))

def begin_sessions(home):
    setup(example(home/'empty'))
    shutil.copytree(home/'empty', home/'baseline', symlinks=True)
    run(home/'baseline', 'baseline')
    shutil.copytree(home/'baseline', home/'searched', symlinks=True)
    ar(home/'searched', 'ar-search', '--trials', '1')

@pytest.fixture
def lab(begun, tmp_path):
    return Path(shutil.copytree(begun/'empty', tmp_path/'repo', symlinks=True))

@pytest.fixture
def measured(begun, tmp_path):
    "A session with its baseline"
    return Path(shutil.copytree(begun/'baseline', tmp_path/'repo', symlinks=True))

@pytest.fixture
def searched(begun, tmp_path):
    "A session with its baseline and a trial"
    return Path(shutil.copytree(begun/'searched', tmp_path/'repo', symlinks=True))

@pytest.mark.slow
def test_killed_five_times_and_gone_on_with(lab):
    "SIGKILL at a random moment, every other time the supervisor too: 6 trials, 6 rows, none twice"
    rng,killed = random.Random(4), []
    for i in range(5):
        proc = begin(lab, '--trials', '6')
        time.sleep(rng.uniform(.4, 2.4))
        h = lock_holder(profile(lab))
        proc.kill()
        killed.append((proc.wait(), len(rows(lab))))
        if i % 2 and h.get('pid'):
            try: os.kill(h['pid'], signal.SIGKILL)
            except ProcessLookupError: pass # it had just ended
    assert sum(code == -signal.SIGKILL for code,_ in killed) >= 3 and killed[0][1] < 6, killed
    last = ar(lab, 'ar-search', '--trials', '6')
    made = all_by(lab)
    assert len(rows(lab)) == 7 and len(set(made)) == 7 and rows(lab)[0][4] == 'baseline', (
        made, last.stdout)
    assert (sorted(int(b.split('/')[1]) for b in made) == list(range(7))
        and len({b.split('/')[0] for b in made}) == 1)
    assert 'ended: 6 trials, as asked\n6 trials:' in last.stdout and sound(lab) == ''
    monotone(lab)
    descriptions = [r[4] for r in rows(lab)]
    assert len(set(descriptions)) == 7
    before = re.search(r'going on after (\d+) trials?', last.stdout)
    assert last.stdout.count('/6  ') == 6-int(before[1] if before else 0), (
        'a trial that recovery finished has its line too')
    again = ar(lab, 'ar-search', '--trials', '1')
    assert len(rows(lab)) == 8 and '\n1 trial:' in again.stdout, (
        'a finished search is not gone on with')

def test_ctrl_c_ends_it(tmp_path):
    root = example(tmp_path/'repo', time_budget=3)
    edit(root, 'STEPS = 300 ', 'STEPS = 9**9 ')
    edit(root, 'at most [100 .. 600]', 'at most')
    commit(root)
    setup(root)
    proc = begin(root, '--trials', '3')
    until(lambda: len(rows(root)) == 1 and lock_holder(profile(root)).get('token'))
    time.sleep(1)
    proc.send_signal(signal.SIGINT)
    out = proc.communicate(timeout=PATIENCE)[0]
    assert proc.returncode == 130, out
    assert ('ended: stopped by SIGINT\n0 trials:' in out and 'goes on from here' in out
        and 'Traceback' not in out)
    assert len(rows(root)) == 1 and sound(root) == ''

@pytest.mark.slow
def test_a_dead_supervisor_does_not_end_it(lab):
    proc,killed = begin(lab, '--trials', '2'), 0
    while killed < 2:
        h = until(lambda: (h := lock_holder(profile(lab))).get('token') and h)
        os.kill(h['pid'], signal.SIGKILL)
        killed += 1
        until(lambda: lock_holder(profile(lab)).get('token') != h['token'])
    out = proc.communicate(timeout=PATIENCE)[0]
    assert proc.returncode == 0 and '2 trials:' in out and sound(lab) == '', out
    assert [r[4] for r in rows(lab)][0] == 'baseline' and len(rows(lab)) == 3

@pytest.mark.slow
def test_five_crashes_in_a_row_end_it(tmp_path):
    "A canvas that no other constant runs in"
    lab = example(tmp_path/'repo')
    edit(lab, 'budget = Budget(profile)',
        '(DEGREE, RATE, STEPS) == (1, 0.5, 300) or 1/0; budget = Budget(profile)')
    commit(lab)
    setup(lab)
    ar(lab, 'ar-run', '-m', 'baseline')
    r = ar(lab, 'ar-search', '--trials', '9', ok=False)
    assert (r.returncode == 1 and 'five crashes in a row' in r.stderr
        and [o[3] for o in rows(lab)] == ['keep'] + 5*['crash'])
    assert sound(lab) == ''
    lines = [l for l in r.stdout.splitlines() if '/9  ' in l]
    assert len(lines) == 5 and all(
        re.match(r'[1-5]/9  crash  error: ZeroDivisionError: division by zero', l)
        and len(l) <= 120 for l in lines), lines
    st = looked(lab)
    assert ((st['state'], st['code']) == ('ended', 1)
        and st['why'].startswith('five crashes in a row') and st['made'] == '5 of 9 trials')
    narrow = [l for l in ar(lab, 'ar-search', '--trials', '1', '--anew', ok=False,
        COLUMNS='50').stdout.splitlines() if '/1  ' in l]
    assert (all(len(l) == 50 and l.endswith('…') and 'crash  error: Zero' in l for l in narrow)
        and len(narrow) == 1), narrow

def test_an_agent_and_the_search_take_turns(searched):
    lab = searched
    now = re.search(r'RATE = (\S+)', (lab/'canvas.ipynb').read_text())[1]
    edit(lab, f'RATE = {now} ', 'RATE = 1.3 ')
    run(lab, 'a rate of my own')
    edit(lab, 'xs = [3*rng.random() for _ in range(40)]',
        'xs = [3*(i+rng.random())/40 for i in range(40)]')
    run(lab, 'stratified points')
    s = session(lab)
    tried = search.history(s)
    by_hand = [t for t in tried if t.values['RATE'] == '1.3']
    assert by_hand and by_hand[0].number == 2, (
        'a row that changed only a constant counts, whoever made it')
    ar(lab, 'ar-search', '--trials', '2')
    assert len(rows(lab)) == 6 and all_by(lab)[2:4] == ['', '']
    tried,r = search.history(session(lab)), rows(lab)
    assert [t.number for t in tried][:3] == [0, 1, 2]
    assert r[3][3] == 'keep' # what code gained is taken out, so values before and after compare
    kept = [float(o[1]) for o in r[:3] if o[3] == 'keep'][-1]
    later = next(t for t in tried if t.number == 4)
    assert later.value == pytest.approx(float(r[4][1]) - (float(r[3][1])-kept), abs=2e-6)
    monotone(lab)

def test_level_of_new_code(measured):
    "The level of an agent's code is what it gained over its parent"
    edit(measured, 'coefs = [c - RATE*', 'coefs = [c - 1.*RATE*')
    edit(measured, 'DEGREE = 1 ', 'DEGREE = 3 ')
    run(measured, 'code and a constant')
    edit(measured, 'DEGREE = 3 ', 'DEGREE = 2 ')
    run(measured, 'then a constant')
    tried,r = search.history(session(measured)), rows(measured)
    assert [t.number for t in tried] == [0, 1, 2]
    assert (tried[1].value == pytest.approx(float(r[0][1]), abs=2e-6)
        and tried[2].value-tried[1].value
            == pytest.approx(float(r[2][1])-float(r[1][1]), abs=2e-6))

def test_crashes_teach(measured):
    edit(measured, 'DEGREE = 1 ', 'DEGREE = 9 ')
    edit(measured, '[1 .. 7]', '[1 .. 9]')
    r = run(measured, 'too many coefficients')
    assert rows(measured)[1][3] == 'crash' and 'error' in r.stdout
    ar(measured, 'ar-drop')
    tried = search.history(session(measured))
    assert [t.value is None for t in tried] == [False, True] and tried[1].values['DEGREE'] == '9'
    optuna = pytest.importorskip('optuna')
    constants = search.read_constants(measured/'canvas.ipynb', session(measured).p)
    study,_ = search.make_study(constants,
        tried[:1]+[search.Tried({**tried[1].values, 'DEGREE': '7'}, None, 1)], 'lower', 'tpe', 0)
    assert [t.state for t in study.trials] == [
        optuna.trial.TrialState.COMPLETE, optuna.trial.TrialState.PRUNED]

def test_what_cannot_run_is_never_run(lab):
    nb = json.loads((lab/'canvas.ipynb').read_text())
    at = [c['id'] for c in nb['cells']].index('hparams')+1
    nb['cells'].insert(at, dict(cell_type='code', id='hparams-check', metadata={}, outputs=[],
        execution_count=None, source='assert DEGREE % 2 == 1, "even"\nassert RATE*STEPS < 200'))
    p = profile(lab)
    changes = [search.propose(nb, p, [], 'random', seed) for seed in range(30)]
    assert sum(refused for _,refused in changes) > 10
    assert all(int(c.get('DEGREE', 1)) % 2
        and float(c.get('RATE', .5))*int(c.get('STEPS', 300)) < 200 for c,_ in changes)

def test_edits_of_others_are_not_touched(searched):
    measured = searched
    edit(measured, '# of the polynomial', '# my thought')
    mine = (measured/'canvas.ipynb').read_bytes()
    r = ar(measured, 'ar-search', '--trials', '1', '--anew', ok=False)
    assert (r.returncode == 1 and 'canvas.ipynb has an edit that is not committed' in r.stderr
        and 'ar-drop' in r.stderr)
    assert (measured/'canvas.ipynb').read_bytes() == mine and len(rows(measured)) == 2

def test_one_search_at_a_time(measured):
    lab = measured
    proc = begin(lab, '--trials', '4')
    until(lambda: (lab/'runs'/TAG/'search.lock').exists() and len(rows(lab)) >= 1)
    r = ar(lab, 'ar-search', '--trials', '1', ok=False)
    assert r.returncode == 1 and 'a search is at work' in r.stderr
    proc.terminate()
    assert ('--anew' in proc.communicate(timeout=PATIENCE)[0] and proc.returncode == 130
        and sound(lab) == '')

def test_what_is_said_of_bad_input(measured, tmp_path):
    lab = measured
    said = lambda *args, **env: (lambda r: (r.returncode, r.stderr))(
        ar(lab, 'ar-search', *args, ok=False, **env))
    assert said() == (
        1, 'ar-search: --trials 0 --hours 0: say how long, like --trials 16 or --hours 8\n')
    assert said('--trials', '1', '--sampler', 'grid') == (
        1, 'ar-search: --sampler grid: accepted: local, tpe, random\n')
    (tmp_path/'hide').mkdir()
    (tmp_path/'hide/optuna.py').write_text('raise ImportError')
    code,err = said('--trials', '1', '--sampler', 'tpe', PYTHONPATH=f'{tmp_path}/hide:{ROOT}')
    assert (code, err) == (1, f'ar-search: the search needs Optuna: {install_line("search")}\n')
    for old,new,says in [
            ('[1 .. 7]', '[7 .. 1]', 'hparams, line 1: DEGREE [7 .. 1]: 7 is not below 1'),
            ('[7 .. 1]', '[2 .. 7]', 'the value 1 lies outside'),
            ('[2 .. 7]', '[later]', 'accepted: [low .. high]'), ('[later]', '[1 .. 7]', ''),
            ('STEPS = 300 ', 'STEPS = len([]) ',
                'hparams, line 3: STEPS [100 .. 600]: len([]) is more than arithmetic'),
            ('STEPS = len([]) ', 'STEPS = 300 ', ''),
            ('[0.05 .. 2.0 log]', '[0 .. 2.0 log]',
                'hparams, line 2: RATE [0 .. 2.0 log]: 0 has no logarithm')]:
        edit(lab, old, new)
        commit(lab, new)
        if not says: continue
        code,err = said('--trials', '1')
        assert code == 1 and says in err and 'Traceback' not in err, (says, err)

def test_the_same_seed_proposes_the_same(begun, tmp_path):
    made = []
    for name in ('a', 'b'):
        root = Path(shutil.copytree(begun/'baseline', tmp_path/name, symlinks=True))
        ar(root, 'ar-search', '--trials', '2', '--seed', '5', '--sampler', 'random')
        made.append([r[4] for r in rows(root)])
    assert made[0] == made[1] and len(set(made[0])) == 3

def test_time_runs_out(lab):
    "With time for two experiments at the pace of the baseline, it ends by itself and in time"
    t0 = time.time()
    ar(lab, 'ar-run', '-m', 'baseline')
    t1 = time.time()
    r = ar(lab, 'ar-search', '--hours', str(2.5*(t1-t0)/3600))
    n = len(rows(lab))-1
    assert (time.time()-t1 < 2.5*(t1-t0) + 60 and 1 <= n <= 8
        and f'{search.plural(n, "trial")}:' in r.stdout), r.stdout

def add_check(root, source):
    nb = json.loads((root/'canvas.ipynb').read_text())
    at = [c['id'] for c in nb['cells']].index('hparams')+1
    nb['cells'].insert(at, dict(cell_type='code', id='hparams-check', metadata={}, outputs=[],
        execution_count=None, source=source))
    (root/'canvas.ipynb').write_text(json.dumps(nb, indent=1))

@pytest.mark.parametrize('source,says', [
    ('assert DEGREE > 1', 'fails its own check in hparams-check: DEGREE > 1'),
    ('assert DEGREE ===', 'hparams-check, line 1: '),
    ('assert profile.nope', "hparams-check, line 1: 'Profile' object has no attribute 'nope'")])
def test_checks_come_before_the_baseline(lab, source, says):
    add_check(lab, source)
    commit(lab)
    r = ar(lab, 'ar-search', '--trials', '1', ok=False)
    assert (r.returncode == 1 and says in r.stderr and 'Traceback' not in r.stderr
        and rows(lab) == []), r.stderr

def test_a_line_that_cannot_be_edited_is_named_first(lab):
    edit(lab, 'STEPS = 300 ', 'STEPS = (300) ')
    commit(lab)
    r = ar(lab, 'ar-search', '--trials', '1', ok=False)
    assert (r.returncode == 1
        and 'hparams, line 3: write it as one line, STEPS = VALUE' in r.stderr
        and 'Traceback' not in r.stderr)

def canvas_of(*lines):
    return dict(cells=[dict(cell_type='code', id='hparams', source='\n'.join(lines))])

def test_every_constant_has_its_turn(lab):
    "Whole numbers of a narrow range, at an end of their range, and however the line is spaced"
    nb,tried = canvas_of('DEPTH=3 # [1 .. 3]', 'A = 0.0  # [0 .. 1.0]', "B = 'S' # ['S', 'L']",
        'C = 8  # [1 .. 64 log]'), []
    for _ in range(5):
        change,_ = search.propose(nb, profile(lab), tried, 'tpe', 7)
        tried.append(search.Tried(
            dict(DEPTH='3', A='0.0', B="'S'", C='8') | change, 1., len(tried)))
    for name,start in dict(DEPTH='3', A='0.0', B="'S'", C='8').items():
        assert any(t.values[name] != start for t in tried), name

def test_the_same_value_in_other_words_is_no_proposal(lab):
    nb = canvas_of('A = 0  # [0 .. 0.02]', 'B = 2**2 # [3 .. 5]')
    seen = [search.propose(nb, profile(lab), [], 'random', seed)[0] for seed in range(60)]
    assert not [c for c in seen if c.get('A') == '0.0' or c.get('B') == '4']

def test_values_reckoned_from_others_are_checked_anew(lab):
    nb = canvas_of('A = 2 # [1 .. 9]', 'B = 10*A')
    nb['cells'].append(dict(cell_type='code', id='hparams-check', source='assert B <= 50'))
    changes = [search.propose(nb, profile(lab), [], 'random', seed) for seed in range(30)]
    assert max(int(c['A']) for c,_ in changes) <= 5 and sum(n for _,n in changes)

def test_digits_of_a_person(lab):
    c = search.read_constants(canvas_of('A = 300 # [100 .. 600]', 'B = 12 # [8 .. 4096 log]',
        'C = 10**-3 # [1e-4 .. 1e-2 log]'), profile(lab))
    assert [search.written(c['A'], 437), search.written(c['B'], 1234), search.written(c['B'], 37),
        search.written(c['C'], .00123)] == ['440', '1200', '37', '0.0012']

@pytest.mark.slow
def test_history_goes_on_after_a_crashed_baseline_and_commits_by_hand(lab):
    edit(lab, 'budget = Budget(profile)', '1/0')
    commit(lab, 'broken')
    run(lab, 'baseline')
    edit(lab, '1/0', 'budget = Budget(profile)')
    run(lab, 'mended')
    edit(lab, 'coefs = [c - RATE*', 'coefs = [c - 1.*RATE*')
    commit(lab, 'by hand')
    edit(lab, 'DEGREE = 1 ', 'DEGREE = 3 ')
    run(lab, 'on top of it')
    edit(lab, '[1 .. 7]', '[3 .. 7]') # the range of today, in which the first rows lie no longer
    edit(lab, 'DEGREE = 3 ', 'DEGREE = 4 ')
    run(lab, 'four')
    tried = search.history(session(lab))
    assert [(t.number, t.known) for t in tried] == [(0, False), (1, True), (2, True), (3, True)]
    study,_ = search.make_study(search.read_constants(lab/'canvas.ipynb', profile(lab)), tried,
        'lower', 'tpe', 0)
    assert ['DEGREE' in t.params for t in study.trials] == [False, True, True]

def test_other_numbers_are_another_search(measured):
    lab = measured
    proc = begin(lab, '--trials', '5')
    until(lambda: len(rows(lab)) == 2)
    proc.kill()
    proc.wait()
    r = ar(lab, 'ar-search', '--trials', '1')
    assert ('going on' not in r.stdout and '\n1 trial:' in r.stdout
        and len({b.split('/')[0] for b in all_by(lab) if b}) == 2)

def test_edit_and_branch_of_others_in_between(measured):
    "What changes between the search's edit and its run is neither run nor lost"
    s = session(measured)
    state = search.opened(s, dict(trials=1, hours=0., sampler='tpe', seed=0))
    with search.locked(s.p): assert search.prepare_trial(s, state, [])[0]
    edit(measured, '# of the polynomial', '# my thought')
    mine = (measured/'canvas.ipynb').read_bytes()
    code = ('import sys; from autoresearch.ratchet import _supervisor; '
        f"sys.exit(_supervisor('x', 'ab', 'search/1', '{TAG} {state['edit']}'))")
    assert sh(measured, BIN/'python', '-c', code, ok=False).returncode == 3
    assert len(rows(measured)) == 1
    r = ar(measured, 'ar-search', '--trials', '1', ok=False)
    assert r.returncode == 1 and 'has an edit that is not committed' in r.stderr
    assert (measured/'canvas.ipynb').read_bytes() == mine

def test_background(lab):
    r = ar(lab, 'ar-search', '--trials', '2', '--background')
    assert f'runs/{TAG}/search.log' in r.stdout and 'ar-stop ends it' in r.stdout
    log = lab/'runs'/TAG/'search.log'
    until(lambda: '2 trials:' in log.read_text())
    assert len(rows(lab)) == 3 and log.read_text().count('min left') == 3
    ar(lab, 'ar-search', '--trials', '50', '--background')
    until(lambda: len(rows(lab)) > 4)
    assert 'a search is at work' in ar(lab, 'ar-status').stdout
    assert ('the search has ended' in ar(lab, 'ar-stop').stdout
        and 'goes on from here' in log.read_text())
    assert ('a search is at work' not in ar(lab, 'ar-status').stdout
        and ar(lab, 'ar-stop', ok=False).returncode == 1)
    assert sound(lab) == ''

def test_stopped_before_its_experiment_has_begun(lab):
    "ar-stop while a supervisor has the lock and no more yet: the search ends, not the run alone"
    p = profile(lab)
    ar(lab, 'ar-search', '--trials', '50', '--background')
    def caught():
        h = lock_holder(p)
        if 'token' not in h or (pid := h['pid']) in seen: return 0
        seen.add(pid)
        os.kill(pid, signal.SIGSTOP)
        if (not (lab/'runs'/TAG/'journal.json').exists()
                and lock_holder(p).get('pid') == pid):
            return pid
        os.kill(pid, signal.SIGCONT)
        return 0
    seen = set()
    pid = until(caught, every=.002)
    stop = subprocess.Popen([BIN/'ar-stop'], cwd=lab, env=environ(), stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, text=True)
    time.sleep(1)
    os.kill(pid, signal.SIGCONT)
    said = stop.communicate(timeout=PATIENCE)[0]
    assert stop.returncode == 0 and 'the search has ended' in said, said
    assert ('goes on from here' in (lab/'runs'/TAG/'search.log').read_text()
        and not lock_holder(p) and sound(lab) == '')

def test_run_folders_past_999(measured):
    d = next((measured/'runs'/TAG).glob('001-*'))
    d.rename(d.with_name(d.name.replace('001-', '999-')))
    refs = git(measured, 'for-each-ref', f'refs/autoresearch/{TAG}')
    for sha,_,name in (l.split() for l in refs.splitlines()):
        if name.endswith('/001'):
            sh(measured, 'bash', '-c',
                f'git update-ref {name[:-3]}999 {sha} && git update-ref -d {name}')
    edit(measured, 'DEGREE = 1 ', 'DEGREE = 2 ')
    run(measured, 'the thousandth')
    assert ([d.name.split('-')[0] for d in session(measured).run_dirs()] == ['999', '1000']
        and f'refs/autoresearch/{TAG}/1000' in git(measured, 'show-ref'))
    assert 'output of 1000-' in ar(measured, 'ar-log').stdout

def test_an_edit_while_the_history_is_read_is_not_swallowed(measured, monkeypatch):
    s = session(measured)
    state = search.opened(s, dict(trials=1, hours=0., sampler='tpe', seed=0))
    before = search.propose
    def slow(*args):
        edit(measured, '# of the polynomial', '# my thought')
        return before(*args)
    monkeypatch.setattr(search, 'propose', slow)
    with pytest.raises(search.Refused, match='not committed'):
        with search.locked(s.p): search.prepare_trial(s, state, search.history(s))
    assert ('# my thought' in (measured/'canvas.ipynb').read_text()
        and git(measured, 'diff', '--stat').count('canvas.ipynb') == 1)

def test_names_that_end_alike_and_equal_values(tmp_path):
    nb = canvas_of('LR = 0.04  # [0.01 .. 0.1 log]', 'MATRIX_LR = 0.04  # [0.01 .. 0.1 log]')
    nb['cells'][0].update(metadata={}, outputs=[], execution_count=None)
    f = tmp_path/'c.ipynb'
    f.write_text(json.dumps(nb | dict(metadata={}, nbformat=4, nbformat_minor=5)))
    search.apply(f, search.read_constants(f, get_profile('tiny')), dict(LR='0.05'))
    assert search.sources(f)['hparams'].split('\n') == [
        'LR = 0.05  # [0.01 .. 0.1 log]', 'MATRIX_LR = 0.04  # [0.01 .. 0.1 log]']

def test_rows_of_code_are_no_evidence_about_constants(lab):
    nb = canvas_of('A = 2 # [1 .. 9]', 'B = 0.5 # [0.1 .. 0.9]', "C = 'x' # ['x', 'y']")
    code = [search.Tried(dict(A='2', B='0.5', C="'x'"), 1.-i/999, i, code=f'{i}')
        for i in range(120)]
    constants = search.read_constants(nb, profile(lab))
    assert len(search.make_study(constants, code, 'lower', 'tpe', 0)[0].trials) == 1
    turns = {n for seed in range(20)
        for n in search.propose(nb, profile(lab), code, 'tpe', seed)[0]}
    assert turns == {'A', 'B', 'C'}

def test_what_was_tried_under_other_code_may_be_tried_again(lab):
    nb = canvas_of('A = 2 # [1 .. 3]')
    tried = [search.Tried(dict(A=v), 1., i, code='other') for i,v in enumerate('123')]
    assert search.propose(nb, profile(lab), tried, 'tpe', 0)[0]
    own = search.skeleton(nb, profile(lab), search.read_constants(nb, profile(lab)))
    with pytest.raises(search.Exhausted, match='500 proposals'):
        search.propose(nb, profile(lab),
            [search.Tried(t.values, 1., t.number, code=own) for t in tried], 'tpe', 0)

def test_choices_in_other_words(lab):
    constants = search.read_constants(
        canvas_of("A = 2**11 # [2**10, 2**11]", "B = 'SL' # ['SL', 'L']"), profile(lab))
    study,_ = search.make_study(constants, [search.Tried(dict(A='2048', B='"L"'), 1., 0)],
        'lower', 'tpe', 0)
    assert study.trials[0].params == dict(A='2**11', B="'L'")

def test_a_check_that_cannot_be_evaluated_rules_out(lab):
    nb = canvas_of('A = 2 # [0 .. 3]')
    nb['cells'].append(dict(cell_type='code', id='hparams-check', source='assert 60 % A == 0'))
    assert {search.propose(nb, profile(lab), [], 'random', seed)[0]['A']
        for seed in range(30)} == {'1', '3'}

@pytest.mark.parametrize('line,says', [
    ('A: int = 1 # [1 .. 3]', 'line 1: a range ends the comment'),
    ('A = 1 # [1 .. 3] see above', 'line 1: a range ends'),
    ('a = 1 # [1 .. 3]', 'NAME in capitals'), ('A = 1.0 # [0 .. 1e400]', 'finite numbers')])
def test_no_range_is_ignored(lab, line, says):
    with pytest.raises(search.SearchError, match=says):
        search.read_constants(canvas_of(line), profile(lab))

def test_huge_numbers_and_other_statements(lab):
    assert 'A' not in search.read_constants(canvas_of('A = (10.0**64)**64'), profile(lab))
    nb = canvas_of('A = 2 # [0 .. 3]')
    nb['cells'].append(dict(cell_type='code', id='hparams-check', source='if A > 0: assert A < 3'))
    with pytest.raises(search.SearchError, match='only assertions'):
        search.searchable(nb, profile(lab))

def test_outputs_in_the_commit(tmp_path):
    "An executed canvas: the search's own edit is known again, whatever is stripped from it"
    root = example(tmp_path/'repo', time_budget=8)
    nb = json.loads((root/'canvas.ipynb').read_text())
    next(c for c in nb['cells'] if c['id'] == 'hparams')['outputs'] = [
        dict(output_type='stream', name='stdout', text=['seen\n'])]
    (root/'canvas.ipynb').write_text(json.dumps(nb, indent=1)
        .replace('STEPS = 300 ', 'STEPS = 9**9 ').replace('at most [100 .. 600]', 'at most'))
    commit(root)
    setup(root)
    proc = begin(root, '--trials', '3')
    until(lambda: lock_holder(profile(root)).get('token')
        and (root/'runs'/TAG/'journal.json').exists())
    proc.send_signal(signal.SIGINT)
    out = proc.communicate(timeout=PATIENCE)[0]
    assert proc.returncode == 130 and 'not committed' not in out and sound(root) == '', out

def test_hours_that_are_none(measured):
    for hours in ('inf', 'nan'):
        assert 'say how long' in ar(measured, 'ar-search', '--hours', hours, ok=False).stderr
    assert 'none fits' in ar(measured, 'ar-search', '--hours', '0.00001').stdout

@pytest.mark.slow
def test_a_mended_baseline(tmp_path):
    lab = example(tmp_path/'repo')
    edit(lab, 'budget = Budget(profile)', '1/0')
    commit(lab, 'broken')
    setup(lab)
    assert 'the baseline crashed' in ar(lab, 'ar-search', '--trials', '1', ok=False).stderr
    edit(lab, '1/0', 'budget = Budget(profile)')
    commit(lab, 'mended')
    assert '\n1 trial:' in ar(lab, 'ar-search', '--trials', '1').stdout

@pytest.mark.slow
def test_a_break_committed_by_hand_is_a_crash_and_goes_back(lab):
    "Before the baseline too: branch and canvas are the base's, the commit has its reference"
    base = (lab/'canvas.ipynb').read_bytes()
    edit(lab, 'budget = Budget(profile)', '1/0')
    commit(lab, 'broken')
    assert 'the baseline crashed' in ar(lab, 'ar-search', '--trials', '1', ok=False).stderr
    assert (lab/'canvas.ipynb').read_bytes() == base and sound(lab) == ''
    assert '1/0' in git(lab, 'show', f'refs/autoresearch/{TAG}/001:canvas.ipynb')
    assert '\n1 trial:' in ar(lab, 'ar-search', '--trials', '1').stdout
    assert [r[3] for r in rows(lab)][:2] == ['crash', 'keep']

def test_background_refuses_what_would_end_it(measured):
    edit(measured, '# of the polynomial', '# my thought')
    r = ar(measured, 'ar-search', '--trials', '1', '--background', ok=False)
    assert (r.returncode == 1 and 'not committed' in r.stderr
        and not (measured/'runs'/TAG/'search.log').exists())
    ar(measured, 'ar-drop')
    ar(measured, 'ar-search', '--trials', '1', '--backgr') # argparse takes abbreviations
    log = measured/'runs'/TAG/'search.log'
    until(lambda: '1 trial:' in log.read_text())
    assert 'searching in the background' not in log.read_text() and len(rows(measured)) == 2

def test_a_broken_notebook_is_called_one(lab):
    (lab/'canvas.ipynb').write_text((lab/'canvas.ipynb').read_text()[:200])
    r = ar(lab, 'ar-search', '--trials', '1', ok=False)
    assert r.returncode == 1 and 'is no readable notebook' in r.stderr and 'ar-drop' in r.stderr

def near(nb, p, tried, seed=0, **more): return search.propose(nb, p, tried, 'local', seed, **more)[0]

def test_local_takes_small_steps_of_one_or_two(lab):
    nb = canvas_of('A = 0.04 # [0.01 .. 0.16 log]', 'B = 0.2 # [0.0 .. 0.6]', 'C = 5 # [1 .. 9]',
        "D = 'x' # ['w', 'x', 'y', 'z']")
    p = profile(lab)
    constants = search.read_constants(nb, p)
    own = search.skeleton(nb, p, constants)
    start = search.Tried(dict(A='0.04', B='0.2', C='5', D="'x'"), 1., 0, code=own)
    for seed in range(20):
        change = near(nb, p, [start], seed)
        assert 1 <= len(change) <= 2 and near(nb, p, [start], seed) == change
        for n,t in change.items():
            c = constants[n]
            moved = abs(search.place(c, t) - search.place(c, c.text))
            assert moved < .5 or search.levels(c) == 4, (n, t)

def test_local_learns_from_how_much_worse_a_try_was(lab):
    "Far worse closes a direction, within the noise of the judge it does not"
    nb = canvas_of('A = 5 # [1 .. 9]')
    p = profile(lab)
    own = search.skeleton(nb, p, search.read_constants(nb, p))
    def tried(up, down):
        return [search.Tried(dict(A=t), v, i, code=own)
            for i,(t,v) in enumerate((('5', 1.), ('6', up), ('4', down)))]
    assert int(near(nb, p, tried(2., 1.01), sigma=.01)['A']) < 4
    assert int(near(nb, p, tried(1.01, 2.), sigma=.01)['A']) > 6
    closed = [search.Tried(dict(A='5'), 1., 0, code=own),
        search.Tried(dict(A='6'), None, 1, code=own, cut=True)]
    assert int(near(nb, p, closed, sigma=.01)['A']) < 5
    crashed = [closed[0], search.Tried(dict(A='4'), None, 1, code=own)]
    assert int(near(nb, p, crashed, sigma=.01)['A']) > 5

def test_local_goes_on_until_all_was_tried(lab):
    nb = canvas_of('A = 2 # [1 .. 3]', "B = 'x' # ['x', 'y']")
    p = profile(lab)
    own = search.skeleton(nb, p, search.read_constants(nb, p))
    tried = [search.Tried(dict(A='2', B="'x'"), 1., 0, code=own)]
    while len(tried) < 6:
        change = near(nb, p, tried)
        tried.append(search.Tried({**tried[0].values, **change}, 1.+len(tried)/9, len(tried),
            code=own))
    assert len({tuple(t.values.items()) for t in tried}) == 6
    with pytest.raises(search.Exhausted, match='proposals in a row'): near(nb, p, tried)

def test_local_takes_higher_for_better_and_checks(lab):
    nb = canvas_of('A = 5 # [1 .. 9]')
    nb['cells'].append(dict(cell_type='code', id='hparams-check', source='assert A != 6'))
    p = profile(lab)
    p = type(p)(**{'name': p.name, 'values': {k: v for k,v in vars(p).items() if k != 'name'}
        | dict(direction='higher')})
    own = search.skeleton(nb, p, search.read_constants(nb, p))
    tried = [search.Tried(dict(A='5'), 1., 0, code=own), search.Tried(dict(A='4'), 9., 1, code=own)]
    assert int(near(nb, p, tried, sigma=.01)['A']) < 4
    assert all(near(nb, p, tried[:1], seed).get('A') != '6' for seed in range(10))

def test_ideas_that_fit_come_first(lab):
    nb = canvas_of('A = 0.04 # [0.01 .. 0.16 log]', 'B = 2 # [1 .. 9]', 'C = 0.1 # [0.0 .. 1.0]')
    p = profile(lab)
    hints = [search.Hint(dict(A='0.4'), 4.), search.Hint(dict(D='1'), 4.),
        search.Hint(dict(C='0.9'), 3.), search.Hint(dict(C='0.1'), 4.)]
    assert near(nb, p, [], hints=hints) == dict(C='0.9') # the others don't fit or are there

@pytest.mark.parametrize('told', [{'class': 'early'}, dict(screened='1 CPU core')])
def test_what_was_cut_early_is_no_value(searched, monkeypatch, told):
    "Nor what was only looked at on another machine"
    s = session(searched)
    notes = [dict(n, **told) if i else n for i,n in enumerate(s.experiments())]
    monkeypatch.setattr(type(s), 'experiments', lambda self: notes)
    tried = search.history(s)
    assert [(t.value is None, t.cut) for t in tried] == [(False, False), (True, True)]

def test_the_unfinished_search_of_an_older_version_goes_on(measured):
    "Its sampler was tpe, which nobody had to name"
    state = dict(name='search-abc123', open=True, spent=1., edit='',
        asked=dict(trials=1, hours=0., sampler='tpe', seed=0))
    (measured/'runs'/TAG/'search.json').write_text(json.dumps(state))
    s = session(measured)
    asked = search.asked_for(1, 0., '', 0, False)
    assert search.with_sampler(s, asked, False) == state['asked']
    assert search.with_sampler(s, asked, True)['sampler'] == 'local'
    assert search.with_sampler(s, {**asked, 'trials': 2}, False)['sampler'] == 'local'
    strange = {**state, 'asked': {**state['asked'], 'sampler': 'grid'}}
    (measured/'runs'/TAG/'search.json').write_text(json.dumps(strange))
    assert search.with_sampler(s, asked, False)['sampler'] == 'local'

def test_json(measured):
    "One object on stdout, progress on stderr; a refusal too"
    schema = pytest.importorskip('jsonschema')
    r = ar(measured, 'ar-search', '--trials', '1', '--json', '--no-examine')
    said = json.loads(r.stdout)
    schema.validate(said, search.SHAPES['ar-search'])
    assert said['done'] == 1 and said['state'] == 'ended' and '1/1  ' in r.stderr
    assert read_json(measured/'runs'/TAG/'search.json')['asked']['examine'] is False
    r = ar(measured, 'ar-search', '--json', ok=False)
    assert r.returncode == 1 and json.loads(r.stdout)['code'] == 1
    assert 'say how long' in json.loads(r.stdout)['error']
