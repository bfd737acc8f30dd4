"""The dashboard without a browser: what it reads, what it survives, what it never touches."""
import json, os, random, shutil, socket, subprocess, sys, tempfile, time
from pathlib import Path
import pytest
import lab
from autoresearch.contract import get_profile
from autoresearch.dashboard import AXES, POLICY, Dashboard, block_of, curve, executed, free_port, page_notebook, sweep_short_runs, tags
from autoresearch.ledger import Ledger, Row
from autoresearch.ratchet import Refused
from autoresearch.run import processes_of

BEAT = dict(first=False, drawn=4, dark=False, width=1280)

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
    for f in ('settings.ini', 'canvas.ipynb', 'evaluator.py'): shutil.copy(lab.ROOT/'examples/polynomial'/f, tmp_path)
    led = Ledger(tmp_path/'results.tsv', 'rmse').create()
    for r in rows: led.append(r)
    return tmp_path
def state(root):
    "All that a look must not change: every file but git's own caches, and where the branches are"
    files = {f: (f.read_bytes(), f.stat().st_mtime_ns) for f in root.rglob('*') if f.is_file() and '.git' not in f.relative_to(root).parts}
    return files, lab.git(root, 'for-each-ref'), lab.git(root, 'status', '--porcelain')

def test_a_real_session(repo):
    before = state(repo)
    d = dashboard(repo)
    assert [len(d.on[s]) for s in ('keep', 'discard', 'crash')] == [2, 1, 1]
    assert d.number() == 2 and 'a cubic &lt;b&gt;' in d.one.value and '<b>' not in d.one.value.split('</h2>')[0]
    assert '-DEGREE = 1' in d.diff.value and '+DEGREE = 3' in d.diff.value and 'hparams' in d.diff.value
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
    assert not d.fig.data[3].x and len(d.fig.data[0].x) == 1 and not d.fig.layout.annotations
    d.shown['keep'].value,d.range.value = True, (2, 3)
    assert list(d.fig.data[3].x) == [2] and [a.text for a in d.fig.layout.annotations] == ['a cubic &lt;b&gt;']
    class Points: point_inds = [0]
    d.clicked(d.fig.data[0], Points, None)
    assert d.chosen == 3 and 'fewer steps' in d.one.value and list(d.fig.data[4].x) == [3]
    d.asked(dict(query='cubic'))
    assert [r['n'] for r in d.table.view['rows']] == [2]
    d.asked(dict(query='', sort='value', down=False))
    assert [r['n'] for r in d.table.view['rows']][0] == 2 and d.table.view['rows'][-1]['n'] == 4, 'what has no value is last'

def test_zoom_stays(copy):
    d = dashboard(copy)
    d.fig.layout.xaxis.range = (1.5, 2.5)
    assert len(d.fig.layout.annotations) == 1
    Ledger(copy/'results.tsv', 'rmse').append(Row('abcdef0', .01, 0, 'keep', 'from elsewhere'))
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

@pytest.mark.parametrize('rows', [(), [('crash', 0.)]*3, [('keep', 1.)], [('discard', 1.)]], ids=['empty', 'crashes', 'baseline', 'discard'])
def test_first_minutes_and_no_git(tmp_path, rows):
    d = dashboard(bare(tmp_path, *(Row(f'aaaaaa{i}', v, 0, s, f'try {i}') for i,(s,v) in enumerate(rows))))
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
    shown = [d.one.value, d.diff.value, d.log.value, d.top.value, d.tiles.value, d.head.value, *d.fig.data[3].hovertext, *(a.text for a in d.fig.layout.annotations)]
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
    assert f'in session {lab.TAG}: slow &lt;i&gt;one' in d.now.value and 'runs by 08:00' not in d.tiles.value
    d.tag.value = lab.TAG
    d.tinker.start()
    assert 'an experiment is running' in d.tinker.said.value and d.tinker.run is None
    lab.ar(copy, 'ar-wait', ok=False)
    lab.until(lambda: (d.beat(BEAT), 'Nothing is running' in d.now.value and len(d.feed.rows) == 5)[1])
    assert 'an experiment is running' not in d.tinker.said.value
    assert d.now_box.layout.display is None and 'runs by 08:00' in d.tiles.value, 'nothing jumps between two runs'
    for n in d.feed.runs: n['time'] -= 86400
    d.beat(BEAT)
    assert d.now_box.layout.display == 'none' and 'runs by 08:00' not in d.tiles.value

@pytest.mark.parametrize('text', ['{"curve": [[1, 2]]}', '{"curve": null}', '{"curve": "abc"}', '{"curve": [null, [1, 2, "x"], [1, NaN, 2]]}', '{"curve": [[1, 2, 1' + '0'*400 + ']]}', '[]'])
def test_odd_curves(copy, text):
    for f in (copy/'runs').rglob('progress.json'): f.write_text(text)
    d = dashboard(copy)
    assert not d.one_fig.data[1].x and d.one_fig.layout.annotations[0].text == 'no loss curve here'
    f.write_text('{"curve": [[1, 2], [0, 0.5, 3.0]]}')
    assert curve(f.parent) == [[.5], [3.]]

def test_damaged_notes_are_no_notes(copy):
    whole = {f: json.loads(f.read_text()) for f in sorted((copy/'runs').rglob('experiment.json'))[1:3]}
    for bad in [dict(commit=None), dict(commit=5), dict(seconds=None), dict(time='noon'), dict(started=[]), dict(block=None), dict(dir=7), dict(parent={})]:
        for f,n in whole.items(): f.write_text(json.dumps({k: v for k,v in {**n, **bad}.items() if v is not None or k in ('seconds', 'block')}))
        d = dashboard(copy)
        for kind in AXES: d.axis.value = kind
        assert [bool(n) for n in d.feed.notes] == [True, False, False, True] and len(d.feed.rows) == 4, bad
        d.select(2)
        assert 'No folder' in d.log.value, bad
    assert 'report.html' in lab.ar(copy, 'ar-report').stdout

def test_a_fault_at_the_start_is_said_and_recovered_from(copy):
    text = (copy/'results.tsv').read_text()
    (copy/'results.tsv').write_text(text.replace('rmse', 'val_bpb'))
    d = Dashboard(profile(copy))
    assert 'the metric is rmse' in d.error.value
    d.beat(dict(BEAT, first=True))
    assert 'the metric is rmse' in d.error.value and hasattr(d.fig, '_config') and len(d.fig_box.children) == 1
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
    assert 'best rmse' in d.tiles.value and d.fig.layout.yaxis.title.text == 'rmse (lower is better)' and '<span>rmse</span>' in d.one.value
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
    assert len(d.fig.data[2].x) == 3 and d.fig.data[2].x[-1] == d.xs[3] and d.xs[4] is None

def test_the_whole_picture_is_ours_again(copy):
    d = dashboard(copy)
    want = tuple(d.fig.layout.xaxis.range)
    d.fig.layout.xaxis.range = (1.5, 2.5)
    d.fig.layout.xaxis.autorange = True # what a double-click sends
    assert tuple(d.fig.layout.xaxis.range) == want and not d.fig.layout.xaxis.autorange
    Ledger(copy/'results.tsv', 'rmse').append(Row('abcdef0', .01, 0, 'keep', 'from elsewhere'))
    d.beat(BEAT)
    assert d.fig.layout.xaxis.range[1] > want[1], 'and goes on with the session'
    assert d.fig._config['doubleClick'] == 'autosize' and 'resetScale2d' in d.fig._config['modeBarButtonsToRemove']

def test_legend(repo):
    d = dashboard(repo)
    assert 'discarded (1)' in d.legend.value and '1 discards' not in d.legend.value
    d.shown['discard'].value = False
    assert 'discarded (hidden)' in d.legend.value and 'kept (2)' in d.legend.value

def test_filters_wrap_in_a_narrow_window(tmp_path):
    d = dashboard(bare(tmp_path))
    filters = next(o for card in d.box.children for o in getattr(card, 'children', ()) if d.range in getattr(o, 'children', ()))
    assert filters.layout.flex_flow == 'row wrap' and {o.layout.flex for o in d.shown.values()} == {'0 0 auto'}

def test_a_crash_has_no_block(repo):
    d = dashboard(repo)
    d.select(4)
    assert '---' not in d.one.value and '<pre>' not in d.one.value and block_of(dict(block=dict(rmse=.5))).startswith('<pre>---')

def finished(d): return lab.until(lambda: (d.beat(BEAT), not d.tinker.go.disabled)[1], 60)

def test_tinker_touches_nothing(repo):
    d,before = dashboard(repo), state(repo)
    d.tinker.knobs['DEGREE'].value,d.tinker.seconds.value = 5, .5
    d.tinker.start()
    where,nonce = d.tinker.run.dir, d.tinker.run.nonce
    assert not where.is_relative_to(repo) and d.tinker.go.disabled and not d.tinker.halt.disabled
    finished(d)
    r = d.tinker.run.result
    assert r.ok and r.block['depth'] == 5 and 'not an experiment' in d.tinker.said.value and d.tinker.fig.data[1].y
    assert r.record['clock']['budget'] == .5 and state(repo) == before
    d.tinker.run.close()
    assert not where.exists() and not processes_of(nonce)

def test_tinker_shows_what_it_runs(copy):
    "A knob that was moved stays, every other follows the canvas, and the run says how it differs"
    d = dashboard(copy)
    d.tinker.knobs['DEGREE'].value = 5
    lab.edit(copy, 'STEPS = 100', 'STEPS = 200') if 'STEPS = 100' in (copy/'canvas.ipynb').read_text() else lab.edit(copy, 'STEPS = 300', 'STEPS = 200')
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
    lab.edit(copy, '"evaluate(coefs)', '"time.sleep(5); evaluate(coefs)') # so that the experiment is still there to be stopped
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

def test_tinker_says_what_is_wrong(copy):
    d = dashboard(copy)
    lab.edit(copy, 'STEPS = 300 ', 'STEPS = 9000')
    d.beat(BEAT)
    assert 'lies outside' in d.tinker.said.value
    d.tinker.start()
    assert 'lies outside' in d.tinker.said.value and d.tinker.run is None

def test_only_notebooks_of_runs_are_served(repo, tmp_path):
    p = profile(repo)
    run = next(f.parent.name for f in (repo/'runs'/lab.TAG).glob('001-*/run.ipynb'))
    text = executed(p, lab.TAG, run)
    assert 'Gradient' in text.title() and "default-src 'none'" in POLICY and 'sandbox;' in POLICY
    (tmp_path/run).mkdir()
    (tmp_path/run/'run.ipynb').write_text('{}')
    (repo/'runs'/'001-abcdefg').symlink_to(tmp_path/run)
    for tag,name in [('..', run), (lab.TAG, '..'), (lab.TAG, '999-abcdefg'), ('.', '001-abcdefg'), (f'../runs/{lab.TAG}', 'base')]:
        with pytest.raises(FileNotFoundError): executed(p, tag, name)
    (repo/'runs'/'001-abcdefg').unlink()

def test_command_says_what_is_wrong(repo):
    with socket.socket() as taken:
        taken.bind(('127.0.0.1', 0))
        taken.listen()
        port = taken.getsockname()[1]
        r = lab.ar(repo, 'ar-dashboard', '--port', port, ok=False)
        assert r.returncode == 1 and f'port {port} is not free' in r.stderr and 'Traceback' not in r.stderr
    hidden = "import sys; sys.modules['voila'] = None; sys.argv = ['ar-dashboard']; from autoresearch.dashboard import ar_dashboard; ar_dashboard()"
    r = lab.sh(repo, sys.executable, '-c', hidden, ok=False)
    assert r.returncode == 1 and "voila not installed here: pip install -e '.[dashboard]'" in r.stderr and 'Traceback' not in r.stderr
    with pytest.raises(Refused, match='accepted: 1 to 65535'): free_port(0)

def test_import_needs_no_extra():
    "The package without the extra: the module imports, and loads neither torch nor plotly"
    code = "import sys; sys.modules.update(plotly=None, anywidget=None, voila=None); import autoresearch.dashboard; print('torch' in sys.modules)"
    assert lab.sh(lab.ROOT, sys.executable, '-c', code).stdout.strip() == 'False'

def test_page_is_the_last_cells(repo):
    nb = page_notebook(profile(repo))
    assert [c['id'] for c in nb['cells']] == ['where', 'page-imports', 'page'] and str(repo) in nb['cells'][0]['source']
