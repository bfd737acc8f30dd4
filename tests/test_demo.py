"""bench/demo.py on the torch-free example: it ends with a ledger, a picture and a sentence,
whatever comes between."""
import importlib.util, os, signal, subprocess, time
import pytest
from lab import BIN, PATIENCE, ROOT, commit, edit, environ, example, git, sh, sound, until

def load():
    spec = importlib.util.spec_from_file_location('demo', ROOT/'bench/demo.py')
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module

demo = load()

@pytest.fixture
def checkout(tmp_path, monkeypatch):
    monkeypatch.setenv('PYTHONPATH', str(ROOT))
    root = example(tmp_path/'checkout')
    (root/'.gitignore').write_text('runs/\nresults.tsv\nrun.log\nprogress.png\n__pycache__/\n')
    commit(root)
    return root

def of(root, **args): return demo.Demo(root, 'polynomial', **args)

def shown(root, capfd):
    "What was printed; the ledger and the picture are at the top"
    assert (root/'results.tsv').is_file() and (root/'progress.png').read_bytes()[:4] == b'\x89PNG'
    return capfd.readouterr().out

def test_a_demo_and_another_over_it(checkout, capfd):
    (checkout/'notes.txt').write_text('mine')
    assert demo.run(of(checkout, trials=2)) == 0
    out = shown(checkout, capfd)
    assert '3 real experiments in ' in out and 'Left out' not in out and 'The ratchet kept ' in out
    assert ('what is not committed is not in it: notes.txt' in out
        and not (of(checkout).clone/'notes.txt').exists())
    first = (checkout/'results.tsv').read_bytes()
    assert demo.run(of(checkout, trials=99, minutes=0.)) == 0
    assert ('One real experiment' in shown(checkout, capfd)
        and (checkout/'results.tsv').read_bytes() != first)
    assert (git(checkout, 'symbolic-ref', '--short', 'HEAD') == 'main'
        and git(checkout, 'branch').split() == ['*', 'main'])

@pytest.mark.slow
def test_a_ledger_of_somebody_else_stays(checkout, capfd):
    (checkout/'results.tsv').write_text('mine')
    (checkout/'run.log').symlink_to('runs/away/run.log')
    assert demo.run(of(checkout, trials=1)) == 0
    out = capfd.readouterr().out
    assert (checkout/'results.tsv').read_text() == 'mine' and not (checkout/'progress.png').exists()
    assert ('results.tsv, run.log at the top' in out
        and (checkout/'runs/demo/progress.png').is_file() and '2 real experiments' in out)

@pytest.mark.slow
def test_crashes_are_told(checkout, capfd):
    "Every trial crashes: exit 0, and their reason is told"
    edit(checkout, 'budget = Budget(profile)',
        'assert (DEGREE, RATE, STEPS) == (1, 0.5, 300); budget = Budget(profile)')
    commit(checkout)
    assert demo.run(of(checkout, trials=2)) == 0
    out = shown(checkout, capfd)
    assert ('3 real experiments' in out and 'Without a value: 2 (error: AssertionError' in out
        and 'kept none of 2' in out and 'Left out' not in out)

def test_a_search_that_gives_up_on_the_way(checkout, capfd, monkeypatch):
    "It ran what its ledger says and ended with an exit code: the rest is left out and named"
    d = of(checkout, trials=9)
    monkeypatch.setattr(demo, 'rows', lambda d: [['']*5]*(1 + 5*bool(called)))
    called = []
    monkeypatch.setattr(demo, 'call', lambda d, *cmd, **kw: called.append(cmd) or 1)
    assert demo.search(d) == (
        'Left out of 9 trials: 6 to 9, for ar-search ended with exit code 1 and says why above.')

def test_a_search_that_is_refused(checkout, capfd):
    edit(checkout, '[1 .. 7]', '[7 .. 1]')
    commit(checkout)
    assert demo.run(of(checkout, trials=3)) == 0
    out = shown(checkout, capfd)
    assert 'One real experiment' in out and 'It is the baseline, 0.284714.' in out
    assert ('Left out of 3 trials: 1 to 3, '
        'for ar-search ended with exit code 1 and says why above.') in out

@pytest.mark.parametrize('minutes,most', [(0., 0), pytest.param(.45, 8, marks=pytest.mark.slow)],
    ids=['past', 'short'])
def test_a_deadline(checkout, capfd, minutes, most):
    "What does not fit is left out and named; the baseline is run in any case"
    d = of(checkout, trials=99, minutes=minutes)
    assert demo.run(d) == 0
    out,n = shown(checkout, capfd), len(demo.rows(d))-1
    assert n <= most and (f'Left out of 99 trials: {n+1} to 99, '
        f'for the demo takes {minutes:g} minutes at most.') in out
    assert d.seconds() < max(60*minutes, 15)+90

@pytest.mark.slow
def test_a_search_that_does_not_end_in_time_is_ended(checkout, capfd):
    "A trial that is longer than what is left: it is stopped, and what there is is shown"
    edit(checkout, 'budget = Budget(profile)',
        'time.sleep(900*((DEGREE, RATE, STEPS) != (1, 0.5, 300))); budget = Budget(profile)')
    edit(checkout, 'wall_limit = 200', 'wall_limit = 900', 'settings.ini')
    commit(checkout)
    d = of(checkout, trials=2, minutes=.5)
    assert demo.run(d) == 0
    out = shown(checkout, capfd)
    assert ('Left out of 2 trials: 1 to 2, for the demo takes 0.5 minutes at most.' in out
        and d.seconds() < 200 and sound(d.clone) == '')

def test_a_baseline_without_a_value(checkout, capfd):
    edit(checkout, 'budget = Budget(profile)', '1/0')
    commit(checkout)
    with pytest.raises(demo.DemoError,
            match='the baseline has no value: error: ZeroDivisionError'):
        demo.run(of(checkout))
    assert ([r[3] for r in demo.rows(of(checkout))] == ['crash', 'crash']
        and (checkout/'results.tsv').is_file())
    assert capfd.readouterr().out.count('ar-run -m baseline') == 2

@pytest.mark.slow
def test_ctrl_c_shows_what_there_is(checkout):
    "On a terminal the signal reaches the demo and its command alike"
    code = (
        f"import sys; sys.path.insert(0, {str(ROOT/'bench')!r}); import demo; "
        f"sys.exit(demo.run(demo.Demo({str(checkout)!r}, 'polynomial', trials=50)))")
    proc = subprocess.Popen([BIN/'python', '-c', code], env=environ(), stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, text=True, start_new_session=True)
    until(lambda: len(demo.rows(of(checkout))) >= 3)
    os.killpg(proc.pid, signal.SIGINT)
    out = proc.communicate(timeout=PATIENCE)[0]
    n = len(demo.rows(of(checkout)))-1
    assert (proc.returncode == 130
        and f'Left out of 50 trials: {n+1} to 50, for it was interrupted.' in out
        and 'The ratchet kept' in out), out
    assert ((checkout/'progress.png').is_file() and sound(of(checkout).clone) == ''
        and 'Traceback' not in out)

@pytest.mark.slow
def test_killed_and_begun_anew(checkout, capfd):
    "The experiment that a killed demo left in its clone is ended before the clone goes"
    code = (
        f"import sys; sys.path.insert(0, {str(ROOT/'bench')!r}); import demo; "
        f"demo.run(demo.Demo({str(checkout)!r}, 'polynomial', trials=50))")
    proc = subprocess.Popen([BIN/'python', '-c', code], env=environ(),
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    until(lambda: len(demo.rows(of(checkout))) >= 1)
    with pytest.raises(demo.DemoError, match='another one is at work'): demo.run(of(checkout))
    proc.kill()
    proc.wait()
    assert demo.run(of(checkout, trials=1)) == 0
    assert '2 real experiments' in shown(checkout, capfd) and sound(of(checkout).clone) == ''

def test_without_git_history(checkout, tmp_path):
    """A downloaded archive: what is needed is said before anything is installed,
    and works when typed"""
    away = tmp_path/'archive'
    sh(tmp_path, 'cp', '-r', checkout, away)
    sh(tmp_path, 'rm', '-rf', away/'.git')
    (away/'bench').mkdir()
    (away/'bench/demo.py').write_bytes((ROOT/'bench/demo.py').read_bytes())
    look = lambda: sh(away, 'python3', 'bench/demo.py', '--check', ok=False)
    r = look()
    assert r.returncode == 1 and 'has none' in r.stderr and 'Traceback' not in r.stderr
    sh(away, 'bash', '-c', r.stderr.strip().splitlines()[-1])
    assert (look().returncode, look().stderr) == (0, '')
    sh(tmp_path, 'git', 'init', '-q')
    sh(tmp_path, 'rm', '-rf', away/'.git')
    assert 'the repository around it is' in look().stderr
    bad = sh(away, 'python3', 'bench/demo.py', '--minutes', 'nan', ok=False)
    assert bad.returncode == 2 and '--minutes nan: a number above 0' in bad.stderr
