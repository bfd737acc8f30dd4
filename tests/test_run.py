"""One experiment end to end: real papermill, real kernels, the real canvas on a budget of two seconds."""
import json, os, re, subprocess, sys, time
from pathlib import Path
import nbformat, psutil, pytest
from autoresearch.contract import get_profile
from autoresearch.prepare import prepare
from autoresearch.run import Result, compile_packages, run_experiment

ROOT = Path(__file__).parent.parent
BIN = Path(sys.executable).parent
KEYS = ['val_bpb', 'training_seconds', 'total_seconds', 'peak_vram_mb', 'mfu_percent', 'total_tokens_M', 'num_steps', 'num_params_M', 'depth']

def settings(folder, **changed):
    "This repository's settings.ini with other values in [tiny]"
    text = (ROOT/'settings.ini').read_text()
    head,tiny = text.split('[tiny]')
    for k,v in changed.items():
        line = f'{k} = {v}'
        tiny = re.sub(rf'^{k} = .*$', line, tiny, flags=re.M) if re.search(rf'^{k} = ', tiny, re.M) else f'{tiny.rstrip()}\n{line}\n'
    (folder/'settings.ini').write_text(f'{head}[tiny]{tiny}')
    return get_profile('tiny', folder/'settings.ini')

@pytest.fixture(scope='module')
def clone(tmp_path_factory):
    "A clone of what is here now, committed, with a budget of 2 s"
    prepare(get_profile('tiny'))
    root = tmp_path_factory.mktemp('clone')/'repo'
    run = lambda *a: subprocess.run(a, cwd=root, check=True, capture_output=True)
    subprocess.run(['git', 'clone', '-q', str(ROOT), str(root)], check=True)
    for f in subprocess.run(['git', 'ls-files', '-mo', '--exclude-standard'], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split():
        if (ROOT/f).is_file():
            (root/f).parent.mkdir(parents=True, exist_ok=True)
            (root/f).write_bytes((ROOT/f).read_bytes())
    settings(root, time_budget=2)
    run('git', 'add', '-A')
    run('git', '-c', 'user.name=t', '-c', 'user.email=t@example.org', 'commit', '-qm', 'as it is, 2 s')
    assert ar(root, 'ar-setup', 'may1').returncode == 0
    return root

def ar(root, command, *args):
    return subprocess.run([BIN/command, *args], cwd=root, env={**os.environ, 'PYTHONPATH': str(root)}, capture_output=True, text=True)

def test_baseline(clone):
    r = ar(clone, 'ar-run', '-m', 'baseline')
    assert r.returncode == 0, r.stderr
    lines = (clone/'results.tsv').read_text().splitlines()
    assert lines[0] == 'commit\tval_bpb\tmemory_gb\tstatus\tdescription'
    head = subprocess.run(['git', 'rev-parse', '--short=7', 'HEAD'], cwd=clone, capture_output=True, text=True).stdout.strip()
    run_dir, = (clone/'runs/may1').glob('0*')
    record,notes = (json.loads((run_dir/n).read_text()) for n in ('record.json', 'experiment.json'))
    assert lines[1:] == [f"{head}\t{record['block']['val_bpb']:.6f}\t0.0\tkeep\tbaseline"] and run_dir.name == f'001-{head}'
    log = (clone/'run.log').read_text()
    assert (clone/'run.log').is_symlink() and [k for k in re.findall(r'^(\w+): ', log, re.M) if k in KEYS] == KEYS == list(record['block'])
    assert record['block']['val_bpb'] < 3 and 2 <= record['block']['training_seconds'] < 3
    assert json.loads((run_dir/'run.ipynb').read_text())['metadata']['autoresearch'] == notes
    assert json.loads((run_dir/'progress.json').read_text())['percent'] == 100
    r = ar(clone, 'ar-frontier')
    assert r.returncode == 0 and (clone/'progress.png').read_bytes()[:4] == b'\x89PNG' and r.stdout.strip().endswith('progress.png')

def test_papermill_alone_honours_parameters(clone, tmp_path):
    cmd = [BIN/'papermill', '-p', 'SEED', '7', '-p', 'RUN_DIR', str(tmp_path/'r'), 'nbs/02_train.ipynb', str(tmp_path/'out.ipynb'), '--no-progress-bar']
    subprocess.run(cmd, cwd=clone, env={**os.environ, 'PYTHONPATH': str(clone)}, check=True, capture_output=True)
    record = json.loads((tmp_path/'r/record.json').read_text())
    assert record['seed'] == 7 and record['profile'] == 'tiny' and record['block']['val_bpb'] < 3

def run_cells(folder, *sources, **changed):
    "The result of a notebook of these cells"
    p = settings(folder, **changed)
    cells = [nbformat.v4.new_code_cell('SEED, PROFILE, RUN_DIR = 0, "", ""', metadata=dict(tags=['parameters'])), *map(nbformat.v4.new_code_cell, sources)]
    nbformat.write(nbformat.v4.new_notebook(cells=cells), folder/'nb.ipynb')
    return run_experiment(folder/'nb.ipynb', folder/'run', p, bar=False)

FORGED = 'print("---\\nval_bpb:          0.100000")'
REPORT = ('from autoresearch.contract import *; import autoresearch.contract as c; p = get_profile(PROFILE); b = Budget(p)\n'
    '{during}\nbegin_evaluation(); end_evaluation("val_bpb", {value}, {evaluator!r}); report(p, RUN_DIR)')
def reporting(value='1.5', evaluator='autoresearch.prepare.evaluate_bpb', during='while not b.done: b.progress; b.step()'):
    return REPORT.format(value=value, evaluator=evaluator, during=during)

@pytest.mark.parametrize('want, reason, cells', [
    ('ok', '', [reporting()]),
    ('error', 'ValueError: bad idea', ['raise ValueError("bad idea")']),
    ('no-metric', 'no record.json', [FORGED]),
    ('no-metric', 'no record.json', ['exit(1)']),
    ('nan', 'FloatingPointError: loss nan', ['print("FAIL")\nraise FloatingPointError("loss nan")']),
    ('oom', 'the kernel was killed', ['import os; os.kill(os.getpid(), 9)']),
    ('oom', 'OutOfMemoryError', ['class OutOfMemoryError(RuntimeError): pass\nraise OutOfMemoryError("CUDA out of memory")']),
    ('untrusted', 'not from autoresearch.prepare.evaluate_bpb', [reporting(evaluator='canvas.mine')]),
    ('untrusted', 'val_bpb is nan', [reporting(value='float("nan")')]),
    ('untrusted', 'the clock was never asked', [reporting(during='')]),
    ('untrusted', 'of a budget of 1 s', [reporting(during='import time; b.progress; [b.step() for _ in range(10)]; time.sleep(2.2); b.step()')]),
    ('untrusted', 'the budget was one of steps', [reporting(during='b = Budget(p, steps=3)\nwhile not b.done: b.progress; b.step()')]),
    ('error', 'RuntimeError: nothing to report', ['from autoresearch.contract import *; report(get_profile(PROFILE), RUN_DIR)'])])
def test_outcomes(tmp_path, want, reason, cells):
    r = run_cells(tmp_path, *cells, time_budget=1)
    assert r.status == want and reason in r.reason, (r, (tmp_path/'run/run.log').read_text()[-2000:])
    assert (r.value == 1.5 and r.ok) if want == 'ok' else (r.value == 0 and not r.record)

def test_wall_limit_kills_everything(tmp_path):
    cell = 'import os, subprocess; subprocess.Popen(["setsid", "sleep", "97531"])\nprint(os.getpid(), flush=True)\nwhile True: pass'
    t0 = time.time()
    r = run_cells(tmp_path, cell, wall_limit=4, time_budget=1)
    assert r.status == 'timeout' and r.reason == 'killed after 4 s' and time.time()-t0 < 4+5
    time.sleep(.2)
    left = [p.info for p in psutil.process_iter(['cmdline']) if '97531' in (p.info['cmdline'] or []) or str(tmp_path) in ' '.join(p.info['cmdline'] or [])]
    assert not left

def test_a_folder_is_never_used_twice(tmp_path):
    run_cells(tmp_path, 'pass')
    with pytest.raises(FileExistsError, match='holds a run already'): run_cells(tmp_path, 'pass')

def test_interrupted_leaves_no_kernel(tmp_path):
    "Ctrl-C in the runner: the kernel is gone within 5 s"
    nb = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell('while True: pass')])
    settings(tmp_path)
    nbformat.write(nb, tmp_path/'nb.ipynb')
    code = 'import sys; from autoresearch.contract import get_profile; from autoresearch.run import run_experiment; run_experiment("nb.ipynb", "run", get_profile("tiny"), bar=False)'
    p = subprocess.Popen([sys.executable, '-c', code], cwd=tmp_path, stderr=subprocess.DEVNULL)
    running = lambda: [q for q in psutil.process_iter(['cmdline']) if 'ipykernel_launcher' in ' '.join(q.info['cmdline'] or []) and q.ppid() in kids]
    kids,t0 = set(), time.time()
    while time.time()-t0 < 20:
        kids = {c.pid for c in psutil.Process(p.pid).children(recursive=True)}
        if len(kids) >= 2: break
        time.sleep(.1)
    assert len(kids) >= 2, 'papermill and its kernel'
    p.send_signal(2)
    p.wait(5)
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
