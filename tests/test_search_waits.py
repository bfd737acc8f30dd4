"""ar-search where something is in its way, when it is stopped, and what is known of it then: on the
torch-free example."""
import json, os, re, signal, subprocess, time
import pytest
from autoresearch import search
from autoresearch.repo import lock_holder
from autoresearch.run import read_json
from lab import BIN, PATIENCE, TAG, ar, commit, edit, environ, git, run, sound, until
from lab import rows_as_tried as rows # a run beside other work is measured again, and says so
from test_search import ( # with its fixtures
    begin, begun, lab, looked, measured, profile, searched, session)

def noted(root): return read_json(root/'runs'/TAG/'search.json')
def waiting(root): return (noted(root).get('waiting') or {}).get('reason', '')

def in_python(root, before, **args):
    "ar-search with its process prepared by a line of Python"
    code = ("import sys, time; sys.argv[0] = 'ar-search'; from autoresearch import search; "
        f"{before}; search.ar_search(**{args!r})")
    return subprocess.Popen([BIN/'python', '-c', code], cwd=root, env=environ(),
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)

def hold_lock(root):
    "Another command has the checkout's lock and does not let it go"
    code = ("import fcntl, json, sys, time; f = open('runs/.lock', 'a+'); "
        "fcntl.flock(f, fcntl.LOCK_EX); f.truncate(0)\n"
        "f.write(json.dumps(dict(pid=1, since=time.time(), what='ar-report'))); f.flush(); "
        "sys.stdin.read()")
    return subprocess.Popen([BIN/'python', '-c', code], cwd=root, stdin=subprocess.PIPE)

def canvas_by_hand(root, old, new):
    "A commit of the canvas that the search has to take as it is"
    edit(root, old, new)
    commit(root, 'by hand')

def faults(root):
    "What can be in the way, as (what makes it so, what lifts it, words of the reason)"
    here,tag = root/'runs', root/'runs'/TAG
    def release(proc):
        proc.stdin.close()
        proc.wait()
    held = []
    return dict(
        file=(lambda: edit(root, 'math.sqrt', 'math.fabs', 'evaluator.py'),
            lambda: git(root, 'checkout', 'evaluator.py'), 'changed evaluator.py'),
        stray=(lambda: (root/'queue.py').write_text('1/0'),
            lambda: (root/'queue.py').unlink(), 'queue.py'),
        canvas=(lambda: edit(root, '# of the polynomial', '# my thought'),
            lambda: ar(root, 'ar-drop'), 'has an edit that is not committed'),
        branch=(lambda: git(root, 'checkout', '-q', 'main'),
            lambda: git(root, 'switch', '-q', f'autoresearch/{TAG}'),
            'the branch is main: git switch'),
        detached=(lambda: git(root, 'checkout', '-q', '--detach'),
            lambda: git(root, 'switch', '-q', f'autoresearch/{TAG}'), 'HEAD is detached'),
        lock=(lambda: held.append(hold_lock(root)),
            lambda: release(held.pop()), 'ar-report is running (process 1)'),
        state=(lambda: (tag/'state.json').rename(root/'runs/away.json')
                and git(root, 'update-ref', '-d', f'refs/autoresearch/{TAG}/state'),
            lambda: (root/'runs/away.json').rename(tag/'state.json'), 'state.json'),
        folder=(lambda: here.rename(root/'away'),
            lambda: (root/'away').rename(here), f'runs/{TAG} is gone'),
        supervisor=(lambda: (here/'supervisor.log').unlink() or (here/'supervisor.log').mkdir(),
            lambda: (here/'supervisor.log').rmdir(), 'Is a directory'),
        settings=(lambda: (root/'settings.ini').rename(root/'away.ini'),
            lambda: (root/'away.ini').rename(root/'settings.ini'), 'settings.ini is gone'),
        range=(lambda: canvas_by_hand(root, '[0.05 .. 2.0 log]', '[2 .. 0.05 log]'),
            lambda: canvas_by_hand(root, '[2 .. 0.05 log]', '[0.05 .. 2.0 log]'),
            'is not below'))

def between(root):
    "Nothing of an experiment is under way: a moment to change something in"
    return not lock_holder(profile(root))

def hinder(root, make):
    "Do it while the search is stopped between two experiments, so that no experiment is cut in two"
    pid = until(lambda: looked(root).get('pid'))
    while True:
        os.kill(pid, signal.SIGSTOP)
        if between(root) or lock_holder(profile(root)).get('pid') == pid: break
        os.kill(pid, signal.SIGCONT)
        time.sleep(.03)
    try: make()
    finally: os.kill(pid, signal.SIGCONT)

@pytest.mark.slow
@pytest.mark.parametrize('kinds', [['file', 'stray', 'canvas', 'branch'],
    ['detached', 'lock', 'state', 'folder'], ['supervisor', 'settings', 'range']], ids='-'.join)
def test_waits_for_what_can_be_lifted(measured, kinds):
    "The search waits for each, its own edit out of the canvas, and goes on; two lines tell"
    ar(measured, 'ar-search', '--trials', '99', '--background')
    log = measured/'runs'/TAG/'search.log'
    for kind in kinds:
        make,lift,says = faults(measured)[kind]
        n = until(lambda: len(rows(measured)) >= 2 and len(rows(measured)))
        hinder(measured, make)
        if kind == 'folder': time.sleep(3)
        else:
            until(lambda: says in waiting(measured))
            if kind not in ('settings', 'state', 'branch', 'detached'):
                st = looked(measured)
                assert (st['state'] == 'waiting' and says in st['line']
                    and time.time()-st['since'] < PATIENCE), st
                assert kind == 'canvas' or until(lambda:
                    git(measured, 'status', '--porcelain', 'canvas.ipynb') == '') is True
        lift()
        until(lambda: len(rows(measured)) > n and not waiting(measured))
        assert kind == 'folder' or sum('waiting: ' in l and says in l
            for l in log.read_text().splitlines()) == 1, (kind, log.read_text())
    assert log.read_text().count('going on after') == len(kinds), log.read_text()
    assert 'the search has ended' in ar(measured, 'ar-stop').stdout and sound(measured) == ''
    st = looked(measured)
    assert ((st['state'], st['code'], st['why']) == ('ended', 130, 'stopped by SIGTERM')
        and 'goes on from there' in st['line'])
    assert 'Traceback' not in log.read_text()

@pytest.mark.slow
@pytest.mark.parametrize('clock', [0, -3600], ids=['right', 'set-back'])
def test_hours_count_on_while_it_waits(measured, clock):
    "It ends by itself and in time, also where the clock is set back meanwhile"
    back = f'real,t0 = time.time,time.time(); time.time = lambda: real() + (real()-t0 > 4)*{clock}'
    t0 = time.monotonic()
    proc = in_python(measured, back, hours=24/3600)
    until(lambda: len(rows(measured)) >= 2)
    hinder(measured, lambda: edit(measured, 'math.sqrt', 'math.fabs', 'evaluator.py'))
    out = proc.communicate(timeout=PATIENCE)[0]
    assert (proc.returncode == 1
        and 'ended: the time is over, and it still waited: only the canvas' in out
        and 10 < time.monotonic()-t0 < 120), out
    st = looked(measured)
    assert ((st['state'], st['code'], noted(measured)['open'], waiting(measured))
            == ('ended', 1, False, '')
        and 'evaluator.py' in st['line'])

def test_seconds_of_experiments_under_a_clock_set_back(searched):
    measured = searched
    for d in session(measured).run_dirs()[:2]:
        n = json.loads((d/'experiment.json').read_text())
        (d/'experiment.json').write_text(json.dumps({**n, 'started': n['time']+3600}))
    assert 0 < search.typical_seconds(session(measured)) < 60
    left,_ = search.remaining(session(measured),
        dict(name='x', asked=dict(trials=0, hours=1.), spent=0.))
    assert left > 60

def test_killed_and_looked_at(lab):
    assert looked(lab) == dict(state='never', pid=0, line='')
    proc = begin(lab, '--trials', '3')
    st = until(lambda: (st := looked(lab)).get('done') and st)
    assert ((st['state'], st['pid'], st['trials']) == ('running', proc.pid, 3)
        and f"(process {proc.pid}, {st['done']} of 3 trials): " in st['line'])
    proc.kill()
    proc.wait()
    st = looked(lab)
    assert st['state'] == 'died' and re.search(
        'died without a word after [12] of 3 trials; the same ar-search goes on', st['line'])
    until(lambda: not lock_holder(profile(lab)))
    ar(lab, 'ar-search', '--trials', '3')
    st = looked(lab)
    assert ((st['state'], st['code'], st['why'], st['done'])
            == ('ended', 0, '3 trials, as asked', 3)
        and 'goes on' not in st['line'])
    for bad in ('', '[1]', '{}', '{"asked": 3}', json.dumps({**noted(lab), 'spent': 'long'}),
            json.dumps({**noted(lab), 'asked': {'trials': None}})):
        (lab/'runs'/TAG/'search.json').write_text(bad)
        assert looked(lab)['state'] == 'never', bad
    old = dict(name='search-abc', open=False,
        asked=dict(trials=1, hours=0., sampler='tpe', seed=0), spent=1., edit='')
    for more in ({}, dict(ended=3, waiting='x')): # of an earlier version, or damaged
        (lab/'runs'/TAG/'search.json').write_text(json.dumps({**old, **more}))
        # it is closed: nothing goes on
        line = 'the last search died without a word after 0 of 1 trial'
        assert (looked(lab)['state'], looked(lab)['line']) == ('died', line)

@pytest.mark.slow
def test_a_fault_of_its_own_is_shown_and_named(measured):
    "Tried again twice, then it ends: traceback where it was printed, its name in search.json"
    proc = in_python(measured, 'search.history = lambda s: {}[7]', trials=3)
    out = proc.communicate(timeout=PATIENCE)[0]
    assert (proc.returncode == 1 and out.count('Traceback') == 3
        and out.count('waiting: not foreseen: KeyError: 7') == 1), out
    assert (looked(measured)['why'].startswith('not foreseen: KeyError: 7 (three times in a row')
        and sound(measured) == '' and len(rows(measured)) == 1)
    once = ("n,real = [], search.history; "
        "search.history = lambda s: n.append(1) or ({}[7] if len(n) == 1 else real(s))")
    out = in_python(measured, once, trials=3).communicate(timeout=PATIENCE)[0]
    assert (out.count('Traceback') == 1 and 'going on after' in out
        and 'ended: 3 trials, as asked' in out), out

@pytest.mark.parametrize('number,code,why', [
    (signal.SIGTERM, 130, 'stopped by SIGTERM'),
    # test_ctrl_c_ends_it is about this one
    pytest.param(signal.SIGINT, 130, 'stopped by SIGINT', marks=pytest.mark.slow),
    (signal.SIGHUP, 129, 'its terminal was closed; the experiment that ran is finished')])
def test_every_signal_leaves_a_word(measured, number, code, why):
    "Who stops a search in mid-run stops it; who closes a terminal leaves the run to the supervisor"
    proc = begin(measured, '--trials', '9')
    until(lambda: len(rows(measured)) >= 1
        and read_json(measured/'runs'/TAG/'journal.json').get('contract')
        and 'outcome' not in read_json(measured/'runs'/TAG/'journal.json'))
    n = len(rows(measured))
    proc.send_signal(number)
    proc.communicate(timeout=PATIENCE)
    st = looked(measured)
    assert (proc.returncode, st['state'], st['code'], st['why']) == (code, 'ended', code, why)
    until(lambda: not lock_holder(profile(measured)))
    assert sound(measured) == '' and (number != signal.SIGHUP or len(rows(measured)) == n+1)

def test_ends_at_once_while_it_waits(measured):
    proc = begin(measured, '--trials', '9')
    until(lambda: len(rows(measured)) >= 1)
    hinder(measured, lambda: edit(measured, 'math.sqrt', 'math.fabs', 'evaluator.py'))
    until(lambda: 'evaluator.py' in waiting(measured))
    time.sleep(16) # the pause is sixteen seconds
    t0 = time.monotonic()
    proc.terminate()
    out = proc.communicate(timeout=PATIENCE)[0]
    assert (time.monotonic()-t0 < 12 and proc.returncode == 130 and waiting(measured) == ''
        and 'ended: stopped by SIGTERM' in out)
    assert looked(measured)['why'] == 'stopped by SIGTERM' and out.count('waiting: ') == 1

@pytest.mark.parametrize('kind', ['file', 'branch',
    *(pytest.param(o, marks=pytest.mark.slow) for o in ('canvas', 'state'))])
def test_what_is_in_the_way_at_first_is_refused(measured, kind):
    "Whoever types the command is there to lift it, in the foreground and in the background"
    make,lift,says = faults(measured)[kind]
    make()
    for more in ([], ['--background']):
        r = ar(measured, 'ar-search', '--trials', '1', *more, ok=False)
        assert (r.returncode == 1 and says.split(':')[0] in ' '.join(r.stderr.split())
            and not (measured/'runs'/TAG/'search.log').exists()), r
    lift()
    assert '1 trial:' in ar(measured, 'ar-search', '--trials', '1').stdout

def test_rows_that_nobody_ran_teach_nothing(measured):
    "A line by hand is no best and no evidence"
    sha = git(measured, 'rev-parse', '--short=7', 'HEAD')
    with open(measured/'results.tsv', 'a') as f: f.write(f'{sha}\t0.000001\t0.0\tkeep\tby hand\n')
    out = ar(measured, 'ar-search', '--trials', '1').stdout
    assert '\n1 trial:' in out and 'best 0.000001' not in out, out
    assert [t.known for t in search.history(session(measured))] == [True, False, True]
