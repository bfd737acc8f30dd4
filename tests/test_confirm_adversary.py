"""Ways to get luck kept, each closed. By runs whose values are given, as in `test_confirm`."""
import json, random, re
from statistics import fmean
import pytest
from autoresearch import ratchet
from autoresearch.run import read_json
from lab import TAG, ar, edit, rows
from test_confirm import (CUBIC, RENAMED, drawn, go, luck, notes, status, supervised, # noqa: F401
    tight, tree)
from test_ratchet import ended, forked, lab # noqa: F401

def seeds(root): return read_json(root/f'runs/{TAG}/state.json')['seeds']
def padded(root, line): edit(root, 'DEGREE = 1 ', f'{line}\\nDEGREE = 1 ')

def test_a_seed_of_its_own_is_one_draw_however_often_it_runs(drawn, tmp_path):
    "Kernels sum in another order each time, so runs of a fixed seed differ by a hair"
    root = tree(drawn, tmp_path, 'calibrated')
    def value(seed, text):
        mine = re.search(r'MINE = (\d+)', text)
        return .3 + (luck(int(mine[1])) + 1e-4*luck(seed) if mine else luck(seed))
    for mine in (1000, 1001, 1002): # edits that change nothing but their luck
        padded(root, f'MINE = {mine}')
        go(root, drawn, value=value)
        assert notes(root)[-1]['status'] == 'discard', notes(root)[-1]['reason']

def test_a_crash_under_a_further_seed_loses_no_run(drawn, tmp_path):
    root = tree(drawn, tmp_path)
    third = seeds(root)[2]
    go(root, drawn, value=lambda s, t: None if CUBIC[1] in t and s == third else tight(s, t))
    n = notes(root)[-1]
    assert n['status'] == 'crash'
    assert [r['seed'] for r in n['runs']] == seeds(root)[:2], 'the first was none of the fault'

def test_a_note_that_was_edited_by_hand_decides_nothing(drawn, tmp_path):
    root = tree(drawn, tmp_path, 'calibrated')
    edit(root, *RENAMED)
    bar = status(root)['bar']
    for f in (root/'runs'/TAG).glob('[0-9]*/experiment.json'):
        n = json.loads(f.read_text())
        for r in n['runs']: r['value'] += .05
        f.write_text(json.dumps(n))
    go(root, drawn)
    n = notes(root)[-1]
    assert n['status'] == 'discard' and n['best'] == pytest.approx(bar, abs=.01)

def test_what_was_stopped_spends_its_share(drawn, tmp_path):
    root = tree(drawn, tmp_path, 'calibrated')
    first = seeds(root)[0]
    def value(seed, text):
        if 'Z' in text and seed != first: raise ratchet.Stopped
        return .3 + luck(seed) - .0015*('Z' in text)
    for k in range(2):
        ar(root, 'ar-drop')
        padded(root, f'Z{k} = 0')
        call = supervised(drawn/'run-baseline', value=value)
        assert ended(forked(root, call, tmp_path/'log')) == 130
    numbers = [n['number'] for n in notes(root)[-2:]]
    assert numbers[1] > numbers[0], 'the first was looked at, then stopped'

@pytest.mark.slow
def test_a_run_that_is_stopped_again_and_again_is_told(drawn, tmp_path):
    "A canvas that draws its own luck, stopped whenever its loss shows it to be bad"
    root = tree(drawn, tmp_path, 'calibrated')
    edit(root, *RENAMED)
    drawn_by = random.Random(3)
    def value(seed, text):
        v = .3 + drawn_by.gauss(0, .001)
        if RENAMED[1] in text and v > .2985: raise ratchet.Stopped
        return v
    for _ in range(200):
        drawn_by.seed(random.random())
        code = ended(forked(root, supervised(drawn/'run-baseline', value=value), tmp_path/'log'))
        if code != 130: break
    assert rows(root)[-1][3] != 'keep', f'{len(notes(root))} folders, {len(rows(root))} rows'

def test_a_best_that_does_badly_when_it_is_repeated_lowers_no_bar(drawn, tmp_path):
    "RUN_DIR ends in 03-best, or has the number of a repeat, so a canvas can tell what it is run for"
    root = tree(drawn, tmp_path)
    where = ['']
    def also():
        given = ratchet.run_experiment
        def run_experiment(canvas, run_dir, *args, **named):
            where[0] = str(run_dir)
            return given(canvas, run_dir, *args, **named)
        ratchet.run_experiment = run_experiment
    def sly(seed, text):
        v = .3 + luck(seed) - .004*(CUBIC[1] in text)
        late = int(re.search(r'/(\d{3})-', where[0])[1]) > 6 or '-best' in where[0]
        return v + .02*(CUBIC[1] in text and 'PLAIN' not in text and late)
    go(root, drawn, value=sly, also=also)
    for _ in range(3): go(root, drawn, dict(kind='repeat'), value=sly, also=also)
    first = fmean(r['value'] for r in notes(root)[5]['runs'])
    edit(root, 'STEPS = 300 ', 'PLAIN = 300\\nSTEPS = 300 ')
    go(root, drawn, value=sly, also=also)
    n = notes(root)[-1]
    assert n['status'] == 'discard', (first, n['value'], n['reason'])

def test_a_calibration_that_learns_nothing_says_so(drawn, tmp_path):
    "A baseline that ignores its seed: the way out that `ar-status` names must work"
    root = tmp_path/'r'
    import shutil
    shutil.copytree(drawn/'tree-baseline', root, symlinks=True)
    same = lambda seed, text: .3
    go(root, drawn, value=same)
    for _ in range(3): go(root, drawn, dict(kind='repeat'), value=same)
    assert 'ar-calibrate learns it' not in status(root)['judge']
