"""`ar-export-runs`: what stands in tables, in trackio's store and in wandb's files is what the ledger and
the runs say; nothing is doubled, overwritten or sent."""
import csv, json, os, resource, shutil, signal, socket, struct, subprocess, sys, threading, time
from importlib.util import find_spec
from pathlib import Path
import pandas as pd, pytest
import lab
from autoresearch import export
from autoresearch.contract import install_line

HOSTILE = '=HYPERLINK("x")'

@pytest.fixture(scope='module')
def made(tmp_path_factory):
    "Three experiments: a baseline, a gain, a crash; the second with a curve and figures of a GPU"
    root = lab.example(tmp_path_factory.mktemp('made')/'polynomial')
    lab.setup(root)
    lab.run(root, 'baseline')
    lab.edit(root, 'DEGREE = 1 ', 'DEGREE = 3 ')
    lab.run(root, HOSTILE)
    lab.edit(root, 'RATE = 0.5 ', 'RATE = 5.0 ')
    lab.run(root, 'naïve, "large"; -1', ok=False)
    assert [r[3] for r in lab.rows(root)] == ['keep', 'keep', 'crash']
    folder = run_dir(root, 2)
    names = ['head lr', 'momentum', 'tokens a step']
    curve = [[i, i*.3, 7-i/100, i/250, [.1, .9, 2048], i/10] for i in range(1, 251)]
    columns = 'step seconds loss fraction schedule grad_norm'.split()
    (folder/'progress.json').write_text(json.dumps(dict(columns=columns, curve=curve,
        schedule_names=names)))
    (folder/'usage.json').write_text(json.dumps(dict(columns=['seconds', 'cores', 'gpu'],
        rows=[[1., 1.5, None], [2., 1.7, .9]])))
    return root

@pytest.fixture
def root(made, tmp_path): return Path(shutil.copytree(made, tmp_path/'polynomial', symlinks=True))

def run_dir(root, n): return next((root/f'runs/{lab.TAG}').glob(f'{n:03d}-*'))
def export_runs(root, *args, ok=True, **env): return lab.ar(root, 'ar-export-runs', *args, ok=ok, **env)
def tables(folder): return {f.stem: pd.read_csv(f) for f in Path(folder).glob('*.csv')}
def notes(root, n, **changed):
    f = run_dir(root, n)/'experiment.json'
    f.write_text(json.dumps(json.loads(f.read_text()) | changed))
def refused(root, *args, **env):
    r = export_runs(root, *args, ok=False, **env)
    assert r.returncode == 1 and not r.stdout and 'Traceback' not in r.stderr, r
    return r.stderr

# tables

def test_tables(root):
    said = export_runs(root, '--to', 'csv').stdout
    folder = root/f'runs/{lab.TAG}/export'
    assert said == f'3 experiments written: {folder}/experiments.csv\n'
    t = tables(folder)
    every = t['experiments']
    commits = [r[0] for r in lab.rows(root)]
    assert list(every.commit) == commits and list(every.status) == ['keep', 'keep', 'crash']
    assert list(every.value)[:2] == [float(r[1]) for r in lab.rows(root)[:2]]
    assert pd.isna(every.value[2]), 'a crash has no value'
    assert list(every.DEGREE) == [1, 3, 3] and list(every.RATE) == [.5, .5, 5.]
    assert every.parent[1].startswith(commits[0]) and every['version torch'].notna()[0]
    curve = t['curves'][t['curves'].number == 2]
    assert len(curve) == 250 and curve.tokens.iloc[-1] == 250*2048
    last = curve.iloc[-1]
    assert (last.loss, last.grad_norm, last['schedule/head lr']) == (4.5, 25., .1)
    machine = t['machine'][t['machine'].number == 2]
    assert list(machine.cores) == [1.5, 1.7] and pd.isna(machine.gpu.iloc[0])
    told = t['columns']
    for name in ('experiments', 'curves', 'machine'):
        assert list(told[told.file == f'{name}.csv'].column) == list(t[name].columns), name
    assert told.meaning.notna().all()

def test_no_cell_is_a_formula(root):
    notes(root, 1, description='\t＝1+1', reason='\u200b@SUM(A1)')
    notes(root, 3, description='-1+1;=1+1')
    export_runs(root, '--to', 'csv')
    f = root/f'runs/{lab.TAG}/export/experiments.csv'
    with open(f, newline='', encoding='utf8') as text: rows = list(csv.reader(text))
    cells = [o for r in rows for o in r if o[:1] in tuple('=+-@＝＋－＠')]
    assert all(float(o) <= 0 for o in cells), 'numbers alone'
    assert [r[rows[0].index('description')] for r in rows[1:]] == [
        "'＝1+1", f"'{HOSTILE}", "'-1+1;=1+1"]
    assert f'"\'{HOSTILE}"'.replace('"x"', '""x""') in f.read_text(encoding='utf8'), 'in quotes'

def test_tables_again(root):
    folder = root/f'runs/{lab.TAG}/export'
    export_runs(root, '--to', 'csv')
    first = {f.name: f.read_bytes() for f in folder.iterdir()}
    export_runs(root, '--to', 'csv')
    assert {f.name: f.read_bytes() for f in folder.iterdir()} == first
    export_runs(root, '--to', 'csv', '--only', 'kept')
    assert list(tables(folder)['experiments'].number) == [1, 2]

@pytest.mark.parametrize('name', ['experiments.csv', 'curves.csv', 'machine.csv', 'columns.csv'])
def test_what_is_not_its_own(root, tmp_path, name):
    out = tmp_path/'out'
    out.mkdir()
    (out/name).write_text('my,own\n')
    said = refused(root, '--to', 'csv', '--out', out)
    assert f'{name} was not written by ar-export-runs' in said and '--force' in said
    assert [f.name for f in out.iterdir()] == [name] and (out/name).read_text() == 'my,own\n'
    export_runs(root, '--to', 'csv', '--out', out, '--force')
    assert len(tables(out)) == 4

def test_other_files_stay(root, tmp_path):
    (tmp_path/'mine.txt').write_text('mine')
    export_runs(root, '--to', 'csv', '--out', tmp_path)
    assert (tmp_path/'mine.txt').read_text() == 'mine' and (tmp_path/'curves.csv').exists()
    assert 'is a file; name a folder' in refused(root, '--to', 'csv', '--out', tmp_path/'mine.txt')

@pytest.mark.parametrize('to', ['csv', 'trackio', 'wandb'])
@pytest.mark.parametrize('name', ['file/below', 'round', 'pipe', 'x'*300])
def test_no_folder_to_write_to(root, tmp_path, to, name):
    if to != 'csv' and not find_spec(to): pytest.skip(missing(to))
    (tmp_path/'file').write_text('mine')
    (tmp_path/'round').symlink_to(tmp_path/'round')
    os.mkfifo(tmp_path/'pipe')
    said = refused(root, '--to', to, '--out', tmp_path/name)
    assert said.startswith(f'ar-export-runs: --out {tmp_path/name}: ') and said.count('\n') == 1
    assert 'name another folder with --out' in said

def test_a_folder_that_is_a_link_or_a_home(root, tmp_path):
    (tmp_path/'link').symlink_to(tmp_path/'to')
    export_runs(root, '--to', 'csv', '--out', tmp_path/'link')
    assert len(tables(tmp_path/'to')) == 4
    export_runs(root, '--to', 'csv', '--out', '~/tables', HOME=str(tmp_path))
    assert len(tables(tmp_path/'tables')) == 4 and not (root/'~').exists()

def test_what_a_killed_export_left(root, tmp_path):
    dead = subprocess.run([sys.executable, '-c', 'import os; print(os.getpid())'],
        capture_output=True, text=True).stdout.strip()
    left = [tmp_path/f'.{name}.csv.{dead}.tmp' for name in ('curves', 'machine')]
    alive,mine = tmp_path/f'.curves.csv.{os.getpid()}.tmp', tmp_path/f'.mine.csv.{dead}.tmp'
    for f in (*left, alive, mine): f.write_text('half')
    export_runs(root, '--to', 'csv', '--out', tmp_path)
    assert not any(f.exists() for f in left) and alive.exists() and mine.exists()

def test_every_column_is_told(root):
    export_runs(root, '--to', 'csv')
    told = tables(root/f'runs/{lab.TAG}/export')['columns']
    vague = told[told.meaning == 'as the notes of the run have it']
    assert vague.empty, list(vague.column)

def test_columns_of_the_machine_do_not_hide_the_run(root):
    (run_dir(root, 2)/'usage.json').write_text(json.dumps(dict(
        columns=['seconds', 'cores', 'commit', 'number'], rows=[[1., .5, 3, 4]])))
    export_runs(root, '--to', 'csv')
    machine = tables(root/f'runs/{lab.TAG}/export')['machine']
    machine = machine[machine.number == 2]
    assert list(machine.commit) == [lab.rows(root)[1][0]] and list(machine.cores) == [.5]

def test_nothing_of_the_session_changes(root):
    before = {f: f.read_bytes() for f in root.rglob('*') if f.is_file()}
    export_runs(root, '--to', 'csv', '--out', root.parent/'out')
    after = {f: f.read_bytes() for f in root.rglob('*') if f.is_file()}
    assert {k: v for k,v in after.items() if '__pycache__' not in k.parts} == {
        k: v for k,v in before.items() if '__pycache__' not in k.parts}

# what is asked for

@pytest.mark.parametrize('args,said', [
    ((), 'accepted: trackio, wandb, csv'),
    (('--to', 'csv', '--to', 'trackio'), '--to csv --to trackio: one at a time'),
    (('--to', 'mlflow'), '--to mlflow; accepted: trackio'),
    (('--to', 'csv', '--only', 'best'), '--only best; accepted: kept, all'),
    (('--to', 'csv', '--online'), 'stays on this machine'),
    (('--to', 'wandb', '--online', '--offline'), 'choose one'),
    *((('--to', 'trackio', '--project', name), 'accepted: up to 100 letters')
        for name in ('', 'a/b', '..', 'a\nb', 'x'*101, ' a')),
    (('nov9', '--to', 'csv'), "no session 'nov9'")])
def test_what_is_refused(root, args, said): assert said in refused(root, *args)

def test_another_branch_names_the_command(root):
    lab.git(root, 'checkout', '-qf', 'main')
    assert 'ar-export-runs TAG' in refused(root, '--to', 'csv')
    assert '3 experiments' in export_runs(root, lab.TAG, '--to', 'csv').stdout

def test_an_empty_session(tmp_path):
    root = lab.example(tmp_path/'polynomial')
    lab.setup(root)
    assert 'no experiment has ended yet' in refused(root, '--to', 'csv')
    assert not (root/f'runs/{lab.TAG}/export').exists()

def test_none_kept(root):
    text = (root/'results.tsv').read_text()
    (root/'results.tsv').write_text(text.replace('\tkeep\t', '\tdiscard\t'))
    assert '--only all takes all' in refused(root, '--to', 'csv', '--only', 'kept')

@pytest.mark.parametrize('to', ['trackio', 'wandb'])
def test_a_missing_package(root, to):
    r = lab.forked_script(root, str(lab.BIN/'ar-export-runs'), '--to', to,
        first=lambda: sys.modules.update({to: None}))
    assert r.returncode == 1 and f'--to {to} needs {to}' in r.stderr and install_line(to) in r.stderr
    line = install_line(to)
    assert f"'{to}<" in line or f'[{to}]' in line, 'an extra of this package'

@pytest.mark.parametrize('lost', [True, False])
def test_a_lost_ledger(root, lost):
    ledger = root/'results.tsv'
    if lost: ledger.unlink()
    else: ledger.write_text('')
    assert 'ar-status then writes it anew' in refused(root, '--to', 'csv')
    ledger.unlink(missing_ok=True)
    lab.ar(root, 'ar-status')
    assert '3 experiments written' in export_runs(root, '--to', 'csv').stdout

def test_refused_as_json(root):
    r = export_runs(root, '--to', 'csv', '--out', root/'results.tsv', '--json', ok=False)
    said = json.loads(r.stdout)
    assert said['code'] == r.returncode == 1 and 'is a file' in said['error']

def test_json(root):
    facts = json.loads(export_runs(root, '--to', 'csv', '--json').stdout)
    assert (facts['new'], facts['unchanged'], facts['sent'], facts['session']) == (
        3, 0, False, lab.TAG)

# what a run may have left

DAMAGED = ['', '[]', '{"curve": ' + '['*5000, '{"columns": 5, "curve": {"a": 1}}',
    '{"columns": ["step", "loss"], "curve": [[1, 2], [1, 3], [0, 4], [2.5, 1], ["x", 1], [3], 5, '
    '[4, NaN], [5, 1e999]]}', '{"columns": [[1], "step"], "curve": [[1, 2]], "schedule_names": [1]}']

@pytest.mark.parametrize('text', DAMAGED)
def test_damaged_curves(root, text):
    for name in ('progress.json', 'usage.json'): (run_dir(root, 2)/name).write_text(text)
    export_runs(root, '--to', 'csv')
    t = tables(root/f'runs/{lab.TAG}/export')
    assert len(t['experiments']) == 3 and t['curves'].step.notna().all()
    own = t['curves'][t['curves'].number == 2]
    assert own.step.is_monotonic_increasing and own.step.is_unique

def test_damaged_notes(root):
    (run_dir(root, 2)/'experiment.json').write_text('{"commit": 5')
    (run_dir(root, 2)/'run.ipynb').unlink()
    r = export_runs(root, '--to', 'csv')
    assert f"{run_dir(root, 2).name}/experiment.json can't be read" in r.stdout
    every = tables(root/f'runs/{lab.TAG}/export')['experiments']
    assert list(every.status) == ['keep', 'keep', 'crash'] and every.outcome[1] == 'not run'

def test_lost_notes(root):
    "A folder that is gone: the row goes over, and it is said"
    shutil.rmtree(run_dir(root, 2))
    assert 'row 2 has no notes of a run' in export_runs(root, '--to', 'csv').stdout

def test_later_runs_of_a_keep(root):
    "The row stays as it was decided; the mean of all runs of its commit is beside it"
    lab.ar(root, 'ar-drop', ok=False)
    export_runs(root, '--to', 'csv')
    folder = root/f'runs/{lab.TAG}/export'
    before = tables(folder)['experiments']
    lab.ar(root, 'ar-run', '--repeat')
    export_runs(root, '--to', 'csv')
    after = tables(folder)['experiments']
    again = json.loads((run_dir(root, 4)/'experiment.json').read_text())['value']
    assert list(after.value.dropna()) == list(before.value.dropna())
    assert after.mean_of_runs[1] == pytest.approx((before.value[1]+again)/2)

def odd_texts(root):
    "Notes with what no tracker takes: half a character, a whole number of 100 bits, steps beyond all"
    notes(root, 2, description='half \ud83d', seed=2**100, started=-5)
    rows = [[1, .1, 5., 0., [.1, 2.], .1], [2, None, 4., .1, [.1, 2.], 1.], [3, 1e299, 3., .2, [.1], .1],
        [10**30, 1., 2., .3, [.1, 2.], .1]]
    columns = 'step seconds loss fraction schedule grad_norm'.split()
    (run_dir(root, 2)/'progress.json').write_text(json.dumps(dict(columns=columns, curve=rows,
        schedule_names=['\ud83d', '=rate'])))
    (run_dir(root, 2)/'usage.json').write_text(json.dumps(dict(columns=['seconds', '\ud83d', 'cores'],
        rows=[[1e299, 1, 2], [-1, 1, 2], [2., 1, .5]])))
    f = root/'results.tsv'
    f.write_bytes(f.read_bytes().replace('naïve'.encode(), b'na\xefve'))
    (run_dir(root, 3)/'experiment.json').unlink()

def test_odd_texts_in_tables(root):
    odd_texts(root)
    export_runs(root, '--to', 'csv')
    t = tables(root/f'runs/{lab.TAG}/export')
    assert t['experiments'].description[1] == 'half ?' and len(t['experiments']) == 3
    assert list(t['curves'][t['curves'].number == 2].step) == [1, 2, 3]

def test_odd_notes(root):
    notes(root, 2, host=dict(versions=[1], variables='x', python=5, device=['gpu']), machine='none',
        runs='two', certainty='sure', rate=True, seed=7)
    export_runs(root, '--to', 'csv')
    assert tables(root/f'runs/{lab.TAG}/export')['experiments'].seed[1] == 7

def test_a_run_that_was_cut_early_has_no_value(root):
    notes(root, 2, **{'class': 'early', 'status': 'discard'})
    text = (root/'results.tsv').read_text().split('\n')
    text[2] = text[2].replace('keep', 'discard')
    (root/'results.tsv').write_text('\n'.join(text))
    export_runs(root, '--to', 'csv')
    every = tables(root/f'runs/{lab.TAG}/export')['experiments']
    assert every.outcome[1] == 'early' and pd.isna(every.value[1])

def test_numbers_are_those_that_commands_take(root):
    "A run of the best has a number and no row; an imported row has no number"
    lab.ar(root, 'ar-drop', ok=False)
    lab.ar(root, 'ar-run', '--repeat')
    lab.edit(root, 'STEPS = 300 ', 'STEPS = 200 ')
    lab.run(root, 'fewer steps')
    with open(root/'results.tsv', 'a') as f: f.write('0c0ffee\t0.500000\t0.0\tdiscard\tby hand\n')
    assert run_dir(root, 5)
    audit = root/f'runs/{lab.TAG}/audit'
    audit.mkdir(exist_ok=True)
    (audit/'005.json').write_text(json.dumps(dict(commit='0'*40, number=5, value=.25)))
    export_runs(root, '--to', 'csv')
    every = tables(root/f'runs/{lab.TAG}/export')['experiments']
    assert list(every.row) == [1, 2, 3, 4, 5] and list(every.number)[:4] == [1, 2, 3, 5]
    assert pd.isna(every.number[4]) and every.outcome[4] == 'not run' and every.value[4] == .5
    assert every.audit[3] == .25 and every.audit.notna().sum() == 1

def test_audits(root):
    folder = root/f'runs/{lab.TAG}/audit'
    folder.mkdir(exist_ok=True)
    commit = json.loads((run_dir(root, 2)/'experiment.json').read_text())['commit']
    (folder/'002.json').write_text(json.dumps(dict(commit=commit, number=2, value=.25)))
    export_runs(root, '--to', 'csv')
    assert list(tables(root/f'runs/{lab.TAG}/export')['experiments'].audit)[1] == .25

def test_a_run_in_progress_is_left_out(root):
    lab.edit(root, 'STEPS = 300 ', 'STEPS = 300000000 ')
    (root/'settings.ini').write_text((root/'settings.ini').read_text())
    proc = subprocess.Popen([lab.BIN/'ar-run', '-m', 'slow'], cwd=root, env=lab.environ(),
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        lab.until(lambda: [*(root/f'runs/{lab.TAG}').glob('004-*')])
        r = export_runs(root, '--to', 'csv')
        if proc.poll() is None: assert '004-' in r.stdout and 'has not ended' in r.stdout, r.stdout
    finally:
        lab.ar(root, 'ar-stop', ok=False)
        proc.wait(60)

@pytest.mark.parametrize('to', ['csv', 'wandb'])
def test_interrupted(root, to):
    if to == 'wandb' and not find_spec('wandb'): pytest.skip(missing('wandb'))
    lines = (root/'results.tsv').read_text()
    row = lines.splitlines()[1].split('\t')
    more = ''.join(f'{row[0]}\t{.5+i/1e4:.6f}\t0.0\tdiscard\ttry {i}\n' for i in range(3000))
    (root/'results.tsv').write_text(lines + more)
    proc = subprocess.Popen([lab.BIN/'ar-export-runs', '--to', to], cwd=root, env=lab.environ(),
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    out = root/f'runs/{lab.TAG}/export'
    begun = '.curves.csv.*' if to == 'csv' else 'wandb/offline-run-*'
    lab.until(lambda: [*out.glob(begun)])
    time.sleep(1)
    proc.send_signal(signal.SIGINT)
    said,err = proc.communicate(timeout=lab.PATIENCE)
    assert proc.returncode == 130 and 'typed again it goes on' in said+err, (said, err)
    assert 'Traceback' not in err and not [*out.glob('.*.tmp')] and not [*out.glob('*.csv')]

def exporting(root, to):
    "An export that has begun to write, of 300 rows more than the session has"
    row = lab.rows(root)[0]
    with open(root/'results.tsv', 'a') as f:
        f.writelines(f'{row[0]}\t{.5+i/1e4:.6f}\t0.0\tdiscard\ttry {i}\n' for i in range(300))
    out = root/'out'
    proc = subprocess.Popen([lab.BIN/'ar-export-runs', '--to', to, '--out', out], cwd=root,
        env=lab.environ(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    begun = {'csv': '.curves.csv.*', 'trackio': '*.db', 'wandb': 'wandb/offline-run-*'}[to]
    lab.until(lambda: [*out.glob(begun)])
    return proc, out

def test_two_at_once(root):
    proc,out = exporting(root, 'csv')
    proc.send_signal(signal.SIGSTOP)
    said = refused(root, '--to', 'csv', '--out', out)
    proc.send_signal(signal.SIGCONT)
    assert 'another ar-export-runs copies this session' in said and proc.wait(lab.PATIENCE) == 0
    assert '303 experiments' in export_runs(root, '--to', 'csv', '--out', out).stdout

# trackio

def missing(name):
    return f'{name} is not installed, so nothing is tested of --to {name}: {install_line(name)}'
needs_trackio = pytest.mark.skipif(not find_spec('trackio'), reason=missing('trackio'))
needs_wandb = pytest.mark.skipif(not find_spec('wandb'), reason=missing('wandb'))

def in_store(folder, project='autoresearch'):
    "What trackio's own API reads from a folder, in a process of its own"
    code = f'''import json, trackio
from trackio.sqlite_storage import SQLiteStorage as store
runs = list(trackio.Api().runs({project!r}))
print('found', json.dumps([dict(id=r.id, name=r.name, config=r.config,
    points=store.get_logs({project!r}, r.name, run_id=r.id),
    machine=store.get_system_logs({project!r}, r.name, run_id=r.id)) for r in runs]))'''
    r = subprocess.run([sys.executable, '-c', code], env={**os.environ, 'TRACKIO_DIR': str(folder)},
        capture_output=True, text=True)
    return json.loads(r.stdout.split('found ')[-1]) if not r.returncode else r.stderr

@needs_trackio
def test_trackio(root, tmp_path):
    said = export_runs(root, '--to', 'trackio', '--out', tmp_path/'store').stdout
    assert '3 experiments written' in said and 'trackio show --project autoresearch' in said
    runs = in_store(tmp_path/'store')
    commits = [r[0] for r in lab.rows(root)]
    assert [r['id'] for r in runs] == [f'{lab.TAG}-00{n}-{c}' for n,c in enumerate(commits, 1)]
    second = runs[1]
    assert second['name'] == f'002 {HOSTILE}' and second['config']['DEGREE'] == 3
    assert second['config']['_Group'] == lab.TAG and second['config']['status'] == 'keep'
    points = second['points']
    assert [o['step'] for o in points] == list(range(1, 251)) and points[9]['loss'] == 6.9
    assert points[-1]['rmse'] == float(lab.rows(root)[1][1]) and points[-1]['grad_norm'] == 25.
    assert points[0]['schedule/head lr'] == .1 and points[0]['tokens'] == 2048
    started = json.loads((run_dir(root, 2)/'experiment.json').read_text())['started']
    assert points[0]['timestamp'] == export.iso(started + .3)
    assert [o['cores'] for o in second['machine']] == [1.5, 1.7]
    assert 'rmse' not in runs[2]['points'][-1], 'a crash has no value'

@needs_trackio
def test_trackio_again(root, tmp_path):
    args = '--to', 'trackio', '--out', tmp_path/'store', '--project', 'night one'
    export_runs(root, *args, '--only', 'kept')
    assert '1 experiment written, 2 there already' in export_runs(root, *args).stdout
    first = in_store(tmp_path/'store', 'night one')
    assert '0 experiments written, 3 there already' in export_runs(root, *args).stdout
    assert in_store(tmp_path/'store', 'night one') == first and len(first) == 3
    notes(root, 1, description='put another way')
    assert '1 experiment written, 2 there already' in export_runs(root, *args).stdout
    again = in_store(tmp_path/'store', 'night one')
    assert len(again) == 3 and len(again[1]['points']) == 250
    assert '001 put another way' in [r['name'] for r in again]

@needs_trackio
def test_trackio_after_a_kill(root):
    "What was written half is written anew, and nothing twice"
    proc,out = exporting(root, 'trackio')
    proc.kill()
    proc.communicate()
    # a run of which the machine's figures were written and nothing else
    code = f"""from trackio.sqlite_storage import SQLiteStorage as store
store.delete_run('autoresearch', '002 x', run_id='{lab.TAG}-002-{lab.rows(root)[1][0]}')
store.bulk_log_system('autoresearch', '002 x', [dict(cores=9.)]*3,
    run_id='{lab.TAG}-002-{lab.rows(root)[1][0]}')"""
    subprocess.run([sys.executable, '-c', code], env={**os.environ, 'TRACKIO_DIR': str(out)}, check=True)
    export_runs(root, '--to', 'trackio', '--out', out)
    runs = {r['id']: r for r in in_store(out)}
    second = runs[f'{lab.TAG}-002-{lab.rows(root)[1][0]}']
    assert len(runs) == 303 and len(second['points']) == 250
    assert [o['cores'] for o in second['machine']] == [1.5, 1.7]
    assert all(len(r['points']) == 1 for k,r in runs.items() if '-row' in k)

@needs_trackio
def test_trackio_and_odd_texts(root, tmp_path):
    odd_texts(root)
    export_runs(root, '--to', 'trackio', '--out', tmp_path)
    second = in_store(tmp_path)[1]
    assert second['name'] == '002 half ?' and second['config']['seed'] == str(2**100)
    assert [o['step'] for o in second['points']] == [1, 2, 3], 'a point without a time stays in order'
    assert [o['cores'] for o in second['machine']] == [.5]

@needs_trackio
def test_trackio_keeps_the_curve(root, tmp_path):
    "How a run came out is beside the curve's last point, never over it"
    export_runs(root, '--to', 'trackio', '--out', tmp_path)
    last = in_store(tmp_path)[1]['points'][-1]
    whole = json.loads((run_dir(root, 2)/'experiment.json').read_text())['seconds']
    assert (last['seconds'], last['final/seconds']) == (75., whole)

@needs_trackio
def test_a_damaged_store(root, tmp_path):
    (tmp_path/'autoresearch.db').write_bytes(b'no database'*100)
    said = refused(root, '--to', 'trackio', '--out', tmp_path)
    assert f'{tmp_path}/autoresearch.db: ' in said and 'another folder with --out' in said

@needs_trackio
def test_a_project_trackio_does_not_take(root, tmp_path):
    said = refused(root, '--to', 'trackio', '--out', tmp_path, '--project', 'registry-x')
    assert '--project registry-x' in said

class Listener:
    "A proxy that everybody is told to use: it counts who calls and answers nobody"
    def __enter__(self):
        self.sock,self.calls = socket.create_server(('127.0.0.1', 0)), []
        threading.Thread(target=self.serve, daemon=True).start()
        return self
    def serve(self):
        while True:
            try: conn,_ = self.sock.accept()
            except OSError: return
            self.calls.append(conn.recv(100))
            conn.close()
    def env(self):
        url = f'http://127.0.0.1:{self.sock.getsockname()[1]}'
        return {k: url for k in ('HTTP_PROXY', 'HTTPS_PROXY', 'ALL_PROXY', 'http_proxy',
            'https_proxy', 'all_proxy')} | {'NO_PROXY': '', 'no_proxy': ''}
    def __exit__(self, *_): self.sock.close()

def test_the_listener_hears():
    with Listener() as ears:
        subprocess.run([sys.executable, '-c', 'import urllib.request as u; u.urlopen("https://a.test")'],
            env={**os.environ, **ears.env()}, capture_output=True)
        assert ears.calls and ears.calls[0].startswith(b'CONNECT a.test')

@pytest.mark.parametrize('to', [pytest.param('trackio', marks=needs_trackio),
    pytest.param('wandb', marks=needs_wandb)])
def test_nothing_is_sent(root, tmp_path, to):
    told = dict(TRACKIO_SPACE_ID='me/mine', TRACKIO_SERVER_URL='https://a.test', WANDB_MODE='online',
        WANDB_API_KEY='0'*40, TRACKIO_DATASET_ID='me/mine', TRACKIO_BUCKET_ID='me/mine')
    with Listener() as ears:
        r = export_runs(root, '--to', to, '--out', tmp_path, **told, **ears.env())
        time.sleep(1)
        assert '3 experiments written' in r.stdout and not ears.calls, ears.calls

# wandb

def records(path):
    "The records of a `.wandb` file: LevelDB's log format, each a message of wandb's own"
    from wandb.proto.wandb_internal_pb2 import Record
    data,pos,buf = path.read_bytes(), 7, b''
    while pos+7 <= len(data):
        if 2**15 - pos % 2**15 < 7:
            pos += 2**15 - pos % 2**15
            continue
        _,n,kind = struct.unpack('<IHB', data[pos:pos+7])
        buf += data[pos+7:pos+7+n]
        pos += 7+n
        if kind in (1, 4): # the whole of a record, or its last part
            r = Record()
            r.ParseFromString(buf)
            buf = b''
            yield r.WhichOneof('record_type'), r

def items(found): return {i.key or '/'.join(i.nested_key): json.loads(i.value_json) for i in found}

def offline(folder):
    "wandb's files of a folder by run id"
    return {f.stem.removeprefix('run-'): list(records(f))
        for f in Path(folder).glob('wandb/offline-run-*/*.wandb')}

@needs_wandb
def test_wandb_offline(root):
    r = export_runs(root, '--to', 'wandb')
    out = root/f'runs/{lab.TAG}/export'
    assert '3 experiments written' in r.stdout and 'wandb sync' in r.stdout and not r.stderr
    found = offline(out)
    commit = lab.rows(root)[1][0]
    own = found[f'{lab.TAG}-002-{commit}']
    run = next(r.run for kind,r in own if kind == 'run')
    assert (run.display_name, run.run_group, run.project, list(run.tags)) == (
        f'002 {HOSTILE}', lab.TAG, 'autoresearch', ['keep'])
    config = {c.key: json.loads(c.value_json) for c in run.config.update}
    assert config['DEGREE'] == 3 and config['commit'].startswith(commit)
    points = [items(r.history.item) for kind,r in own if kind == 'history']
    curve = [o for o in points if 'loss' in o]
    assert [o['_step'] for o in curve] == list(range(1, 251)) and curve[9]['loss'] == 6.9
    assert [o['machine/cores'] for o in points if 'machine/cores' in o] == [1.5, 1.7]
    started = json.loads((run_dir(root, 2)/'experiment.json').read_text())['started']
    assert curve[0]['_timestamp'] == pytest.approx(started + .3, abs=1e-3)
    said = {}
    for kind,r in own:
        if kind == 'summary': said |= items(r.summary.update)
    assert said['rmse'] == float(lab.rows(root)[1][1])
    kinds = {kind for o in found.values() for kind,_ in o}
    assert not kinds & {'stats', 'output', 'output_raw', 'environment', 'files'}, kinds

@needs_wandb
def test_wandb_again(root):
    out = root/f'runs/{lab.TAG}/export'
    export_runs(root, '--to', 'wandb', '--only', 'kept')
    assert '1 experiment written, 2 there already' in export_runs(root, '--to', 'wandb').stdout
    first = {f: f.stat().st_mtime_ns for f in out.glob('wandb/offline*/*.wandb')}
    assert '0 experiments written, 3 there' in export_runs(root, '--to', 'wandb', '--offline').stdout
    assert {f: f.stat().st_mtime_ns for f in out.glob('wandb/offline*/*.wandb')} == first and len(first) == 3
    notes(root, 1, description='put another way')
    shutil.rmtree(next(out.glob('wandb/offline-run-*-002-*')))
    assert '2 experiments written, 1 there' in export_runs(root, '--to', 'wandb').stdout
    assert len([*out.glob('wandb/offline*/*.wandb')]) == 3
    names = [r.run.display_name for o in offline(out).values() for kind,r in o if kind == 'run']
    assert '001 put another way' in names

@needs_wandb
def test_wandb_and_odd_texts(root):
    commit = lab.rows(root)[1][0]
    odd_texts(root)
    export_runs(root, '--to', 'wandb')
    own = offline(root/f'runs/{lab.TAG}/export')[f'{lab.TAG}-002-{commit}']
    points = [items(r.history.item) for kind,r in own if kind == 'history']
    assert [o['_step'] for o in points if 'loss' in o] == [1, 2, 3]
    assert not [o for o in points if 'loss' in o and 'machine/seconds' in o], 'a record each'

@needs_wandb
def test_a_full_disk_and_wandb(root):
    "wandb's own process says nothing of it"
    def full(): resource.setrlimit(resource.RLIMIT_FSIZE, (2**15, 2**15))
    r = lab.forked_script(root, str(lab.BIN/'ar-export-runs'), '--to', 'wandb', first=full)
    assert r.returncode == 1 and '1 run could not be written whole' in r.stderr, r
    assert 'Traceback' not in r.stderr
    assert '1 experiment written, 2 there' in export_runs(root, '--to', 'wandb').stdout
    found = offline(root/f'runs/{lab.TAG}/export')
    assert len(found) == 3 and all(o[-1][0] == 'exit' for o in found.values())

@needs_wandb
def test_wandb_after_a_kill(root):
    proc,out = exporting(root, 'wandb')
    proc.kill()
    proc.communicate()
    export_runs(root, '--to', 'wandb', '--out', out, '--only', 'kept')
    assert len([f for f in out.glob('wandb/offline-run-*') if '-row' not in f.name]) == 2
    assert all(export.is_whole(f) for f in out.glob('wandb/offline-run-*-00[12]-*/*.wandb'))

@needs_wandb
def test_wandb_online_says_first_what_goes_where(root, tmp_path):
    "And without anybody who answers it is told, not a traceback"
    env = dict(WANDB_BASE_URL='http://127.0.0.1:9', WANDB_API_KEY='0'*40, HOME=str(tmp_path),
        WANDB_INIT_TIMEOUT='5', WANDB_HTTP_TIMEOUT='2')
    r = export_runs(root, '--to', 'wandb', '--online', ok=False, **env)
    first = r.stderr.splitlines()[0]
    assert first.startswith(f'sending 3 experiments of session {lab.TAG} to http://127.0.0.1:9')
    assert r.returncode == 1 and 'Traceback' not in r.stderr and '--offline' in r.stderr, r.stderr
