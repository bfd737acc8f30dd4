"The audit's records as the ratchet leaves them, damaged ones too, and a final score that is one"
import json, math, threading, time
from pathlib import Path
from types import SimpleNamespace
import numpy as np, pytest
from autoresearch import audit, examine, prepare
from autoresearch.audit import (Gap, audit_of, audit_records, audit_told, final_score, gap_since,
    is_finished, plot_audit, released, stored_final)
from autoresearch.judge import compare_rows
from autoresearch.repo import Refused
import lab
from test_examine import tiny, trained # a model that is a table, and its folder

ROWS = 40
PAIRS = [[i//2] for i in range(ROWS)] # two rows of each document
def rows_of(value, seed=0):
    "Rows that come to about this value, as they are stored"
    noise = np.random.default_rng(seed).normal(0, .001, ROWS)
    return np.stack([(value + noise)*math.log(2)*1000, np.full(ROWS, 1000.)], 1)

def keep(s, n, validation, other, seed=None):
    "A keep's folder and its audit, as the ratchet writes them"
    run_dir = s.dir/f'{n:03d}-{n:07x}'
    run_dir.mkdir(parents=True)
    np.save(run_dir/'row_nats.npy', rows_of(validation, n).astype(np.float32))
    (s.dir/'audit').mkdir(exist_ok=True)
    rows = rows_of(other, 100+n if seed is None else seed)
    np.save(s.dir/f'audit/{n:03d}-rows.npy', rows)
    record = dict(commit=f'{n:07x}', number=n, value=other, error=.002, rows=ROWS, which='audit')
    (s.dir/f'audit/{n:03d}.json').write_text(json.dumps(record))
    return run_dir

@pytest.fixture
def s(tmp_path, monkeypatch):
    "A session without git: its folder is all that is read"
    monkeypatch.setattr(prepare, 'row_documents', lambda p, which='val': PAIRS)
    folder = tmp_path/'runs/nov1'
    def run_dirs(): return sorted(folder.glob('[0-9]*-*'))
    return SimpleNamespace(dir=folder, tag='nov1', run_dirs=run_dirs, p=SimpleNamespace(
        name='tiny', source='embedded', audit_shard=-1, last_shard=3, val_shard=3, final_shard=2))

def test_gains_are_paired_and_the_gap_is_their_difference(s):
    for n,v,a in ((1, .9, .95), (3, .88, .94), (12, .86, .945), (101, .84, .93)): keep(s, n, v, a)
    gaps,left = audit_of(s)
    assert [g.n for g in gaps] == [1, 3, 12, 101] and not left
    ends = [rows_of(v, n).astype(np.float32) for v,n in ((.9, 1), (.84, 101))]
    val = compare_rows(*ends, PAIRS)
    aud = compare_rows(rows_of(.95, 101), rows_of(.93, 201), PAIRS)
    last = gaps[-1]
    assert last.validation == pytest.approx(val.gain) and last.error == pytest.approx(aud.error)
    assert last.low < last.gap < last.high and last.high < 0
    assert last.gap == pytest.approx(last.audit - last.validation)
    assert 'of the validation text alone' in audit_told(gaps)[-1]
    assert plot_audit(gaps)._repr_png_() and plot_audit(gaps, dark=True)._repr_png_()

def test_what_is_shown_goes_in_steps_and_only_up():
    gaps = [Gap(n, .001*n, gain, .004, gain-.001*n, gain-.001*n-.01, gain-.001*n+.01)
        for n,gain in enumerate([0., .0031, .0051, .0049, -.02, .0101])]
    shown = released(gaps)
    assert [g.audit for g in shown] == [0., 0., .004, .004, .004, .012]
    for a,b in zip(gaps, shown):
        assert b.gap == pytest.approx(b.audit - b.validation), 'no other figure gives it away'
        assert b.high - b.low == pytest.approx(a.high - a.low)

def test_the_audit_of_a_model_that_gained_on_both(s):
    for n,v in ((1, .9), (2, .88)): keep(s, n, v, v+.05)
    gaps,_ = audit_of(s)
    assert gaps[1].low <= 0 <= gaps[1].high and 'no sign' in audit_told(gaps, ROWS)[-1]

@pytest.mark.parametrize('spoil', [lambda d, a: (d/'row_nats.npy').unlink(),
    lambda d, a: (d/'row_nats.npy').rename(d.parent/'x') and d.rmdir(),
    lambda d, a: a.write_bytes(b'\x93NUMPY'), lambda d, a: a.unlink(),
    lambda d, a: np.save(a, np.full((ROWS, 2), math.nan)),
    lambda d, a: np.save(a, np.array(['x'], dtype=object), allow_pickle=True),
    lambda d, a: np.save(a, rows_of(.9)[:-1])],
    ids=['no rows', 'no folder', 'damaged', 'no audit rows', 'nan', 'pickled', 'other rows'])
def test_a_keep_that_cannot_be_read_is_left_out(s, spoil):
    keep(s, 1, .9, .95)
    run_dir = keep(s, 2, .88, .93)
    keep(s, 3, .87, .92)
    spoil(run_dir, s.dir/'audit/002-rows.npy')
    gaps,left = audit_of(s)
    assert [g.n for g in gaps] == [1, 3] and len(left) == 1
    assert left[0].startswith('experiment 2 left out: ')

def test_records_of_any_kind(s):
    keep(s, 1, .9, .95)
    for i,text in enumerate(['[]', '{}', '{"commit": 5, "number": 1, "value": 1}', '{"val', '\x00',
            '{"commit": "a", "number": "1", "value": 1}', '{"commit": "a", "number": 7}'], 10):
        (s.dir/f'audit/{i:03d}.json').write_text(text)
    (s.dir/'audit/note.json').write_text('{"commit": "a", "number": 7, "value": 1}')
    assert [o['number'] for o in audit_records(s)] == [1]
    with pytest.raises(Refused, match=r'1 keep of 1 has its rows.*make another keep \(ar-run\)'):
        audit_of(s)

def test_without_an_audit_it_says_why(s):
    with pytest.raises(Refused, match='no keep of this session was scored.*audit_shard = -1.*'
            'name one in settings.ini before the next session begins'):
        audit_of(s)

def test_rows_whose_documents_nobody_knows_stand_alone(s, monkeypatch):
    def unknown(p, which='val'): raise prepare.DataError('gone')
    for n,v in ((1, .9), (2, .88)): keep(s, n, v, v+.05)
    known = audit_of(s)[0][1]
    monkeypatch.setattr(prepare, 'row_documents', unknown)
    assert audit_of(s)[0][1].error != known.error
    monkeypatch.setattr(prepare, 'row_documents', lambda p, which='val': [[0]]) # of other rows
    assert audit_of(s)[0][1].error != known.error

# the final shard

@pytest.fixture
def final(s, monkeypatch):
    "Two keeps, the weights of the last one, and an examiner that counts how often it was asked"
    notes = [dict(status='keep', dir=f'{n:03d}-{n:07x}', commit=f'{n:07x}'*5, seed=n)
        for n in (1, 4)]
    s.experiments = lambda: [*notes, dict(status='discard', dir='005-0000005', commit='0000005')]
    s.dir.mkdir(parents=True)
    weights = examine.kept_weights(s.dir/notes[1]['dir'])
    weights.parent.mkdir(parents=True)
    weights.write_bytes(b'x')
    s.asked,s.fails,s.weights = [], '', weights
    def score(code, run_dir, p, seed, which, to, **more):
        if s.fails: raise RuntimeError(s.fails)
        s.asked.append((Path(run_dir).name, seed, which))
        time.sleep(.3)
        to.parent.mkdir(exist_ok=True)
        np.save(to, rows_of(.97).astype(np.float32))
        return dict(value=.97, seconds=2.)
    class Copy:
        def __enter__(self): return s.dir/'examining'
        def __exit__(self, *args): pass
    monkeypatch.setattr(examine, 'score', score)
    for name,o in dict(commit_copy=lambda *o: Copy(), exported_module=lambda s: 'm.py',
            views=lambda *o: {}).items(): monkeypatch.setattr(audit, name, o)
    return s

def test_the_final_shard_is_scored_once(final):
    found = []
    def ask(): found.append(final_score(final))
    threads = [threading.Thread(target=ask) for _ in range(3)]
    for t in threads: t.start()
    for t in threads: t.join()
    assert final.asked == [('004-0000004', 4, 'final')], 'by the last keep, under its seed'
    assert found[0] == found[1] == found[2] == stored_final(final) == final_score(final)
    assert (found[0]['value'], found[0]['number'], found[0]['rows']) == (.97, 4, ROWS)
    off = rows_of(.97)[:, 0]/1000/math.log(2)
    pairs = (off - off.mean()).reshape(-1, 2).sum(1) # the rows of a document are no two votes
    spread = math.sqrt((pairs**2).sum()*len(pairs)/(len(pairs)-1))/ROWS
    assert found[0]['error'] == pytest.approx(spread, rel=1e-3)
    assert len(final.asked) == 1

def test_an_attempt_without_a_value_may_be_made_again(final):
    final.fails = 'no final: the shard is not there: ar-prepare'
    with pytest.raises(Refused, match='ar-prepare'): final_score(final)
    final.fails = ''
    final.weights.rename(final.dir/'away')
    with pytest.raises(Refused, match='of 2 keeps no weights are left in .*kept'):
        final_score(final)
    assert stored_final(final) == {} and not final.asked
    (final.dir/'away').rename(final.weights)
    assert final_score(final)['value'] == .97

@pytest.mark.parametrize('text', ['', '[]', '{"value": "x"}', '{"value": 1}', '{"value": NaN}'])
def test_a_final_file_of_any_kind(s, text):
    s.dir.mkdir(parents=True)
    (s.dir/'final.json').write_text(text)
    assert stored_final(s) == {}

@pytest.mark.parametrize('current,finish,runs,ended', [('nov1', False, False, False),
    ('nov1', True, False, True), ('nov2', False, True, True), ('nov1', True, True, None)])
def test_what_ended_means(s, monkeypatch, current, finish, runs, ended):
    monkeypatch.setattr(audit, 'current_tag', lambda p: current)
    monkeypatch.setattr(audit, 'experiment_runs', lambda p: runs)
    if ended is not None: assert is_finished(s, finish) == ended
    else:
        with pytest.raises(Refused, match='ar-wait for its end, then ar-report --finish'):
            is_finished(s, finish)

def test_the_command_refuses_with_a_way_out(tmp_path):
    root = lab.example(tmp_path/'repo')
    assert 'ar-setup' in lab.ar(root, 'ar-audit', ok=False).stderr
    lab.setup(root)
    r = lab.ar(root, 'ar-audit', ok=False)
    assert r.returncode == 1 and 'Traceback' not in r.stderr
    assert 'no keep of this session was scored' in r.stderr and 'has no text' in r.stderr
    r = lab.ar(root, 'ar-audit', 'none', ok=False)
    assert f"no session 'none' here; there are: {lab.TAG}" in r.stderr and r.returncode == 1

def test_by_the_examiner_itself(tiny, tmp_path, monkeypatch):
    "No piece made up but git: weights that were kept, the shard, the examiner's processes"
    code,run_dir,_ = trained(tmp_path, tiny)
    examine.keep_weights(run_dir)
    examine.drop_weights(run_dir)
    note = dict(status='keep', dir=run_dir.name, commit='abc'*13, seed=1, walls='none')
    session = SimpleNamespace(dir=run_dir.parent, p=tiny, experiments=lambda: [note])
    class Copy:
        def __enter__(self): return code
        def __exit__(self, *args): pass
    monkeypatch.setattr(audit, 'commit_copy', lambda *o: Copy())
    monkeypatch.setattr(audit, 'exported_module', lambda s: 'train.py')
    found = final_score(session)
    rows = np.load(session.dir/'audit/final-rows.npy')
    assert found['value'] == pytest.approx(prepare.rows_value(rows), rel=1e-9)
    assert found['rows'] == len(rows) and 0 < found['error'] < found['value']
    assert final_score(session) == found == stored_final(session)
