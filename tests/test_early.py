"The replay of early stop, on curves that real runs on `tiny` left, and on a session's folders"
import json, subprocess, sys
from pathlib import Path
import pytest
from autoresearch.run import read_json
from autoresearch.contract import write_json

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT/'bench'))
import early

RECORDED = ROOT/'bench/sessions/early.json'

def test_no_keep_of_the_recorded_runs_is_cut():
    told = early.replay(early.read(RECORDED))
    s = early.summary(told)
    assert s['keeps'] >= 1 and s['keeps_cut'] == 0
    assert s['cut'] >= 1 and s['saved'] > 0 and s['after'] > s['before'] > 0
    assert {o['apart'] for o in told if o['status'] == 'discard'} == {False, True}
    assert all(o['at'] == 1 for o in told if o['apart'])

def test_a_winner_by_name_of_a_loser_is_told():
    "The replay finds a lost keep where there is one: the worst of the recorded runs, called a keep"
    runs = early.read(RECORDED)
    cut = [o['name'] for o in early.replay(runs) if o['at'] < 1]
    renamed = [dict(o, status='keep') if o['name'] == cut[-1] else o for o in runs]
    assert early.summary(early.replay(renamed))['keeps_cut'] == 1

def file(loss, n=100):
    rows = [[i, i/10, 3 - i/n + loss, i/n, [.1, .9]] for i in range(1, n+1)]
    return dict(columns='step seconds loss fraction schedule'.split(), curve=rows)

def experiment(folder, status, commit, loss, outcome='ok'):
    write_json(folder/'progress.json', file(loss))
    block = dict(val_bpb=1.5, training_seconds=20.)
    write_json(folder/'experiment.json', {'commit': commit*7, 'status': status, 'class': outcome,
        'seconds': 36., 'started': 1., 'time': 2., 'block': block})

@pytest.fixture
def session(tmp_path):
    experiment(tmp_path/'001-aaaaaaa', 'keep', 'a', 0.)
    for i,loss in enumerate((.002, -.001, .001), 2):
        experiment(tmp_path/f'00{i}-aaaaaaa', 'repeat', 'a', loss)
    experiment(tmp_path/'005-bbbbbbb', 'discard', 'b', .5)
    experiment(tmp_path/'006-ccccccc', 'crash', 'c', .5, 'error')
    experiment(tmp_path/'007-ddddddd', 'keep', 'd', -.2)
    write_json(tmp_path/'007-ddddddd/more/02/progress.json', file(-.201))
    write_json(tmp_path/'007-ddddddd/more/03/progress.json', file(.0005))
    notes = read_json(tmp_path/'007-ddddddd/experiment.json')
    write_json(tmp_path/'007-ddddddd/experiment.json',
        notes | dict(best_runs=[dict(dir='007-ddddddd/more/03')]))
    experiment(tmp_path/'008-eeeeeee', 'discard', 'e', 0.)
    return tmp_path

def test_a_session_is_replayed_as_it_came(session):
    runs = early.read(session)
    assert [(o['commit'], o['status']) for o in runs] == [('aaaaaaa', 'keep'),
        *[('aaaaaaa', 'repeat')]*3, ('bbbbbbb', 'discard'), ('ddddddd', 'keep'),
        ('ddddddd', 'repeat'), ('aaaaaaa', 'repeat'), ('eeeeeee', 'discard')]
    told = early.replay(runs)
    assert [(o['name'], o['at']) for o in told] == [('001-aaaaaaa', 1), ('005-bbbbbbb', .25),
        ('007-ddddddd', 1), ('008-eeeeeee', .25)], 'the last beside a newer best'
    s = early.summary(told)
    assert (s['keeps'], s['keeps_cut'], s['cut'], s['saved']) == (2, 0, 2, 30/80)
    assert (s['before'], s['after']) == (100, pytest.approx(4*3600/(144-30)))

def test_what_is_recorded_is_replayed_alike(session, tmp_path):
    run = lambda *args: subprocess.run([sys.executable, ROOT/'bench/early.py', *args],
        capture_output=True, text=True, timeout=120)
    first = run(session, '--save', tmp_path/'saved.json')
    assert first.returncode == 0 and 'of 2 keeps cut' in first.stdout, first.stderr
    again = run(tmp_path/'saved.json')
    assert again.stdout.replace('saved.json', session.name).splitlines()[:4] == (
        first.stdout.splitlines()[:4])

def test_a_session_without_curves_has_nothing_to_cut(session):
    for f in session.glob('*/progress.json'): f.unlink()
    told = early.replay(early.read(session))
    assert all(o['at'] == 1 for o in told) and early.summary(told)['saved'] == 0
