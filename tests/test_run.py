"""One experiment end to end: real papermill, real kernels, the real canvas on a budget of 2 s."""
import ctypes, errno, json, math, os, random, re, signal, subprocess, sys, time
from pathlib import Path
import nbformat, psutil, pytest
from autoresearch import run as r
from autoresearch.contract import get_profile, write_json
from autoresearch.judge import Early
from autoresearch.prepare import prepare
from autoresearch.run import (OUTCOMES, Result, classify, compile_packages, fewer_kernels, fused_of,
    read_log, read_notes, run_experiment, write_notes)

ROOT = Path(__file__).parent.parent
BIN = Path(sys.executable).parent
KEYS = ['val_bpb', 'training_seconds', 'total_seconds', 'peak_vram_mb', 'mfu_percent',
    'total_tokens_M', 'num_steps', 'num_params_M', 'depth']

def settings(folder, **changed):
    "This repository's settings.ini with other values in [tiny]"
    text = (ROOT/'settings.ini').read_text()
    head,tiny = text.split('[tiny]')
    for k,v in changed.items():
        line = f'{k} = {v}'
        tiny = (re.sub(rf'^{k} = .*$', line, tiny, flags=re.M)
            if re.search(rf'^{k} = ', tiny, re.M) else f'{tiny.rstrip()}\n{line}\n')
    (folder/'settings.ini').write_text(f'{head}[tiny]{tiny}')
    return get_profile('tiny', folder/'settings.ini')

# a value over a twelfth of the rows: nothing here compares it with another one
FEW = dict(eval_tokens=8192)

@pytest.fixture(scope='module')
def clone(tmp_path_factory):
    "A clone of what is here now, committed, with a budget of 2 s"
    root = tmp_path_factory.mktemp('clone')/'repo'
    run = lambda *a: subprocess.run(a, cwd=root, check=True, capture_output=True)
    subprocess.run(['git', 'clone', '-q', str(ROOT), str(root)], check=True)
    for f in subprocess.run(['git', 'ls-files', '-mo', '--exclude-standard'], cwd=ROOT,
            capture_output=True, text=True, check=True).stdout.split():
        if (ROOT/f).is_file():
            (root/f).parent.mkdir(parents=True, exist_ok=True)
            (root/f).write_bytes((ROOT/f).read_bytes())
    prepare(settings(root, time_budget=2, **FEW))
    run('git', 'add', '-A')
    run('git', '-c', 'user.name=t', '-c', 'user.email=t@example.org',
        'commit', '-qm', 'as it is, 2 s')
    done = ar(root, 'ar-setup', 'may1')
    assert done.returncode == 0, done.stderr
    return root

def ar(root, command, *args):
    return subprocess.run([BIN/command, *args], cwd=root,
        env={**os.environ, 'PYTHONPATH': str(root)}, capture_output=True, text=True)

@pytest.mark.slow
def test_baseline(clone):
    r = ar(clone, 'ar-run', '-m', 'baseline')
    assert r.returncode == 0, r.stderr
    lines = (clone/'results.tsv').read_text().splitlines()
    assert lines[0] == 'commit\tval_bpb\tmemory_gb\tstatus\tdescription'
    head = subprocess.run(['git', 'rev-parse', '--short=7', 'HEAD'], cwd=clone,
        capture_output=True, text=True).stdout.strip()
    run_dir, = (clone/'runs/may1').glob('0*')
    record,notes = (json.loads((run_dir/n).read_text()) for n in ('record.json', 'experiment.json'))
    assert (lines[1:] == [f"{head}\t{record['block']['val_bpb']:.6f}\t"
            f"{record['block']['peak_vram_mb']/1024:.1f}\tkeep\tbaseline"]
        and run_dir.name == f'001-{head}')
    log = (clone/'run.log').read_text()
    assert ((clone/'run.log').is_symlink()
        and [k for k in re.findall(r'^(\w+): ', log, re.M) if k in KEYS] == KEYS
            == list(record['block']))
    assert (record['block']['val_bpb'] < 3 and 1.8 < record['block']['training_seconds'] < 3
        and 100 < record['block']['peak_vram_mb'] < 8000)
    clock = record['clock']
    assert (clock['counts'] == 'cpu'
        and clock['threads'] == clock['threads_began'] == clock['threads_end']
        and record['settings']['time_budget'] == 2)
    assert (clock['training_seconds'] == pytest.approx(
            (clock['cpu_seconds'])/clock['threads']-clock['free_seconds'])
        and clock['overran'] < 1)
    assert (notes['steps'] == record['block']['num_steps']
        and notes['overran'] == clock['overran'] and notes['exit'] == '')
    timed = record['block']['num_steps'] - clock['free_steps']
    assert (notes['rate'] == pytest.approx(timed*2048/clock['training_seconds'], rel=1e-6)
        and notes['counts'] == 'cpu')
    assert json.loads((run_dir/'run.ipynb').read_text())['metadata']['autoresearch'] == notes
    assert json.loads((run_dir/'progress.json').read_text())['percent'] > 90 # long steps: the end that is nearest
    r = ar(clone, 'ar-frontier')
    assert (r.returncode == 0 and (clone/'progress.png').read_bytes()[:4] == b'\x89PNG'
        and r.stdout.strip().endswith('progress.png'))

@pytest.mark.slow
def test_steps_of_a_tenth_of_the_budget_stand(tmp_path):
    "TOTAL_BATCH_SIZE = 2**15: sixteen passes a step, longer than any fixed margin"
    prepare(p := settings(tmp_path, time_budget=3, free_seconds=1, **FEW))
    text = (ROOT/'nbs/02_train.ipynb').read_text()
    assert 'TOTAL_BATCH_SIZE = 2**11' in text
    (tmp_path/'nb.ipynb').write_text(
        text.replace('TOTAL_BATCH_SIZE = 2**11', 'TOTAL_BATCH_SIZE = 2**15'))
    res = run_experiment(tmp_path/'nb.ipynb', tmp_path/'run', p, bar=False)
    assert res.ok, res
    clock = res.record['clock']
    assert (clock['last_batches'] == 16 and clock['most_batches'] == 17
        and clock['last_began'] < 3 <= clock['training_seconds'])
    assert (clock['overran'] == pytest.approx(clock['training_seconds']-3)
        and clock['overran'] < 1.5*clock['longest_seconds'] + 1)

@pytest.mark.slow
def test_papermill_alone_honours_parameters(clone, tmp_path):
    settings(clone, time_budget=.3, free_steps=2, **FEW)
    cmd = [BIN/'papermill', '-p', 'SEED', '7', '-p', 'RUN_DIR', str(tmp_path/'r'),
        'nbs/02_train.ipynb', str(tmp_path/'out.ipynb'), '--no-progress-bar']
    subprocess.run(cmd, cwd=clone, env={**os.environ, 'PYTHONPATH': str(clone)}, check=True,
        capture_output=True)
    record = json.loads((tmp_path/'r/record.json').read_text())
    assert record['seed'] == 7 and record['profile'] == 'tiny' and record['block']['val_bpb'] < 4 # of .3 s

def run_cells(folder, *sources, held={}, **changed):
    "The result of a notebook of these cells"
    p = settings(folder, **changed)
    cells = [nbformat.v4.new_code_cell('SEED, PROFILE, RUN_DIR = 0, "", ""',
            metadata=dict(tags=['parameters'])),
        *map(nbformat.v4.new_code_cell, sources)]
    nbformat.write(nbformat.v4.new_notebook(cells=cells), folder/'nb.ipynb')
    return run_experiment(folder/'nb.ipynb', folder/'run', p, bar=False, **held)

FORGED = 'print("---\\nval_bpb:          0.100000")'
REPORT = ('from autoresearch.contract import *; import autoresearch.contract as c; '
    'p = get_profile(PROFILE); b = Budget(p)\n'
    '{during}\n'
    'begin_evaluation(); end_evaluation("val_bpb", {value}, {evaluator!r}); report(p, RUN_DIR)')
def reporting(value='1.5', evaluator='autoresearch.prepare.evaluate_bpb',
        during='while not b.done: b.progress; b.step()'):
    return REPORT.format(value=value, evaluator=evaluator, during=during)

BURN = 'import time; t = time.process_time()\nwhile time.process_time()-t < {}: pass\n'

@pytest.mark.parametrize('want, reason, cells', [
    ('ok', '', [reporting()]),
    ('error', 'ValueError: bad idea', ['raise ValueError("bad idea")']),
    ('no-metric', 'no record.json', [FORGED]),
    ('no-metric', 'no record.json', ['exit(1)']),
    ('nan', 'FloatingPointError: loss nan', [
        'print("FAIL")\nraise FloatingPointError("loss nan")']),
    ('oom', 'OutOfMemoryError', [
        'class OutOfMemoryError(RuntimeError): pass\n'
        'raise OutOfMemoryError("CUDA out of memory")']),
    ('untrusted', 'not from autoresearch.prepare.evaluate_bpb', [
        reporting(evaluator='canvas.mine')]),
    ('untrusted', 'val_bpb is nan', [reporting(value='float("nan")')]),
    ('untrusted', 'the clock was never asked', [reporting(during='')]),
    ('untrusted', 'or saw no step', [reporting(during='b.progress')]),
    ('ok', '', [reporting(during='print("Fatal Python error: of a child\\nDeadKernelError")\n'
        'while not b.done: b.progress; b.step()')]),
    ('ok', '', [reporting(during='from IPython.display import display\nwhile not b.done:\n'
        '    b.progress; [display("x"*2000) for _ in range(50)]; b.step()')]),
    ('ok', '', [reporting(during='b.progress; [b.step() for _ in range(20)]\n'
        + BURN.format(.9) + 'b.step()\n' + BURN.format(1.2) + 'b.step()')]),
    ('untrusted', 'its last step took 2.', [
        reporting(during='b.progress; [b.step() for _ in range(20)]\n'
            + BURN.format(2.5) + 'b.step()')]),
    ('untrusted', 'its last step began after 2.', [
        reporting(during='b.progress; [b.step() for _ in range(20)]\n'
            + BURN.format(2.2) + 'b.step(); b.step()')]),
    ('untrusted', 's of it after its last step', [
        reporting(during='b.progress; [b.step() for _ in range(20)]\n' + BURN.format(2.2))]),
    ('untrusted', 'the budget was one of steps', [
        reporting(during='b = Budget(p, steps=3)\nwhile not b.done: b.progress; b.step()')]),
    ('error', 'RuntimeError: nothing to report', [
        'from autoresearch.contract import *; report(get_profile(PROFILE), RUN_DIR)'])])
def test_outcomes(tmp_path, want, reason, cells):
    timed = any('process_time' in c for c in cells)
    r = run_cells(tmp_path, *cells, time_budget=1 if timed else .3)
    assert r.status == want and reason in r.reason, (
        r, (tmp_path/'run/run.log').read_text()[-2000:])
    assert (r.value == 1.5 and r.ok) if want == 'ok' else (r.value == 0 and not r.record)

def test_wall_limit_kills_everything(tmp_path):
    cell = ('import os, subprocess; subprocess.Popen(["setsid", "sleep", "97531"])\n'
        'print(os.getpid(), flush=True)\nwhile True: pass')
    t0 = time.time()
    r = run_cells(tmp_path, cell, wall_limit=4, time_budget=1)
    assert r.status == 'timeout' and r.reason == 'killed after 4 s' and time.time()-t0 < 4+60
    time.sleep(.2)
    left = [p.info for p in psutil.process_iter(['cmdline'])
        if '97531' in (p.info['cmdline'] or [])
        or str(tmp_path) in ' '.join(p.info['cmdline'] or [])]
    assert not left

TRACED = """from autoresearch.contract import *
import time, os, json
b = Budget(get_profile(PROFILE))
show = Progress(RUN_DIR, every=0)
for i in range(1, 300):
    show(step=i, seconds=i/10, loss={loss}, percent={percent}, schedule={schedule})
    time.sleep(.1)
"""

def above(limit, asked):
    "Ends a run whose loss is above a limit, and notes what it was asked about"
    def early(curve):
        asked.append(curve)
        return Early(curve[-1][1] > limit, f'its loss is above {limit}', .25, .75)
    return early

def test_a_run_that_is_ended_early_is_a_loser_with_a_value(tmp_path, monkeypatch):
    monkeypatch.setattr(r, 'read_validation', lambda *args: {}) # it asks for no rows
    asked = []
    cell = TRACED.format(loss='9 - i/1000', percent='26 + i/100', schedule='[.1, 2048]')
    cell += 'import subprocess; subprocess.Popen(["setsid", "sleep", "97533"])\n'
    rows = dict(rows=1, tokens=1000, bytes=3000)
    res = run_cells(tmp_path, cell, time_budget=20, held=dict(early=above(5, asked), pinned=rows))
    assert res.status == 'early' and not res.ok and not res.record and not res.block
    assert res.reason == 'its loss is above 5' and .7 < res.saved < .75 and res.seconds < 60
    loss = json.loads((tmp_path/'run/progress.json').read_text())['loss']
    assert 8 < loss < 9 and math.isclose(res.value, loss/math.log(2)/3)
    assert res.memory_gb == 0 and 'early' in res._repr_markdown_()
    assert all(rates == (.1, 2048.) for *_,rates in asked[-1])
    write_notes(res, commit='a'*40, parent='b'*40, status='discard', dir='001-aaaaaaa', started=1.,
        seed=1, host=dict(gpu='NVIDIA H100'))
    notes = read_notes(tmp_path/'run/experiment.json')
    assert notes['class'] == 'early' and notes['saved'] == res.saved
    assert notes['host'] == dict(gpu='NVIDIA H100')
    time.sleep(.2)
    left = [o.info['cmdline'] or [] for o in psutil.process_iter(['cmdline'])]
    assert not [o for o in left if '97533' in o or str(tmp_path) in ' '.join(o)]

@pytest.mark.parametrize('changed', [dict(schedule='None'), dict(percent='0'), dict(schedule='[]'),
    dict(loss='float("nan")'), dict(loss='4.')], ids=str)
def test_nothing_else_is_ended_early(tmp_path, changed):
    "No trace, free steps only, losses that are none, and a run that is no loser"
    cell = TRACED.format(**{**dict(loss='9.', percent='90', schedule='[.1]'), **changed})
    cell = cell.replace('300', '30')
    res = run_cells(tmp_path, cell, held=dict(early=above(5, asked := [])))
    assert res.status == 'no-metric' and res.saved == 0 == res.value
    assert bool(asked) == (changed == dict(loss='4.'))

def test_what_is_evaluated_is_not_ended_early(tmp_path):
    "Nothing is left to save; and a canvas that writes its own curve gains no record by it"
    during = """while not b.done:
    b.progress
    b.step()
begin_evaluation()
show = Progress(RUN_DIR, every=0)
import time
for i in range(25):
    show(step=i, seconds=1, loss=9., percent=100., schedule=[.1])
    time.sleep(.1)"""
    res = run_cells(tmp_path, reporting(during=during).replace('begin_evaluation(); ', ''),
        held=dict(early=above(5, asked := [])), time_budget=.3)
    assert res.ok and not asked

def test_a_curve_of_any_kind_ends_nothing(tmp_path):
    "What early stop is asked with is sound, or it is not asked"
    for text in ('', '[]', '{"curve": ' + '['*10**5, '{"columns": 5, "curve": {"a": 1}}',
        '{"columns": ["fraction", "loss", "schedule"], "curve": [[1, 2, "x"], [0, 1, {}]]}'):
        (tmp_path/'progress.json').write_text(text)
        assert r._cut(tmp_path, above(-1, []), []) is None
        assert r._ended_early(tmp_path, Early(True, '', .25, .75), None)['saved'] <= .75
    good = dict(columns=['fraction', 'loss', 'schedule'], curve=[[.3, 2., [1]]])
    (tmp_path/'progress.json').write_text(json.dumps(good))
    assert r._cut(tmp_path, above(1, []), []).stop
    for mark in ('training_ended', 'begin_evaluation'):
        assert r._cut(tmp_path, above(1, []), ['start', mark]) is None
    assert r._cut(tmp_path, lambda curve: None, []) is None and r._cut(tmp_path, None, []) is None

# which machine

class Driver:
    "NVML as its header has it, of two GPUs; functions that are not here are missing in the library"
    texts = dict(DeviceGetName=b'NVIDIA H100 80GB HBM3', SystemGetDriverVersion=b'570.86.15')
    numbers = dict(DeviceGetPowerManagementLimit=700_000, SystemGetCudaDriverVersion_v2=12080)
    clocks = {('DeviceGetMaxClockInfo', 1): 1980, ('DeviceGetMaxClockInfo', 2): 2619}
    def __getattr__(self, name):
        name = name.removeprefix('nvml')
        def text(*args):
            *gpu,buffer,size = args
            assert size.value == 96
            said = self.texts.get(name) or b'GPU-%d' % gpu[0]
            buffer.value = said
            return 0
        def number(*args):
            *rest,out = args
            out._obj.value = self.numbers.get(name) or self.clocks[name, rest[1]]
            return 0
        if name in self.texts or name == 'DeviceGetUUID': return text
        if name in self.numbers or name == 'DeviceGetMaxClockInfo': return number
        if name == 'DeviceGetApplicationsClock': return lambda *args: 3 # not supported
        raise AttributeError(name)

def test_a_fingerprint_of_gpus(monkeypatch):
    driver = Driver()
    monkeypatch.setattr(r, '_visible_gpus', lambda: (driver, [1, 2]))
    two = r.fingerprint()
    assert (two['gpu'], two['gpus'], two['driver'], two['cuda'], two['power_w'], two['sm_mhz'],
        two['memory_mhz'], two['set_mhz']) == (
        'NVIDIA H100 80GB HBM3', 2, '570.86.15', '12.8', 700, 1980, 2619, None)
    monkeypatch.setattr(r, '_visible_gpus', lambda: (driver, [1]))
    one = r.fingerprint()
    assert one['machine'] in two['machine'] and one['machine'] != two['machine']
    assert 'GPUs 2 -> 1' in r.differs(two, one) and one['id'] != two['id']
    driver.numbers = {**driver.numbers, 'DeviceGetPowerManagementLimit': 350_000}
    driver.texts = {**driver.texts, 'DeviceGetName': b'NVIDIA H200'}
    assert r.differs(one, r.fingerprint()) == (
        'gpu NVIDIA H100 80GB HBM3 -> NVIDIA H200; power limit 700 W -> 350 W')
    monkeypatch.setattr(r, '_visible_gpus', lambda: (object(), [1]))
    assert r.fingerprint()['gpu'] is None and not r.differs({**one, 'machine': None}, r.fingerprint())

def test_a_fingerprint_where_nothing_is_told(monkeypatch):
    "No GPU, no /proc, no torch: it is said in None, and quickly"
    monkeypatch.setattr(r, '_visible_gpus', lambda: (None, []))
    here,t0 = r.fingerprint(), time.perf_counter()
    assert r.fingerprint() == here and time.perf_counter()-t0 < .05
    assert json.loads(json.dumps(here)) == here and here['gpus'] == 0 and here['cpus'] >= 1
    def nothing(*args, **kw): raise r.PackageNotFoundError
    monkeypatch.setattr(r, 'version', nothing)
    monkeypatch.setattr(r, '_first', lambda *args: None)
    less = r.fingerprint()
    assert less['torch'] is None and less['cpu'] and less['id'] != here['id']
    assert not r.differs({k: v for k,v in less.items() if k != 'cpu'}, here)

@pytest.mark.parametrize('a', [None, {}, [], 'gpu', dict(gpu=[1], cpus='x'*10**4), dict(gpu=10**4000)])
def test_fingerprints_of_any_kind(a):
    b = dict(gpu='NVIDIA H100', cpus=4, power_w=math.nan)
    for said in (r.differs(a, b), r.differs(b, a)): assert isinstance(said, str) and len(said) < 300

def test_a_folder_is_never_used_twice(tmp_path):
    run_cells(tmp_path, 'pass')
    with pytest.raises(FileExistsError, match='holds a run already'): run_cells(tmp_path, 'pass')

def test_interrupted_leaves_no_kernel(tmp_path):
    "Ctrl-C in the runner: the kernel is gone within 5 s"
    nb = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell('while True: pass')])
    settings(tmp_path)
    nbformat.write(nb, tmp_path/'nb.ipynb')
    code = ('import sys; from autoresearch.contract import get_profile; '
        'from autoresearch.run import run_experiment; '
        'run_experiment("nb.ipynb", "run", get_profile("tiny"), bar=False)')
    p = subprocess.Popen([sys.executable, '-c', code], cwd=tmp_path, stderr=subprocess.DEVNULL)
    running = lambda: [q for q in psutil.process_iter(['cmdline'])
        if 'ipykernel_launcher' in ' '.join(q.info['cmdline'] or []) and q.ppid() in kids]
    kids,t0 = set(), time.time()
    while time.time()-t0 < 120:
        kids = {c.pid for c in psutil.Process(p.pid).children(recursive=True)}
        if len(kids) >= 2: break
        time.sleep(.1)
    assert len(kids) >= 2, 'papermill and its kernel'
    p.send_signal(2)
    p.wait(60)
    assert not [k for k in kids if psutil.pid_exists(k)] or not running()

def test_bytecode_is_made_where_it_is_missing(tmp_path, monkeypatch):
    pkg = tmp_path/'packed'
    (pkg/'deep').mkdir(parents=True)
    for i in range(12): (pkg/('deep' if i % 2 else '.')/f'm{i}.py').write_text(f'x = {i}')
    (pkg/'__init__.py').write_text('')
    (pkg/'broken.py').write_text('x = = 1')
    monkeypatch.syspath_prepend(tmp_path)
    names = ('packed', 'not_there', 'packed.not_there', 'json.decoder')
    assert compile_packages(names, few=50) == 0 and not list(pkg.rglob('*.pyc'))
    assert compile_packages(names, few=3) == 13 and len(list(pkg.rglob('*.pyc'))) == 13
    assert compile_packages(names, few=3) == 0, 'what cannot be compiled is not tried for ever'

# Run in a process of its own: what this one has imported is imported
LEAN = """
import sys
class Refuse:
    "Nothing that only a report, a page or a search wants is installed"
    def find_spec(self, name, path=None, target=None):
        if name.partition('.')[0] in {refused!r}:\
 raise ModuleNotFoundError(f'{{name}} is refused', name=name)
sys.meta_path.insert(0, Refuse())
import autoresearch.{module}
"""
REFUSED = 'torch matplotlib pandas ipywidgets nbconvert optuna voila plotly anywidget'.split()

@pytest.mark.parametrize('module', ['run', 'ratchet', 'search'])
def test_imports_are_lean(module):
    "A cluster's worker may go without what only a report, the dashboard or a search needs"
    code = LEAN.format(refused=REFUSED, module=module)
    done = subprocess.run([sys.executable, '-c', code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    done = subprocess.run(
        [sys.executable, '-c', code.replace('autoresearch.' + module, 'pandas')],
        capture_output=True, text=True)
    assert 'pandas is refused' in done.stderr, 'the test refuses what it says'

def test_who_runs_beside_a_run_is_seen(tmp_path):
    busy = [subprocess.Popen([sys.executable, '-c', 'while True: pass']) for _ in range(2)]
    try:
        res = run_cells(tmp_path, reporting(during='import time\n'
            'while not b.done: b.progress; time.sleep(.01); b.step()'), time_budget=2, clock='wall')
    finally: [(p.kill(), p.wait()) for p in busy]
    assert (res.ok and res.load['others'] > .5*min(2, res.load['cores'])
        and res.load['wanted'] == 1 and 0 < res.load['memory'] < 1), res

def test_children_that_end_are_not_counted_twice(tmp_path):
    "A canvas whose children work and are waited for: the runner sees what its clock counts"
    work = ('import subprocess, sys\nfor _ in range(4): b.progress; '
        'subprocess.run([sys.executable, "-c", '
        '"import time\\nwhile time.process_time() < .8: pass"]); b.step()')
    res = run_cells(tmp_path, reporting(during=work), time_budget=20)
    clock = res.record['clock']
    assert (res.ok and clock["cpu_seconds"] > 3
        and res.load['cpu_seconds'] < 1.1*clock['cpu_seconds'] + 1), res

def test_grandchildren_that_go_with_their_parent_are_not_counted_twice(tmp_path):
    "A compiler's driver and its passes end between two samples"
    burn = 'import time\nwhile time.process_time() < 1: pass'
    work = (f'import os, sys; os.environ.update(BURN={burn!r}, PY=sys.executable)\n'
        'for _ in range(4): b.progress; os.system(\'"$PY" -c "$BURN"; true\'); b.step()')
    res = run_cells(tmp_path, reporting(during=work), time_budget=20)
    clock = res.record['clock']
    assert (res.ok and clock['cpu_seconds'] > 4
        and res.load['cpu_seconds'] < 1.1*clock['cpu_seconds'] + 1), res

@pytest.mark.slow
def test_papermills_own_work_is_none_of_the_runs(tmp_path):
    "A canvas of many prints makes work for who reads them"
    talk = ('from IPython.display import display\nwhile not b.done:\n'
        '    b.progress; [display("x"*2000) for _ in range(50)]; b.step()')
    res = run_cells(tmp_path, reporting(during=talk), time_budget=3)
    clock = res.record['clock']
    assert (res.ok and res.load['cpu_seconds'] < 1.1*clock['cpu_seconds'] + .5
        and res.load['run'] > 0), res

def test_work_in_hiding_is_seen(tmp_path):
    "A process that is nobody's child trains on, past the clock of CPU seconds: the runner sees it"
    burn = 'import time\nwhile time.process_time() < 30: pass'
    hide = (f'import os, subprocess, sys; os.environ.update(BURN={burn!r}, PY=sys.executable); '
        'subprocess.run(["sh", "-c", \'"$PY" -c "$BURN" & exit 0\'])\n')
    cell = reporting(during='b.progress\n' + hide
        + 'import time\nfor i in range(180):\n    time.sleep(.05)\n    b.step()\n')
    res = run_cells(tmp_path, cell, time_budget=5)
    assert (res.status == 'untrusted'
        and 'CPU seconds during training, of which its clock counted' in res.reason), res

# how a kernel ends

@pytest.mark.parametrize('cell, status, reason, end', [
    ('import ctypes; ctypes.string_at(0)', 'error', 'Segmentation fault', 'SIGSEGV'),
    ('import os; os.abort()', 'error', 'Aborted', 'SIGABRT'),
    ('import os; os._exit(0)', 'error', 'the kernel ended by itself with exit code 0', 0),
    ('import os; os._exit(3)', 'error', 'the kernel ended by itself with exit code 3', 3),
    ('import os; os.kill(os.getpid(), 9)', 'error',
        'killed (SIGKILL) from outside, or for want of memory', 'SIGKILL'),
    ('import os, signal; signal.signal(15, signal.SIG_DFL); os.kill(os.getpid(), 15)', 'error',
        'the kernel was ended by SIGTERM', 'SIGTERM'),
    ('import sys; sys.exit(1)', 'error', 'SystemExit: 1', ''),
    ('raise KeyboardInterrupt', 'error', 'KeyboardInterrupt', ''),
    ('import torch; torch.empty(2**60)', 'oom', "DefaultCPUAllocator: can't allocate memory", ''),
    ('bytearray(2**62)', 'oom', 'MemoryError', ''),
    ('print("FAIL")\nundefined', 'error', "NameError: name 'undefined' is not defined", '')])
def test_a_kernel_ends_for_a_reason_that_is_told(tmp_path, cell, status, reason, end):
    res = run_cells(tmp_path, cell)
    assert (res.status, res.exit) == (status, end) and reason in res.reason, (
        res, read_log(tmp_path/'run')[-2000:])
    if end: assert 'memory' not in res.reason or end == 'SIGKILL'

def left(folder, log='', **files):
    "A folder as a run may leave it"
    folder.mkdir(exist_ok=True)
    (folder/'run.log').write_text(log)
    for k,v in files.items(): (folder/f'{k}.json').write_text(json.dumps(v))
    return folder

def judged(folder, p, code=0, **kw): return classify(folder, p, True, code, **kw)[:2]

def test_a_kill_is_called_want_of_memory_only_where_something_says_so(tmp_path):
    p = settings(tmp_path)
    killed = left(tmp_path/'a', exit=dict(kernel=-9, oom_kills=0))
    assert judged(killed, p)[0] == 'error' and judged(killed, p, load=dict(memory=.5))[0] == 'error'
    assert judged(killed, p, load=dict(memory=.97)) == (
        'oom', 'the kernel was killed (SIGKILL) while 97% of memory was in use')
    assert judged(left(tmp_path/'b', exit=dict(kernel=-9, oom_kills=1)), p)[0] == 'oom'
    assert judged(left(tmp_path/'c'), p, code=-9) == (
        'error', 'the kernel was killed (SIGKILL) from outside, or for want of memory')

def raised(ename, evalue):
    return dict(cells=[dict(id='loop', outputs=[
        dict(output_type='error', ename=ename, evalue=evalue, traceback=[])])])

@pytest.mark.parametrize('ename, evalue, log, loss, want', [
    ('FloatingPointError', 'loss nan', 'FAIL\n', 2., 'nan'),
    ('FloatingPointError', 'underflow', '', 2., 'error'),
    ('NameError', 'x', 'FAIL\n', 2., 'error'), ('NameError', 'x', '', math.nan, 'nan'),
    ('ValueError', 'x', '', math.inf, 'nan'), ('ValueError', 'x', '', 'nan', 'error'),
    ('RuntimeError', 'MPS backend out of memory (MPS allocated: 5 GB)', '', 2., 'oom'),
    ('RuntimeError', 'CUDA error: out of memory', '', 2., 'oom'),
    ('OSError', '[Errno 12] Cannot allocate memory', '', 2., 'oom'),
    ('numpy.core._exceptions._ArrayMemoryError', 'x', '', 2., 'oom'),
    ('ValueError', 'my budget is out of memory', '', 2., 'error')])
def test_causes_of_an_exception(tmp_path, ename, evalue, log, loss, want):
    folder = left(tmp_path/'a', log, progress=dict(loss=loss))
    (folder/'run.ipynb').write_text(json.dumps(raised(ename, evalue)))
    assert judged(folder, settings(tmp_path))[0] == want

# what starts a run is ours

def kernelspec(folder, python):
    "A kernel `python3` of another Python, as a user may have installed it"
    write_json(folder/'kernels/python3/kernel.json', dict(
        argv=[str(python), '-m', 'ipykernel_launcher', '-f', '{connection_file}'],
        display_name='other', language='python'))

def test_the_kernel_is_this_python_whatever_is_installed(tmp_path, monkeypatch):
    kernelspec(tmp_path/'jupyter', tmp_path/'no/such/python')
    monkeypatch.setenv('JUPYTER_PATH', str(tmp_path/'jupyter'))
    res = run_cells(tmp_path, reporting(during='import sys; print("RUNS", sys.executable)\n'
        'while not b.done: b.progress; b.step()'), time_budget=.2)
    assert res.ok and f'RUNS {sys.executable}' in read_log(tmp_path/'run'), res

STRAYS = ('queue json random types asyncio logging tempfile socket zmq papermill jupyter_client '
    'nbformat tornado psutil traitlets').split()

def test_strays_in_the_folder_do_not_reach_what_starts_a_run(tmp_path, monkeypatch):
    for name in STRAYS: (tmp_path/f'{name}.py').write_text('raise SystemExit("a stray")')
    (tmp_path/'measure_helper.py').write_text('word = "from the folder"')
    cell = ('import queue, json, random, measure_helper; '
        'print("HAS", measure_helper.word, queue.__file__)\n'
        'while not b.done: b.progress; b.step()')
    res = run_cells(tmp_path, reporting(during=cell), time_budget=.2)
    assert (res.ok
        and re.search(r'HAS from the folder .*lib.*queue.py', read_log(tmp_path/'run'))), (
        res, read_log(tmp_path/'run')[-2000:])

def test_the_folder_of_the_code_comes_before_what_is_installed(tmp_path, monkeypatch):
    "The contract is the code folder's, even where PYTHONPATH names another"
    (tmp_path/'code/autoresearch').mkdir(parents=True)
    for f in (ROOT/'autoresearch').glob('*.py'):
        (tmp_path/'code/autoresearch'/f.name).write_bytes(f.read_bytes())
    p = settings(tmp_path)
    monkeypatch.setenv('PYTHONPATH', str(ROOT))
    nb = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(
        'import autoresearch.contract as c; print("FROM", c.__file__)')])
    nbformat.write(nb, tmp_path/'nb.ipynb')
    run_experiment(tmp_path/'nb.ipynb', tmp_path/'run', p, bar=False, code=tmp_path/'code')
    assert f"FROM {tmp_path/'code/autoresearch/contract.py'}" in read_log(tmp_path/'run')

def broken_child(monkeypatch, line):
    "The child process with a line before it begins"
    monkeypatch.setattr(r, 'CHILD', r.CHILD.replace(
        '_execute(*sys.argv[1:])', line + '\n_execute(*sys.argv[1:])'))

@pytest.mark.parametrize('line, reason', [
    ('sys.modules["papermill"] = None', 'papermill'),
    ('sys.executable = "/no/such/python"', 'No such file'),
    ('import autoresearch.run as r; r.KERNEL = "raise SystemExit(5)"',
        'Kernel died before replying'),
    ('sys.modules["jupyter_client"] = None', 'jupyter_client')])
def test_what_could_not_be_tried_is_no_experiment(tmp_path, monkeypatch, line, reason):
    broken_child(monkeypatch, line)
    res = run_cells(tmp_path, 'print("tried")')
    assert res.status == 'infrastructure' and reason in res.reason, (
        res, read_log(tmp_path/'run')[-2000:])
    assert ('tried\n' not in read_log(tmp_path/'run')
        or 'could not be tried' in read_log(tmp_path/'run'))

def test_a_runner_that_can_not_start_a_child_says_so(tmp_path, monkeypatch):
    def full(*_, **__): raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    monkeypatch.setattr(r, '_start', full)
    res = run_cells(tmp_path, 'pass')
    assert res.status == 'infrastructure' and 'No space left on device' in res.reason

@pytest.mark.parametrize('broken', [
    'import autoresearch.nothing', 'raise OSError(28, "No space left on device")'])
def test_a_child_that_can_not_begin(tmp_path, monkeypatch, broken):
    monkeypatch.setattr(r, 'CHILD', r.CHILD.replace(
        'from autoresearch.run import _execute', broken))
    res = run_cells(tmp_path, 'pass')
    assert (res.status == 'infrastructure'
        and res.reason.split(':')[0] in ('ModuleNotFoundError', 'OSError')), res

@pytest.mark.parametrize('clock, mine, want', [('cpu', None, ('passive', '0')),
    ('cpu', 'active', ('active', '0')), ('wall', None, (None, None))])
def test_threads_wait_passively_where_cpu_seconds_count(tmp_path, monkeypatch, clock, mine, want):
    for k in r.PASSIVE: monkeypatch.delenv(k, raising=False)
    if mine: monkeypatch.setenv('OMP_WAIT_POLICY', mine)
    _,env = r._command(tmp_path/'nb.ipynb', tmp_path/'run', settings(tmp_path, clock=clock), 1,
        tmp_path, 'word')
    assert ((env.get('OMP_WAIT_POLICY'), env.get('KMP_BLOCKTIME')) == want
        and env['AUTORESEARCH_RUN_DIR'] == str((tmp_path/'run').resolve()))

# judging is total

ODD = [None, True, math.nan, -math.inf, 10**400, -1, '', 'soon', [], [1], {}, dict(a=1), ['x'*9],
    '\x1b[31m\n', '\ud800', 1e308, [[[[]]]]]

def places(o, path=()):
    "Every place in a JSON object"
    yield path
    for k,v in (o.items() if isinstance(o, dict)
            else enumerate(o) if isinstance(o, list) else ()):
        yield from places(v, (*path, k))

def changed(o, path, how, rng):
    "A copy with one place changed, removed or buried"
    o = json.loads(json.dumps(o))
    at = o
    for k in path[:-1]: at = at[k]
    if not path: return rng.choice(ODD)
    if how == 'gone': del at[path[-1]]
    else: at[path[-1]] = rng.choice(ODD)
    return o

def torn(text, rng):
    "A file as a full disk, a hand or another program may leave it"
    data = text.encode('utf8', 'surrogatepass')
    i = rng.randrange(len(data)+1)
    return rng.choice([data[:i],
        data[:i] + bytes(rng.randrange(256) for _ in range(9)) + data[i:], b'', b'\xff\xfe' + data,
        b'[' * 100_000, b'{"a":' * 900 + b'1' + b'}' * 900, b'\0'*500, data + data,
        b'{"block": ' + b'9'*9000 + b'}'])

def sound_run(folder, p):
    "A folder that is judged `ok`, and the contents of its files"
    (folder/'run').mkdir()
    clock = dict(kind='seconds', counts=p.clock, device='', budgets=1, never_asked=False,
        budget=p.time_budget, wall_seconds=31., cpu_seconds=42.,
        threads=2, threads_began=2, threads_end=2,
        free_seconds=2.5, granted_steps=10, granted_seconds=p.free_seconds,
        batches=201, free_batches=11, tokens=201, free_tokens=11,
        last_tokens=1, most_tokens=2, tail_tokens=0, num_steps=200, free_steps=10,
        last_began=19.9, last_seconds=.1, last_cpu=.2, last_batches=1,
        longest_seconds=.2, longest_cpu=.4, most_batches=2,
        tail_seconds=0., tail_batches=0, overran=0., began=5., ended=36.)
    record = dict(
        block=dict(val_bpb=1.7, training_seconds=20., peak_vram_mb=400., num_steps=200,
            total_tokens_M=.4),
        profile='tiny', clock=clock, data=dict(val_rows='aa'),
        evaluation=dict(evaluator=p.evaluator, value=1.7, nonce='word', details={}),
        contract='c0', host=dict(host='here'), info=dict(x=[1, dict(y=2)]))
    out = [dict(output_type='stream', name='stdout', text=['step 1\n'])]
    cells = [dict(cell_type='code', id='loop', execution_count=1, source=['1/0'], outputs=out,
        metadata={})]
    failed = dict(cells=[dict(cells[0], outputs=[dict(output_type='error', ename='E', evalue='why',
        traceback=['Cell In[1], line 1'])])], metadata={}, nbformat=4)
    files = {'record.json': record,
        'run.ipynb': dict(cells=cells, metadata={}, nbformat=4, nbformat_minor=5),
        'exit.json': dict(kernel=None, oom_kills=0),
        'progress.json': dict(step=9, loss=2.5, percent=50, curve=[[1, 2, 3]])}
    return files, failed

def put(folder, name, content):
    f = folder/name
    if f.is_dir(): f.rmdir()
    if isinstance(content, bytes): f.write_bytes(content)
    else:
        f.write_text(content if isinstance(content, str) else json.dumps(content),
            encoding='utf8', errors='surrogatepass')

def looked_at(folder, p, code, kw):
    "All that judges a run, one after another: what each says must be fit for a row"
    status,reason,record = classify(folder, p, True, code, 'word', 'c0', **kw)
    res = Result(status, folder, 1.5, record, reason, kw.get('load') or {}, r.exit_name(code))
    assert (status in OUTCOMES and isinstance(reason, str) and len(reason) < 500
        and '\n' not in reason and (status == 'ok') == (reason == '')), (status, reason)
    assert (isinstance(res.value, float) and math.isfinite(res.value)
        and math.isfinite(res.memory_gb) and res._repr_markdown_())
    write_notes(res, commit='a'*40, parent='b'*40, status='discard', dir='001-aaaaaaa', started=1.,
        seed=1)
    notes = read_notes(folder/'experiment.json')
    assert (notes and r.compared(notes, notes) is not None
        and r.disturbance(notes, [notes, {}], notes) is not None), (status, reason)
    r.failure(folder)
    with r.progress_bar(False) as draw: draw(r.read_json(folder/'progress.json'))
    return status

def test_judging_is_total(tmp_path):
    "Four hundred folders, each with one thing wrong: every one ends in a status with a reason"
    rng,p = random.Random(13), settings(tmp_path)
    files,failed = sound_run(tmp_path, p)
    folder,seen,log = tmp_path/'run', {}, 'Input notebook\nstep 1\n'
    for i in range(400):
        for name,o in files.items(): put(folder, name, o)
        put(folder, 'run.log', log)
        if i:
            name = rng.choice([*files, 'run.log', 'record.json', 'run.ipynb'])
            o = failed if name == 'run.ipynb' and rng.random() < .5 else files.get(name, log)
            if rng.random() < .15 or name == 'run.log':
                if rng.random() < .3:
                    (folder/name).unlink()
                    if rng.random() < .5: (folder/name).mkdir()
                else: put(folder, name, torn(o if isinstance(o, str) else json.dumps(o), rng))
            else:
                put(folder, name, changed(
                    o, rng.choice(list(places(o))), rng.choice(['gone', 'odd']), rng))
        kw = dict(data=rng.choice([None, dict(val_rows='aa')]),
            load=rng.choice([None, {}, dict(memory='much'), dict(cpu_seconds=9.)]))
        status = looked_at(folder, p, rng.choice([0, 0, 0, 1, -11, None]), kw)
        if not i: assert status == 'ok', 'what is sound is'
        seen[status] = seen.get(status, 0)+1
        for name in [*files, 'run.log']:
            if (folder/name).is_dir(): (folder/name).rmdir()
    assert {'ok', 'untrusted', 'error'} <= set(seen) and seen['untrusted'] > 20, seen

@pytest.mark.parametrize('key, bad', [('peak_vram_mb', math.nan), ('num_steps', 'many'),
    ('total_tokens_M', []), ('mfu', math.inf), ('depth', 10**400), ('num_steps', 9.5)])
def test_a_figure_that_is_no_number_is_named(tmp_path, key, bad):
    p = settings(tmp_path)
    files,_ = sound_run(tmp_path, p)
    put(tmp_path/'run', 'run.log', '')
    record = files['record.json']
    put(tmp_path/'run', 'record.json', {**record, 'block': {**record['block'], key: bad}})
    status,reason,_ = classify(tmp_path/'run', p, True, 0, 'word', 'c0')
    assert status == 'untrusted' and reason.startswith(
        (f'{key} is ', f'{key} = ', 'record.json can not be read')), reason

def test_other_data_is_named(tmp_path):
    data = dict(val_rows='aa', tokenizer='bb', train_shards={f's{i}': str(i) for i in range(10)})
    for other,why in [(dict(val_rows='ab'), 'val_rows is aa, not ab'),
            (dict(train_shards=dict(s0='0')), 'train_shards differ in s1, s2'),
            (dict(revision='main'), 'revision is None, not main'),
            (dict(train_shards=7), 'train_shards is')]:
        assert why in r.other_data(data, {**data, **other})
    unknown = dict(data, revision='unknown: the cache was filled without asking the hub')
    assert r.other_data(dict(data, revision='0a1b2c'), unknown) == '', (
        'a session that did not know is not held to it')
    assert (r.other_data(None, data) == 'the record does not say what data it was measured on'
        and r.other_data(data, None) == r.other_data(data, data) == '')

def test_a_line_of_200_mb_leaves_a_reason(tmp_path):
    p = settings(tmp_path)
    (tmp_path/'run').mkdir()
    with open(tmp_path/'run/run.log', 'wb') as f:
        f.write(b'begins\n')
        for _ in range(200): f.write(b'x'*2**20)
        f.write(b' and the end')
    t0 = time.process_time()
    status,reason,_ = classify(tmp_path/'run', p, True, 1)
    assert (status == 'error' and reason.endswith(' and the end') and len(reason) < 250
        and time.process_time()-t0 < 2)
    assert read_log(tmp_path/'run').startswith('begins') and len(read_log(tmp_path/'run')) < 2**21

def test_a_notebook_of_100_mb_is_judged(tmp_path):
    p = settings(tmp_path)
    files,failed = sound_run(tmp_path, p)
    put(tmp_path/'run', 'run.log', '')
    failed['cells'][0]['outputs'].insert(0,
        dict(output_type='stream', name='stdout', text='x'*(100*2**20)))
    put(tmp_path/'run', 'run.ipynb', failed)
    assert classify(tmp_path/'run', p, True, 1)[:2] == ('error', 'E: why (cell loop, line 1)')

@pytest.mark.parametrize('counted, want', [
    (dict(counts='wall'), True), (dict(counts='cpu'), False),
    (dict(clock=dict(counts='cpu')), False), (dict(clock=dict(counts='wall')), True),
    ({}, True), (dict(clock=7), True)])
def test_load_alone_disturbs_a_first_run_only_by_the_wall(counted, want):
    seen = dict(code='a', rate=100., load=dict(cores=2, others=1.5, wanted=2, pressure=.9),
        **counted)
    assert bool(r.disturbance(seen, [])) == want
    assert r.disturbance(dict(seen, rate=89.), [dict({'class': 'ok'}, code='a', rate=100.)]), (
        'the same code was faster, whatever was counted')

def test_the_fastest_of_many_is_no_measure():
    "The same code again and again: the median counts, and what was disturbed does not"
    def ran(rate, disturbed=''):
        return {'class': 'ok', 'code': 'a', 'rate': rate, 'counts': 'cpu', 'disturbed': disturbed}
    assert r.disturbance(ran(93.), [ran(99.), ran(106.), ran(100.), ran(101.)]) == ''
    assert 'the same code made 100' in r.disturbance(
        ran(89.), [ran(99.), ran(106.), ran(100.), ran(101.)])
    assert 'the same code made 100' in r.disturbance(
        ran(60.), [ran(100.), ran(60., 'busy'), ran(60., 'busy')])

def test_a_run_of_free_steps_alone_has_a_rate():
    "Stopped for most of its budget, say: it would never be called disturbed"
    slow = dict(block=dict(num_steps=4, training_seconds=.1, total_tokens_M=.008),
        clock=dict(free_steps=4, free_seconds=20.), code='a')
    assert r.rate_of(slow) == pytest.approx(400)
    assert r.disturbance(slow, [{'class': 'ok', 'code': 'a', 'rate': 20_000.}])

def test_rates_and_what_is_said_of_them():
    block = dict(val_bpb=1.7, training_seconds=20., num_steps=210, total_tokens_M=.42)
    record = dict(block=block, clock=dict(free_steps=10))
    assert (r.rate_of(block) == pytest.approx(21_000)
        and r.rate_of(record) == pytest.approx(20_000)
        and r.rate_of(dict(rate=5., block=block)) == 5)
    assert r.rate_of(dict(rmse=.1, training_seconds=2., num_steps=300)) == 150
    assert (r.rate_of({}) == r.rate_of(dict(block=7))
        == r.rate_of(dict(training_seconds=0, num_steps=3)) == 0)
    told = dict(steps=942, rate=1.61e6, block=dict(total_tokens_M=1.))
    assert r.compared(told, dict(told, steps=953, rate=1.63e6)) == (
        'steps 942 (best 953), 1.61 M tokens/s (best 1.63 M, -1.2 %)')
    assert r.compared(told, dict(told, steps=1000)).endswith(': 6 % fewer steps than the best')
    assert r.compared(told) == 'steps 942, 1.61 M tokens/s' and r.compared({}, told) == ''

@pytest.mark.parametrize('info', [
    None, [], dict(), dict(fused=None), dict(fused=5), dict(fused=['x']), 'text'])
def test_a_record_that_says_nothing_of_kernels(info):
    best = dict(fused='fused: heads 8/8, MLP 8/8')
    assert (fused_of(dict(info=info)) == ''
        and fewer_kernels(dict(fused=fused_of(dict(info=info))), best) == '')
    assert fewer_kernels(dict(fused='fused: nothing (AUTORESEARCH_FUSE=0)'), best) == (
        'heads 0, best 8/8; MLP 0, best 8/8')
    assert (fewer_kernels(dict(fused='fused: heads 4/4'), best) == ''
        and fewer_kernels(best, dict(fused=info)) == '')
