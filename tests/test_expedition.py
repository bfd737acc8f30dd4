"""Expeditions and side runs: a line that stays on the branch whatever it scores, tried as one edit in
the end; killed at any point of it, moved by hand, its state damaged. On the torch-free example, most of
it by runs whose values are given."""
import json, random, shutil, tempfile
from pathlib import Path
import pytest
from autoresearch import ratchet
from autoresearch.contract import write_json
from autoresearch.run import read_json
from lab import TAG, ar, commit, edit, git, rows, sound
from test_confirm import notes, valued
from test_ratchet import (ALL, die, dies, ended, forked, in_parallel, instrument, lab) # noqa: F401

OWN = f'refs/autoresearch/{TAG}'
SLOW,CUBIC = ('RATE = 0.5 ', 'RATE = 0.001 '), ('DEGREE = 1 ', 'DEGREE = 3 ')
BACK = SLOW[1], SLOW[0]

def valley(seed, text):
    "Worse with the low rate, better with the cubic"
    return .3 + .1*(SLOW[1] in text) - .05*(CUBIC[1] in text)

def supervised(folder, ask=None, at=None, record=None, message='an idea', value=valley):
    "What a forked supervisor does: a run with a given value; it dies at point `at`"
    def call():
        random.seed(at)
        points = []
        def hit(label, half):
            points.append(label)
            if at == len(points)-1: (half or die)()
        ratchet.run_experiment = valued(folder, value)
        if at is not None or record: instrument(hit)
        code = ratchet._supervisor(message, 'word', ask=json.dumps(ask or {}))
        if record: record.write_text('\n'.join(points))
        return code
    return call

def go(root, lab, ask=None, code=0, **named): # noqa: F811
    log = root.parent/'log'
    log.write_text('')
    got = ended(forked(root, supervised(lab/'run-baseline', ask, **named), log))
    said = '\n'.join(read_json(root/'runs/answers/word.json').get('lines', []))
    assert got == code, (got, said, log.read_text())
    return said

def join(root, lab, **named): return go(root, lab, dict(kind='join'), message='', **named) # noqa: F811
def expedition(root, *args, ok=True): return ar(root, 'ar-expedition', *args, ok=ok)
def state(root, k=1): return read_json(root/f'runs/{TAG}/expeditions/{k}.json')
def rev(root, name): return git(root, 'rev-parse', name)
def first_parents(root):
    return git(root, 'rev-list', '--first-parent', f'{OWN}/base..HEAD').split()

def copy(lab, tmp_path, name): # noqa: F811
    shutil.copytree(lab/f'tree-{name}', tmp_path/'r', symlinks=True)
    return tmp_path/'r'

@pytest.fixture(scope='session')
def walks(lab): # noqa: F811
    """Sessions to go on from: `out`, an expedition begun with an edit in the canvas; `on`, two steps of
    three made, the second better than the best; `far`, all made, the last worse"""
    def tree(name, before):
        return Path(shutil.copytree(lab/f'tree-{before}', lab/f'tree-{name}', symlinks=True))
    root = tree('out', 'baseline')
    go(root, lab)
    edit(root, *SLOW)
    expedition(root, 'start', '--steps', '3', '--why', 'through the valley')
    root = tree('on', 'out')
    go(root, lab)
    for old,new in (BACK, CUBIC): edit(root, old, new)
    go(root, lab)
    root = tree('far', 'on')
    edit(root, *SLOW)
    go(root, lab)
    assert [o['value'] for o in state(lab/'tree-far')['line']] == pytest.approx([.4, .25, .35])
    return lab

def test_a_line_stays_and_is_joined_as_one_step(walks, tmp_path):
    root = copy(walks, tmp_path, 'far')
    e,base = state(root), rev(root, 'main')
    assert e['start'] == base == rev(root, f'{OWN}/tip') and e['state'] == 'under way'
    assert [o['number'] for o in e['line']] == [2, 3, 4] and e['best'] == e['line'][1]['commit']
    assert rev(root, 'HEAD') == e['line'][-1]['commit'] == rev(root, f'{OWN}/expeditions/1')
    assert len(first_parents(root)) == 3
    steps = notes(root)[1:]
    assert {(n['class'], n['status'], n['expedition'], n['best']) for n in steps} == {
        ('expedition', 'discard', 1, .3)}
    assert [r[3] for r in rows(root)] == ['keep', *['discard']*3]
    edit(root, 'STEPS = 300 ', 'STEPS = 200 ')
    assert 'has made its 3 steps: ar-expedition finish' in go(root, walks, code=1)
    assert 'has an edit that is no step' in join(root, walks, code=1)
    ar(root, 'ar-drop')
    assert rev(root, 'HEAD') == e['line'][-1]['commit'], 'an edit is dropped to the last step'
    said = join(root, walks)
    n = notes(root)[-1]
    assert said.startswith('status:   keep') and 'line:     expedition 1 is joined' in said
    assert (n['class'], n['status'], n['expedition'], n['changed']) == ('ok', 'keep', 1, 'DEGREE 1 -> 3')
    assert n['description'] == 'through the valley' == git(root, 'log', '-1', '--format=%s')
    assert first_parents(root) == [n['commit']] == [rev(root, 'HEAD')] and n['parent'] == base
    assert rev(root, 'HEAD^{tree}') == rev(root, f'{e["best"]}^{{tree}}')
    assert rev(root, f'{OWN}/tip') == n['commit'] == state(root)['joined']
    assert state(root)['state'] == 'joined' and state(root)['line'] == e['line']
    assert rev(root, f'{OWN}/expeditions/1') == e['line'][-1]['commit'], 'the whole line stays'
    assert sound(root) == ''

def test_what_waits_until_an_expedition_ends(walks, tmp_path):
    root = copy(walks, tmp_path, 'on')
    edit(root, 'STEPS = 300 ', 'STEPS = 200 ')
    for ask,word in [(dict(simpler=True), '--simpler'), (dict(early=True), '--early-stop'),
            (dict(kind='repeat'), 'a repeat of the best'), (dict(kind='side', label='x'), 'a side run')]:
        said = go(root, walks, ask, code=1)
        assert f'{word} must wait until it ends' in said and 'ar-expedition drop' in said, said
    for command in (['ar-run', '--rewind', 'main'], ['ar-calibrate', '-n', '1'],
            ['ar-expedition', 'start', '--steps', '2']):
        r = ar(root, *command, ok=False)
        assert r.returncode == 1 and 'expedition 1 is under way' in r.stdout+r.stderr, r
    assert len(rows(root)) == 3 and sound(root) == 'M canvas.ipynb'
    bad = expedition(root, 'start', '--steps', '0', ok=False)
    assert bad.returncode == 1
    st = json.loads(ar(root, 'ar-status', '--json').stdout)
    assert st['expedition']['steps'] == 3 and st['bar'] == st['best'] == pytest.approx(.3)
    assert 'better than the best; 1 step left' in ar(root, 'ar-status').stdout
    # a code that ran is a step when that is asked for
    for old,new in [('STEPS = 200 ', 'STEPS = 300 '), (CUBIC[1], CUBIC[0]), SLOW]: edit(root, old, new)
    assert 'this code ran before, as experiment 2' in go(root, walks, code=1)
    go(root, walks, dict(kind='again'))
    n = notes(root)[-1]
    assert n['class'] == 'expedition' and len(state(root)['line']) == 3 and len(n['joined']) == 1

def test_no_gain_no_run(walks, tmp_path):
    "A line without a better step goes back, and so does one that is dropped, with the edit kept"
    root = copy(walks, tmp_path, 'out')
    go(root, walks)
    said = join(root, walks)
    assert 'expedition 1 is left: no step beats the best, 0.300000: 0.400000 came closest' in said
    assert rev(root, 'HEAD') == rev(root, 'main') == rev(root, f'{OWN}/tip') and len(rows(root)) == 2
    assert state(root)['state'] == 'left' and rev(root, f'{OWN}/expeditions/1') == notes(root)[1]['commit']
    assert sound(root) == ''
    assert 'no expedition is under way' in join(root, walks, code=1)
    expedition(root, 'start', '--steps', '1')
    edit(root, *CUBIC)
    go(root, walks)
    edit(root, *SLOW)
    said = expedition(root, 'drop').stdout
    assert 'expedition 2 is left' in said and 'ar-drop --undo brings it back' in said
    kept = max((root/'runs'/TAG).glob('dropped-*.ipynb')).read_text()
    assert SLOW[1] in kept and CUBIC[1] in kept and sound(root) == ''
    assert rev(root, 'HEAD') == rev(root, 'main')
    told = json.loads(expedition(root, '--json').stdout)
    assert [e['state'] for e in told['expeditions']] == ['left', 'left'] and told['under_way'] is None

def test_a_join_that_is_worse_leaves_the_branch(walks, tmp_path):
    "The value of the joined code is another one when it is run again"
    root = copy(walks, tmp_path, 'on')
    said = join(root, walks, value=lambda seed, text: .31)
    assert said.startswith('status:   discard') and 'the line stays as refs/autoresearch' in said
    assert rev(root, 'HEAD') == rev(root, 'main') and sound(root) == ''
    assert state(root)['state'] == 'left' and rows(root)[-1][3] == 'discard'
    assert notes(root)[-1]['class'] == 'ok' and first_parents(root) == []

def test_a_crash_is_no_step(walks, tmp_path):
    root = copy(walks, tmp_path, 'on')
    head = rev(root, 'HEAD')
    edit(root, 'STEPS = 300 ', 'STEPS = 3 ')
    said = go(root, walks, value=lambda seed, text: None)
    assert said.startswith('status:   crash') and 'fix it and ar-run, or ar-drop' in said
    assert rev(root, 'HEAD') == head and len(state(root)['line']) == 2
    assert notes(root)[-1]['class'] == 'error' and sound(root) == 'M canvas.ipynb'

def moved_back(root): git(root, 'reset', '-q', '--hard', 'HEAD~1')
def moved_to_best(root): git(root, 'reset', '-q', '--hard', 'main')
def gone_on_by_hand(root):
    edit(root, 'STEPS = 300 ', 'STEPS = 200 ')
    commit(root)

@pytest.mark.parametrize('move', [moved_back, moved_to_best, gone_on_by_hand])
def test_the_branch_moved_by_hand(walks, tmp_path, move):
    "It is told, put back by what is told, and dropped from anywhere"
    root = copy(walks, tmp_path, 'on')
    end = state(root)['line'][-1]['commit']
    move(root)
    moved = rev(root, 'HEAD')
    said = join(root, walks, code=1)
    if move is gone_on_by_hand:
        assert 'commits by hand' in said and 'ar-run makes one of it' in said
        go(root, walks)
        assert len(state(root)['line']) == 3 and git(root, 'rev-parse', 'HEAD~1') == end
    else:
        assert 'was moved by hand' in said and 'ar-expedition drop' in said, said
        command = f'git reset --soft {end[:7]}'
        assert command in said
        git(root, *command.split()[1:])
        ar(root, 'ar-drop')
        assert len(state(root)['line']) == 2
        git(root, 'reset', '-q', '--hard', moved)
    expedition(root, 'drop')
    assert rev(root, 'HEAD') == rev(root, 'main') and sound(root) == ''
    assert state(root)['state'] == 'left'

@pytest.mark.parametrize('what', ['file', 'refs', 'all', 'odd'])
def test_state_that_is_gone_comes_back(walks, tmp_path, what):
    "From git, from the file, or from notes and branch; missing state is no beginning"
    root = copy(walks, tmp_path, 'on')
    was,path = state(root), root/f'runs/{TAG}/expeditions/1.json'
    if what in ('file', 'all'): path.unlink()
    if what == 'odd': write_json(path, dict(was, state='joined', line=[], steps=99))
    if what in ('refs', 'all'):
        for ref in (f'{OWN}/expeditions/1', f'{OWN}/expedition-state/1'):
            git(root, 'update-ref', '-d', ref)
    if what != 'refs': edit(root, 'STEPS = 300 ', 'STEPS = 200 ')
    said = ar(root, 'ar-status').stdout
    assert 'what is known of expedition 1 was gone or changed, and is back' in said
    if what == 'all': # nothing says how many steps were wanted, or why
        was = dict(was, steps=2, why='')
        assert 'made its 2 steps' in go(root, walks, code=1)
        was.pop('began')
        ar(root, 'ar-drop')
    assert state(root) == was and rev(root, f'{OWN}/expeditions/1') == was['line'][-1]['commit']
    if what in ('refs', 'all'):
        assert join(root, walks).startswith('status:   keep') and len(first_parents(root)) == 1

def test_side_runs(walks, tmp_path):
    "Run and logged, never kept, of a code that ran before too; canvas and branch are at the best after"
    root = tmp_path/'r'
    shutil.copytree(walks/'tree-baseline', root, symlinks=True)
    go(root, walks)
    base = rev(root, 'HEAD')
    ask = dict(kind='side', label='ablation', more=dict(of='abc', without=[1, 2]))
    for k in range(2):
        edit(root, *CUBIC)
        said = go(root, walks, ask)
        n = notes(root)[-1]
        assert (n['status'], n['class'], n['side']) == ('discard', 'ablation', ask['more']), n
        assert n['value'] == pytest.approx(.25) and len(n['joined']) == k
        assert rev(root, 'HEAD') == base == rev(root, f'{OWN}/tip') and sound(root) == ''
        assert 'a side run (ablation): it is never kept' in said and 'is back at' in said
    edit(root, *SLOW)
    said = go(root, walks, ask, value=lambda seed, text: None)
    assert notes(root)[-1]['class'] == 'error' and 'fix it' not in said and sound(root) == ''
    edit(root, *SLOW)
    assert 'one word for what it is made for' in go(root, walks, dict(ask, label='crash '*0), code=1)
    assert len(rows(root)) == 4 and rows(root)[-1][3] == 'crash'
    ar(root, 'ar-drop')
    edit(root, *CUBIC)
    assert go(root, walks).startswith('status:   keep'), 'as an edit it was not judged yet'
    n = notes(root)[-1]
    assert n['kind'] == '' and len(n['joined']) == 2 and n['seed'] == n['joined'][0]['seed']

def test_the_line_of_another_session_is_no_beginning(walks, tmp_path):
    root = copy(walks, tmp_path, 'on')
    r = ar(root, 'ar-setup', 'nov2', ok=False)
    assert r.returncode == 1 and 'expedition 1 of session nov1 is under way' in r.stderr
    git(root, *r.stderr.split('git ')[-1].split())
    ar(root, 'ar-setup', 'nov2')
    assert rev(root, 'HEAD') == rev(root, 'main')

def test_another_machine_in_the_middle(walks, tmp_path):
    "The best is run again, and the line stays where it is"
    root = copy(walks, tmp_path, 'on')
    edit(root, *SLOW)
    def call():
        was = ratchet.fingerprint
        ratchet.fingerprint = lambda: dict(was(), cpu='another one')
        return supervised(walks/'run-baseline')()
    assert ended(forked(root, call, tmp_path/'log')) == 0, (tmp_path/'log').read_text()
    made = notes(root)[-2:]
    assert [n['kind'] for n in made] == ['repeat', 'step'] and made[0]['commit'] == rev(root, 'main')
    assert len(state(root)['line']) == 3 and rev(root, 'HEAD') == made[1]['commit']
    assert sound(root) == ''

# Killed

KILLED = dict(step=('out', {}), join=('far', dict(kind='join')), side=('side', dict(kind='side',
    label='ablation')))
COMMANDS = dict(start=('baseline-run', lambda: ratchet.ar_expedition('start', steps=2)),
    drop=('far', lambda: ratchet.ar_expedition('drop')), back=('hill', None))

@pytest.fixture(scope='session')
def dry(walks):
    "Each of what is killed, once without a kill: the points at which it may be"
    shutil.copytree(walks/'tree-baseline', walks/'tree-baseline-run', symlinks=True)
    go(walks/'tree-baseline-run', walks)
    shutil.copytree(walks/'tree-baseline-run', walks/'tree-side', symlinks=True)
    edit(walks/'tree-side', *CUBIC)
    shutil.copytree(walks/'tree-out', walks/'tree-hill', symlinks=True)
    go(walks/'tree-hill', walks)
    for what in (*KILLED, *COMMANDS):
        tree = {**KILLED, **COMMANDS}[what][0]
        root = walks/f'dry-{what}'
        shutil.copytree(walks/f'tree-{tree}', root, symlinks=True)
        assert ended(forked(root, killed(walks, what, record=walks/f'points-{what}'),
            walks/'log')) == 0, (walks/'log').read_text()
    return walks

def killed(lab, what, **how): # noqa: F811
    "What is killed, for a fork"
    if what in KILLED: return supervised(lab/'run-baseline', KILLED[what][1], **how)
    if what == 'back': return supervised(lab/'run-baseline', dict(kind='join'), message='', **how)
    def call():
        try: COMMANDS[what][1]()
        except SystemExit as e: return e.code if isinstance(e.code, int) else 1
    return dies(call, **how)

def holds(root, what):
    "What must hold after any kill and a recovery; is it over?"
    dirty = sound(root)
    head,best,base = (rev(root, r) for r in ('HEAD', f'{OWN}/tip', 'main'))
    numbers = list((root/f'runs/{TAG}/expeditions').glob('*.json'))
    e = state(root) if numbers else {}
    line = [o['commit'] for o in e.get('line', [])]
    assert e.get('state') in (None, 'under way', 'joined', 'left'), e
    assert head == (line[-1:] or [e['start']])[0] if e.get('state') == 'under way' else head == best
    assert len(first_parents(root)) == (len(line) if e.get('state') == 'under way' else head != base)
    if e: assert rev(root, f'{OWN}/expeditions/1') == (line[-1] if line else e['start'])
    steps = [n for n in notes(root) if n.get('class') == 'expedition']
    assert line == [n['commit'] for n in steps] and len(rows(root)) == len([n for n in notes(root)
        if n.get('status') in ('keep', 'discard', 'crash')])
    if what in ('step', 'side'): # the edit is in the canvas until the run has an outcome
        done = len(rows(root)) == 2
        assert dirty == '' if done else dirty in ('', 'M canvas.ipynb'), dirty
        assert what == 'side' or done or dirty
        return done
    assert dirty == '', dirty
    return e.get('state') == dict(join='joined', start='under way').get(what, 'left')

def kill_once(job):
    "One kill, recovered, and typed again; (point, fault)"
    lab,what,at = job # noqa: F811
    points = (lab/f'points-{what}').read_text().split('\n')
    root = Path(tempfile.mkdtemp(dir=lab))/'r'
    log = root.parent/'log'
    try:
        shutil.copytree(lab/f'tree-{ {**KILLED, **COMMANDS}[what][0]}', root, symlinks=True)
        assert ended(forked(root, killed(lab, what, at=at), log)) == -9, log.read_text()
        if at % 3: # else recovered by the next
            assert ended(forked(root, lambda: ratchet.ar_status(profile='polynomial'), log)) == 0, (
                log.read_text())
            over = holds(root, what)
        else: over = None
        if what == 'side' and over is False and not git(root, 'status', '--porcelain'):
            edit(root, *CUBIC)
        if not over:
            code = ended(forked(root, killed(lab, what), log))
            # a start, or a join, that recovery has finished is refused the second time
            assert code in ((0,) if over is False else (0, 1)), (code, log.read_text())
        assert holds(root, what) or what == 'side', state(root)
        shutil.rmtree(root.parent)
        return points[at], None
    except BaseException as e:
        return points[at], f'{root}: killed {points[at]}, {what}: {type(e).__name__}: {e}'

# a few of the kills to `make test`, many to `make test-all`
@pytest.mark.parametrize('most', [3, pytest.param(60, marks=pytest.mark.slow)])
def test_kills(dry, most):
    "At calls that change anything or ask git, before, within and after"
    jobs = []
    for what in (*KILLED, *COMMANDS):
        points = (dry/f'points-{what}').read_text().split('\n')
        some = range(len(points))
        if not ALL: some = sorted(random.Random(f'{what} {most}').sample(some, min(most, len(some))))
        jobs += [(dry, what, at) for at in some]
    faults = [f for _,f in in_parallel(kill_once, jobs) if f]
    assert not faults, f'{len(faults)} of {len(jobs)}:\n' + '\n'.join(faults[:20])
