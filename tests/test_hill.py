"""Over the hill: the example with a valley, crossed by the real commands; what came close put
together, keeps taken out again, a clean series."""
import json, os, re, shutil, signal, subprocess
import jsonschema, pytest
import lab
from autoresearch import ledger
from autoresearch.contract import get_profile
from autoresearch.dashboard import TRACES, Dashboard
from autoresearch.hill import SHAPES
from autoresearch.new import new_project
from autoresearch.repo import read_lock_owner
from autoresearch.run import read_json

def told(root, command, *args, ok=True):
    "An answer in JSON, by its shape, and nothing beside it on standard output"
    r = lab.ar(root, command, *args, '--json', ok=ok)
    o = json.loads(r.stdout)
    if ok: jsonschema.validate(o, SHAPES[command])
    else: assert r.returncode == o['code'] == 1 and o['error'] and set(o) == {'error', 'code'}
    return o

def edit(root, old, new): lab.edit(root, old, new)
def head(root): return lab.git(root, 'rev-parse', 'HEAD')
def value(root, message):
    "What a run came to, None for a crash"
    lab.run(root, message)
    row = lab.rows_as_tried(root)[-1]
    return None if row[3] == 'crash' else float(row[1]), row[3]

def refused(root, command, *args):
    r = lab.ar(root, command, *args, ok=False)
    assert r.returncode == 1 and 'Traceback' not in r.stderr and not r.stdout, r
    return r.stderr

STEPS = [('RATE = 1.3', 'RATE = 0.4'), ('ONLINE = False', 'ONLINE = True'),
    ('DEGREE = 3', 'DEGREE = 5')]

@pytest.fixture(scope='module')
def greedy(tmp_path_factory):
    "The baseline and three single edits, of which none is kept"
    root = new_project(tmp_path_factory.mktemp('hill')/'valley', 'valley')
    edit_settings(root)
    lab.setup(root)
    assert value(root, 'baseline')[1] == 'keep'
    found = []
    for old,new in (*STEPS[:2], ('DEGREE = 3', 'DEGREE = 4')):
        edit(root, old, new)
        found.append(value(root, new))
        if found[-1][1] == 'crash': lab.ar(root, 'ar-drop')
    return root, found

def edit_settings(root):
    f = root/'settings.ini'
    f.write_text(f.read_text().replace('clock = wall', 'clock = cpu').replace(
        'wall_limit = 20', 'wall_limit = 200'))
    lab.commit(root)

@pytest.fixture
def copy(greedy, tmp_path): return shutil.copytree(greedy[0], tmp_path/'valley', symlinks=True)

def test_a_greedy_session_stays(greedy):
    root,found = greedy
    best = float(lab.rows(root)[0][1])
    assert [o for _,o in found] == ['discard', 'crash', 'discard']
    assert all(v is None or v > best for v,_ in found)
    assert lab.git(root, 'rev-list', '--count', f'{lab.git(root, "rev-parse", "main")}..HEAD') == '0'
    assert lab.sound(root) == ''

def test_combine(copy):
    canvas = copy/'canvas.ipynb'
    before = canvas.read_bytes()
    o = told(copy, 'ar-combine', '2', f'{lab.TAG}/3', '2')
    assert [(t['session'], t['number']) for t in o['combined']] == [(lab.TAG, 2), (lab.TAG, 3)]
    assert o['onto'] == head(copy) and o['message'].startswith('002 and 003 together: ')
    assert '+RATE = 0.4' in o['diff'] and '+ONLINE = True' in o['diff'] and not o['ran']
    text = canvas.read_text()
    assert 'RATE = 0.4 ' in text and 'ONLINE = True ' in text
    said = refused(copy, 'ar-combine', '4')
    assert 'ar-drop' in said and 'ar-run' in said and canvas.read_text() == text, 'no edit is lost'
    assert 'was not run' not in told(copy, 'ar-combine', '4', ok=False)['error']
    other = lab.git(copy, 'stash', 'create') # a commit that no session tried
    lab.ar(copy, 'ar-drop')
    assert canvas.read_bytes() == before
    assert told(copy, 'ar-combine', other[:9])['combined'][0]['number'] == 0
    assert canvas.read_text() == text
    lab.ar(copy, 'ar-drop')
    r = lab.ar(copy, 'ar-combine', '3')
    assert "--again -m '003 again: ONLINE = True'" in r.stdout and 'experiment 003 ran' in r.stdout
    lab.ar(copy, 'ar-drop')

def test_a_clash_changes_nothing(copy):
    edit(copy, 'RATE = 1.3', 'RATE = 0.9')
    other = lab.git(copy, 'stash', 'create')
    lab.ar(copy, 'ar-drop')
    before = (copy/'canvas.ipynb').read_bytes()
    said = refused(copy, 'ar-combine', '2', other)
    assert f'hparams: {other[:7]}: both change `RATE = ' in said and 'nothing was changed' in said
    assert (copy/'canvas.ipynb').read_bytes() == before
    for key in ('99', 'ab', 'no/1', '../x/1', '0000000000'): refused(copy, 'ar-combine', key)
    assert 'nothing but its base' in refused(copy, 'ar-finish') and 'main' in lab.git(copy, 'branch')
    assert 'no keep but its baseline' in refused(copy, 'ar-ablate')

@pytest.fixture(scope='module')
def crossed(greedy, tmp_path_factory):
    "A keep that helps at first, then the way across the valley, joined as one step; calibrated"
    root = shutil.copytree(greedy[0], tmp_path_factory.mktemp('crossed')/'valley', symlinks=True)
    edit(root, r'budget = Budget(profile)\n', r'budget = Budget(profile)\n",' '\n    "coefs[1] = 2.\\n')
    assert value(root, 'begin at a slope')[1] == 'keep'
    best = head(root)
    lab.ar(root, 'ar-expedition', 'start', '--steps', '3', '--why', 'a rate for single points')
    walked = []
    for i,(old,new) in enumerate(STEPS):
        if i == 1: # onto the line's last step
            assert told(root, 'ar-combine', '3')['onto'] == head(root) != best
            assert 'expedition' in refused(root, 'ar-ablate')
        else: edit(root, old, new)
        walked.append(value(root, new))
    lab.ar(root, 'ar-expedition', 'finish')
    lab.ar(root, 'ar-calibrate', '-n', '3')
    return root, best, walked

def test_an_expedition_crosses(crossed):
    root,best,walked = crossed
    bar = float(lab.rows(root)[4][1])
    assert [o for _,o in walked] == ['discard']*3
    assert walked[0][0] > bar > walked[1][0] > walked[2][0], 'worse before better'
    row = lab.rows(root)[-1]
    assert row[3] == 'keep' and float(row[1]) < bar/3
    assert lab.git(root, 'rev-parse', 'HEAD^') == best and lab.sound(root) == ''

@pytest.fixture(scope='module')
def ablated(crossed):
    "Killed in its first run, command and supervisor, then typed again: (root, answer, rows before)"
    root = crossed[0]
    rows = len(lab.rows(root))
    proc = subprocess.Popen([lab.BIN/'ar-ablate', '--json'], cwd=root, env=lab.environ(),
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    lab.until(lambda: read_json(root/f'runs/{lab.TAG}/journal.json').get('step') == 'committed')
    os.kill(read_lock_owner(root/'runs/.lock')['pid'], signal.SIGKILL)
    proc.kill()
    proc.communicate()
    return root, lab.ar(root, 'ar-ablate'), rows

def test_ablate_survives_a_kill(ablated):
    root,r,rows = ablated
    assert 'ablation 1 of ' in r.stderr and 'Traceback' not in r.stderr
    assert re.search(r'^005 begin at a slope: no effect within the noise, .* without it', r.stdout, re.M)
    assert re.search(r'^009 .*: needed', r.stdout, re.M) and 'without effect: 005\n' in r.stdout
    assert 'next:     ar-ablate --apply' in r.stdout and lab.sound(root) == ''
    assert head(root) == lab.git(root, 'rev-parse', f'refs/autoresearch/{lab.TAG}/tip')
    made = [n for f in sorted((root/f'runs/{lab.TAG}').glob('0*/experiment.json'))
        if (n := read_json(f)).get('side')]
    assert {n['class'] for n in made if n['status'] != 'interrupted'} == {'ablation'}
    assert {n['side']['best'] for n in made} == {head(root)}
    assert len(lab.rows(root)) == rows + len([n for n in made if n['status'] != 'interrupted'])

def test_ablate_runs_nothing_twice(ablated):
    root = ablated[0]
    rows = lab.rows(root)
    o = told(root, 'ar-ablate')
    assert o['made'] == 0 and lab.rows(root) == rows
    assert [(k['number'], k['verdict']) for k in o['keeps']] == [(5, 'barnacle'), (9, 'needed')]
    one,two = o['keeps']
    assert one['lines'] == 1 and abs(one['effect']) <= one['least'] and two['effect'] > two['least']
    assert [k['number'] for k in told(root, 'ar-ablate', '--only', '9')['keeps']] == [9]
    assert '005, 009' in refused(root, 'ar-ablate', '--only', '1')
    assert 'accepted are 1 to 64' in refused(root, 'ar-ablate', '--runs', '0')

def test_an_edit_is_nobody_elses(crossed, tmp_path):
    root = shutil.copytree(crossed[0], tmp_path/'valley', symlinks=True)
    edit(root, 'RATE = 0.4', 'RATE = 0.5')
    text = (root/'canvas.ipynb').read_text()
    for args in (['ar-ablate'], ['ar-ablate', '--apply']):
        assert 'has an edit' in refused(root, *args) and (root/'canvas.ipynb').read_text() == text

@pytest.mark.parametrize('name,said', [('main', 'ar-finish main-2'), ('a b', 'no name of a branch'),
    ('autoresearch/x', 'are sessions'), ('main/x', 'in the way'), ('@{-1}', 'no name'),
    ('HEAD', 'no name')])
def test_finish_takes_no_name_that_is_taken(crossed, name, said):
    root = crossed[0]
    before = lab.git(root, 'for-each-ref')
    assert said in refused(root, 'ar-finish', name) and lab.git(root, 'for-each-ref') == before

def test_finish(ablated, tmp_path):
    root = shutil.copytree(ablated[0], tmp_path/'valley', symlinks=True)
    edit(root, 'RATE = 0.4', 'RATE = 0.5') # an edit waits
    (root/'new.txt').write_text('mine')
    lab.git(root, 'add', 'new.txt')
    state = lambda: (lab.git(root, 'status', '--porcelain'), lab.git(root, 'symbolic-ref', 'HEAD'),
        head(root), (root/'canvas.ipynb').read_bytes(), lab.git(root, 'diff', '--cached'))
    before = state()
    o = told(root, 'ar-finish')
    assert state() == before and o['branch'] == f'{lab.TAG}-series'
    base = lab.git(root, 'rev-parse', 'main')
    log = lab.git(root, 'log', '--reverse', '--format=%s', f'{base}..{o["head"]}').splitlines()
    assert log == ['begin at a slope', lab.rows(root)[8][4], f'Report and ledger of session {lab.TAG}']
    assert [c['experiment'] for c in o['commits']] == [5, 9]
    changed = lab.git(root, 'diff', '--name-only', base, o['head']).splitlines()
    assert changed == ['canvas.ipynb', *sorted(o['files'])]
    folder = f'sessions/{lab.TAG}/'
    assert {f'{folder}report.md', f'{folder}results.tsv'} < set(o['files'])
    assert all(f.startswith(folder) for f in o['files'])
    assert sum(f.endswith('.png') for f in o['files'])
    at = lambda rev,name: lab.sh(root, 'git', 'show', f'{rev}:{name}').stdout
    assert at(o['head'], 'canvas.ipynb') == at('HEAD', 'canvas.ipynb')
    assert at(o['head'], f'{folder}results.tsv') == (root/'results.tsv').read_text()
    body = lab.git(root, 'log', '-1', '--format=%b', o['commits'][1]['commit'])
    assert 'expedition: 1' in body and f'experiment: {lab.TAG}/009, {head(root)}' in body
    assert re.search(r'^rmse: 0\.\d{6}, -0\.\d{6} against 0\.\d{6}$', body, re.M)
    said = at(o['head'], f'{folder}report.md')
    assert '## Expeditions' in said and 'a rate for single points' in said
    assert 'kept as experiment 9' in said and '## What the keeps are worth today' in said
    assert 'no effect within the noise' in said and '| ablation | 1 | with a value' in said
    assert f'ar-finish {lab.TAG}-series-2' in refused(root, 'ar-finish')
    short = told(root, 'ar-finish', 'short', '--no-report')
    assert short['files'] == [f'{folder}results.tsv'] and state() == before

def test_barnacles_come_off_as_one_edit(ablated, tmp_path):
    root = shutil.copytree(ablated[0], tmp_path/'valley', symlinks=True)
    o = told(root, 'ar-ablate', '--apply')
    assert o['lines'] == 1 and o['message'] == 'without 005' and '-coefs[1] = 2.' in o['diff']
    r = lab.run(root, o['message'], '--simpler')
    assert 'status:   keep' in r.stdout and '1 line fewer' in r.stdout
    found = told(root, 'ar-ablate')['keeps']
    assert [(k['number'], k['verdict']) for k in found if k['number'] == 5] == [(5, 'kept in')]
    assert 'nothing of it is left' in found[0]['why']

def test_below_ground(ablated):
    "The page draws the expedition's line beside the staircase; nobody's try is counted twice"
    root = ablated[0]
    d = Dashboard(get_profile('valley', root/'settings.ini'))
    assert not d.error.value and not d.stopped
    trace = lambda name: d.fig.data[TRACES.index(name)]
    assert list(trace('expedition').x) == [6, 7, 8] and list(trace('ablation').x) == [10]
    assert list(trace('line').x) == [5, 6, 7, 8, 9, None] and 9 in trace('keep').x
    values = [float(r[1]) for r in lab.rows(root)]
    assert trace('line').y[2] == pytest.approx(values[6]) and trace('line').y[4] == trace('keep').y[-1]
    assert d.feed.f.counts == dict(keep=3, discard=2, crash=1, expedition=3, ablation=1)
    assert '3 on expeditions, 1 to look' in d.tiles.value
    o = json.loads(lab.ar(root, 'ar-frontier', '--json').stdout)
    jsonschema.validate(o, ledger.SHAPES['ar-frontier'])
    assert o['expeditions'] == [dict(number=1, kept=9, steps=[6, 7, 8])]
