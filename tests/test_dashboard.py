"""The dashboard without a browser: what it reads, what it survives, what it never touches."""
import copy as copies
import http.client, json, os, random, re, shutil, signal, socket, subprocess, sys, tempfile, time
from pathlib import Path
import psutil, pytest
from jupyter_client.session import Session as Wire
import lab
from autoresearch.contract import SettingsError, get_profile, install_line, write_json
from autoresearch.dashboard import (AXES, OWN, POLICY, QUIET, ROOM, TRACES, Dashboard, Tinker,
    block_of, curve, executed, free_port, page_notebook, search_line, start_guard,
    sweep_short_runs, tags, trace_of)
from autoresearch.ledger import Ledger, Row, session_notes, vouch
from autoresearch.repo import Refused, Session, locked
from autoresearch.run import processes_of
from autoresearch.search import search_lock

BEAT = dict(first=False, drawn=5, dark=False, width=1280)

@pytest.fixture(scope='module')
def repo(tmp_path_factory):
    "A real session: a baseline, a keep, a discard and a crash"
    root = lab.example(tmp_path_factory.mktemp('dash')/'repo')
    lab.setup(root)
    lab.run(root, 'baseline')
    lab.edit(root, 'DEGREE = 1 ', 'DEGREE = 3 ')
    lab.run(root, 'a cubic <b>')
    lab.edit(root, 'STEPS = 300', 'STEPS = 100')
    lab.run(root, 'fewer steps')
    lab.edit(root, 'budget.step()', 'budget.stepp()')
    lab.run(root, 'no such function')
    lab.ar(root, 'ar-drop')
    return root

@pytest.fixture
def copy(repo, tmp_path): return Path(shutil.copytree(repo, tmp_path/'repo', symlinks=True))

def profile(root): return get_profile('polynomial', root/'settings.ini')
def dashboard(root):
    d = Dashboard(profile(root))
    d.beat(dict(BEAT, first=True))
    assert not d.error.value, d.error.value
    return d
def bare(tmp_path, *rows):
    "A folder that is no repository, with a ledger"
    for f in ('settings.ini', 'canvas.ipynb', 'evaluator.py'):
        shutil.copy(lab.ROOT/'examples/polynomial'/f, tmp_path)
    led = Ledger(tmp_path/'results.tsv', 'rmse').create()
    for r in rows: led.append(r)
    return tmp_path
def vouched(root, row, **notes):
    "A row, and the notes of a run that ended so"
    runs = root/'runs'/lab.TAG
    n = 1 + max(int(d.name.split('-')[0]) for d in runs.glob('[0-9]*-*'))
    folder = runs/f'{n:03d}-{row.commit}'
    write_json(folder/'experiment.json', dict(dir=folder.name, commit=row.commit, status=row.status,
        value=row.value, **{'class': 'ok'}, block=dict(rmse=row.value, training_seconds=.3),
        started=time.time()-1, time=time.time(), seconds=1., reason='invented', **notes))
    Ledger(root/'results.tsv', 'rmse').append(row)
    return folder
def trace(d, name): return d.fig.data[TRACES.index(name)]
def state(root):
    "All that a look must not change: every file but git's own caches, and where the branches are"
    files = {f: (f.read_bytes(), f.stat().st_mtime_ns) for f in root.rglob('*')
        if f.is_file() and '.git' not in f.relative_to(root).parts}
    return files, lab.git(root, 'for-each-ref'), lab.git(root, 'status', '--porcelain')

def test_a_real_session(repo):
    before = state(repo)
    d = dashboard(repo)
    assert [len(d.on[s]) for s in ('keep', 'discard', 'crash')] == [2, 1, 1]
    assert (d.number() == 2 and 'a cubic &lt;b&gt;' in d.one.value
        and '<b>' not in d.one.value.split('</h2>')[0])
    assert ('-DEGREE = 1' in d.diff.value and '+DEGREE = 3' in d.diff.value
        and 'hparams' in d.diff.value)
    assert 'rmse' in d.log.value and 'not instructions' in d.log.value
    assert d.one_fig.data[1].y and d.link.outputs[0]['data']['text/plain'].endswith('run.ipynb')
    d.select(4)
    assert 'stepp' in d.diff.value and 'AttributeError' in d.log.value
    d.select(1)
    assert 'nothing was changed' in d.diff.value
    for kind in AXES: d.axis.value = kind
    assert len(d.fig.data[3].x) == 2 and d.fig.data[3].x[1] > d.fig.data[3].x[0] > 0
    assert state(repo) == before

def test_filters_and_clicks(repo):
    d = dashboard(repo)
    d.shown['keep'].value = False
    assert not len(d.fig.data[3].x) and len(d.fig.data[0].x) == 1 and not d.fig.layout.annotations
    d.shown['keep'].value,d.range.value = True, (2, 3)
    assert (list(d.fig.data[3].x) == [2]
        and [a.text for a in d.fig.layout.annotations] == ['a cubic &lt;b&gt;'])
    class Points: point_inds = [0]
    d.clicked(d.fig.data[0], Points, None)
    assert d.chosen == 3 and 'fewer steps' in d.one.value and list(d.fig.data[-1].x) == [3]
    d.asked(dict(query='cubic'))
    assert [r['n'] for r in d.table.view['rows']] == [2]
    d.asked(dict(query='', sort='value', down=False))
    assert ([r['n'] for r in d.table.view['rows']][0] == 2
        and d.table.view['rows'][-1]['n'] == 4), 'what has no value is last'

def test_zoom_stays(copy):
    d = dashboard(copy)
    d.fig.layout.xaxis.range = (1.5, 2.5)
    assert len(d.fig.layout.annotations) == 1
    vouched(copy, Row('abcdef0', .01, 0, 'keep', 'from elsewhere'))
    d.beat(BEAT)
    assert tuple(d.fig.layout.xaxis.range) == (1.5, 2.5) and len(d.fig.data[3].x) == 3
    d.axis.value = 'gpu'
    assert d.fig.layout.xaxis.range[1] < 1

def test_appended_meanwhile(copy):
    d = dashboard(copy)
    led = Ledger(copy/'results.tsv', 'rmse')
    led.append(Row('abcdef1', .2, 0, 'discard', 'one more'))
    d.beat(BEAT)
    assert len(d.feed.rows) == 5 and d.range.value == (1, 5)
    d.range.value = (1, 3)
    with open(led.path, 'a') as f: f.write('0badbad\t0.9')
    d.beat(BEAT)
    assert 'line 7, is damaged' in d.error.value and len(d.feed.rows) == 5
    led.append(Row('abcdef2', .2, 0, 'discard', 'after it'))
    d.beat(BEAT)
    assert len(d.feed.rows) == 6 and d.range.value == (1, 3), 'a range that was set stays'
    d.select(6)
    assert 'Git has no commit abcdef2' in d.diff.value and 'No folder' in d.log.value

def test_nothing_is_sent_where_nothing_changed(repo):
    d = dashboard(repo)
    seen = []
    for o in (d.table, d.one, d.diff, d.log, d.top, d.head, d.link): o.observe(seen.append)
    d.fig.observe(seen.append)
    for _ in range(3): d.beat(BEAT)
    assert not seen

def test_another_metric_is_said_and_recovered_from(copy):
    d = dashboard(copy)
    text = (copy/'results.tsv').read_text()
    (copy/'results.tsv').write_text(text.replace('rmse', 'val_bpb'))
    d.beat(BEAT)
    assert 'column 2 is val_bpb, but the metric is rmse' in d.error.value
    (copy/'results.tsv').write_text(text)
    d.beat(BEAT)
    assert not d.error.value

@pytest.mark.parametrize('rows', [(), [('crash', 0.)]*3, [('keep', 1.)], [('discard', 1.)]],
    ids=['empty', 'crashes', 'baseline', 'discard'])
def test_first_minutes_and_no_git(tmp_path, rows):
    d = dashboard(bare(tmp_path, *(
        Row(f'aaaaaa{i}', v, 0, s, f'try {i}') for i,(s,v) in enumerate(rows))))
    assert tags(d.p) == [''] and len(d.on['crash']) == sum(s == 'crash' for s,_ in rows)
    assert any('no experiments yet' in a.text for a in d.fig.layout.annotations) == (not rows)
    for kind in AXES: d.axis.value = kind
    if rows:
        d.select(1)
        assert 'No git repository' in d.diff.value
        assert 'not known of any of these runs' in d.fig.layout.annotations[0].text

def test_no_ledger_yet(tmp_path):
    root = bare(tmp_path)
    (root/'results.tsv').unlink()
    d = dashboard(root)
    Ledger(root/'results.tsv', 'rmse').append(Row('aaaaaa1', 1., 0, 'keep', 'first'))
    d.beat(BEAT)
    assert len(d.feed.rows) == 1

def test_what_an_agent_wrote_is_text(tmp_path):
    evil = '<img src=x onerror=alert(1)><script>alert(2)</script> $x^2$'
    d = dashboard(bare(tmp_path, *(Row(f'aaaaaa{i}', 1-.1*i, 0, 'keep', evil) for i in range(3))))
    d.select(2)
    shown = [d.one.value, d.diff.value, d.log.value, d.top.value, d.tiles.value, d.head.value,
        *d.fig.data[3].hovertext, *(a.text for a in d.fig.layout.annotations)]
    assert not any('<img' in s or '<script' in s for s in shown) and '&lt;img' in d.one.value
    assert not any('$' in a.text for a in d.fig.layout.annotations)

def test_sessions(copy):
    lab.git(copy, 'switch', '-q', 'main')
    lab.ar(copy, 'ar-setup', 'nov2')
    d = dashboard(copy)
    assert d.known == ['nov2', lab.TAG] and not d.feed.rows
    d.tag.value = lab.TAG
    assert len(d.feed.rows) == 4 and '-DEGREE = 1' in d.diff.value
    d.tag.value = 'nov2'
    lab.git(copy, 'switch', '-q', 'main')
    lab.ar(copy, 'ar-setup', 'nov3')
    d.beat(BEAT)
    assert d.tag.value == 'nov3', 'who looked at the current session goes on with the next'

def test_now(copy):
    "The running experiment, of a real supervisor"
    lab.edit(copy, 'STEPS = 300', 'STEPS = 301')
    lab.edit(copy, 'budget.step()\\n', 'budget.step(); time.sleep(.02)\\n')
    lab.ar(copy, 'ar-run', '-m', 'slow <i>one</i>', '--background')
    d = dashboard(copy)
    lab.until(lambda: (d.beat(BEAT), 'slow &lt;i&gt;one' in d.now.value)[1])
    assert 'runs by 08:00 local time' in d.tiles.value
    (copy/'runs/older').mkdir()
    (copy/'runs/older/state.json').write_text('{"tag": "older", "created": 1}')
    d.beat(BEAT)
    d.tag.value = 'older'
    assert (f'in session {lab.TAG}: slow &lt;i&gt;one' in d.now.value
        and 'runs by 08:00' not in d.tiles.value)
    d.tag.value = lab.TAG
    d.tinker.start()
    assert 'an experiment is running' in d.tinker.said.value and d.tinker.run is None
    lab.ar(copy, 'ar-wait', ok=False)
    lab.until(lambda: (d.beat(BEAT),
        'Nothing is running' in d.now.value and len(d.feed.rows) == 5)[1])
    assert 'an experiment is running' not in d.tinker.said.value
    assert d.now_box.layout.display is None, 'nothing jumps between two runs'
    assert 'runs by 08:00' not in d.tiles.value, 'no forecast while nothing runs'
    for n in d.feed.runs: n['time'] -= 86400
    d.beat(BEAT)
    assert d.now_box.layout.display == 'none' and 'runs by 08:00' not in d.tiles.value

@pytest.mark.parametrize('text', ['{"curve":' + '['*5000, '{"curve": [[1, 2]]}', '{"curve": null}',
    '{"curve": "abc"}', '{"curve": [null, [1, 2, "x"], [1, NaN, 2]]}',
    '{"curve": [[1, 2, 1' + '0'*400 + ']]}', '[]'])
def test_odd_curves(copy, text):
    for f in (copy/'runs').rglob('progress.json'): f.write_text(text)
    d = dashboard(copy)
    assert not d.one_fig.data[1].x and d.one_fig.layout.annotations[0].text == 'no loss curve here'
    f.write_text('{"curve": [[1, 2], [0, 0.5, 3.0]]}')
    assert curve(f.parent) == [[.5], [3.]]

def test_damaged_notes_cost_what_is_damaged(copy):
    "What is sound is shown, the folder is found by its name, and nothing is decided by such notes"
    files = sorted((copy/'runs').rglob('experiment.json'))[1:3]
    whole = {f: json.loads(f.read_text()) for f in files}
    for bad in [dict(commit=None), dict(commit=5), dict(seconds=None), dict(time='noon'),
            dict(started=[]), dict(block=None), dict(parent={}), dict(seed='x'), dict(status=4)]:
        for f,n in whole.items():
            f.write_text(json.dumps({k: v for k,v in {**n, **bad}.items()
                if v is not None or k in ('seconds', 'block')}))
        d = Dashboard(profile(copy))
        d.beat(dict(BEAT, first=True))
        names = ', '.join(f.parent.name for f in files)
        assert (f'gone or damaged in {names}: what else the folder holds is shown'
            in d.error.value), bad
        assert 'nobody foresaw' not in d.error.value, d.error.value
        for kind in AXES: d.axis.value = kind
        told = not {'commit', 'status'} & {*bad}
        assert len(d.feed.rows) == 4 and d.feed.ran == [True, told, told, True], bad
        assert told or d.feed.f.best.commit == whole[files[0]]['parent'][:7], bad
        d.select(2)
        assert 'a cubic' in d.one.value and ('no run of this session' in d.one.value) != told
        assert 'rmse' in d.log.value and d.one_fig.data[1].y and d.link.outputs, bad
        assert ('better than' in d.one.value
            and ('<span>seconds</span>' in d.one.value) == ('seconds' not in bad))
    assert 'report.html' in lab.ar(copy, 'ar-report').stdout

@pytest.mark.parametrize('noted,told', [
    (dict(examined='refused', examination=dict(ok=False, reason='its value is <b>')),
        dict(examined='refused: its value is &lt;b&gt;')),
    (dict(examined='no', examination='by --no-examine', walls='none',
        held=dict(why='by --walls none')),
        dict(examined='no: by --no-examine', walls='none: by --walls none')),
    (dict(examined='yes', examination=dict(ok=True, reason=''), walls='bwrap', held=dict(why='x')),
        dict(examined='yes')),
    (dict(examined=['yes'], walls='none', held=['why']), dict(walls='none')),
    (dict(examined='odd', examination=5, walls=dict(none=1), held=dict(why=5)), {})])
def test_what_held_a_run_is_among_its_facts(copy, noted, told):
    f = sorted((copy/'runs').rglob('experiment.json'))[1]
    f.write_text(json.dumps({**json.loads(f.read_text()), **noted}))
    d = dashboard(copy)
    d.select(2)
    shown = dict(re.findall(r'<span>(walls|examined)</span><div>(.*?)</div>', d.one.value))
    assert 'a cubic' in d.one.value and shown == told

def change(root, number, **more):
    "Other notes for an experiment"
    f = next((root/'runs'/lab.TAG).glob(f'{number:03d}-*'))/'experiment.json'
    f.write_text(json.dumps({**json.loads(f.read_text()), **more}))

def test_noise_is_seen(copy):
    "Means, sigma and its band, certainty, repeats that make no row, a break of the line"
    first,best,bad,_ = Dashboard(profile(copy)).feed.rows
    change(copy, 1, runs=[dict(commit=first.commit, value=first.value)])
    noise = dict(sigma=.01, low=.005, high=.03, df=4)
    change(copy, 2, runs=[dict(commit=best.commit, value=best.value + o) for o in (0, .02)],
        best_commit=first.commit, certainty=.9987, gain=dict(gain=.5, error=.07, df=4),
        rows=dict(gain=.51, error=.003, rows=200, documents=40), noise=noise)
    change(copy, 3, best_commit=best.commit, saved=.5, noise=noise, **{'class': 'early'})
    again = copy/'runs'/lab.TAG/f'005-{best.commit}'
    write_json(again/'experiment.json', {**json.loads(next((copy/'runs'/lab.TAG).glob(
        '002-*/experiment.json')).read_text()), 'status': 'repeat', 'value': best.value + .04,
        'dir': again.name, 'runs': [dict(commit=best.commit, value=best.value + .04)]})
    d = dashboard(copy)
    mean = round(best.value + .02, 6)
    assert len(d.feed.rows) == 4 and d.feed.f.best.value == pytest.approx(mean)
    assert f'{mean:.6f}' in d.tiles.value and '0.010000</b>' in d.tiles.value
    shown = re.findall(r'<span>(.*?)</span><div>(.*?)</div>', d.one.value)
    assert [k for k,_ in shown[:2]] == ['rmse', 'sure that it is better'], 'first what is sure'
    shown = dict(shown)
    assert (shown['sure that it is better'] == '99.87 %'
        and shown['gain, by the noise of training'] == '0.500000 ± 0.070000'
        and shown['gain, by the choice of text'].startswith('0.510000 ± 0.003000 (200 rows')
        and shown['run again by itself'] == f'{best.value + .04:.6f}')
    assert trace(d, 'keep').y[1] == d.feed.f.best.value and '± sigma 0.010000' in d.legend.value
    band = trace(d, 'band')
    assert min(band.x) == 2 and max(band.x) == 4 and not d.fig.layout.shapes
    assert max(band.y) - min(band.y) == pytest.approx(.02)
    d.select(3)
    assert 'at 50% of its budget, 50% saved' in d.one.value
    change(copy, 3, **{'break': 'GPU: <b>A</b>'})
    d = dashboard(copy)
    line = trace(d, 'best')
    assert None in line.y and [s.x0 for s in d.fig.layout.shapes] == [2.5]
    words = [a.text for a in d.fig.layout.annotations]
    assert 'GPU: &lt;b&gt;A&lt;/b&gt;' in words
    for kind in AXES: d.axis.value = kind
    assert not d.error.value and d.fig.layout.shapes[0].x0 is not None

def test_a_fault_at_the_start_is_said_and_recovered_from(copy):
    text = (copy/'results.tsv').read_text()
    (copy/'results.tsv').write_text(text.replace('rmse', 'val_bpb'))
    d = Dashboard(profile(copy))
    assert 'the metric is rmse' in d.error.value
    d.beat(dict(BEAT, first=True))
    assert ('the metric is rmse' in d.error.value and hasattr(d.fig, '_config')
        and len(d.fig_box.children) == 1)
    (copy/'results.tsv').write_text(text)
    d.beat(BEAT)
    assert not d.error.value and len(d.fig.data[3].x) == 2

def test_a_session_has_its_own_settings(copy):
    "Another profile of this process, and a budget that was changed since"
    text = (copy/'settings.ini').read_text().replace('time_budget = 0.3', 'time_budget = 7')
    (copy/'settings.ini').write_text(text + '\n[other]\nmetric = score\ndirection = higher\n')
    d = Dashboard(get_profile('other', copy/'settings.ini'))
    d.beat(dict(BEAT, first=True))
    assert not d.error.value and 'profile polynomial: rmse, lower is better, 0.3 s' in d.head.value
    assert ('best rmse' in d.tiles.value
        and d.fig.layout.yaxis.title.text == 'rmse (lower is better)'
        and '<span>rmse</span>' in d.one.value)
    f = copy/'runs'/lab.TAG/'state.json'
    f.write_text(json.dumps({**json.loads(f.read_text()), 'profile': 'gone'}))
    assert 'there is no profile &#x27;gone&#x27;' in Dashboard(profile(copy)).error.value

def test_the_staircase_spans_the_range(repo):
    d = dashboard(repo)
    line = lambda: (list(d.fig.data[2].x), list(d.fig.data[2].y))
    values = [r.value for r in d.feed.rows]
    assert line() == ([1, 2, 4], [values[0], values[1], values[1]])
    d.range.value = (3, 4)
    assert line() == ([3, 4], [values[1]]*2), 'what was best before the range is its start'
    assert d.fig.layout.xaxis.dtick == 1 and d.fig.layout.xaxis.tickformat == 'd'

def test_a_row_without_notes_does_not_cut_the_staircase(copy):
    Ledger(copy/'results.tsv', 'rmse').append(Row('abcdef0', 9., 0, 'discard', 'from elsewhere'))
    d = dashboard(copy)
    d.axis.value = 'gpu'
    assert len(d.fig.data[2].x) == 3 and d.fig.data[2].x[-1] == d.data.x[3] and d.data.x[4] is None

def test_the_whole_picture_is_ours_again(copy):
    d = dashboard(copy)
    want = tuple(d.fig.layout.xaxis.range)
    d.fig.layout.xaxis.range = (1.5, 2.5)
    d.fig.layout.xaxis.autorange = True # what a double-click sends
    assert tuple(d.fig.layout.xaxis.range) == want and not d.fig.layout.xaxis.autorange
    vouched(copy, Row('abcdef0', .01, 0, 'keep', 'from elsewhere'))
    d.beat(BEAT)
    assert d.fig.layout.xaxis.range[1] > want[1], 'and goes on with the session'
    assert (d.fig._config['doubleClick'] == 'autosize'
        and 'resetScale2d' in d.fig._config['modeBarButtonsToRemove'])

def test_legend(repo):
    d = dashboard(repo)
    assert 'discarded (1)' in d.legend.value and '1 discards' not in d.legend.value
    d.shown['discard'].value = False
    assert 'discarded (hidden)' in d.legend.value and 'kept (2)' in d.legend.value

def test_filters_wrap_in_a_narrow_window(tmp_path):
    d = dashboard(bare(tmp_path))
    def inside(box): return [box, *(i for o in getattr(box, 'children', ()) for i in inside(o))]
    filters = next(o for o in inside(d.box) if d.range in getattr(o, 'children', ()))
    assert filters.layout.flex_flow == 'row wrap'

def test_a_crash_has_no_block(repo):
    d = dashboard(repo)
    d.select(4)
    assert ('---' not in d.one.value and '<pre>' not in d.one.value
        and block_of(dict(block=dict(rmse=.5))).startswith('<pre>---'))

def finished(d): return lab.until(lambda: (d.beat(BEAT), not d.tinker.go.disabled)[1])

def test_tinker_touches_nothing(repo):
    d,before = dashboard(repo), state(repo)
    d.tinker.knobs['DEGREE'].value,d.tinker.seconds.value = 5, .5
    d.tinker.start()
    where,nonce = d.tinker.run.dir, d.tinker.run.nonce
    assert not where.is_relative_to(repo) and d.tinker.go.disabled and not d.tinker.halt.disabled
    finished(d)
    r = d.tinker.run.result
    assert (r.ok and r.block['depth'] == 5 and 'not an experiment' in d.tinker.said.value
        and d.tinker.fig.data[1].y)
    assert r.record['clock']['budget'] == .5 and state(repo) == before
    d.tinker.run.close()
    assert not where.exists() and not processes_of(nonce)

def test_tinker_shows_what_it_runs(copy):
    "A knob that was moved stays, every other follows the canvas, and the run says how it differs"
    d = dashboard(copy)
    d.tinker.knobs['DEGREE'].value = 5
    (lab.edit(copy, 'STEPS = 100', 'STEPS = 200')
        if 'STEPS = 100' in (copy/'canvas.ipynb').read_text()
        else lab.edit(copy, 'STEPS = 300', 'STEPS = 200'))
    d.beat(BEAT)
    assert d.tinker.knobs['STEPS'].value == 200 and d.tinker.knobs['DEGREE'].value == 5
    lab.edit(copy, 'STEPS = 200', 'STEPS = 250')
    d.tinker.seconds.value = .3
    d.tinker.start() # before a beat saw the canvas
    assert d.tinker.knobs['STEPS'].value == 250 and d.tinker.what == 'DEGREE 3 -> 5'
    finished(d)
    assert d.tinker.said.value.count('DEGREE 3') == 1 and 'not an experiment' in d.tinker.said.value
    d.tinker.run.close()

def test_short_runs_of_dead_processes_are_removed(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, 'tempdir', str(tmp_path))
    dead = subprocess.Popen(['true'])
    dead.wait()
    for n in (dead.pid, os.getpid()): (tmp_path/f'autoresearch-tinker-{n}-abc').mkdir()
    sweep_short_runs()
    assert [d.name for d in tmp_path.iterdir()] == [f'autoresearch-tinker-{os.getpid()}-abc']

def test_tinker_is_stopped_by_hand_and_by_an_experiment(copy):
    lab.edit(copy, 'budget.step()\\n', 'budget.step(); time.sleep(.05)\\n')
    # so that the experiment is still there to be stopped
    lab.edit(copy, '"evaluate(coefs)', '"time.sleep(5); evaluate(coefs)')
    d = dashboard(copy)
    for way in ('hand', 'experiment'):
        d.tinker.seconds.value = 10
        d.tinker.start()
        run = d.tinker.run
        lab.until(lambda: (run.dir/'progress.json').exists())
        if way == 'hand': d.tinker.halt.click()
        else: lab.ar(copy, 'ar-run', '-m', 'the real one', '--background')
        finished(d)
        assert run.stopped and 'stopped' in d.tinker.said.value and not processes_of(run.nonce)
    assert 'interrupted' in lab.ar(copy, 'ar-stop', ok=False).stdout

def slow_panel(root):
    "A panel whose short run would take minutes, at work"
    lab.edit(root, 'budget.step()\\n', 'budget.step(); time.sleep(.05)\\n')
    panel = Tinker(profile(root))
    panel.seconds.value = 100
    panel.start()
    lab.until(lambda: (panel.run.dir/'progress.json').exists(), 60)
    return panel

def test_tinker_makes_way_though_nobody_looks(copy):
    "The page is hidden: no beat comes, and the short run ends when an experiment begins"
    panel = slow_panel(copy)
    with locked(panel.p, what='an experiment', token='x'):
        lab.until(lambda: panel.run.done, 30)
    panel.tick(([], []))
    assert 'stopped: an experiment began' in panel.said.value, panel.said.value
    assert not processes_of(panel.run.nonce) and panel.run.guard.poll() is not None
    panel.run.close()

def test_tinker_ends_by_its_own_clock(copy, monkeypatch):
    "Even where the runner's is not heard"
    monkeypatch.setattr('autoresearch.dashboard.start_guard', lambda p, nonce, _:
        start_guard(p, nonce, 4))
    panel = slow_panel(copy)
    lab.until(lambda: panel.run.done, 30)
    panel.tick(([], []))
    assert 'stopped: its time was up' in panel.said.value and not processes_of(panel.run.nonce)
    panel.run.close()

def test_tinker_ends_with_its_kernel(copy):
    "Which is killed, so that nothing of it can end anything; a child in a session of its own"
    lab.edit(copy, 'budget.step()\\n', 'budget.step(); time.sleep(.05)\\n')
    lab.edit(copy, '"import math, random, time\\n', '"import math, random, time\\n",\n'
        '    "import subprocess\\n",\n'
        '    "subprocess.Popen([\'sleep\', \'300\'], start_new_session=True)\\n')
    code = ('import time; from autoresearch.dashboard import ShortRun, get_profile\n'
        f's = ShortRun(get_profile("polynomial", {str(copy/"settings.ini")!r}), dict(), 100.)\n'
        'print(s.nonce, s.guard.pid, s.folder.name, flush=True)\ntime.sleep(200)')
    kernel = subprocess.Popen([sys.executable, '-c', code], env=lab.environ(), cwd=lab.ROOT,
        stdout=subprocess.PIPE, text=True)
    nonce,pid,folder = kernel.stdout.readline().split()
    lab.until(lambda: [p for p in processes_of(nonce) if 'sleep' in p.name()], 60)
    lab.until(lambda: psutil.Process(int(pid)).cpu_times().user > .1)
    kernel.kill()
    kernel.wait()
    lab.until(lambda: not processes_of(nonce) and not psutil.pid_exists(int(pid)), 30)
    sweep_short_runs()
    assert not Path(folder).exists()

def test_tinker_says_what_is_wrong(copy):
    d = dashboard(copy)
    lab.edit(copy, 'STEPS = 300 ', 'STEPS = 9000')
    d.beat(BEAT)
    assert 'lies outside' in d.tinker.said.value
    d.tinker.start()
    assert 'lies outside' in d.tinker.said.value and d.tinker.run is None

def test_an_executed_notebook_shows_the_canvas_pictures(copy):
    "They lie beside the canvas, not beside the run"
    run = next((copy/'runs'/lab.TAG).glob('001-*/run.ipynb'))
    nb = json.loads(run.read_text())
    picture = dict(cell_type='markdown', id='picture', metadata={},
        source='![a dot](images/dot.png)')
    run.write_text(json.dumps({**nb, 'cells': [*nb['cells'], picture]}))
    (copy/'images').mkdir()
    (copy/'images/dot.png').write_bytes((lab.ROOT/'nbs/images/band.png').read_bytes())
    text = executed(profile(copy), lab.TAG, run.parent.name)
    assert 'alt="a dot"' in text and 'images/dot.png' not in text, 'embedded'

def test_only_notebooks_of_runs_are_served(repo, tmp_path):
    p = profile(repo)
    run = next(f.parent.name for f in (repo/'runs'/lab.TAG).glob('001-*/run.ipynb'))
    text = executed(p, lab.TAG, run)
    assert 'Gradient' in text.title() and "default-src 'none'" in POLICY and 'sandbox;' in POLICY
    (tmp_path/run).mkdir()
    (tmp_path/run/'run.ipynb').write_text('{}')
    (repo/'runs'/'001-abcdefg').symlink_to(tmp_path/run)
    for tag,name in [('..', run), (lab.TAG, '..'), (lab.TAG, '999-abcdefg'), ('.', '001-abcdefg'),
            (f'../runs/{lab.TAG}', 'base')]:
        with pytest.raises(FileNotFoundError): executed(p, tag, name)
    (repo/'runs'/'001-abcdefg').unlink()

def test_command_says_what_is_wrong(repo):
    with socket.socket() as taken:
        taken.bind(('127.0.0.1', 0))
        taken.listen()
        port = taken.getsockname()[1]
        r = lab.ar(repo, 'ar-dashboard', '--port', port, ok=False)
        assert (r.returncode == 1 and f'port {port} is not free' in r.stderr
            and 'Traceback' not in r.stderr)
    hidden = ("import sys; sys.modules['voila'] = None; sys.argv = ['ar-dashboard']; "
        "from autoresearch.dashboard import ar_dashboard; ar_dashboard()")
    r = lab.sh(repo, sys.executable, '-c', hidden, ok=False)
    assert (r.returncode == 1
        and f'voila not installed here: {install_line("dashboard")}' in r.stderr
        and 'Traceback' not in r.stderr)
    with pytest.raises(Refused, match='accepted: 1 to 65535'): free_port(0)

def test_import_needs_no_extra():
    "The package without the extra: the module imports, and loads neither torch nor plotly"
    code = ("import sys; sys.modules.update(plotly=None, anywidget=None, voila=None); "
        "import autoresearch.dashboard; print('torch' in sys.modules)")
    assert lab.sh(lab.ROOT, sys.executable, '-c', code).stdout.strip() == 'False'

def test_page_is_the_last_cells(repo):
    nb = page_notebook(profile(repo))
    assert ([c['id'] for c in nb['cells']] == ['where', 'page-imports', 'page']
        and str(repo) in nb['cells'][0]['source'])

def test_a_row_that_nobody_ran_is_marked_and_decides_nothing(copy):
    before = dashboard(copy)
    row = before.feed.rows[1]
    led = Ledger(copy/'results.tsv', 'rmse')
    led.append(Row('abcdef0', .001, 0, 'keep', 'by hand'))
    led.append(Row(row.commit, .001, 0, 'keep', 'a commit that ran, with another value'))
    led.append(row) # one note vouches for one row
    led.append(Row('abcdef1', 0, 0, 'crash', 'a crash by hand'))
    d = dashboard(copy)
    assert d.feed.ran == [True]*4 + [False]*4 and d.feed.f.counts.get('unproven') == 4
    f,was = d.feed.f, before.feed.f
    assert (f.best, f.baseline, f.steps) == (was.best, was.baseline, was.steps)
    assert list(trace(d, 'unproven').x) == [5, 6, 7, 8] and len(trace(d, 'keep').x) == 2
    assert max(d.fig.data[2].y) <= was.baseline.value and min(d.fig.data[2].y) == was.best.value
    low,high = d.fig.layout.yaxis.range
    assert all(low <= y <= high for y in trace(d, 'unproven').y), 'seen, wherever it would lie'
    assert ('that no run vouches for (4)' in d.legend.value
        and '4 that no run vouches for' in d.tiles.value)
    d.select(5)
    assert 'no run of this session ended with this commit' in d.one.value
    cells = next(r['cells'] for r in d.table.view['rows'] if r['n'] == 5)
    assert 'no run vouches for it' in cells and 'by hand' in cells
    class Points: point_inds = [1]
    d.clicked(trace(d, 'unproven'), Points, None)
    assert d.chosen == 6
    d.shown['keep'].value = False
    assert list(trace(d, 'unproven').x) == [8], 'the filters hold for them, too'

def test_page_and_terminal_agree_on_what_was_run(copy):
    led = Ledger(copy/'results.tsv', 'rmse')
    led.append(Row('abcdef0', .001, 0, 'keep', 'by hand'))
    f = next((copy/'runs'/lab.TAG).glob('001-*/experiment.json'))
    f.write_text(json.dumps({**json.loads(f.read_text()), 'time': 'noon'}))
    d = Dashboard(profile(copy))
    assert d.feed.ran == vouch(d.feed.rows, session_notes(f.parent.parent)) == [True]*4 + [False]
    write_json(f.parent.parent/'journal.json',
        dict(run_dir='005-abcdef0', row=d.feed.rows[4].line(), commit='abcdef0'))
    (f.parent.parent/'005-abcdef0').mkdir() # appended, its notes about to be written
    d.beat(dict(BEAT, first=True))
    assert d.feed.ran == vouch(d.feed.rows, session_notes(f.parent.parent)) == [True]*5

def drop(path): shutil.rmtree(path) if path.is_dir() else path.unlink()
GONE = dict(
    ledger=('results.tsv', drop,
        'results.tsv is gone or empty: the rows below are what the notes of 4 runs say'),
    emptied=('results.tsv', lambda f: f.write_text(''), 'results.tsv is gone or empty'),
    header=('results.tsv', lambda f: f.write_text(f.read_text().split('\n')[0] + '\n'),
        'results.tsv is gone or empty'),
    row=('results.tsv', lambda f: f.write_text(''.join(f.read_text().splitlines(True)[:-2])),
        'results.tsv lacks the row of 003-'),
    folder=('results.tsv', lambda f: (f.unlink(), f.mkdir()), 'Is a directory'),
    state=(f'runs/{lab.TAG}/state.json', drop, 'state.json is gone or damaged'),
    torn=(f'runs/{lab.TAG}/state.json', lambda f: f.write_text('{"tag": '),
        'state.json is gone or damaged'),
    current=('runs/current.json', drop, 'current.json is gone or damaged'),
    deep=('runs/current.json', lambda f: f.write_text('{"tag":'*5000),
        'current.json is gone or damaged'),
    session=(f'runs/{lab.TAG}', drop, f'runs/{lab.TAG} is gone or empty'),
    runs=('runs', drop, f'runs is gone or empty, with notes, logs and notebooks. '
        f'Git still has the commits (4 of {lab.TAG};'),
    notes=(f'runs/{lab.TAG}/001-*/experiment.json', drop,
        'experiment.json is gone or damaged in 001-'))

@pytest.mark.parametrize('what', GONE)
def test_what_is_gone_is_said_and_is_no_beginning(copy, what):
    path,damage,said = GONE[what]
    d = dashboard(copy)
    damage(next(copy.glob(path)))
    for page in (d, Dashboard(profile(copy))): # one that was open, and one that is opened then
        if what == 'notes' and page is d: continue # it has read them
        page.beat(dict(BEAT, first=page is not d))
        assert (said in page.error.value
            and 'nobody foresaw' not in page.error.value), page.error.value
        assert len(page.feed.rows) == (2 if what == 'row' else 4), 'the rest is shown'
        assert ('a cubic' in str(page.table.view)
            and 'no experiments yet' not in str(page.fig.layout.annotations))

@pytest.mark.parametrize('what', ['ledger', 'emptied', 'row', 'state', 'current', 'session',
    'runs'])
def test_the_way_out_leads_out(copy, what):
    "Where the page says that ar-status puts it back, it does, and the page has nothing more to say"
    path,damage,_ = GONE[what]
    before = (copy/'results.tsv').read_text()
    damage(next(copy.glob(path)))
    d = Dashboard(profile(copy))
    assert 'ar-status' in d.error.value
    lab.ar(copy, 'ar-status')
    d.beat(dict(BEAT, first=True))
    assert (not d.error.value and (copy/'results.tsv').read_text() == before
        and d.feed.ran == [True]*4)

def test_the_ledger_comes_back(copy):
    d,text = dashboard(copy), (copy/'results.tsv').read_text()
    (copy/'results.tsv').unlink()
    d.beat(BEAT)
    assert ('gone or empty' in d.error.value
        and d.feed.f.best.value == float(text.split('\n')[2].split('\t')[1]))
    (copy/'results.tsv').write_text(text)
    d.beat(BEAT)
    assert not d.error.value and len(d.feed.rows) == 4

def test_the_reason_comes_first(copy):
    d = dashboard(copy)
    d.select(4)
    first = re.search(r'<div class="ar-facts"><span>(.+?)</span><div>(.+?)</div>', d.one.value)
    assert first[1] == 'why' and 'AttributeError' in first[2]
    cells = next(r['cells'] for r in d.table.view['rows'] if r['n'] == 4)
    assert (any(c.startswith('error: AttributeError') for c in cells)
        and 'AttributeError' in trace(d, 'crash').hovertext[0])
    f = next((copy/'runs'/lab.TAG).glob('004-*/experiment.json'))
    n = json.loads(f.read_text())
    f.write_text(json.dumps({**n, 'class': 'untrusted',
        'reason': 'untrusted: training took 33.9 s of a budget of 20 s', 'exit': 'SIGSEGV'}))
    d = dashboard(copy)
    d.select(4)
    assert re.search(r'<div class="ar-facts"><span>why</span><div>untrusted: training took 33.9 s',
        d.one.value)
    assert '<span>exit</span><div>SIGSEGV</div>' in d.one.value

def test_speed_and_what_was_odd(copy):
    fast = vouched(copy, Row('abcdef0', .01, 0, 'keep', 'fast'), steps=953, rate=1.63e6)
    vouched(copy, Row('abcdef1', .02, 0, 'discard', 'slow'), steps=760, rate=1.3e6, overran=3.25,
        disturbed='two processes beside it')
    vouched(copy, Row('abcdef2', .02, 0, 'discard', 'like it'), steps=942, rate=1.61e6)
    d = dashboard(copy)
    d.select(6)
    assert ('steps 760 (best 953)' in d.one.value
        and '20 % fewer steps and 20 % slower than the best' in d.one.value)
    assert ('<span>disturbed</span><div>two processes beside it' in d.one.value
        and '<span>overran</span><div>3.2 s' in d.one.value)
    cells = next(r['cells'] for r in d.table.view['rows'] if r['n'] == 6)
    assert ('760' in cells and '1,300,000' in cells
        and 'ok: disturbed: two processes beside it; overran by 3.2 s' in cells)
    d.select(7)
    assert ('steps 942 (best 953)' in d.one.value and '-1.2 %' in d.one.value
        and 'than the best' not in d.one.value)
    d.select(1)
    assert 'steps 300 (best 953' in d.one.value, 'notes without them: from the block'
    d.select(5)
    assert 'steps 953,' in d.one.value and fast.exists(), 'the best beside nobody'

def test_the_search_is_told(copy):
    s,f = Session(profile(copy), lab.TAG), copy/'runs'/lab.TAG/'search.json'
    asked = dict(trials=16, hours=0., seed=0, sampler='tpe')
    def line(**more):
        write_json(f, dict(name='search-0c0ffe', asked=asked, spent=0., edit='', **more))
        d = dashboard(copy)
        said = search_line(s)
        assert said.replace("'", '&#x27;') in d.now.value
        return said
    head = 'search search-0c0ffe (trials 16 sampler tpe)'
    with search_lock(s):
        assert line(open=True, ended=None) == (
            f'{head} is at work (process {os.getpid()}); ar-stop ends it')
        at = time.mktime((2026, 11, 25, 4, 12, 0, 0, 0, -1))
        wait = line(open=True, ended=None, waiting=dict(reason='README.md was changed', since=at))
        assert wait == f'{head} waits since 2026-11-25 04:12:00: README.md was changed'
    assert 'ended at 2026-11-25 04:12:00: the disk is full (code 1)' in line(
        open=True, ended=dict(time=at, code=1, why='the disk is full'))
    assert 'is over' in line(open=False)
    code = ('import sys, time, autoresearch.search as a, autoresearch.ratchet as r\n'
        'with a.search_lock(r.Session(a.get_profile(), sys.argv[1])): '
        'print(1, flush=True); time.sleep(60)')
    proc = subprocess.Popen([sys.executable, '-c', code, lab.TAG], cwd=copy, env=lab.environ(),
        stdout=subprocess.PIPE)
    proc.stdout.readline()
    assert f'is at work (process {proc.pid})' in line(open=True, ended=None)
    proc.kill()
    proc.wait()
    assert 'died without a word' in line(open=True, ended=None)
    lock = json.loads((f.parent/'search.lock').read_text())
    (f.parent/'search.lock').write_text(json.dumps({**lock, 'pid': os.getpid(), 'since': 1e9}))
    assert 'died without a word' in line(open=True, ended=None), (
        'a number that another process bears since')
    for odd in ('[]', '{"name": "search-0c0ffe", "open": true}',
            '{"name": 5, "asked": 7, "waiting": "x", "ended": [1]}', '{"a":'*5000):
        f.write_text(odd)
        assert not dashboard(copy).error.value and search_line(s) == '', (
            'what ar-status does not believe, the page does not')

ODD = [float('nan'), float('inf'), -1, 0, 10**400, 1e299, 'text', '', None, True, [], {}, [None],
    {'a': float('nan')}, '\ud800', '<script>', 'x'*100_000]
def deep(n=3000): return '['*n + ']'*n

def spots(o, path=()):
    "Every place in a JSON object"
    items = o.items() if isinstance(o, dict) else enumerate(o) if isinstance(o, list) else ()
    for k,v in items:
        yield (*path, k)
        yield from spots(v, (*path, k))

def mangled(rng, text):
    "A JSON text with one fault in it"
    how = rng.choice(['value']*6 + ['key', 'cut', 'empty', 'bytes', 'deep', 'within'])
    if how == 'cut': return text[:rng.randrange(len(text))].encode()
    if how in ('empty', 'bytes'): return b'' if how == 'empty' else rng.randbytes(50)
    if how == 'deep': return (deep() if rng.random() < .5 else '{"a":'*3000).encode()
    obj = json.loads(text)
    at = rng.choice(list(spots(obj)))
    last = obj
    for k in at[:-1]: last = last[k]
    if how == 'key' and isinstance(last, dict): del last[at[-1]]
    elif how == 'within':
        return json.dumps(obj).replace(json.dumps(last[at[-1]]), deep(), 1).encode()
    else: last[at[-1]] = copies.deepcopy(rng.choice(ODD))
    return json.dumps(obj).encode()

def spoil(rng, root):
    "Damage one to three things that a run, a hand or a disk may damage; returns what"
    runs,done = root/'runs'/lab.TAG, []
    files = [f for f in (root/'runs').rglob('*')
        if f.is_file() and f.suffix in ('.json', '.ipynb', '.log') and 'base' not in f.parts]
    for f in rng.sample([*files, root/'results.tsv', runs/'search.json', runs/'journal.json'],
            rng.randint(1, 3)):
        way = rng.choice(['gone', 'folder', 'fifo'] + ['inside']*9)
        data = f.read_bytes() if f.is_file() else (
            b'{"name": "search-0c0ffe", "open": true, "asked": {"trials": 4}, '
            b'"run_dir": "001-aaaaaaa", "commit": "abcdef0"}')
        f.unlink(missing_ok=True)
        if way == 'folder': f.mkdir()
        elif way == 'fifo' and f.suffix != '.tsv': os.mkfifo(f)
        elif way == 'inside' and f.suffix in ('.json', '.ipynb'):
            f.write_bytes(mangled(rng, data.decode()))
        elif way == 'inside':
            lines = data.split(b'\n')
            lines[rng.randrange(len(lines))] = rng.choice([b'', rng.randbytes(30), b'x'*10**6,
                b'abcdef0\t1e308\t0\tkeep\tx', b'abcdef0\tnan\t-1\tkept\tx', lines[0]])
            f.write_bytes(b'\n'.join(lines))
        done.append((str(f.relative_to(root)), way))
    return done

@pytest.mark.parametrize('seed', range(4))
def test_the_page_is_total(repo, tmp_path, seed):
    """Whatever the files of a session hold, no part of the page fails, every row is there, and all
    of it can be sent"""
    rng,wire = random.Random(seed), Wire(key=b'test')
    for i in range(8):
        root = Path(shutil.copytree(repo, tmp_path/f'{seed}-{i}', symlinks=True))
        what = spoil(rng, root)
        d = Dashboard(profile(root))
        d.beat(dict(BEAT, first=i == 0)) # pictures for a browser are slow to make
        rows = len(d.feed.rows)
        for n in range(1, rows+1):
            d.select(n)
            assert f'{d.feed.called(n)} ' in d.one.value, what
        for kind in AXES: d.axis.value = kind
        d.beat(dict(BEAT, dark=True))
        assert 'nobody foresaw' not in d.error.value and not d.stopped, (what, d.error.value)
        ledger = any(f == 'results.tsv' for f,_ in what)
        assert rows == 4 or ledger and (rows >= 1 and (rows > 2 or d.error.value)), (what, rows)
        assert len(d.table.view['rows']) == rows, what
        for o in (d.head, d.error, d.tiles, d.now, d.legend, d.one, d.diff, d.log, d.top, d.table):
            wire.serialize(wire.msg('comm_msg', content=dict(data=o.get_state())))
        for fig in (d.fig, d.one_fig, d.now_fig): fig.to_json().encode()
        shutil.rmtree(root)

def test_a_log_of_one_endless_line(copy):
    folder = next((copy/'runs'/lab.TAG).glob('004-*'))
    with open(folder/'run.log', 'wb') as f:
        for _ in range(200): f.write(b'x'*2**20)
        f.write(b'\nAttributeError: the last word\n')
    d = dashboard(copy)
    t0 = time.process_time()
    d.select(4)
    assert (time.process_time()-t0 < 2 and 'the last word' in d.log.value
        and 'run.log is of 200 MiB' in d.log.value and len(d.log.value) < 9000)
    with open(folder/'run.ipynb', 'wb') as f: f.truncate(200*2**20)
    d.select(4)
    assert 'the last word' in d.log.value
    with pytest.raises(Refused, match='has 200 MiB, too much for a page: it lies in runs/'):
        executed(d.p, lab.TAG, folder.name)
    (folder/'run.ipynb').write_text('{"cells": [{"source": "x"}, 5]}')
    with pytest.raises(Refused, match='the notebook can not be shown'):
        executed(d.p, lab.TAG, folder.name)
    os.remove(folder/'run.log')
    d.select(4)
    assert 'left no log' in d.log.value

@pytest.mark.parametrize('text', ['', '[]', '{"cells": 5}', '{"cells": [5]}',
    '{"cells": [{"source": "x"}]}', '{"cells":'*5000, None])
def test_a_canvas_that_is_none(copy, text):
    (copy/'canvas.ipynb').unlink()
    if text is not None: (copy/'canvas.ipynb').write_text(text)
    d = dashboard(copy)
    d.tinker.start()
    assert d.tinker.run is None and not d.stopped and len(d.feed.rows) == 4
    assert 'canvas.ipynb' in d.tinker.said.value, d.tinker.said.value

def test_a_fault_that_nobody_foresaw_has_its_traceback(copy, monkeypatch):
    d = dashboard(copy)
    monkeypatch.setattr('autoresearch.dashboard.tiles', lambda *a: 1/0)
    d.beat(dict(BEAT, dark=True))
    assert 'nobody foresaw, ZeroDivisionError' in d.error.value and '1/0' in d.error.value
    assert 'a cubic' in d.one.value and len(d.table.view['rows']) == 4, 'the rest goes on'
    monkeypatch.undo()
    d.beat(BEAT)
    assert not d.error.value

def other(root):
    text = (root/'settings.ini').read_text()
    (root/'settings.ini').write_text(text + '\n[other]\nmetric = score\ndirection = higher\n')

def test_another_profile_is_refused(copy, monkeypatch):
    other(copy)
    for args,env in [(['--profile', 'other'], {}), ([], dict(AUTORESEARCH_PROFILE='other'))]:
        r = lab.ar(copy, 'ar-dashboard', *args, ok=False, **env)
        assert (r.returncode == 1 and 'polynomial' in r.stderr and 'other' in r.stderr
            and 'Traceback' not in r.stderr), r
    monkeypatch.chdir(copy)
    monkeypatch.setenv('AUTORESEARCH_PROFILE', 'other')
    with pytest.raises(SettingsError, match='polynomial.*other|other.*polynomial'): Dashboard()
    monkeypatch.setenv('AUTORESEARCH_PROFILE', '')
    # a page that stood open before the session began
    monkeypatch.setenv('AUTORESEARCH_PAGE', 'other')
    assert Dashboard().p.name == 'polynomial'
    drop(copy/'runs')
    assert Dashboard().p.name == 'other', 'no session: what ar-dashboard was asked for'

class Served:
    "`ar-dashboard` over a checkout, as a process of its own"
    def __init__(self, root, **env):
        with socket.socket() as s:
            s.bind(('127.0.0.1', 0))
            self.port = s.getsockname()[1]
        self.log = root.parent/f'dashboard-{self.port}.log'
        with open(self.log, 'w') as log:
            self.proc = subprocess.Popen([lab.BIN/'ar-dashboard', '--port', str(self.port)],
                cwd=root, env={k: v for k,v in lab.environ(**env).items() if k not in QUIET},
                stdout=log, stderr=log, start_new_session=True)
        said = lab.until(lambda: re.search(r'http://localhost:\d+/\?token=(\S+)',
            self.log.read_text()), 60)
        self.token = said[1]
        def up():
            with socket.socket() as s: return s.connect_ex(('127.0.0.1', self.port)) == 0
        lab.until(up, 60)
    def ask(self, path='/', method='GET', **headers):
        "(status, headers, body) of a request, redirects not followed"
        c = http.client.HTTPConnection('localhost', self.port, timeout=15)
        c.request(method, path, headers={k.replace('_', '-'): v for k,v in headers.items()})
        r = c.getresponse()
        return r.status, r.headers, r.read()
    def kernels(self):
        return [p for p in psutil.Process(self.proc.pid).children(recursive=True)
            if 'ipykernel_launcher' in p.cmdline()]
    def close(self):
        self.proc.send_signal(signal.SIGINT)
        self.proc.wait(30)
        assert 'Traceback' not in self.log.read_text()

@pytest.fixture(scope='module')
def served(repo):
    s = Served(repo)
    yield s
    s.close()

def paths(root):
    "An address of every kind that is served"
    run = next(f.parent.name for f in (root/'runs'/lab.TAG).glob('001-*/run.ipynb'))
    return ['/', f'/executed/{lab.TAG}/{run}', '/voila/static/voila.js',
        '/voila/templates/base/static/voila.js', '/voila/files/dashboard.ipynb',
        '/voila/labextensions/a',
        '/voila/api/themes/@jupyterlab/theme-light-extension/index.css', '/no/such/page',
        '/api/kernels/00000000-0000-0000-0000-000000000000',
        '/api/kernels/00000000-0000-0000-0000-000000000000/channels',
        '/voila/api/shutdown/00000000-0000-0000-0000-000000000000']

@pytest.mark.parametrize('given', ['none', 'wrong', 'empty', 'header', 'cookie'])
def test_nothing_is_served_without_the_token(repo, served, given):
    "For every path; a kernel does not start"
    query = dict(wrong=f'?token={served.token[:-1]}x', empty='?token=').get(given, '')
    headers = dict(header=dict(Authorization='token é'), cookie=dict(
        Cookie=f'username-localhost-{served.port}=2|1:0|10:1|9:username|4:eHh4|0')).get(given, {})
    headers = {k: v.encode('utf8') for k,v in headers.items()}
    for path in paths(repo):
        for method in ('GET', 'HEAD', 'POST', 'PUT', 'DELETE'):
            status,said,body = served.ask(path + query, method, **headers)
            assert status in (302, 403), (path, method, status)
            assert status != 302 or said['Location'].startswith('/login?next='), path
            assert 'set-cookie' not in said or 'username-' not in said['set-cookie'] or (
                'expires=' in said['set-cookie']), 'cleared, at most'
            assert served.token.encode() not in body and b'gradient descent' not in body
    status,_,body = served.ask('/login')
    assert status == 200 and b'<form' in body and served.token.encode() not in body
    assert not served.kernels()

def test_the_token_opens_and_leaves_a_cookie(repo, served):
    where = paths(repo)[1]
    status,said,body = served.ask(f'{where}?token={served.token}')
    cookie = said['Set-Cookie']
    assert status == 200 and b'gradient descent' in body
    assert 'HttpOnly' in cookie and 'SameSite=Strict' in cookie and served.token not in cookie
    mine = dict(Cookie=cookie.split(';')[0])
    for path in paths(repo)[1:4]: assert served.ask(path, **mine)[0] == 200, path
    assert served.ask(where, Authorization=f'token {served.token}')[0] == 200
    for site in ('cross-site', 'same-site', 'odd'):
        for path in paths(repo)[:4]:
            assert served.ask(path, **mine, Sec_Fetch_Site=site)[0] == 403, (path, site)
    for site in ('none', 'same-origin'):
        assert served.ask(where, **mine, Sec_Fetch_Site=site)[0] == 200
    for origin in ('http://evil.example.org', 'null', f'http://localhost:{served.port+1}'):
        assert served.ask('/', **mine, Origin=origin)[0] == 403, origin
    assert served.ask(where, **mine, Origin=f'http://localhost:{served.port}')[0] == 200
    link = served.ask(f'{where}?token={served.token}', Sec_Fetch_Site='cross-site')
    assert link[0] == 200, 'from a mail, or a terminal in a browser'
    for host in ('evil.example.org', f'evil.example.org:{served.port}', '192.0.2.7'):
        for path in paths(repo): # a name that another page made point here
            assert served.ask(f'{path}?token={served.token}', Host=host)[0] == 403, (path, host)
    assert not served.kernels(), 'nothing of it has started one'

def test_a_kernel_does_not_have_the_token(served):
    status,_,body = served.ask(f'/?token={served.token}')
    assert status == 200 and b'voila' in body and served.token.encode() not in body
    kernel = lab.until(served.kernels)[0]
    cookie = served.ask(f'/voila/static/voila.js?token={served.token}')[1]['Set-Cookie']
    number = re.search(rb'"kernelId":\s*"([\w-]+)"', body)[1].decode()
    assert kernel.environ() and served.token not in str(kernel.environ())
    for p in (kernel, psutil.Process(served.proc.pid)): assert served.token not in str(p.cmdline())
    socket_ = f'/api/kernels/{number}/channels'
    upgrade = dict(Connection='Upgrade', Upgrade='websocket', Sec_WebSocket_Version='13',
        Sec_WebSocket_Key='dGhlIHNhbXBsZSBub25jZQ==')
    mine = dict(Cookie=cookie.split(';')[0])
    assert served.ask(socket_, **upgrade)[0] == 403, 'no token'
    assert served.ask(socket_, **upgrade, **mine, Origin='http://evil.example.org')[0] == 403
    c = http.client.HTTPConnection('localhost', served.port, timeout=15)
    own = dict(Origin=f'http://localhost:{served.port}')
    c.request('GET', socket_, headers={k.replace('_', '-'): v for k,v in
        {**upgrade, **mine, **own}.items()})
    assert c.getresponse().status == 101
    c.close()
    close = f'/voila/api/shutdown/{number}'
    assert served.ask(close, 'POST')[0] == 403 and served.kernels()
    assert served.ask(close, 'POST', **mine, Origin='http://evil.example.org')[0] == 403
    assert served.ask(close, 'POST', **mine, **own)[0] == 204, 'a page that closes'
    lab.until(lambda: not served.kernels())

def test_the_page_gives_way(copy):
    """Server and kernel are nice, their numerical libraries have one thread, and a short run has
    its own again; a token that is known beforehand stays between server and person"""
    other(copy) # more than one profile: the session decides
    s = Served(copy, JUPYTER_TOKEN='a word, known & kept')
    try:
        assert s.token == 'a%20word%2C%20known%20%26%20kept'
        assert b'voila' in s.ask(f'/?token={s.token}')[2]
        kernel = lab.until(s.kernels)[0]
        assert psutil.Process(s.proc.pid).nice() == kernel.nice() == min(
            19, psutil.Process().nice()+10)
        env = kernel.environ()
        assert ({k: env.get(k) for k in QUIET} == QUIET and env['AUTORESEARCH_PAGE'] == 'polynomial'
            and 'AUTORESEARCH_PROFILE' not in env and 'JUPYTER_TOKEN' not in env)
        assert 'a word, known' not in str(env)
        assert not [l for l in Path(f'/proc/{kernel.pid}/maps').read_text().splitlines()
            if 'libtorch' in l]
    finally: s.close()

def test_a_short_run_has_its_threads(repo):
    where = page_notebook(profile(repo), ('OMP_NUM_THREADS',))['cells'][0]['source']
    code = where + ("\nprint(os.environ.get('OMP_NUM_THREADS'), "
        "'libopenblas' in open('/proc/self/maps').read())")
    r = lab.sh(repo, sys.executable, '-c', code, OMP_NUM_THREADS='1')
    assert r.stdout.split()[0] == 'None'

def test_the_notebook_opens_clean():
    "No output is a widget of a kernel that is gone: JupyterLab would show an error in its place"
    nb = json.loads((lab.ROOT/'nbs/31_dashboard.ipynb').read_text())
    kept = [c['id'] for c in nb['cells'] for o in c.get('outputs', [])
        if any('widget' in k for k in o.get('data', {}))]
    assert not kept and 'widgets' not in nb['metadata']

def status_of(root, **more):
    "A swarm's status as its driver writes it, of this process"
    row = Ledger(root/'results.tsv', 'rmse').read()[0][1]
    def slot(i, **o): return dict(slot=f'ant/{i}', host='ant', what='1 CPU core', cls='c1', **o)
    curve = [[i, i/10, 2/(i+1), i/50, None] for i in range(40)]
    slots = [slot(0, home=True, job='s005', key='s005/1', whose='candidate', seed=42,
            commit=row.commit, description='wider <b>', agent='ann', since=time.time()-9,
            progress=dict(percent=40., loss=.05, time=time.time(), curve=curve)),
        slot(1, home=False, job='s006', key='s006/2', whose='best', seed=43, commit=row.commit,
            description='deeper', agent='', since=time.time()-3, progress={}),
        slot(2, home=True, job='', key='', since=time.time(), progress={})]
    queue = [dict(job=f's{i:03d}', description=f'waits <i>{i}', agent='bob', state='queued',
        created=time.time()) for i in range(7, 30)]
    queue.append({**queue[0], 'job': 's005', 'state': 'running'}) # in a slot, so it does not wait
    found = dict(time=time.time(), pid=os.getpid(), address='local', state='running',
        since=time.time(), slots=slots, queue=queue, done=4, kept=2, crashed=1, lost=1,
        per_hour=120., idle=.25, writes_per_second=.1)
    write_json(root/'runs'/lab.TAG/'swarm/status.json', {**found, **more})

def lanes_of(root, n=6):
    "The lines of runs that have ended, the last torn"
    commits = [r.commit for r in Ledger(root/'results.tsv', 'rmse').read()[0]]
    lines = [json.dumps(dict(slot=f'ant/{i%2}', host='ant', job=f's{i:03d}', key=f's{i:03d}/1',
        whose='candidate', commit=commits[i%4] + 'a'*33, seed=42, began=1.7e9+10*i,
        ended=1.7e9+10*i+15, status='lost' if i == 4 else 'ok', value=.5)) for i in range(n)]
    (root/'runs'/lab.TAG/'swarm/lanes.jsonl').write_text('\n'.join([*lines, lines[0][:40]]))

def test_a_swarm(copy):
    "Pool, queue, runs by GPU, rates, lanes; how its driver ended; no short run beside it"
    d = dashboard(copy)
    assert d.swarm_box.layout.display == 'none' and not d.swarm.value
    status_of(copy)
    lanes_of(copy)
    d.beat(BEAT)
    told = d.swarm.value
    assert '2 of 3 slots busy on 1 host, 23 queued, 120.0 experiments an hour, 25.0 % idle' in told
    assert '4 done, 2 kept, 1 crashed, 1 lost' in told and d.swarm_box.layout.display is None
    assert 'wider &lt;b&gt;' in told and 'for ann' in told and 'the best again' in told
    assert told.count('<svg') == 2 and told.count('of another class') == 1 and 'and 11 more' in told
    lanes = d.lanes.value
    assert lanes.count('class="ar-lane"') == 2 and lanes.count('<i ') == 6
    assert [lanes.count(f'<i class="ar-lane-{k}"') for k in ('keep', 'discard', 'crash', 'lost')] == [
        3, 1, 1, 1]
    assert 'The swarm runs 2 at once' in d.now.value and 'runs by 08:00' in d.tiles.value
    d.tinker.start()
    assert d.tinker.run is None and 'an experiment is running' in d.tinker.said.value
    for more,words in [(dict(state='stopped'), 'ended at'), (dict(state='draining'), 'draining: '),
            (dict(pid=2**31-1, time=1.7e9), 'died without a word')]:
        status_of(copy, **more)
        d.beat(BEAT)
        assert words in d.swarm.value, d.swarm.value
    assert 'ar-swarm start goes on' in d.swarm.value and 'Nothing is running' in d.now.value
    seen = []
    for o in (d.swarm, d.lanes, d.elsewhere): o.observe(seen.append)
    for _ in range(2): d.beat(BEAT)
    assert not seen and not d.error.value
    status_of(copy, slots=[dict(slot=f's{i}', host=f'h{i%9}', key='s1/1') for i in range(256)])
    d.beat(BEAT)
    assert '256 of 256 slots busy on 9 hosts' in d.swarm.value
    assert 'and 192 more slots' in d.swarm.value
    assert d.tag.value == lab.TAG and not d.error.value

@pytest.mark.parametrize('seed', range(2))
def test_a_swarm_whose_files_are_damaged(copy, seed):
    "Whatever stands in them, the page goes on"
    rng = random.Random(seed)
    folder = copy/'runs'/lab.TAG/'swarm'
    d = dashboard(copy)
    for i in range(40):
        status_of(copy)
        lanes_of(copy)
        for f in rng.choice([('status.json',), ('lanes.jsonl',), ('status.json', 'lanes.jsonl')]):
            data = (folder/f).read_text().split('\n')
            at = rng.randrange(len(data)-(f == 'lanes.jsonl'))
            (folder/f).unlink()
            way = rng.choice(['gone', 'fifo', 'folder'] + ['inside']*7)
            if way == 'fifo': os.mkfifo(folder/f)
            elif way == 'folder': (folder/f).mkdir()
            elif way == 'inside' and f == 'lanes.jsonl':
                data[at] = mangled(rng, data[at]).decode('utf8', 'replace')
                (folder/f).write_text('\n'.join(data))
            elif way == 'inside': (folder/f).write_bytes(mangled(rng, '\n'.join(data)))
        d.beat(BEAT)
        assert not d.error.value and not d.stopped, (seed, i, d.error.value)
        for o in (d.swarm, d.lanes): o.value.encode()
        shutil.rmtree(folder)

def night(d): return dict(re.findall(r'<span>(.*?)</span><div>(.*?)</div>', d.night.value))

def test_what_happened_while_i_slept(copy):
    "Kept, tried, lost to what; the best and how sure; when and why it stopped; what to do now"
    d = dashboard(copy)
    told = night(d)
    assert told['tried'] == '4: 2 kept, 1 discarded, 1 crashed' and told['lost to'].startswith('1 × error')
    best = d.feed.f.best
    assert told['best'].startswith(f'{best.value:.6f}, #2 a cubic &lt;b&gt;; how sure is not known')
    assert 'nobody left a word' in told['stopped'] and 'ask the agent' in told['to do']
    assert 'goes on' not in told
    change(copy, 2, certainty=.9987, runs=[dict(commit=best.commit, value=best.value)]*2)
    assert '99.87 % sure' in night(dashboard(copy))['best']
    lab.ar(copy, 'ar-setup', '--more', '--hours', '1e-3')
    lab.until(lambda: 'used up' in night(dashboard(copy))['stopped'])
    told = night(dashboard(copy))
    assert 'h are used up' in told['stopped'] and 'ar-setup --more' in told['to do'], told
    lab.ar(copy, 'ar-setup', '--more', '--hours', '8')
    d = dashboard(copy)
    with locked(d.p, what='a run', token='x'):
        write_json(copy/'runs'/lab.TAG/'journal.json', dict(run_dir='005-abcdef0',
            description='a <i>try', started=time.time(), commit='abcdef0'*5 + 'abcde'))
        d.beat(BEAT)
        told = night(d)
        assert told['goes on'] == 'an experiment is under way: a &lt;i&gt;try' and 'h' in told['limits']
        assert 'stopped' not in told and 'ar-stop' in told['to do'] and 'CPU use' in d.machine.value
    (copy/'runs'/lab.TAG/'journal.json').unlink()
    d.beat(BEAT)
    assert 'goes on' not in night(d) and not d.machine.value, 'nothing runs, nothing is sampled'
    for i in range(3): vouched(copy, Row(f'bad000{i}', 0, 0, 'crash', 'too wide'))
    d.beat(BEAT)
    assert 'the last 4 experiments crashed' in night(d)['stopped'] and '#7' in night(d)['to do']

def test_an_experiment_has_one_number(copy):
    "That of its folder, as ar-show takes it: in table, card, hover, curves and report; repeats count"
    from autoresearch.report import collect, find_session
    lab.edit(copy, 'STEPS = 300', 'STEPS = 299')
    lab.ar(copy, 'ar-drop')
    lab.ar(copy, 'ar-run', '--repeat')
    lab.edit(copy, 'STEPS = 300', 'STEPS = 200')
    lab.run(copy, 'after a repeat')
    folder = max((copy/'runs'/lab.TAG).glob('006-*')).name
    d = dashboard(copy)
    d.select(5)
    assert '<h2>#6 after a repeat' in d.one.value and folder in d.one.value
    assert {r['n']: r['cells'][0] for r in d.table.view['rows']}[5] == '6'
    assert any('#6  after a repeat' in t for o in d.fig.data for t in o.text or ()) or any(
        '#6' in str(o.hovertext) for o in d.fig.data)
    d.asked(dict(query='#6'))
    assert [r['called'] for r in d.table.view['rows']] == ['#6']
    shown = lab.ar(copy, 'ar-show', '6').stdout
    assert 'after a repeat' in shown and folder.split('-')[1] in shown
    found = collect(find_session(lab.TAG, 'polynomial', str(copy)))
    assert [e.number for e in found.experiments] == ['1', '2', '3', '4', '6']
    vouched(copy, Row('abcdef3', 9., 0, 'discard', 'vouched'))
    Ledger(copy/'results.tsv', 'rmse').append(Row('abcdef4', 9., 0, 'discard', 'by hand'))
    d.asked(dict(query=''))
    d.beat(BEAT)
    assert {r['n']: r['called'] for r in d.table.view['rows']}[7] == 'row 7'

def test_page_and_report_say_the_same_of_the_end(copy):
    """A search that ended, a run ended by ar-stop, a branch of ar-finish: one sentence and one time;
    what ar-stop ended has a line of its own"""
    import html as entities
    from autoresearch.report import collect, find_session, happened
    def both():
        told = {k: entities.unescape(v) for k,v in night(dashboard(copy)).items()}
        said = dict(happened(collect(find_session(lab.TAG, 'polynomial', str(copy)))))
        assert told['stopped'].endswith(f': {said["why"]}'), (told, said)
        assert told['to do'].startswith(said['what to do'])
        when = told['stopped'].partition(',')[0]
        at = time.mktime(time.strptime(when, '%Y-%m-%d %H:%M:%S'))
        assert time.strftime('%Y-%m-%d %H:%M UTC', time.gmtime(at)) == said['stopped']
        return told, said
    both()
    lab.edit(copy, 'budget.step()', 'budget.step(); time.sleep(.2)')
    lab.ar(copy, 'ar-run', '-m', 'slowly', '--background')
    lab.until(lambda: list((copy/'runs'/lab.TAG).glob('005-*/progress.json')))
    lab.ar(copy, 'ar-stop', ok=False)
    lab.ar(copy, 'ar-wait', ok=False)
    told,said = both()
    assert said['why'].startswith('run 005') and 'was ended from outside' in told['stopped']
    assert 'slowly' in told['ended from outside'] and 'slowly' in said['ended from outside']
    lab.ar(copy, 'ar-drop', ok=False)
    lab.ar(copy, 'ar-finish', '--no-report')
    told,_ = both()
    assert f'ar-finish made the branch {lab.TAG}-series' in told['stopped']

def test_a_night_that_has_not_begun(tmp_path):
    told = night(dashboard(bare(tmp_path)))
    assert 'nothing was run yet' in told['stopped'] and 'ar-run -m &quot;baseline' in told['to do']

def test_a_first_click_sorts_the_better_end_first(repo):
    d = dashboard(repo)
    def values(): return [float(r['cells'][2]) for r in d.table.view['rows'] if r['cells'][2]]
    d.asked(dict(sort='value'))
    assert values() == sorted(values()) and len(values()) == 3
    d.asked(dict(sort='value'))
    assert values() == sorted(values(), reverse=True), 'a second click turns it round'
    firsts = {}
    for c in ('memory', 'gain', 'steps', 'n', 'seconds', 'effort', 'rate'):
        d.asked(dict(sort=c))
        firsts[c] = d.table.view['down']
    assert firsts == dict(memory=False, gain=True, steps=True, n=True, seconds=False, effort=False,
        rate=True)
    d.asked(dict(query='no <such> words'))
    assert d.table.view['none'] == "nothing here has 'no <such> words' in it"

def test_a_slider_shows_what_the_run_will_use(repo):
    d = dashboard(repo)
    rows = {r.children[0].value: r.children for r in d.tinker.panel.children}
    canvas = (repo/'canvas.ipynb').read_text()
    for name,(_,slider,said) in rows.items():
        assert re.search(rf'{name} = {re.escape(said.value)}\b', canvas), 'its own text'
        slider.value = slider.value*.7371 if name == 'RATE' else slider.value-1
    _,change = d.tinker.changes()
    moved = {name: said.value for name,(_,_,said) in rows.items()
        if not re.search(rf'{name} = {re.escape(said.value)}\b', canvas)}
    assert change == moved and 'RATE' in moved and len(moved) > 1

def many_rows(root, n, runs=0):
    "A ledger of `n` rows, the last `runs` of which have folders with a curve of 600 points"
    led = Ledger(root/'results.tsv', 'rmse')
    rng,best,rows = random.Random(0), 1., []
    folder = root/'runs'/lab.TAG
    if runs: write_json(root/'runs/current.json', dict(tag=lab.TAG))
    if runs: write_json(folder/'state.json', dict(tag=lab.TAG, base='b'*40, profile='polynomial'))
    for i in range(1, n+1):
        value = best + rng.gauss(.0015, .001)
        status = 'keep' if value < best or i == 1 else 'discard'
        best = min(best, value)
        row = Row(f'{rng.getrandbits(28):07x}', value, 1., status, f'idea {i}')
        rows.append(row.line())
        if i > n-runs: made_run(folder/f'{i:05d}-{row.commit}', row)
    led.path.write_text('\n'.join([led.header, *rows, '']))
    return led

def progress(points=600, tokens=2**19, **more):
    "A progress.json as a canvas of today writes it"
    curve = [[s, s/2, 3+6/s, s/points, [.04, .6, .95, .2, tokens], 1+9/s]
        for s in range(1, points+1)]
    return dict(dict(percent=100., curve=curve, schedule_names=['matrices', 'embedding', 'momentum',
        'weight decay', 'tokens a step'],
        columns='step seconds loss fraction schedule grad_norm'.split()), **more)

def made_run(folder, row, **more):
    "A run's folder with notes that vouch for a row, and a curve"
    write_json(folder/'experiment.json', dict(commit=row.commit, status=row.status,
        value=row.value, block=dict(rmse=row.value, training_seconds=.3), **{'class': 'ok'},
        **more), durable=False)
    write_json(folder/'progress.json', progress(), durable=False)

def test_refresh_of_ten_thousand(tmp_path):
    "At 10,000 rows a new one costs less than half a second of a core"
    root = bare(tmp_path)
    led = many_rows(root, 10_000)
    d = dashboard(root)
    took = []
    for i in range(5):
        led.append(Row(f'abcdef{i}', 2., 1., 'discard', 'one more'))
        t0 = time.thread_time()
        d.beat(BEAT)
        took.append(time.thread_time()-t0)
    assert len(d.feed.rows) == 10_005 and sorted(took)[2] < .5, took

def test_the_page_beside_a_run(tmp_path):
    """A minute of an open page, a run under way and three hundred curves over each other, costs
    less than a tenth of a core; the picture has points for the eye and no more"""
    root = bare(tmp_path)
    many_rows(root, 400, runs=300)
    d = dashboard(root)
    d.overlay.last.value = 300
    drawn = sum(len(t.x) for t in d.overlay.fig.data if t.name == 'line')
    assert 300*20 < drawn < 1.2*ROOM, drawn
    folder = root/'runs'/lab.TAG/'999999-abcdef0'
    folder.mkdir()
    write_json(folder.parent/'journal.json', dict(run_dir=folder.name, description='under way',
        started=time.time()))
    spent = 0.
    with locked(profile(root), what='the test', token='x'):
        for i in range(20):
            write_json(folder/'progress.json', progress(15*i+2, time=time.time()))
            t0 = time.thread_time()
            d.beat(BEAT)
            spent += time.thread_time()-t0
            line = trace_of(d.overlay.fig, 1, 'line') # behind the best
            assert len(line.x) == min(15*i+2, 30+10) or len(line.x) > 25, len(line.x)
    assert 'under way' in d.now.value and 'under way' in line.text[0] and spent < 6, spent

def lines_in(d): return {trace_of(d.overlay.fig, i, 'line').text[0]: trace_of(d.overlay.fig, i, 'line')
    for i in range(OWN) if len(trace_of(d.overlay.fig, i, 'line').x)}

@pytest.fixture
def curved(copy):
    "The real session with curves as a canvas of today writes them"
    folders = sorted((copy/'runs'/lab.TAG).glob('[0-9]*-*'))
    for i,f in enumerate(folders[:3]): write_json(f/'progress.json', progress(40+i))
    return copy, folders

def test_curves_over_each_other(curved):
    "Any runs, of loss, gradient or rates, against steps, tokens or time; ticks compare two"
    root,folders = curved
    d = dashboard(root)
    assert [k.split()[0] for k in lines_in(d)] == ['#2', '#3', '#1'], 'the best, then the newest'
    d.asked(dict(tick=1, on=True))
    assert d.overlay.last.value == 0 and [k.split()[0] for k in lines_in(d)] == ['#2', '#1']
    d.asked(dict(tick=2, on=True))
    assert [r['ticked'] for r in d.table.view['rows']] == [False, False, True, True]
    assert '-DEGREE = 1' in d.overlay.between.value and '+DEGREE = 3' in d.overlay.between.value
    o,names = d.overlay, list(lines_in(d))
    o.against.value = 'tokens'
    assert max(lines_in(d)['#1 baseline'].x) == 40*2**19/1e6
    o.what.value = 'rates'
    words = {t for l in lines_in(d).values() for t in l.text}
    assert words == {f'{k}: {r}' for k in names for r in ('matrices', 'embedding')}, words
    d.asked(dict(tick=1, on=False))
    assert len(lines_in(d)) == 2, 'of a single run each rate has a colour'
    d.asked(dict(tick=1, on=True))
    o.what.value = 'momentum'
    assert lines_in(d)['#1 baseline'].y == pytest.approx(.95)
    o.what.value,o.against.value,o.group.value = 'grad_norm', 'seconds', 'outcome'
    assert set(lines_in(d)) == {'keep, 2 lines'} # each a group, its mean
    assert len(trace_of(o.fig, 0, 'band').x), 'of two there is a band'
    o.clear()
    assert not o.ticked and not any(r['ticked'] for r in d.table.view['rows'])

def test_what_a_run_does_not_tell_is_said(curved):
    "Files of older canvases have no gradient, no schedule, no names; nothing stops, the picture says it"
    root,folders = curved
    old = progress(30, columns=['step', 'seconds', 'loss'], schedule_names=None)
    for f in folders[:3]: write_json(f/'progress.json', dict(old, curve=[o[:3] for o in old['curve']]))
    d = dashboard(root)
    said = lambda: d.overlay.fig.layout.annotations[0].text.replace('<br>', ' ')
    assert lines_in(d) and not d.overlay.fig.layout.annotations
    for ask,what in [(dict(what='grad_norm'), 'gradient norm'), (dict(what='rates'), 'learning rate'),
            (dict(what='loss', against='tokens'), 'tokens')]:
        for k,v in ask.items(): getattr(d.overlay, k).value = v
        assert not lines_in(d) and what in said() and 'lacks it' in said(), said()
        assert what in d.overlay.said.value
    write_json(folders[1]/'progress.json', progress(30))
    d.beat(BEAT)
    assert len(lines_in(d)) == 1 and not d.overlay.fig.layout.annotations
    assert '2 of 3 runs do not tell' in d.overlay.said.value or '3 of 4 runs' in d.overlay.said.value
    for k in d.overlay.with_.values(): k.value = False
    d.overlay.last.value = 0
    assert said() == 'no run is chosen'

def test_ticks_of_a_range_and_of_another_session(copy):
    d = dashboard(copy)
    d.asked(dict(tick=4, on=True))
    d.asked(dict(tick=2, on=True, range=True))
    assert sorted(d.overlay.ticked) == [2, 3, 4]
    d.asked(dict(tick=3, on=False))
    for odd in (0, 99, -1): d.asked(dict(tick=odd, on=True))
    assert sorted(d.overlay.ticked) == [2, 4] and not d.error.value
    d.tag.value = d.known[0]
    d.change_tag()
    assert not d.overlay.ticked and not d.error.value

def test_repeats_join_their_commit(curved):
    "Seeds of one commit, which have no row, make a mean with a band"
    root,folders = curved
    notes = json.loads((folders[1]/'experiment.json').read_text())
    for i in (7, 8):
        f = folders[1].parent/f'{i:03d}-{notes["commit"][:7]}'
        write_json(f/'experiment.json', dict(notes, dir=f.name, status='repeat', seed=i))
        write_json(f/'progress.json', progress(50, tokens=2**18))
    d = dashboard(root)
    d.overlay.last.value = 0
    assert len(lines_in(d)) == 1 and not len(trace_of(d.overlay.fig, 0, 'band').x)
    d.overlay.group.value = 'commit'
    assert set(lines_in(d)) == {f'{notes["commit"][:7]}, 3 lines'}
    assert len(trace_of(d.overlay.fig, 0, 'band').x)

def test_a_zoom_into_curves_stays_and_ends(curved):
    root,folders = curved
    d = dashboard(root)
    lay = d.overlay.fig.layout
    whole = lay.xaxis.range
    lay.xaxis.range = (5, 10)
    write_json(folders[0]/'progress.json', progress(90))
    d.beat(BEAT)
    assert tuple(lay.xaxis.range) == (5, 10), 'new points leave a zoom alone'
    d.overlay.against.value = 'seconds'
    assert lay.xaxis.range[1] > 40 and lay.xaxis.range != whole
    d.overlay.late.value = True
    assert lay.xaxis.range[0] > 20
    lay.xaxis.autorange = True # a double-click
    write_json(folders[0]/'progress.json', progress(99))
    d.beat(BEAT)
    assert not lay.xaxis.autorange and lay.xaxis.range[0] > 20

def test_the_machine_over_a_run(curved):
    "Small curves of what usage.json tells; what it does not tell is named; nothing stops at rubbish"
    root,folders = curved
    d = dashboard(root)
    names = 'seconds cores others memory gpu gpu_gb watts celsius sm_mhz'.split()
    def told(rows, columns=names):
        write_json(folders[1]/'usage.json', dict(columns=columns, rows=rows))
        d.select(2)
        return d.used.value
    on = told([[t, 1., .2, .3, .9, 44., 600., 70., 1755.] for t in range(1, 90)])
    assert on.count('<svg') == 8 and '90, most 90 %' in on and '600, most 600 W' in on
    off = told([[t, 1., .2, .3, *[None]*5] for t in range(1, 90)])
    assert off.count('<svg') == 3 and 'not told by this machine: GPU use' in off
    for rows,columns in [([], names), (5, names), ([[1]], names), ([['a']*9], names), ([[1.]*9], 7),
            ([[1.]*9]*3, [None]*9), ([[-1.]*9]*2, names)]:
        assert '<svg' not in told(rows, columns), rows
    (folders[1]/'usage.json').unlink()
    d.select(1)
    d.select(2)
    assert 'left no usage.json' in d.used.value and not d.error.value

def test_what_a_run_ran_on(copy):
    "Machine, versions, profile, seed and commit; another machine than the best's is said first"
    notes = change(copy, 3, machine=dict(gpu='<b>H100', torch='2.9.1', driver='575.57'), seed=43)
    change(copy, 2, machine=dict(gpu='A100', torch='2.9.1', driver='575.57'))
    d = dashboard(copy)
    d.select(3)
    for said in ('gpu A100 -&gt; &lt;b&gt;H100', '<span>torch</span><div>2.9.1', '<span>driver',
            '<span>Python', '<span>seed</span><div>43', '<span>profile</span><div>polynomial'):
        assert said in d.ran_on.value, (said, d.ran_on.value)
    for odd in (5, [], dict(gpu=[1]*9999)):
        change(copy, 3, machine=odd, host=None)
        d.beat(BEAT)
        assert not d.error.value

def test_audit_beside_search(copy):
    "A keep's value on text that decides nothing, the gap, and both in the picture"
    d = dashboard(copy)
    assert not {'audit', 'gap'} & {c['name'] for c in d.table.view['columns']}
    rows = {r.n if hasattr(r, 'n') else i: r for i,r in enumerate(d.feed.rows, 1)}
    folder = copy/'runs'/lab.TAG/'audit'
    numbers = [int(n['dir'][:3]) for n in d.feed.notes[:2]]
    for n,v in zip(numbers, (.5, .4)):
        write_json(folder/f'{n:03d}.json', dict(number=n, commit='c'*40, value=v, error=.001))
    d.beat(BEAT)
    names = [c['name'] for c in d.table.view['columns']]
    cells = dict(zip(names, d.table.view['rows'][2]['cells'])) # of number 2
    searched = rows[1].value-rows[2].value
    assert cells['audit'] == '0.400000' and cells['gap'] == f'{.1-searched:+.6f}'
    line = trace(d, 'audit')
    assert list(line.x) == [1, 2] and abs(line.y[1]-(rows[1].value-.1)) < 1e-9
    assert 'on text that decides nothing (2)' in d.legend.value
    d.select(2)
    assert '<span>on other text</span><div>0.400000, gap' in d.one.value
    for bad in ('[]', '{"number": 9e99, "commit": "c", "value": 1}', '{"number": true, "value": "x"}'):
        (folder/'004.json').write_text(bad)
        write_json(folder/'stamp.json', {})
        d.beat(BEAT)
        assert not d.error.value

def test_others_of_the_board(copy):
    "Others' results stand in a table of their own, with their host; nothing here counts them"
    pytest.importorskip('autoresearch.board')
    d = dashboard(copy)
    assert d.elsewhere_box.layout.display == 'none'
    mine = json.loads(next((copy/'runs'/lab.TAG).glob('002-*/experiment.json')).read_text())
    folder = copy/'runs/board/bee-0a1b2c3d'/lab.TAG
    for i,more in enumerate([dict(description='theirs <b>'), dict(contract='another')], 1):
        commit = f'{i}abcdef' + 'a'*33
        notes = {**mine, **more, 'commit': commit, 'value': .001*i, 'dir': f'00{i}-{commit[:7]}',
            'started': mine['started']+i}
        write_json(folder/f'00{i}-{commit[:7]}.json', notes)
    before = d.feed.f.best, dict(d.feed.f.counts), d.tiles.value.count('ar-tile')
    d.beat(BEAT)
    told = d.elsewhere.value
    assert d.elsewhere_box.layout.display is None and not d.error.value
    assert 'theirs &lt;b&gt;' in told and 'bee-0a1b2c3d' in told and '0.001000' in told
    assert told.count('another profile or contract') == 1
    assert (d.feed.f.best, dict(d.feed.f.counts), d.tiles.value.count('ar-tile')) == before
    shutil.rmtree(copy/'runs/board')
    d.beat(BEAT)
    assert d.elsewhere_box.layout.display == 'none'

def test_schedules_are_drawn_as_they_were():
    "Whatever is smoothed, a schedule is not; the last number is the file's; each of eight rates is named"
    from types import SimpleNamespace
    from autoresearch.dashboard import (Laid, experiments, frontier, noise_seen, overlay_legend,
        run_curves, strands_of)
    names = [f'rates of the {i}th group' for i in range(8)] + ['momentum', 'weight decay', 'tokens a step']
    rows = [[s, s, 3+s%2, s/50, [*(.1*i*(1-s/51) for i in range(1, 9)), .9, .2*(1-s/51), 8.], 1.]
        for s in range(1, 51)]
    curves = run_curves(dict(curve=rows, schedule_names=names,
        columns=['step', 'seconds', 'loss', 'fraction', 'schedule', 'grad_norm']))
    run = Laid('1', '#1 a', curves)
    data = experiments(SimpleNamespace(rows=[], notes=[], ran=[], audits={}, told={},
        f=frontier([], 'lower'), noise=noise_seen([], [])))
    for what in ('rates', 'weight decay', 'loss'):
        asked = SimpleNamespace(what=what, against='step', weight=.8, group='')
        strands = strands_of([run], asked)
        for lines in strands.values():
            for _,x,y,raw in lines: assert (list(y) == list(raw)) == (what != 'loss'), what
        said = overlay_legend(strands, [], data, False)
        last = {'rates': f'{.1*(1-50/51):.5g}', 'weight decay': f'{.2*(1-50/51):.5g}', 'loss': '>3<'}
        assert last[what] in said, (what, said)
        if what == 'rates':
            assert all(n in said for n in names[:8]) and 'more' not in said and '7th' in said
