"""What the runner holds against a run: its turns in the runner's own time, what a verdict stands on as
it was before the run, and what a dead supervisor had heard."""
import shutil
import pytest
from autoresearch import ratchet
from autoresearch.contract import get_profile, write_json
from autoresearch.run import busy_gpu, read_json
from lab import BIN, TAG, ar, edit, git, rows, sh, sound
from test_faults import best, goes_on
from test_ratchet import (EDITS, copied, die, ended, forked, lab, recover, replay, said,
    supervised)
from test_run import reporting, run_cells

LOOP = 'while not b.done: b.progress; b.step()'
HALF = ('import time; t = time.perf_counter(); read = b.read\n'
    'def slow(**kw): return t + (time.perf_counter()-t)/2, read(**kw)[1]\nb.read = slow\n')

@pytest.mark.parametrize('during, reason', [
    (HALF + LOOP, "the run's clock counted"),
    ('import os; os.unlink(RUN_DIR + "/marks")\n' + LOOP, 'not told of the mark begin_evaluation'),
    ('b.free_steps = 10**6\n' + LOOP.replace('b.done', 'b.num_steps > 99 or b.done')
        + '\nb.free_steps = p.free_steps; b.t_free = b.t_last', 'when the free steps ended'),
    (LOOP + '\nbegin_evaluation(); end_evaluation("val_bpb", 1., ""); b.step()',
        'training went on after an evaluation'),
    (LOOP + '\nbegin_evaluation()', 'the evaluation was begun 2 times')])
def test_a_run_against_the_runners_time(tmp_path, during, reason):
    res = run_cells(tmp_path, 'RUN_DIR = __import__("os").environ["AUTORESEARCH_RUN_DIR"]',
        reporting(during=during), time_budget=4, clock='wall')
    assert res.status == 'untrusted' and reason in res.reason, res

def test_an_honest_run_is_heard_and_leaves_no_pipe(tmp_path):
    res = run_cells(tmp_path, reporting(), time_budget=1, clock='wall')
    assert res.ok, res
    names = [m['mark'] for m in res.marks]
    assert names == ['start', 'free', 'training_ended', 'begin_evaluation', 'end_evaluation']
    assert 0 < res.phases['before']['seconds'] < res.seconds
    assert not any((res.run_dir/o).exists() for o in ('marks', 'validation'))

def test_a_flood_of_marks_is_bounded(tmp_path):
    flood = ('import autoresearch.contract as c\n'
        'for i in range(3000): c.mark("batch", i=i)\n')
    res = run_cells(tmp_path, reporting(during=flood + LOOP), time_budget=1, clock='wall')
    assert res.status == 'untrusted' and len(res.marks) <= 200, res

GPU = dict(clock=dict(counts='wall', num_steps=110, free_seconds=30., wall_seconds=330.,
    cpu_seconds=400., threads=1), baseline=dict(warmup=dict(gpu=2.)))

@pytest.mark.parametrize('free, before, counts, refused', [(5., 0., 'wall', False),
    (44.5, 0., 'wall', True), (43., 0., 'wall', False), (44.5, 6., 'wall', False),
    (44.5, 0., 'cpu', False), (None, 0., 'wall', False)])
def test_free_steps_are_held_to_the_gpus_seconds(free, before, counts, refused):
    "Ten free steps, a hundred of 3 s later: 30 s of the GPU are theirs; twice 2 s and 10 s more"
    p = get_profile('climbmix')
    phases = dict(before=dict(seconds=10., gpu=before), free=dict(gpu=free),
        training=dict(gpu=None if free is None else free+300.))
    clock = dict(GPU['clock'], counts=counts)
    why = busy_gpu(clock, p, dict(phases=phases), GPU['baseline'])
    assert bool(why) == refused, why
    if refused: assert '14.5 s longer than as many later ones' in why and 'accepted: 14.0' in why
    assert not busy_gpu(clock, p, dict(phases=phases), {}), 'the baseline is held to nothing'

def test_what_the_baseline_grants_is_told_to_the_run(tmp_path):
    "A warm-up that the baseline took is free, and what goes beyond twice of it is charged"
    slow = 'import time\nfor i in range(9): b.step()\nu = time.process_time()\n'
    slow += 'while time.process_time()-u < 3: pass\nb.step()\n'
    res = run_cells(tmp_path, reporting(during=slow + LOOP), time_budget=4, clock='cpu',
        held=dict(baseline=dict(warmup=dict(seconds=.2))))
    assert res.ok and res.record['clock']['beyond_seconds'] > 2, res.record
    assert 2.5 < res.phases['warmup']['seconds'] < 4, res.phases

# What a verdict stands on

def changed_under(root, lab, change, kind='discard'):
    "A run while which `change` happens to the session; the answer"
    edit(root, *EDITS[kind])
    def call():
        def run_experiment(*args, **named):
            change()
            return replay(lab/f'run-{kind}')(*args, **named)
        ratchet.run_experiment = run_experiment
        return ratchet._supervisor('an idea', 'word')
    assert ended(forked(root, call, root.parent/'log')) == 0, (root.parent/'log').read_text()
    return '\n'.join(said(root))

def test_what_a_verdict_stands_on_is_put_back(lab, tmp_path):
    "Notes, state, references and a forged experiment, all made to lower the bar"
    root = copied(lab, tmp_path)
    own,folder = f'refs/autoresearch/{TAG}', root/'runs'/TAG
    notes = next(folder.glob('001-*/experiment.json'))
    was = {f: f.read_bytes() for f in (notes, folder/'state.json')}
    tip,old = git(root, 'rev-parse', f'{own}/tip'), best(root)
    def change():
        write_json(notes, {**read_json(notes), 'value': 9.})
        write_json(folder/'state.json', {**read_json(folder/'state.json'), 'base': tip})
        blob = git(root, 'hash-object', '-w', 'settings.ini')
        git(root, 'update-ref', f'{own}/state', blob)
        git(root, 'update-ref', '-d', f'{own}/base')
        git(root, 'update-ref', f'{own}/007', tip)
        shutil.copytree(notes.parent, folder/'007-abcdef0')
    answer = changed_under(root, lab, change)
    assert answer.startswith('status:   discard') and f'best before: {old:.6f}' in answer, answer
    assert 'changed while the experiment ran, and put back: ' in answer
    assert all(f.read_bytes() == data for f,data in was.items())
    assert git(root, 'rev-parse', f'{own}/base') == git(root, 'rev-parse', 'main')
    assert not git(root, 'for-each-ref', f'{own}/007') and list(folder.glob('foreign-*-007-abcdef0'))
    assert len(rows(root)) == 2 and sound(root) == ''
    goes_on(root, lab)

def test_a_base_commit_is_a_reference_too(lab, tmp_path):
    root = copied(lab, tmp_path, 'done-keep')
    git(root, 'update-ref', f'refs/autoresearch/{TAG}/base', 'HEAD')
    r = ar(root, 'ar-status', ok=False)
    assert r.returncode == 1 and 'names the base commit' in r.stderr, r
    command = r.stderr.strip().rpartition('Begin anew: ')[2]
    assert sh(root, 'bash', '-c', command.replace('ar-', f'{BIN}/ar-', 1)).returncode == 0

def test_a_session_without_pins_goes_on_and_says_so(lab, tmp_path):
    root = copied(lab, tmp_path, 'done-keep')
    state = root/f'runs/{TAG}/state.json'
    write_json(state, {k: v for k,v in read_json(state).items() if k != 'pins'})
    for ref in ('state', 'base'): git(root, 'update-ref', '-d', f'refs/autoresearch/{TAG}/{ref}')
    assert 'was begun by an older version' in goes_on(root, lab)

# A supervisor that died

@pytest.mark.parametrize('heard', [True, False])
def test_a_record_counts_only_with_what_was_heard(lab, tmp_path, heard):
    "Killed when its run had just ended: a row where the turns are known, else taken back"
    root = copied(lab, tmp_path, 'tree-discard')
    points = (lab/'points-discard').read_text().split('\n')
    at = points.index('committed: after rename to record.json')
    assert ended(forked(root, supervised(lab/'run-discard', at), tmp_path/'log')) == -9
    if not heard: (root/'runs'/TAG/'heard.json').unlink()
    recover(root, tmp_path/'log')
    assert len(rows(root)) == 1 + heard and sound(root) == ('' if heard else 'M canvas.ipynb')

def test_walls_that_nobody_knows(lab, tmp_path):
    root = copied(lab, tmp_path)
    edit(root, *EDITS['keep'])
    r = ar(root, 'ar-run', '-m', 'x', '--walls', 'high', ok=False)
    assert r.returncode == 1 and 'accepted: auto, require, none' in r.stderr and len(rows(root)) == 1

# Examined before it is kept; the examiner's answer is replayed, as the run is

def examined(lab, found, weights=True, kind='keep', call=None):
    "A supervisor, or `call`, whose run would be examined with the answer `found`; None: it dies"
    def examination(s, run):
        if found is None: die()
        value = ratchet.run_result(s, run).value
        return dict(dict(ok=True, value=value, reason='', seconds=1., facts={}), **found)
    def forked_call():
        ratchet.run_experiment = replay(lab/f'run-{kind}')
        ratchet.not_examined = lambda s, examine=True: '' if examine else 'by --no-examine'
        ratchet.examination,ratchet.has_weights = examination, lambda s, j: weights
        ratchet.check_bare_model = lambda s, j, commit: None # the example has no model
        ratchet.new_weights,ratchet.drop_weights_of = lambda run_dir: '', lambda s, j: None
        return call() if call else ratchet._supervisor('an idea', 'word')
    return forked_call

@pytest.mark.parametrize('found, status, kind', [
    ({}, 'keep', 'keep'), (dict(value=.2), 'keep', 'keep'), (dict(value=9.), 'discard', 'keep'),
    (dict(ok=False, value=None, reason='it looks ahead'), 'crash', 'keep'),
    (dict(value=0.), 'discard', 'discard')])
def test_the_examiners_value_counts(lab, tmp_path, found, status, kind):
    "A gain that is none for the examiner is discarded; what would be discarded is not examined"
    root = copied(lab, tmp_path)
    edit(root, *EDITS[kind])
    log = tmp_path/'log'
    assert ended(forked(root, examined(lab, found, kind=kind), log)) == 0, log.read_text()
    n = read_json(sorted((root/'runs'/TAG).glob('002-*'))[0]/'experiment.json')
    assert n['status'] == status == rows(root)[-1][3], said(root)
    said_of = {'keep': 'yes', 'crash': 'refused', 'discard': 'yes'}[status]
    assert n['examined'] == ('no' if kind == 'discard' else said_of)
    if kind == 'keep' and status != 'crash':
        assert n['value'] == found.get('value', n['block']['rmse'])
        assert rows(root)[-1][1] == f"{n['value']:.6f}"
    if status == 'crash':
        assert n['class'] == 'untrusted' and 'it looks ahead' in said(root)[1], said(root)
    sound(root)
    ar(root, 'ar-drop')
    goes_on(root, lab)

@pytest.mark.parametrize('weights', [True, False])
def test_killed_while_it_was_examined(lab, tmp_path, weights):
    "Examined again as long as its weights are there, else taken back"
    root = copied(lab, tmp_path)
    edit(root, *EDITS['keep'])
    log = tmp_path/'log'
    assert ended(forked(root, examined(lab, None), log)) == -9, log.read_text()
    j = read_json(root/'runs'/TAG/'journal.json')
    assert j['step'] == 'ran' and j['examining'] and 'examined' not in j
    status = lambda: ratchet.ar_status(profile='polynomial')
    assert ended(forked(root, examined(lab, {}, weights, call=status), log)) == 0, log.read_text()
    assert len(rows(root)) == 1 + weights and sound(root) == ('' if weights else 'M canvas.ipynb')
    if weights: assert rows(root)[-1][3] == 'keep'
    else: assert git(root, 'rev-parse', 'HEAD') == git(root, 'rev-parse', 'main')

def test_a_canvas_without_a_bare_model_is_refused_before_its_run(lab, tmp_path):
    "Nothing runs and no row is made; the edit stays where it was"
    root = copied(lab, tmp_path)
    edit(root, *EDITS['keep'])
    def call():
        ratchet.not_examined = lambda s, examine=True: ''
        check = ratchet.check_bare_model
        def of_evaluator(*args):
            ratchet.exported_module = lambda s: 'evaluator.py' # a file of the commit that has none
            return check(*args)
        ratchet.check_bare_model = of_evaluator
        return ratchet._supervisor('an idea', 'word')
    assert ended(forked(root, call, tmp_path/'log')) == 1
    assert 'exports no function bare_model() into evaluator.py' in '\n'.join(said(root)), said(root)
    assert len(rows(root)) == 1 and sound(root) == 'M canvas.ipynb'
    assert not list((root/'runs'/TAG).glob('002-*'))
