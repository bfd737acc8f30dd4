"The ledger under faults: processes at once or killed, full disks, forbidden files, damaged lines"
import fcntl, json, math, os, random, signal, subprocess, sys, time, timeit, warnings
from pathlib import Path
import pytest
from matplotlib.text import Text
from autoresearch.ledger import (any_ledger, Ledger, LedgerError, Row, STATUSES, Seen, Sigma, Step,
    decimals, efforts, experiment_names, figure, frontier, noise_seen, parse_row, place_labels, plot_frontier,
    session_notes, vouch)

HEADER = 'commit\tval_bpb\tmemory_gb\tstatus\tdescription\n'
def row(i, status='keep', desc=None):
    return Row(f'{i:07x}', 1 - i/1e6, 44., status, desc or f'experiment {i}')

def python(code, *args, **kwargs):
    "Start `code` in a process of its own"
    return subprocess.Popen([sys.executable, '-c', code, *map(str, args)], stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, text=True, **kwargs)

def finish(proc):
    out,err = proc.communicate(timeout=200)
    assert proc.returncode == 0, err
    return out

APPEND = '''
import sys
from autoresearch.ledger import Ledger, Row
path,start,n = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
led = Ledger(path)
print('ready', flush=True)
for i in range(start, start+n): \
led.append(Row(f'{i:07x}', 1 - i/1e6, 44., 'keep', f'experiment {i} ' + 'x'*(i*37%900)))
'''

def test_import_is_light():
    out = finish(python('import sys, autoresearch.ledger; print([m for m in '
        '("torch", "pandas", "matplotlib", "numpy") if m in sys.modules])'))
    assert out.strip() == '[]'

WITHOUT = '''
import sys
for name in ('pandas', 'matplotlib', 'numpy', 'torch', 'IPython', 'ipywidgets'): \
sys.modules[name] = None # an import of it fails
from autoresearch.ledger import Label, Ledger, Row, Step, frontier, place_labels, vouch
led = Ledger(sys.argv[1]).create()
led.append(Row('abcdef1', 1., 1., 'keep', 'baseline'))
print(led, led.frontier().summary(), vouch(led.read()[0], []), \
place_labels({Step(1, None, 0.): (10, 10)}, 8, (100, 100)))
try: led.frame()
except ImportError as e: print('no frame:', e)
'''

def test_a_worker_needs_neither_pandas_nor_matplotlib(tmp_path):
    "What a run or a worker does with a ledger works where those are not installed"
    out = finish(python(WITHOUT, tmp_path/'results.tsv'))
    assert (out.startswith('results.tsv: 1 keep') and 'baseline     1.000000' in out
        and 'Label(step=' in out and 'no frame: ' in out)

def test_eight_processes_lose_nothing_and_tear_nothing(tmp_path):
    led = Ledger(tmp_path/'results.tsv')
    procs = [python(APPEND, led.path, 1000*k, 40) for k in range(8)]
    for p in procs: finish(p)
    rows,damaged = led.read()
    assert not damaged and led.path.read_text().count(HEADER) == 1
    assert (sorted(int(r.commit, 16) for r in rows)
        == sorted(1000*k + i for k in range(8) for i in range(40)))
    for r in rows:
        assert r.description.endswith('x'*(int(r.commit, 16)*37%900)), (
            'a description was cut or mixed')
    for k in range(8):
        mine = [i for r in rows if (i := int(r.commit, 16))//1000 == k]
        assert mine == sorted(mine), 'one process appended in order'

def test_sigkill_leaves_whole_rows_or_one_damaged_last_line(tmp_path):
    rng,led,killed = random.Random(1), Ledger(tmp_path/'results.tsv'), 0
    for k in range(8):
        proc = python(APPEND, led.path, 10**6*k, 10**6)
        assert proc.stdout.readline() == 'ready\n'
        time.sleep(rng.uniform(0, .08))
        proc.send_signal(signal.SIGKILL)
        proc.communicate(timeout=200)
        killed += proc.returncode == -signal.SIGKILL
        n = led.path.read_bytes().count(b'\n') + 1 if led.path.exists() else 0
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')
            rows,damaged = led.read()
            assert ([d[0] for d in damaged if d[0] not in seen] in ([], [n]) if k
                else len(damaged) <= 1)
            seen = {d[0] for d in damaged}
            mine = [int(r.commit, 16) for r in rows
                if int(r.commit, 16)//10**6 == k and r.description != 'next']
            assert mine == list(range(10**6*k, 10**6*k + len(mine))), (
                'a row is missing from the middle')
            led.append(Row(f'{10**6*k:07x}', 1., 1., 'keep', 'next'))
            assert led.read()[0] == [*rows, Row(f'{10**6*k:07x}', 1., 1., 'keep', 'next')]
    assert killed == 8

def test_torn_at_every_byte(tmp_path):
    "Whatever part of a row a dead process left, the next row is whole and the part reads as before"
    led,new = Ledger(tmp_path/'results.tsv'), row(2, desc='after')
    line = row(1, desc='a description').line()
    for cut in range(1, len(line)+1):
        led.path.write_text(HEADER + line[:cut])
        before = led.read(warn=False)
        led.append(new)
        rows,damaged = led.read(warn=False)
        assert ((rows, damaged) == ([*before[0], new], before[1])
            and led.path.read_text().endswith(f'\n{new.line()}\n'))
        assert len(before[0]) + len(before[1]) == 1
        if before[0]:
            assert before[0][0].line() == line[:cut].rstrip(' '), (
                'only a description may be shorter')
        else: assert before[1][0][:2] == (2, line[:cut])

def test_damaged_lines_are_named_skipped_and_left(tmp_path):
    led = Ledger(tmp_path/'results.tsv')
    bad = ['only text', 'abcdef1\tnan\t1.0\tkeep\tx', 'abcdef1\t1.0\t1.0\tKEPT\tx',
        'abc\t1.0\t1.0\tkeep\tx', 'abcdef1\t1.0\t-3\tkeep\tx', 'abcdef1\t1.0\t1.0\tkeep\ta\tb',
        '\0\0\0\0']
    led.path.write_text(
        HEADER + row(1).line() + '\n' + '\n'.join(bad) + '\n' + row(2).line() + '\n')
    text = led.path.read_bytes()
    with pytest.warns(UserWarning) as caught: rows,damaged = led.read()
    assert rows == [row(1), row(2)] and led.path.read_bytes() == text
    assert [(n, t) for n,t,_ in damaged] == list(enumerate(bad, 3))
    for w,n,word in zip(caught, range(3, 10), [
            '1 column;', "value is 'nan'", 'keep, discard, crash', "commit is 'abc'", 'memory_gb',
            '6 columns', '1 column;']):
        assert f'line {n} is damaged' in str(w.message) and word in str(w.message)

@pytest.mark.filterwarnings('error')
def test_hand_edited(tmp_path):
    led = Ledger(tmp_path/'results.tsv')
    led.path.write_bytes(b'\xef\xbb\xbf' + HEADER.replace('\n', '\r\n').encode()
        + b'abcdef1\t 1 \t44\tkeep\tm\xfcde\r\n\r\n' + row(2).line().encode())
    assert [r.value for r in led.read()[0]] == [1., row(2).value]
    led.append(row(3))
    assert [r.commit for r in led.read()[0]] == ['abcdef1', row(2).commit, row(3).commit]

def test_header(tmp_path):
    led = Ledger(tmp_path/'results.tsv').create()
    assert (led.path.read_text() == HEADER and led.create().path.read_text() == HEADER
        and led.read() == ([], []))
    other = Ledger(led.path, 'accuracy', 'higher')
    for f in (other.read, other.create, lambda: other.append(row(1))):
        with pytest.raises(LedgerError, match='column 2 is val_bpb, but the metric is accuracy; '
                'move the file away'):
            f()
    led.path.write_text('')
    led.append(row(1))
    assert led.path.read_text() == HEADER + row(1).line() + '\n'
    led.path.write_text('commit\tval_bpb\n' + row(1).line() + '\n')
    with pytest.warns(UserWarning, match='line 1 is damaged'): assert led.read()[0] == [row(1)]

LINES = [row(1).line(), row(2, 'discard').line(), row(3, 'crash').line()]
BODY = '\n'.join(LINES) + '\n'
BARE = {'no header': (BODY, LINES), 'after blank lines': ('\n\r\n \n' + BODY, LINES),
    'torn header': ('commit\tval_b\n' + BODY, LINES), 'blank header': ('\n' + BODY, LINES),
    'bom': ('\ufeff' + BODY, LINES), 'crlf': (BODY.replace('\n', '\r\n'), LINES),
    'torn end': (BODY + LINES[0][:9], LINES),
    'zeros of a power cut': ('\0'*40 + '\n' + BODY, LINES),
    'damaged first': ('<<<<<<< HEAD\n' + BODY, LINES),
    'header in the middle': (LINES[0] + '\n' + HEADER + LINES[1] + '\n', LINES[:2]),
    'blank lines': ('\n\n', []), 'only a torn header': ('commit\tval', []),
    'only zeros': ('\0'*9, []), 'empty': ('', [])}

@pytest.mark.filterwarnings('ignore:.*is damaged and skipped')
@pytest.mark.parametrize('text, lines', BARE.values(), ids=list(BARE))
@pytest.mark.parametrize('how', ['create', 'append'])
def test_a_header_that_is_gone_comes_back_and_no_line_goes(tmp_path, text, lines, how):
    led,want = Ledger(tmp_path/'results.tsv'), [parse_row(l) for l in lines]
    led.path.write_bytes(text.encode())
    os.chmod(led.path, 0o640)
    rows,damaged = led.read(warn=False)
    assert rows == want and led.path.read_bytes() == text.encode(), 'to read is not to write'
    if lines and text.lstrip('\ufeff\n\r ').startswith(LINES[0]):
        assert damaged[0][0] == 0
        with pytest.warns(UserWarning, match='results.tsv: the header .* is missing; '
                'the next append puts it there'):
            led.read()
    led.create() if how == 'create' else led.append(row(9))
    after = led.path.read_bytes().decode()
    assert (led.read(warn=False)[0] == want + [row(9)]*(how == 'append')
        and after.startswith(HEADER) and led.path.stat().st_mode & 0o777 == 0o640)
    for l in text.replace('\ufeff', '').split('\n'):
        assert l.strip('\0\r ') in after or HEADER.startswith(l), (
            'a line that says something is gone')
    assert (not [d for d in led.read(warn=False)[1] if d[0] == 0]
        and [p.name for p in tmp_path.iterdir()] == ['results.tsv'])
    led.append(row(10))
    assert led.read(warn=False)[0][-1] == row(10)

@pytest.mark.parametrize('data', [('\n'.join(LINES)).encode('utf-16'),
    b'\x89PNG\r\n\x1a\n\0\xff', b'value: 1\n', BODY.replace('\t', ' ').encode()],
    ids=['utf-16', 'picture', 'yaml', 'spaces'])
def test_what_is_no_ledger_is_not_made_one(tmp_path, data):
    led = Ledger(tmp_path/'results.tsv')
    led.path.write_bytes(data)
    for f in (led.create, lambda: led.append(row(1))):
        with pytest.raises(LedgerError, match='results.tsv: no line of it is a row of a ledger; '
                'nothing was written; move the file away'):
            f()
    assert led.path.read_bytes() == data
    led.path.rename(tmp_path/'away') # the way out
    led.append(row(1))
    assert led.read() == ([row(1)], [])

def test_many_mend_one_header(tmp_path):
    led = Ledger(tmp_path/'results.tsv')
    led.path.write_text(BODY)
    for p in [python(APPEND, led.path, 1000*k, 20) for k in range(1, 5)]: finish(p)
    rows,damaged = led.read()
    assert not damaged and led.path.read_text().count(HEADER) == 1
    assert (rows[:3] == [parse_row(l) for l in LINES]
        and sorted(int(r.commit, 16) for r in rows[3:])
            == sorted(1000*k + i for k in range(1, 5) for i in range(20)))

def test_rebuild(tmp_path):
    "Written anew in one step: nothing is lost, links stay links, what was torn and told anew goes"
    led,rows = Ledger(tmp_path/'results.tsv'), [row(i) for i in range(1, 5)]
    led.rebuild(rows)
    assert (led.path.read_text() == HEADER + ''.join(r.line() + '\n' for r in rows)
        and led.read() == (rows, []))
    before = led.path.read_bytes()
    for lost in (rows[1:], rows[:-1], [*rows[:3], Row('0000004', .5, 44., 'keep', 'another value')],
            [*rows[:3], row(4, 'discard')]):
        with pytest.raises(LedgerError, match='results.tsv: holds 1 row that the new ledger would '
                'lose, the first is .*move the file away'):
            led.rebuild(lost)
        assert led.path.read_bytes() == before
    led.append(rows[0]) # a second run of the same commit
    with pytest.raises(LedgerError, match='holds 1 row'): led.rebuild(rows)
    told = [row(1, desc='told otherwise'), *rows[1:], rows[0], row(5)]
    led.path.write_bytes((
        '\n'.join(r.line() for r in rows)
        + f'\n{rows[0].line()}\nm\udcfclls\n{row(5).line()[:20]}').encode(errors='surrogateescape'))
    led.rebuild(told)
    assert (led.read(warn=False)[0] == told
        and led.path.read_bytes().endswith(row(5).line().encode() + b'\nm\xfclls\n'))
    link = tmp_path/'link.tsv'
    link.symlink_to(led.path)
    Ledger(link).rebuild([*told, row(6)])
    assert (link.is_symlink() and led.read(warn=False)[0][-1] == row(6)
        and sorted(p.name for p in tmp_path.iterdir()) == ['link.tsv', 'results.tsv'])
    with pytest.raises(LedgerError, match='column 2 is val_bpb'):
        Ledger(led.path, 'rmse').rebuild([])

def test_what_a_killed_rebuild_left_goes_with_the_next(tmp_path):
    led = Ledger(tmp_path/'results.tsv').create()
    (tmp_path/'.results.tsv.123.tmp').write_text(HEADER)
    (tmp_path/'.results.tsv.old').write_text('mine')
    led.rebuild([row(1)])
    assert (sorted(p.name for p in tmp_path.iterdir()) == ['.results.tsv.old', 'results.tsv']
        and led.read()[0] == [row(1)])

def test_rebuild_waits_for_the_lock_and_a_full_disk_leaves_the_old(tmp_path):
    led = Ledger(tmp_path/'results.tsv', timeout=.2).create()
    led.append(row(1))
    with open(led.path) as f:
        fcntl.flock(f, fcntl.LOCK_EX)
        with pytest.raises(LedgerError, match='locked by another process'):
            led.rebuild([row(1), row(2)])
    before = led.path.read_bytes()
    out = finish(python(
        FULL.replace('led.append(row)', "led.rebuild([*led.read()[0], *[row]*9])", 1),
        led.path, len(before)+40))
    assert ('free some space' in out and led.path.read_bytes() == before
        and [*tmp_path.iterdir()] == [led.path])

def said(i, status='keep', **more):
    return {**dict(commit=f'{i:07x}' + 'a'*33, status=status, value=1 - i/1e6 + 4e-8), **more}

def test_vouch():
    "Notes of one experiment vouch for one row that has its commit, status and value"
    rows = [row(1), row(2, 'discard'), row(3, 'crash'), row(2, 'keep'), row(1),
        Row('0000001', .1, 44., 'keep', ''), row(4)]
    notes = [said(1), said(2, 'discard'), said(3, 'crash', value=0.)]
    assert (vouch(rows, notes) == [True]*3 + [False]*4
        and vouch(rows, [*notes, said(1)]) == [True]*3 + [False, True, False, False])
    assert vouch([], notes) == [] and vouch(rows, []) == [False]*7
    odd = [None, 'x', [], {}, dict(commit=5, status='keep', value=1), said(4, value=None),
        said(4, value='x'), said(4, value=math.nan), said(4, value=10**400), said(4, status=[]),
        said(4, status='interrupted'), dict(commit='0000004', status='keep')]
    assert vouch(rows, odd) == [False]*7 and vouch(rows, [*odd, said(4)]) == [False]*6 + [True]

@pytest.mark.parametrize('direction', ['lower', 'higher'])
def test_a_row_that_nobody_ran_decides_nothing(direction):
    sign = -1 if direction == 'lower' else 1
    rows = [Row('aaaaaa0', 1 + sign*v, 1., s, s) for v,s in [
        (.9, 'keep'), (0, 'keep'), (.5, 'keep'), (-.1, 'discard'), (.1, 'keep'), (.8, 'discard'),
        (0, 'crash')]]
    ran = [False, True, False, True, True, False, False]
    f,g = (frontier(rows, direction, ran),
        frontier([r for r,ok in zip(rows, ran) if ok], direction))
    assert ((f.baseline, f.best, f.gain, f.keep_rate, f.hits()[0].gain)
        == (g.baseline, g.best, g.gain, g.keep_rate, g.hits()[0].gain) and f.unproven == 4)
    assert ([s.n for s in f.steps] == [2, 5] and math.isnan(f.running[0])
        and f.running[1:] == [1., 1., 1., 1 + sign*.1, 1 + sign*.1, 1 + sign*.1])
    assert (f.counts == dict(keep=2, discard=1, crash=0, unproven=4)
        and '1 discard, 0 crash, 4 unproven' in f.summary())
    assert ('unproven' not in frontier(rows, direction).counts
        and frontier(rows, direction).unproven == 0)
    with pytest.raises(ValueError): frontier(rows, direction, ran[:-1])

def test_an_experiment_has_the_number_of_its_folder(tmp_path):
    "Runs that make no row count, too; a row that nobody ran is called by its place; 1000 after 999"
    rows = [row(1), row(2), row(3)]
    for number,k in ((1, 1), (999, 2), (1000, 4)):
        d = tmp_path/f'{number:03}-000000{k}'
        d.mkdir()
        (d/'experiment.json').write_text(json.dumps(said(k)))
    notes = session_notes(tmp_path)
    assert [n['dir'][:4] for n in notes] == ['001-', '999-', '1000'], 'in the order of the runs'
    assert experiment_names(notes, rows) == ['1', '999', 'row 3']
    assert experiment_names([], rows) == ['row 1', 'row 2', 'row 3']
    assert '#999' in frontier(rows).summary(names=experiment_names(notes, rows))

def test_session_notes(tmp_path):
    assert session_notes(tmp_path/'none') is None and session_notes(tmp_path) is None
    for i,text in enumerate(['{"half', '[1]', json.dumps(said(3)), '['*100_000, '\udcff', None]):
        d = tmp_path/f'{i+1:03}-000000{i+1}'
        d.mkdir()
        if text is not None:
            (d/'experiment.json').write_bytes(text.encode(errors='surrogateescape'))
    assert session_notes(tmp_path) == [
        dict(said(3) if i == 3 else dict(commit=f'{i:07x}'), dir=f'{i:03}-000000{i}')
        for i in range(1, 7)]
    # the executed notebook holds the same notes
    for odd in ('{"metadata": []}', '{"metadata": {"autoresearch": 5}}', '['*100_000):
        (tmp_path/'006-0000006/run.ipynb').write_text(odd)
        assert vouch([row(6)], session_notes(tmp_path)) == [False]
    (tmp_path/'006-0000006/run.ipynb').write_text(
        json.dumps(dict(metadata=dict(autoresearch=said(6, commit=None)))))
    assert vouch([row(3), row(6)], session_notes(tmp_path)) == [True, True]
    (tmp_path/'006-0000006/run.ipynb').unlink()
    assert vouch([row(3), row(6)], session_notes(tmp_path)) == [True, False]
    journal = tmp_path/'journal.json'
    for odd in ('[]', '{"row": 5, "run_dir": "006-0000006"}', '{"row": "x"}',
            '{"row": "%s", "run_dir": []}' % row(6).line().replace('\t', '\\t')):
        journal.write_text(odd)
        assert vouch([row(3), row(6)], session_notes(tmp_path)) == [True, False]
    # one whose notes are there has its row by them
    for run_dir,ok in (('006-0000006', True), ('003-0000003', False)):
        journal.write_text(json.dumps(dict(row=row(6).line(), run_dir=run_dir)))
        assert vouch([row(3), row(6)], session_notes(tmp_path)) == [True, ok]

def test_a_pipe_among_the_notes_is_none(tmp_path):
    "Opening one would wait for ever for somebody who writes"
    d = tmp_path/'001-0000001'
    d.mkdir()
    for f in (d/'experiment.json', d/'run.ipynb', tmp_path/'journal.json'): os.mkfifo(f)
    code = (
        'import sys; from autoresearch.ledger import session_notes; '
        'print(session_notes(sys.argv[1]))')
    r = subprocess.run([sys.executable, '-c', code, tmp_path], capture_output=True, text=True,
        timeout=200)
    assert r.stdout == "[{'dir': '001-0000001', 'commit': '0000001'}]\n", r.stderr

def test_no_file_and_no_folder(tmp_path):
    assert Ledger(tmp_path/'results.tsv').read() == ([], [])
    led = Ledger(tmp_path/'no'/'results.tsv')
    for f in (led.read, lambda: led.append(row(1))):
        with pytest.raises(LedgerError, match='no/results.tsv.*make the folder first'): f()
    with pytest.raises(LedgerError, match='not a folder'): Ledger(tmp_path).append(row(1))

AS_NOBODY = '''
import os, sys
from autoresearch.ledger import Ledger, LedgerError, Row
os.chdir(sys.argv[1])
# what is imported late is imported now: the next user may not be able to read Python itself
Ledger('closed.tsv').read()
if os.geteuid() == 0: os.seteuid(65534)
for path in ('closed.tsv', 'closed/results.tsv'):
    try: Ledger(path).append(Row('abcdef1', 1., 1., 'keep', ''))
    except LedgerError as e: print(e)
print(len(Ledger('closed.tsv').read()[0]))
'''

def test_read_only(tmp_path):
    tmp_path.chmod(0o755)
    led = Ledger(tmp_path/'closed.tsv')
    led.append(row(1))
    text = led.path.read_bytes()
    led.path.chmod(0o444)
    (tmp_path/'closed').mkdir(mode=0o555)
    a,b,n = finish(python(AS_NOBODY, tmp_path)).splitlines()
    assert (a.startswith('closed.tsv: Permission denied: give this user the right')
        and b.startswith('closed/results.tsv: Permission denied'))
    assert n == '1' and led.path.read_bytes() == text and not list((tmp_path/'closed').iterdir())

FULL = '''
import os, resource, signal, sys
from autoresearch.ledger import Ledger, LedgerError, Row
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
path,limit = sys.argv[1], int(sys.argv[2])
resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
led,row = Ledger(path), Row('abcdef1', 1., 1., 'keep', 'no room')
try: led.append(row)
except LedgerError as e: print(e)
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
if 'again' in sys.argv: led.append(row)
'''

@pytest.mark.parametrize('room,says', [
    (0, 'File too large'), (1, 'only 1 of 34 bytes'), (33, 'only 33 of 34 bytes')])
def test_full_disk_leaves_no_part_of_a_row(tmp_path, room, says):
    led = Ledger(tmp_path/'results.tsv')
    led.append(row(1))
    text = led.path.read_bytes()
    out = finish(python(FULL, led.path, len(text)+room))
    assert (str(led.path) in out and says in out and 'free some space' in out
        and led.path.read_bytes() == text)
    finish(python(FULL, led.path, len(text)+room, 'again'))
    assert led.read() == ([row(1), Row('abcdef1', 1., 1., 'keep', 'no room')], [])

def test_full_disk_at_the_first_row(tmp_path):
    led = Ledger(tmp_path/'results.tsv')
    assert 'free some space' in finish(python(FULL, led.path, 60))
    assert led.read() == ([], []) and led.path.read_bytes() == b''

def test_lock_is_waited_for_and_named(tmp_path):
    led = Ledger(tmp_path/'results.tsv', timeout=.2).create()
    with open(led.path) as f:
        fcntl.flock(f, fcntl.LOCK_EX)
        for g in (led.read, lambda: led.append(row(1))):
            with pytest.raises(LedgerError,
                    match='results.tsv: locked by another process for 0.2 s'):
                g()
    led.append(row(1))
    assert led.read()[0] == [row(1)]

def test_a_ledger_moved_away_while_waiting(tmp_path):
    "An append that waited for the lock of a file since moved goes to the new one"
    led = Ledger(tmp_path/'results.tsv').create()
    with open(led.path) as f:
        fcntl.flock(f, fcntl.LOCK_EX)
        proc = python(APPEND, led.path, 1, 1)
        assert proc.stdout.readline() == 'ready\n'
        time.sleep(.1)
        led.path.rename(tmp_path/'old.tsv')
        finish(proc)
    assert ((tmp_path/'old.tsv').read_text() == HEADER
        and [r.commit for r in led.read()[0]] == ['0000001'])

@pytest.mark.parametrize('another', [False, True], ids=['no file there', 'another file there'])
def test_the_lock_of_a_file_moved_after_it_was_opened_counts_for_nothing(
        tmp_path, monkeypatch, another):
    led,flock,moved = Ledger(tmp_path/'results.tsv').create(), fcntl.flock, []
    def move_first(fd, kind):
        if not moved:
            moved.append(led.path.rename(tmp_path/'old.tsv'))
            if another: led.path.write_text(HEADER)
        flock(fd, kind)
    monkeypatch.setattr(fcntl, 'flock', move_first)
    led.append(row(1))
    assert moved and (tmp_path/'old.tsv').read_text() == HEADER and led.read() == ([row(1)], [])

NASTY = ['tab\there', 'new\nline', 'cr\r\nlf', 'nul\0', 'esc \x1b[31mred\x1b[0m', 'nel\x85',
    'ls\u2028ps\u2029', 'lone \udc80 surrogate', '\x0b\x0c\x1c\x1d\x1e', '"quoted', '"both"',
    "it's", '', ' ', '| pipe | <b>', '$x_', '日本 🚀', 'x'*100_000]

def test_any_description_is_one_line_that_pandas_reads(tmp_path):
    import pandas as pd
    led,want = Ledger(tmp_path/'results.tsv'), []
    for i,d in enumerate(NASTY):
        led.append(r := Row(f'abcde{i:02}', 1., 1., 'keep', d))
        want.append(r)
        assert (parse_row(r.line()) == r and len(r.line().splitlines()) == 1
            and r.line().count('\t') == 4)
        assert not any(ord(c) < 32 or 127 <= ord(c) < 160 for c in r.description)
    assert led.read() == (want, [])
    df = pd.read_csv(led.path, sep='\t', keep_default_na=False)
    assert (list(df.columns) == HEADER.strip().split('\t')
        and list(df.description) == [r.description for r in want])
    assert led._repr_markdown_().count('\n') == 11

def test_numbers_are_what_the_line_says():
    r = Row('abcdef1234', '0.99790049', 45060.2/1024, 'discard', 'x')
    assert r.line() == 'abcdef1\t0.997900\t44.0\tdiscard\tx' and parse_row(r.line()) == r
    assert Row('abcdef1', -1e-9, 0, 'keep', '').line().split('\t')[1] == '0.000000'
    for bad in (dict(value=math.nan), dict(value=None), dict(memory_gb=-1),
            dict(memory_gb=math.inf), dict(status='Keep'), dict(commit='abc def')):
        with pytest.raises(LedgerError, match=next(iter(bad))):
            Row(**{**dict(commit='abcdef1', value=1., memory_gb=1., status='keep', description=''),
                **bad})

@pytest.mark.parametrize('direction', ['lower', 'higher'])
def test_frontier_against_a_slow_reference(direction):
    rng,better = random.Random(2), min if direction == 'lower' else max
    for _ in range(50):
        rows = [Row('abcdef1', rng.uniform(.9, 1), 1., rng.choice(['keep', 'discard', 'crash']), '')
            for _ in range(rng.randint(0, 30))]
        f,ran,kept = (frontier(rows, direction), [r for r in rows if r.status != 'crash'],
            [r for r in rows if r.status == 'keep'])
        assert (f.baseline == (ran[0] if ran else None) and [s.row for s in f.steps] == kept
            and [rows[s.n-1] for s in f.steps] == kept)
        for i,v in enumerate(f.running):
            so_far = [r.value for r in rows[:i+1] if r.status == 'keep']
            assert v == better(so_far) if so_far else math.isnan(v)
        if kept:
            sign = 1 if direction == 'lower' else -1
            assert (f.best.value == better(r.value for r in kept)
                and f.keep_rate == (len(kept) - (ran[0] in kept))/max(1, len(ran) - 1)), (
                'the baseline is no gain')
            assert sum(s.gain for s in f.steps) == pytest.approx(
                sign*(f.baseline.value - kept[-1].value), abs=1e-9)
            assert f.gain == pytest.approx(sign*(f.baseline.value - f.best.value), abs=1e-9)
        assert f.summary().startswith(f'experiments  {len(rows)}:')

def walk(n, keeps, seed=4, up=1):
    "`n` invented rows of which about the share `keeps(i)` is kept"
    rng,best,rows = random.Random(seed), 1., [Row('abcdef0', 1., 1., 'keep', 'baseline')]
    for i in range(1, n):
        if won := rng.random() < keeps(i): best -= up*rng.expovariate(1000)
        rows.append(Row('abcdef1', best if won else best + up*abs(rng.gauss(0, .003)), 1.,
            'keep' if won else 'discard', 'word '*rng.randint(1, 12)))
    return rows

def test_ten_thousand_rows(tmp_path):
    rows,led = walk(10_000, lambda i: .03), Ledger(tmp_path/'results.tsv')
    led.path.write_text(HEADER + ''.join(r.line() + '\n' for r in rows))
    assert min(timeit.repeat(led.frontier, timer=time.process_time, number=1, repeat=5)) < .3, (
        "processor time: what the code costs, not what else ran on the machine")
    f = led.frontier()
    assert sum(f.counts.values()) == 10_000 and len(led.frame()) == 10_000

def test_frame(tmp_path):
    "Columns, types and index of a ledger as a data frame, whatever is in it"
    import pandas as pd
    rows,led = [row(1), row(2, 'discard'), row(3, 'crash'), row(4)], Ledger(tmp_path/'results.tsv')
    for want in ([], rows):
        led.rebuild(want)
        df = led.frame()
        assert (list(df) == ['commit', 'val_bpb', 'memory_gb', 'status', 'description', 'best']
            and df.index.name == 'n' and list(df.index) == list(range(1, len(want)+1)))
        assert ([str(df.dtypes[c]) for c in ('val_bpb', 'memory_gb', 'status', 'best')]
                == ['float64', 'float64', 'category', 'float64']
            and list(df.status.cat.categories) == list(STATUSES))
        assert (list(df.commit) == [r.commit for r in want]
            and list(df.description) == [r.description for r in want]
            and list(df.status) == [r.status for r in want])
    assert (list(df.val_bpb.dropna()) == [r.value for r in rows if r.status != 'crash']
        and df.loc[3, ['val_bpb', 'memory_gb']].isna().all())
    assert list(df.best) == led.frontier().running and df.val_bpb.min() == row(4).value
    assert list(Ledger(tmp_path/'other.tsv', 'rmse').frame())[1] == 'rmse'

def boxes(ax):
    "The labels' rectangles in pixels, turned so that the text is level: (left, bottom, right, top)"
    renderer,res = ax.figure.canvas.get_renderer(), []
    ax.figure.draw_without_rendering()
    for t in ax.texts:
        a = math.radians(t.get_rotation())
        a = a - 2*math.pi if a > math.pi else a
        x,y = ax.transData.transform(t.xy) + [v*ax.figure.dpi/72 for v in t.xyann]
        t.set_rotation(0)
        w,h = Text.get_window_extent(t, renderer).size
        u,v = x*math.cos(a) + y*math.sin(a), y*math.cos(a) - x*math.sin(a)
        res.append((u, v, u+w, v+h) if t.get_va() == 'bottom' else (u, v-h, u+w, v))
    return res

@pytest.mark.parametrize('direction', ['lower', 'higher'])
@pytest.mark.parametrize('n,keeps', [
    (81, lambda i: .25), (1000, lambda i: .8 if i < 50 else 0),
    (300, lambda i: .9 if i > 270 else .01), (30, lambda i: 1), (3000, lambda i: .05)])
def test_labels_do_not_overlap(n, keeps, direction):
    rows = walk(n, keeps, up=1 if direction == 'lower' else -1)
    ax = plot_frontier(rows, direction=direction)
    kept = frontier(rows, direction).steps
    labels = boxes(ax)
    assert len(labels) == len(kept) or len(labels) > 20, (
        'labels are left out only where there are too many')
    assert ('baseline' in [t.get_text() for t in ax.texts]
        and kept[-1].n in [t.xy[0] for t in ax.texts])
    for i,a in enumerate(labels):
        for b in labels[:i]:
            assert (min(a[2], b[2]) <= max(a[0], b[0])
                or min(a[3], b[3]) <= max(a[1], b[1]) + .5), (a, b)

@pytest.mark.parametrize('direction', ['lower', 'higher'])
def test_label_layout(direction):
    "Lines at least a letter's height apart, on the points' free side, that end within the corner"
    rng,up = random.Random(3), 1 if direction == 'lower' else -1
    for _ in range(200):
        wide,high,slant = 600, 300, math.radians(30)
        xs = sorted(rng.uniform(0, wide) for _ in range(rng.randint(1, 60)))
        ys = sorted((rng.uniform(0, high) for _ in xs), reverse=up == 1)
        at = {Step(i, None, rng.random()): p for i,p in enumerate(zip(xs, ys), 1)}
        corner = wide + 40, high + 20 if up == 1 else -20
        labels = place_labels(at, 10, corner, direction)
        ends = [(at[o.step][0] + o.dx, at[o.step][1] + o.dy, o) for o in labels]
        across = sorted(x*math.sin(slant) - up*y*math.cos(slant) for x,y,_ in ends)
        assert (all(b - a > 14.49 for a,b in zip(across, across[1:]))
            and all(o.dx >= 5 and up*o.dy >= 5 for o in labels))
        for x,y,o in ends:
            assert 0 <= o.letters <= 40
            if o.letters:
                assert (x + 6*o.letters*math.cos(slant) <= corner[0]
                    and up*(y + up*(6*o.letters*math.sin(slant) + 10) - corner[1]) <= 1e-9)
        steps = list(at)
        assert (steps[0] in [o.step for o in labels]
            and (len(labels) < 2 or steps[-1] in [o.step for o in labels]))
    assert place_labels({}, 10, (1, 1)) == []

@pytest.mark.parametrize('rows', [
    [], [row(1, 'crash')], [row(1)], [row(1, 'discard')],
    [row(1, 'crash'), row(2), row(3, 'crash')], [row(1)]*3,
    [Row('abcdef1', 0., 1., 'keep', 'a $ and \\frac{')],
    [Row('abcdef1', v, 1., 'keep', '') for v in (1., 2., 3.)]])
def test_every_ledger_has_a_picture(rows):
    for direction in ('lower', 'higher'):
        ax = plot_frontier(rows, direction=direction)
        assert (ax.figure._repr_png_().startswith(b'\x89PNG')
            and f'{sum(r.status == "crash" for r in rows)} crashed' in ax.get_title())

def test_what_is_outside_is_not_drawn():
    rows = [Row('abcdef1', 1., 1., 'keep', 'baseline'), Row('abcdef2', 9., 1., 'discard', 'wild'),
        Row('abcdef3', .9, 1., 'keep', 'good'), Row('abcdef4', .95, 1., 'discard', '')]
    ax = plot_frontier(rows)
    dots,kept = [c.get_offsets().tolist() for c in ax.collections]
    assert (dots == [[4., .95]] and kept == [[1., 1.], [3., .9]]
        and ax.get_ylim() == pytest.approx((.89, 1.01)))
    assert 'discarded (1 outside the picture)' in [
        t.get_text() for t in ax.get_legend().get_texts()]

def test_a_figure_has_no_ground_and_is_read_on_white_and_on_black():
    "In a notebook, whose theme nobody knows; one that is drawn for dark keeps its ground"
    import io
    from PIL import Image
    rows = [Row('abcdef1', 1., 1., 'keep', 'baseline'), Row('abcdef2', .9, 1., 'keep', 'good')]
    def drawn(dark):
        png = plot_frontier(rows, dark=dark).figure._repr_png_()
        return Image.open(io.BytesIO(png)).convert('RGBA')
    assert drawn(True).getpixel((0, 0)) == (20, 23, 26, 255)
    light = drawn(False)
    assert light.getpixel((0, 0))[3] == 0
    title = light.crop((0, 0, light.width, 30)) # letters, and nothing else
    for ground in ('#ffffff', '#111111'):
        seen = Image.alpha_composite(Image.new('RGBA', title.size, ground), title).convert('L')
        assert seen.getextrema()[1] - seen.getextrema()[0] > 220, 'letters that nobody can read'

def test_crashes_are_marked_and_a_narrow_picture_is_no_wider_than_its_axes():
    rows = [Row('abcdef1', 1., 1., 'keep', 'baseline'), Row('abcdef2', 0, 1., 'crash', 'oom'),
        *(Row(f'abcde{i}', 1-i/100, 1., 'keep', 'an idea whose description is long indeed')
            for i in range(10, 40))]
    def labels(ax): return [t.get_text() for t in ax.get_legend().get_texts()]
    wide = plot_frontier(rows)
    crosses, = [l for l in wide.lines if l.get_label() == 'crashed']
    assert list(crosses.get_xdata()) == [2] and 'crashed' in labels(wide)
    assert 'crashed' not in labels(plot_frontier(rows, ran=[True, False, *[True]*30]))
    for direction in ('lower', 'higher'):
        ax = plot_frontier(rows, figure(size=(4.4, 5)).add_subplot(), direction=direction)
        ax.figure.canvas.draw()
        texts = [*ax.texts, ax.title, *ax.get_legend().get_texts()]
        ends = [t.get_window_extent().x1 for t in texts]
        assert max(ends) < 1.06*ax.figure.bbox.x1, (direction, max(ends), ax.figure.bbox.x1)

def test_decimals():
    assert [decimals(v) for v in (0., -0.5, 999999.4, 1e6, -1.0371e85, float('inf'))] == [
        '0.000000', '-0.500000', '999999.400000', '1.00e+06', '-1.04e+85', 'inf']

# other people's ledgers

WANT = [('keep', .9979, 44.0), ('keep', .986041, 43.9), ('discard', .9883, 60.2),
    ('crash', 0., 0.), ('keep', .98, 44.0)]
THEIRS = {
    'published': 'number,val_bpb,memory_gb,status\n'
        '1,0.997900,44.0,keep\n2,0.986041,43.9,keep\n3,0.9883,60.2,discard\n'
        '4,0.000000,0.0,crash\n5,0.98,44.0,keep\n',
    'more columns, another order, mb': 'Status\tHost\tpeak_vram_mb\tVal BPB\tIdea\n'
        'BASELINE\th\t45060.2\t.9979\tx\nkept\t\t44953.6\t0.986041\t\n'
        'Reverted\t\t61644.8\t9.883e-1\ty\nFAILED\t\t\t\t\nAccepted!\th\t45056\t+0.98\tz\n',
    'semicolons and decimal commas': 'commit;val_bpb;memory_gb;decision\n'
        'ab;0,9979;44,0;accept\ncd;0,986041;43,9;accept\nef;0,9883;60,2;reject\n'
        'gh;nan;;oom\nij;0,98;44;accept\n',
    'quoted': '"status","val_bpb","notes, long","memory_gb"\n'
        '"keep","0.9979","a ""b"", c","44.0"\n"keep","0.986041","two\nlines","43.9"\n'
        '"no improvement","0.9883","","60.2"\n"out of memory","","",""\n"keep","0.98","","44"\n',
    'an open quote': 'val_bpb\tmem_gb\tstatus\tdescription\n'
        '0.9979\t44.0\tkeep\t"deeper\n0.986041\t43.9\tkeep\t\n0.9883\t60.2\tdiscard\t\n'
        '-\t-\terror\t\n0.98\t44.0\tkeep\t5" wide\n',
    'commas in the text': 'val_bpb,memory_gb,status,description\n'
        '0.9979,44.0,keep,a, b, c\n0.986041,43.9,keep,\n0.9883,60.2,discard,x\n'
        '0,0,crash,y, z\n0.98,44.0,keep,\n',
    'markdown': '| # | val_bpb | memory (GB) | verdict |\n| --- | ---: | :---: | --- |\n'
        '| 1 | 0.9979 | 44.0 | keep |\n| 2 | 0.986041 | 43.9 | keep |\n'
        '| 3 | 0.9883 | 60.2 | worse |\n| 4 |  |  | diverged |\n| 5 | 0.98 | 44.0 | new best |\n'}

@pytest.mark.parametrize('ends', ['\n', '\r\n', '\r'], ids=['lf', 'crlf', 'cr'])
@pytest.mark.parametrize('coding', ['utf-8', 'utf-8-sig', 'utf-16'])
@pytest.mark.parametrize('text', THEIRS.values(), ids=list(THEIRS))
def test_other_peoples_ledgers(tmp_path, text, coding, ends):
    path = tmp_path/'theirs.csv'
    path.write_bytes((text + '\n').replace('\n', ends).encode(coding))
    rows,name,said = any_ledger(path)
    assert ([(r.status, r.value, r.memory_gb) for r in rows] == WANT and said == []
        and name.lower().replace(' ', '_') == 'val_bpb')
    assert (plot_frontier(path).get_title() == '5 experiments: 3 kept, 1 discarded, 1 crashed'
        and frontier(rows).best.value == .98)
    assert all(len(r.commit) == 7 and parse_row(r.line()) == r for r in rows)

def test_what_of_another_ledger_is_kept(tmp_path):
    path = tmp_path/'theirs.csv'
    path.write_text('sha,val_bpb,status,notes,notes\n'
        '0123456789abcdef,1,keep,"one, two",more\nab-12,2,discard,,\n,3,discard,x,\n'
        'sha,val_bpb,status,notes,notes\n')
    rows = any_ledger(path)[0]
    assert ([r.commit for r in rows] == ['0123456', 'ab12___', '_______']
        and [r.description for r in rows] == ['one, two', '', 'x'])

def test_one_sentence_on_what_was_not_understood(tmp_path):
    path = tmp_path/'theirs.tsv'
    path.write_text('val_bpb\tstatus\n1.0\tkeep\n' + '0.9\tperhaps\n'*30
        + 'n/a\tkeep\n0.8\t\n0.7\n0.6\tkeep\n' + ''.join(f'0.5\tword{i}\n' for i in range(9)))
    rows,_,said = any_ledger(path)
    assert [r.value for r in rows] == [1., .6] and len(said) == 1
    assert said[0].startswith(
        f"{path}: 42 of 44 rows were not understood and are left out: status 'perhaps' (30), "
        "status '' (2), value 'n/a' (1), ") and said[0].endswith(', …')
    with pytest.warns(UserWarning, match='42 of 44 rows'): plot_frontier(path)

def test_another_metric_is_named(tmp_path):
    path = tmp_path/'theirs.tsv'
    path.write_text('commit\taccuracy\tmemory_gb\tstatus\tdescription\n'
        'abcdef1\t0.5\t1.0\tkeep\tx\nabcdef2\t0.7\t1.0\tkeep\ty\n')
    rows,name,said = any_ledger(path)
    assert (name, len(rows)) == ('accuracy', 2) and said == [
        f'{path}: the value is the column accuracy, '
        'of which lower is taken for better (--direction)']
    assert any_ledger(path, 'accuracy', 'higher')[1:] == ('accuracy', [])
    path.write_text('score,bpb,status\n1,2,keep\n')
    assert any_ledger(path)[0][0].value == 1 and any_ledger(path, 'bpb')[0][0].value == 2

NOT_THEIRS = {'empty': (b'', 'the file is empty'), 'blank': (b'\n \n', 'the file is empty'),
    'no status': (b'val_bpb,memory\n1,2\n',
        "no column for status and value in 'val_bpb,memory'.*--metric NAME"),
    'no value': (b'loss,status\n1,keep\n', "no column for status and value in 'loss,status'"),
    'nothing understood': (b'val_bpb,status\nx,keep\n1,perhaps\n',
        "not one of 2 rows was understood: value 'x' .1., status 'perhaps' .1."),
    'picture': (b'\x89PNG\r\n\x1a\n\0\xff', 'no column for status and value'),
    'no header': (b'1,0.9,keep\n', 'no column for status and value'),
    'json': (b'{"a": 1}', 'no column')}

@pytest.mark.parametrize('data, says', NOT_THEIRS.values(), ids=list(NOT_THEIRS))
def test_nothing_understood_is_an_error(tmp_path, data, says):
    path = tmp_path/'theirs.csv'
    path.write_bytes(data)
    for f in (any_ledger, plot_frontier):
        with pytest.raises(LedgerError, match=f'theirs.csv: {says}'): f(path)

def test_no_file_of_others(tmp_path):
    with pytest.raises(LedgerError, match='not.csv: No such file'): any_ledger(tmp_path/'not.csv')
    with pytest.raises(LedgerError, match='Is a directory: name a file'): any_ledger(tmp_path)

@pytest.mark.parametrize('text, lines', [o for o in BARE.values() if o[1]],
    ids=[k for k,o in BARE.items() if o[1]])
def test_our_own_by_its_path(tmp_path, text, lines):
    "A ledger with our header, or one that only lost it, is read as `Ledger.read` does"
    path = tmp_path/'ours.tsv'
    path.write_bytes(text.encode())
    assert any_ledger(path)[0] == Ledger(path).read(warn=False)[0] == [parse_row(l) for l in lines]

def test_our_own_stays_strict(tmp_path):
    path = tmp_path/'ours.tsv'
    path.write_text(HEADER + row(1).line() + '\nabcdef1\t1.0\t1.0\tKEPT\tx\n')
    assert any_ledger(path) == ([row(1)], 'val_bpb', [
        f"{path}, line 3 is damaged and skipped: "
        "status is 'KEPT'; accepted: keep, discard, crash"])

# pictures and figures of a session

def session(root, rows, ran, tag='nov1', **state):
    "A session's folder beside `root`: the ledger at the top, notes for the rows that were run"
    (root/'runs'/tag).mkdir(parents=True, exist_ok=True)
    (root/'runs/current.json').write_text(json.dumps(dict(tag=tag)))
    (root/'runs'/tag/'state.json').write_text(
        json.dumps(dict(tag=tag, base='a'*40, profile='tiny', **state)))
    (root/'results.tsv').write_text(HEADER + ''.join(r.line() + '\n' for r in rows))
    for i,(r,ok) in enumerate(zip(rows, ran), 1):
        (d := root/'runs'/tag/f'{i:03}-{r.commit}').mkdir()
        if ok:
            (d/'experiment.json').write_text(
                json.dumps(dict(commit=r.commit + 'b'*33, status=r.status, value=r.value)))

def test_rows_that_nobody_ran_are_told(tmp_path):
    settings(tmp_path)
    rows = [row(1), row(2, 'discard'), Row('0000003', .1, 44., 'keep', 'typed'), row(4, 'crash'),
        row(5)]
    session(tmp_path, rows, [True, True, False, True, True])
    for args in ([], ['--ledger', 'results.tsv'], ['--ledger', tmp_path/'results.tsv']):
        r = command(tmp_path, *args)
        assert r.returncode == 0 and (
            f'results.tsv: row 3 decides nothing: '
            'no run in runs/nov1 agrees in commit, status and value') in r.stderr, r.stderr
        assert ('2 keep, 1 discard, 1 crash, 1 unproven' in r.stdout
            and 'best         0.999995' in r.stdout and '0.1' not in r.stdout)
    (tmp_path/'elsewhere.tsv').write_bytes((tmp_path/'results.tsv').read_bytes())
    r = command(tmp_path, '--ledger', 'elsewhere.tsv')
    assert 'unproven' not in r.stdout and 'best         0.100000' in r.stdout and r.stderr == ''
    (tmp_path/'results.tsv').rename(tmp_path/'runs/nov1/results.tsv') # an earlier session's
    session(tmp_path, [row(7)], [True], tag='nov2')
    assert ('1 unproven' in command(tmp_path, '--ledger', 'runs/nov1/results.tsv').stdout
        and 'unproven' not in command(tmp_path).stdout)
    (tmp_path/'results.tsv').unlink()
    r = command(tmp_path)
    assert r.returncode == 1 and (
        'the ledger is gone; the notes of 1 runs in runs/nov2 say what stood in it') in r.stderr

def test_without_runs_all_rows_count(tmp_path):
    settings(tmp_path)
    session(tmp_path, [row(1), row(2)], [])
    r = command(tmp_path)
    assert r.returncode == 0 and 'unproven' not in r.stdout and r.stderr == ''

def test_unproven_is_drawn_as_an_open_red_mark():
    rows,ran = ([row(1), Row('0000002', .1, 1., 'keep', 'typed'), row(3),
        Row('0000004', .999999, 1., 'discard', ''), row(5, 'crash')],
        [True, False, True, False, False])
    ax = plot_frontier(rows, ran=ran)
    marks = ax.collections[-1]
    assert ([x for x,_ in marks.get_offsets().tolist()] == [2, 4]
        and marks.get_facecolors().size == 0
        and not {t.get_text() for t in ax.texts} & {'typed'})
    lo,hi = ax.get_ylim()
    assert (all(lo <= y <= hi for _,y in marks.get_offsets().tolist())
        and 'not run by anybody' in [t.get_text() for t in ax.get_legend().get_texts()])
    assert (ax.get_title() == '5 experiments: 2 kept, 0 discarded, 0 crashed, 3 not run'
        and ax.figure._repr_png_())
    nobody = plot_frontier(rows, ran=[False]*5)
    assert ([t.get_text() for t in nobody.texts] == ['no row with a value was run by anybody']
        and nobody.figure._repr_png_())
    assert 'not run' not in plot_frontier(rows).get_title()

def noted(i, status, value, best=0, others=(), **more):
    "Notes of an experiment, and of the runs of the best that it asked for"
    own = [dict(commit=f'{i:07x}', value=value, seed=1)]
    beside = [dict(commit=f'{best:07x}', value=v) for v in others]
    return dict(commit=f'{i:07x}' + 'a'*33, status=status, value=value, runs=own, best_runs=beside,
        best_commit=f'{best:07x}' + 'a'*33 if best else None, **more)
def rows_of(notes):
    return [Row(n['commit'], n['value'], 1., n['status'], f'try {i}') for i,n in enumerate(notes)
        if n['status'] in STATUSES]
def seen_by(notes, direction='lower'):
    rows = rows_of(notes)
    seen = noise_seen(notes, rows)
    return rows, seen, frontier(rows, direction, None, seen.means, seen.bars)

@pytest.mark.parametrize('direction', ['lower', 'higher'])
def test_with_means_of_single_runs_the_staircase_is_the_same(direction):
    rows = walk(60, lambda i: .3)
    if direction == 'higher': rows = [Row(r.commit, -r.value, 1., r.status, '') for r in rows]
    f,g = (frontier(rows, direction, None, means) for means in (None, {}))
    assert (f.running, f.steps, f.best, f.counts, f.gain) == (
        g.running, g.steps, g.best, g.counts, g.gain) and f.won is None
    assert efforts(g) == pytest.approx(efforts(f))

def test_a_later_keep_may_stand_above_a_lucky_row():
    rows,seen,f = seen_by([noted(1, 'keep', 1.), noted(2, 'keep', .8, 1),
        noted(3, 'discard', .9, 2), dict(commit=f'{2:07x}', status='repeat', value=.96),
        noted(4, 'keep', .86, 2, [.97]), noted(5, 'crash', 0., 4)])
    assert seen.means == pytest.approx({rows[0].commit: 1., rows[1].commit: .91,
        rows[3].commit: .86})
    assert f.running == [1., .91, .91, .86, .86] and f.best == rows[3]
    assert [s.gain for s in f.steps] == [0., .09, .05] and f.gain == .14 and f.best_n == 4
    plain = frontier(rows)
    assert plain.running == [1., .8, .8, .8, .8] and plain.best == rows[1]

def test_a_keep_that_proves_worse_stays_the_bar():
    "What the branch holds is what the next must beat, and what the morning finds"
    _,_,f = seen_by([noted(1, 'keep', 1.), noted(2, 'keep', .9, 1),
        noted(3, 'discard', .95, 2, [1.3])])
    assert f.running == [1., 1.1, 1.1] and f.gain == -.1 and f.best.value == 1.1 and not f.hits()

def test_after_a_rewind_gains_are_counted_along_the_branch():
    notes = [noted(1, 'keep', 1.), noted(2, 'keep', .9, 1), noted(3, 'keep', .8, 2),
        noted(4, 'discard', .95, 2), noted(5, 'keep', .85, 2)]
    rows,seen,f = seen_by(notes)
    assert f.running == [1., .9, .8, .9, .85] and f.gain == .15 and f.best == rows[4]
    assert [(s.n, s.gain) for s in f.steps] == [(1, 0.), (2, .1), (3, .1), (5, .05)]
    assert efforts(f) == pytest.approx({2: .2, 3: .15, 5: 1/3})
    assert seen_by(notes[:4])[2].best == rows[1], 'the branch is at the keep it went back to'
    g = frontier(rows)
    assert g.running == [1., .9, .8, .8, .8] and g.best == rows[2] and g.gain == .2

def test_a_break_parts_the_runs_that_are_compared():
    noise = dict(sigma=.01, low=.006, high=.02, df=4)
    again = dict(commit=f'{1:07x}', status='repeat', value=1.02, noise=noise)
    notes = [noted(1, 'keep', 1.), again,
        noted(2, 'keep', .9, 1, noise=noise), noted(3, 'crash', 0., 2, noise=None),
        noted(4, 'discard', .72, 2, [.7], **{'break': 'another\tGPU'}), noted(5, 'keep', .6, 2)]
    rows,seen,f = seen_by(notes)
    assert seen.breaks == ((4, 'another GPU'),)
    assert seen.band == [None, *[Sigma(.01, .006, .02)]*2, None, None]
    assert f.running == [1.01, .9, .9, .7, .6] and f.gain == pytest.approx(.21)
    ax = plot_frontier(rows, **seen._asdict())
    line,*rest = [o for o in ax.lines if o.get_linestyle() == '-']
    assert line.get_xdata()[-1] < 3.5 < rest[0].get_xdata()[0] and len(rest) == 1
    assert [t.get_text() for t in ax.get_legend().get_texts()][2] == (
        '± sigma of a run, 0.01 (0.006 to 0.02)')
    assert 'another GPU' in [t.get_text() for t in ax.texts] and ax.figure._repr_png_()
    low,high = ax.get_ylim()
    assert low < .6 and high > 1.01

ODD = [None, [], 5, 'x', dict(), dict(runs=5, best_runs='x'), dict(status='repeat'),
    dict(commit=7, status='keep', runs=[None, {}, dict(commit='a', value='x')]),
    dict(commit='0000001', status='repeat', value=math.nan), dict(noise=[1]),
    dict(noise=dict(sigma=math.inf, low=1, high=1)), dict(noise=dict(sigma=10**400, low=1, high=2)),
    dict(status=[], commit='0000001'), dict(commit='0000001', status='repeat', value=True)]

def test_odd_notes_say_nothing_of_noise():
    rows = [row(1), row(2)]
    assert noise_seen([said(1), said(2)], rows) == Seen(None, None, None, ())
    seen = noise_seen([*ODD, *[dict(noted(1, 'keep', .5), **{'break': 5})], *ODD], rows)
    assert seen == Seen({row(1).commit: .5}, {}, [None, None], ((1, '5'),))
    assert plot_frontier(rows, **seen._asdict()).figure._repr_png_()
    assert noise_seen(ODD, []) == Seen({}, {}, [], ())

def test_the_command_says_sigma_and_breaks(tmp_path):
    settings(tmp_path)
    noise = dict(sigma=.01, low=.006, high=.02)
    notes = [noted(1, 'keep', 1.), noted(2, 'keep', .9, 1, noise=noise),
        dict(commit=f'{2:07x}', status='repeat', value=.94, **{'class': 'ok'}),
        noted(3, 'discard', .95, 2, [.92])]
    led = Ledger(tmp_path/'results.tsv').create()
    for r in rows_of(notes): led.append(r)
    for i,n in enumerate(notes, 1):
        d = tmp_path/f'runs/nov1/{i:03d}-{n["commit"][:7]}'
        d.mkdir(parents=True)
        (d/'experiment.json').write_text(json.dumps(n))
    (tmp_path/'runs/current.json').write_text('{"tag": "nov1"}')
    out = command(tmp_path).stdout
    assert 'best         0.920000' in out and 'total gain   0.080000' in out
    assert 'sigma        0.010000 of a run, 95 % interval 0.006000 to 0.020000' in out
    assert 'break' not in out
    notes[3]['break'] = 'host: driver 570 -> 580'
    (d/'experiment.json').write_text(json.dumps(notes[3]))
    out = command(tmp_path).stdout
    assert 'break        before #4: host: driver 570 -> 580' in out and 'sigma' not in out

def settings(folder):
    "A checkout's settings, in a folder of their own"
    (folder/'settings.ini').write_text((Path(__file__).parent.parent/'settings.ini').read_text())
    return folder

def command(folder, *args):
    "Run ar-frontier there, with no display and no GPU"
    env = {**os.environ, 'AUTORESEARCH_PROFILE': 'tiny', 'DISPLAY': ''}
    return subprocess.run([Path(sys.executable).parent/'ar-frontier', *args], cwd=folder, env=env,
        capture_output=True, text=True, timeout=200)

def test_command(tmp_path):
    settings(tmp_path)
    no = command(tmp_path)
    assert (no.returncode == 1 and 'no ledger here yet; make an experiment first' in no.stderr
        and 'Traceback' not in no.stderr)
    led = Ledger(tmp_path/'results.tsv').create()
    assert command(tmp_path).returncode == 0, 'an empty ledger has a picture too'
    for r in walk(40, lambda i: .3): led.append(r)
    with open(led.path, 'a') as f: f.write('torn\t')
    (tmp_path/'below').mkdir()
    res = command(tmp_path/'below')
    lines = res.stdout.splitlines()
    assert (res.returncode == 0 and lines[-1] == '../progress.png'
        and 'line 42 is damaged' in res.stderr)
    for word in ('experiments  40:', 'keep rate', 'baseline', 'best', 'total gain', 'top hits'):
        assert any(l.startswith(word) for l in lines)
    assert ((tmp_path/'progress.png').read_bytes().startswith(b'\x89PNG')
        and sorted(p.name for p in tmp_path.iterdir())
            == ['below', 'progress.png', 'results.tsv', 'settings.ini'])
    assert (command(tmp_path, '--out', 'a.svg', '--dark').stdout.splitlines()[-1] == 'a.svg'
        and '<svg' in (tmp_path/'a.svg').read_text())
    assert ('accepted: ' in command(tmp_path, '--out', 'a.doc').stderr
        and 'make the folder first' in command(tmp_path, '--out', 'no/a.png').stderr)

def test_command_on_other_ledgers(tmp_path):
    settings(tmp_path)
    (tmp_path/'theirs.csv').write_text(THEIRS['published'] + '6,0.5,1,perhaps\n')
    r = command(tmp_path, '--ledger', 'theirs.csv')
    assert r.returncode == 0 and r.stderr == (
        'theirs.csv: 1 of 6 rows were not understood and are left out: '
        "status 'perhaps' (1)\n") and 'experiments  5: 3 keep' in r.stdout
    (tmp_path/'theirs.csv').write_text('loss,acc,status\n1,0.5,keep\n2,0.6,keep\n')
    r = command(tmp_path, '--ledger', 'theirs.csv')
    assert r.returncode == 1 and '--metric NAME' in r.stderr and 'Traceback' not in r.stderr
    r = command(tmp_path,
        '--ledger', 'theirs.csv', '--metric', 'acc', '--direction', 'higher') # the way out
    assert r.returncode == 0 and 'best         0.600000' in r.stdout and r.stderr == ''
    r = command(tmp_path, '--ledger', 'theirs.csv', '--metric', 'acc', '--direction', 'up')
    assert (r.returncode == 1 and "direction is 'up'; accepted: lower, higher" in r.stderr
        and 'Traceback' not in r.stderr)

def test_a_picture_whose_name_is_no_utf_8(tmp_path):
    settings(tmp_path)
    Ledger(tmp_path/'results.tsv').create().append(row(1))
    r = command(tmp_path, '--out', b'm\xfc.png')
    assert (r.returncode == 0 and r.stdout.endswith('m\\xfc.png\n')
        and os.path.exists(os.fsencode(tmp_path) + b'/m\xfc.png') and 'Traceback' not in r.stderr)
