"""What people and machines do to a session, kind by kind: what stands afterwards in ledger, branch,
canvas and runs, and that the advice works when typed.

Runs are replayed where the kernel is not the point: the outcome of a real run of each kind, made
once by the fixture `lab`."""
import json, os, re, shutil, subprocess, sys, time
from pathlib import Path
import pytest
from autoresearch import ratchet
from autoresearch.cells import code_hash
from autoresearch.contract import write_json
from autoresearch.ledger import parse_row
from autoresearch.run import read_json
from lab import (BIN, ROOT, TAG, ar, commit, edit, environ, example, git, rows, run, setup, sh,
    sound, until)
from test_ratchet import (EDITS, SLOW, answered, copied, ended, forked, lab, let_go, nobodys,
    recover, replay, said, supervised, together)

BRANCH = f'autoresearch/{TAG}'

def typed(root, command, ok=True):
    "Type what a message told us to type"
    return sh(root, 'bash', '-c', command.replace('ar-', f'{BIN}/ar-'), ok=ok)

def advice(text):
    "The commands that end a refusal of the guard, one a line"
    return text.strip().split('these put it right and lose nothing:\n')[1].split('\n')

def best(root): return min(float(r[1]) for r in rows(root) if r[3] == 'keep')

def goes_on(root, lab, kind='discard'):
    """The next experiment is judged by the old best: whatever became of the state, it is no
    beginning"""
    n,old = len(rows(root)), best(root)
    (root/'canvas.ipynb').write_text(
        (root/'canvas.ipynb').read_text().replace('STEPS = 300 ', f'STEPS = {280-n} '))
    code,answer = answered(root, lab, kind)
    assert code == 0 and answer.startswith(f'status:   {kind}'), answer
    assert f'best before: {old:.6f}' in answer and len(rows(root)) == n+1, answer
    return answer

@pytest.mark.parametrize('listed', ['nothing.py', 'canvas.ipynb', 'results.tsv'])
def test_what_is_called_frozen_is_guarded(tmp_path, listed):
    "A file that git has not, or that a session may change, would be guarded by nobody"
    root = example(tmp_path/'target')
    settings = root/'settings.ini'
    was = settings.read_text()
    settings.write_text(was.replace('frozen = settings.ini', f'frozen = settings.ini {listed}'))
    commit(root, 'settings')
    r = sh(root, BIN/'ar-setup', TAG, ok=False)
    assert r.returncode and f'frozen: {listed}: ' in r.stderr, r.stderr
    assert not git(root, 'branch', '--list', BRANCH)
    settings.write_text(was)
    commit(root, 'and back')
    assert ar(root, 'ar-setup', TAG).returncode == 0

@pytest.mark.parametrize('name', ['experiment.json', 'exit.json'])
def test_links_that_a_run_leaves_lead_nowhere(tmp_path, name):
    "What the runner writes into a run's folder stays there"
    root = example(tmp_path/'target')
    setup(root)
    target = root/'settings.ini'
    was = target.read_bytes()
    plant = f'import os, pathlib; at = pathlib.Path(RUN_DIR, {name!r}); at.unlink(missing_ok=True)'
    edit(root, 'xs = [3*', f'{plant}; at.symlink_to({str(target)!r}); xs = [3*'.replace('"', r'\"'))
    run(root, 'a run that leaves a link', ok=None)
    assert target.read_bytes() == was
    assert not any(f.is_symlink() for f in (root/'runs'/TAG).glob(f'001-*/{name}'))

# Missing state is never read as a beginning

def gone(*names):
    return lambda root: [shutil.rmtree(f) if f.is_dir() else f.unlink()
        for n in names for f in root.glob(n)]
def holds(name, data):
    def damage(root):
        for f in root.glob(name):
            f.write_bytes(data if isinstance(data, bytes) else data(f.read_bytes()))
    return damage
def both(*damages): return lambda root: [d(root) for d in damages]
S,N = f'runs/{TAG}/state.json', f'runs/{TAG}/0*/experiment.json'

LOST = {
    'ledger': gone('results.tsv'), 'ledger empty': holds('results.tsv', b''),
    'blank ledger': holds('results.tsv', b'\n\n'),
    'header line': holds('results.tsv', lambda b: b.split(b'\n', 1)[1]),
    'a row': holds('results.tsv', lambda b: b'\n'.join(b.split(b'\n')[:2])+b'\n'),
    'a torn row': holds('results.tsv', lambda b: b[:-20]),
    'state': gone(S), 'state empty': holds(S, b''), 'state damaged': holds(S, b'{"base": 3'),
    'state of nonsense': holds(S, b'{"base": "nonsense", "profile": "polynomial"}'),
    'current': gone('runs/current.json'), 'current damaged': holds('runs/current.json', b'[]'),
    'notes': gone(N), 'notes empty': holds(N, b''), 'notes nonsense': holds(N, b'{"commit": 1}'),
    'run folders': gone(f'runs/{TAG}/0*'), 'the folder': gone(f'runs/{TAG}'), 'runs': gone('runs'),
    'runs and ledger': gone('runs', 'results.tsv'),
    'current and state': gone('runs/current.json', S),
    'ledger and notes': gone('results.tsv', N), 'base copy': gone(f'runs/{TAG}/base-*'),
    'state is a folder': both(gone(S), lambda root: (root/S).mkdir())}

@pytest.mark.parametrize('what', LOST)
def test_missing_state(lab, tmp_path, what):
    root = copied(lab, tmp_path, 'done-keep')
    before,head = rows(root), git(root, 'rev-parse', 'HEAD')
    LOST[what](root)
    if what == 'state is a folder':
        r = ar(root, 'ar-status', ok=False)
        assert r.returncode == 1 and 'state.json' in r.stderr and 'Traceback' not in r.stderr
        (root/S).rmdir()
    out = ar(root, 'ar-status').stdout
    assert (rows(root) == before
        and git(root, 'rev-parse', 'HEAD') == head == git(root, 'rev-parse', BRANCH)), out
    assert read_json(root/S)['profile'] == 'polynomial' and sound(root) == ''
    assert f'best {best(root):.6f}' in out and '2 keep' in out, out
    goes_on(root, lab)

def test_state_that_nothing_says(lab, tmp_path):
    "Neither the file nor git's copy: refused, and the way out works when typed"
    root = copied(lab, tmp_path, 'done-keep')
    (root/S).unlink()
    git(root, 'update-ref', '-d', f'refs/autoresearch/{TAG}/state')
    for command in ('ar-status', 'ar-drop', 'ar-log'):
        r = ar(root, command, ok=False)
        assert r.returncode == 1 and 'state.json is gone or damaged' in r.stderr, r
    code,answer = answered(root, lab)
    assert code == 1 and 'state.json' in answer
    typed(root, re.search(r'ar-setup [\w-]+', answer)[0])
    assert (git(root, 'symbolic-ref', '--short', 'HEAD') == f'{BRANCH}-2'
        and (root/f'runs/{TAG}/results.tsv').exists())
    assert answered(root, lab, 'baseline')[0] == 0 and len(rows(root)) == 1

@pytest.mark.parametrize('what', ['gone', 'empty', 'half', 'list', 'nonsense'])
def test_journal_of_a_dead_supervisor(lab, tmp_path, what):
    """Killed while its kernel ran, then its journal goes too: no row, the branch back, the edit in
    the tree"""
    root = copied(lab, tmp_path, 'tree-keep')
    points = (lab/'points-keep').read_text().split('\n')
    at = points.index('committed: before run')
    assert ended(forked(root, supervised(lab/'run-keep', at), tmp_path/'log')) == -9
    j = root/f'runs/{TAG}/journal.json'
    if what == 'gone': j.unlink()
    else:
        j.write_text(dict(empty='', half=j.read_text()[:40], list='[]',
            nonsense='{"step": "ran", "tag": 1}')[what])
    assert git(root, 'rev-parse', 'HEAD') != git(root, 'rev-parse', 'main')
    out = ar(root, 'ar-status').stdout
    assert ('lost its journal' in out
        and git(root, 'rev-parse', 'HEAD') == git(root, 'rev-parse', 'main'))
    assert (len(rows(root)) == 1 and sound(root) == 'M canvas.ipynb'
        and EDITS['keep'][1] in (root/'canvas.ipynb').read_text())
    assert 'lost its journal' not in ar(root, 'ar-status').stdout
    assert answered(root, lab)[1].startswith('status:   keep') and len(rows(root)) == 2

def test_advice_on_a_taken_tag(lab, tmp_path):
    root = copied(lab, tmp_path)
    for after in (lambda: None,
            lambda: (git(root, 'switch', '-q', 'main'), git(root, 'branch', '-D', BRANCH)),
            lambda: shutil.rmtree(root/f'runs/{TAG}')):
        after()
        r = setup(root, ok=False)
        assert r.returncode == 1, r
        typed(root, re.search(r'ar-setup [\w-]+', r.stderr)[0])
        assert git(root, 'symbolic-ref', '--short', 'HEAD').startswith(f'{BRANCH}-')

# The parent is what the ratchet left

def by_hand(root, name, text, message='by hand'):
    (root/name).write_text(text)
    git(root, 'add', '-f', name)
    git(root, '-c', 'user.name=t', '-c', 'user.email=t@example.org', 'commit', '-qm', message)

@pytest.mark.parametrize('kind', ['keep', 'discard', 'crash'])
def test_edits_committed_by_hand_are_edits(lab, tmp_path, kind):
    root = copied(lab, tmp_path)
    left = git(root, 'rev-parse', 'HEAD')
    edit(root, *EDITS[kind])
    commit(root)
    by_hand(root, 'program.md', 'orders')
    head = git(root, 'rev-parse', 'HEAD')
    code,answer = answered(root, lab, kind)
    assert code == 0 and answer.startswith(f'status:   {kind}'), answer
    now = git(root, 'rev-parse', 'HEAD')
    if kind == 'keep':
        assert (git(root, 'rev-parse', 'HEAD~') == left
            and git(root, 'show', 'HEAD:program.md') == 'orders')
    else: assert now == left
    assert git(root, 'rev-parse', f'refs/autoresearch/{TAG}/by-hand-002') == head, (
        'the commits stay')
    assert ((EDITS[kind][1] in (root/'canvas.ipynb').read_text()) == (kind != 'discard')
        and len(rows(root)) == 2)

OTHERS = {
    'a frozen file': lambda root: by_hand(root, 'evaluator.py',
        (root/'evaluator.py').read_text()+'# cheat\n'),
    'the settings': lambda root: by_hand(root, 'settings.ini',
        (root/'settings.ini').read_text()+'# longer\n'),
    'a new file': lambda root: by_hand(root, 'plan.txt', 'mine'),
    'the ledger': lambda root: by_hand(root, 'results.tsv', (root/'results.tsv').read_text()),
    'a file taken out': lambda root: (git(root, 'rm', '-q', 'README.md'),
        git(root, '-c', 'user.name=t', '-c', 'user.email=t@e', 'commit', '-qm', 'x'))}

@pytest.mark.parametrize('what', OTHERS)
def test_other_commits_are_refused(lab, tmp_path, what):
    "And what is typed on advice, as often as advice is given, leads to a run and loses nothing"
    root = copied(lab, tmp_path)
    left,before = git(root, 'rev-parse', 'HEAD'), rows(root)
    edit(root, *EDITS['keep'])
    OTHERS[what](root)
    text = {f.name: f.read_bytes() for f in root.iterdir()
        if f.is_file() and f.name != 'canvas.ipynb'}
    code,answer = answered(root, lab)
    assert (code == 1 and 'the ratchet did not make' in answer
        and git(root, 'rev-parse', 'HEAD') != left and rows(root) == before), answer
    typed(root, re.search(r'git reset --soft \w+', answer)[0])
    assert (git(root, 'rev-parse', 'HEAD') == left
        and {n: (root/n).read_bytes() for n in text} == text), 'nothing was lost by it'
    code,answer = answered(root, lab)
    if code == 1:
        for line in advice(answer): typed(root, line)
        code,answer = answered(root, lab)
    assert code == 0 and answer.startswith('status:   keep') and rows(root)[:1] == before, answer
    stashed = git(root, 'stash', 'list') and git(root, 'stash', 'show', '-p', 'stash@{0}')
    if what in ('a frozen file', 'the settings'):
        assert '# cheat' in stashed or '# longer' in stashed

def test_branch_moved_by_hand(lab, tmp_path):
    root = copied(lab, tmp_path, 'done-keep')
    left,first = git(root, 'rev-parse', 'HEAD'), git(root, 'rev-parse', 'HEAD~')
    git(root, 'reset', '-q', '--hard', first)
    code,answer = answered(root, lab)
    assert code == 1 and 'moved by hand' in answer
    out = typed(root, re.search(r'ar-run --rewind \w+', answer)[0]).stdout
    assert ('went back' in out and git(root, 'rev-parse', f'refs/autoresearch/{TAG}/tip')
        == first == git(root, 'rev-parse', 'HEAD'))
    assert ('went forward' in ar(root, 'ar-run', '--rewind', left[:7]).stdout
        and git(root, 'rev-parse', 'HEAD') == left and sound(root) == '')
    edit(root, 'STEPS = 300 ', 'STEPS = 299 ')
    git(root, '-c', 'user.name=t', '-c', 'user.email=t@e', 'commit', '-qa',
        '--amend', '-m', 'amended')
    code,answer = answered(root, lab)
    assert code == 1 and 'moved by hand' in answer
    typed(root, re.search(r'git reset --soft \w+', answer)[0])
    assert (git(root, 'rev-parse', 'HEAD') == left
        and 'STEPS = 299 ' in (root/'canvas.ipynb').read_text())
    assert (answered(root, lab, 'discard')[1].startswith('status:   discard')
        and git(root, 'rev-parse', 'HEAD') == left)

# Advice fits the fault and destroys nothing

def staged(root):
    with open(root/'evaluator.py', 'a') as f: f.write('# mine\n')
    git(root, 'add', 'evaluator.py')
def assumed(root):
    git(root, 'update-index', '--assume-unchanged', 'evaluator.py')
    with open(root/'evaluator.py', 'a') as f: f.write('# mine\n')
def skipped(root):
    git(root, 'update-index', '--skip-worktree', 'settings.ini')
    with open(root/'settings.ini', 'a') as f: f.write('# mine\n')
def linked(root):
    (root/'evaluator.py').unlink()
    (root/'evaluator.py').symlink_to('README.md')
def put(name, text='# mine\n'):
    def there(root):
        (root/name).parent.mkdir(exist_ok=True)
        (root/name).write_text(text)
    return there
def ignored(root):
    (root/'.git/info').mkdir(exist_ok=True)
    (root/'.git/info/exclude').write_text('random.py\n')
    put('random.py')(root)

IN_THE_WAY = {'changed': lambda root: (root/'README.md').write_text('# mine\n'),
    'staged': staged, 'assumed unchanged': assumed, 'skip-worktree': skipped,
    'missing': lambda root: (root/'README.md').unlink(),
    'a link': linked, 'a stray module': put('queue.py'), 'an ignored one': ignored,
    'a package': put('json/__init__.py'), 'one with an odd name': put("it's $HOME.py"),
    'two at once': both(put('os.py'), staged)}

@pytest.mark.parametrize('what', IN_THE_WAY)
def test_advice_of_the_guard(lab, tmp_path, what):
    root = copied(lab, tmp_path)
    edit(root, *EDITS['keep'])
    IN_THE_WAY[what](root)
    refs,before = git(root, 'for-each-ref'), rows(root)
    r = run(root, ok=False)
    assert r.returncode == 1 and 'nothing was committed or run' in r.stderr, r
    assert (git(root, 'for-each-ref') == refs and rows(root) == before
        and EDITS['keep'][1] in (root/'canvas.ipynb').read_text())
    for line in advice(r.stderr): typed(root, line)
    code,answer = answered(root, lab)
    assert code == 0 and answer.startswith('status:   keep'), answer
    kept = ''.join(f.read_text(errors='replace') for f in (root/'runs').rglob('*')
        if f.is_file() and 'aside' in str(f))
    kept += git(root, 'stash', 'list') and git(root, 'stash', 'show', '-p', 'stash@{0}')
    if what not in ('missing', 'a link'):
        assert '# mine' in kept, 'what was in the way is still somewhere'

# A row that nobody ran

def test_rows_that_nobody_ran(lab, tmp_path):
    root = copied(lab, tmp_path, 'done-keep')
    ran = rows(root)
    forged = [ratchet.Row('abcdef1', .0001, 0., 'keep', 'by hand'),
        ratchet.Row(ran[0][0], .0002, 0., 'keep', 'another value'), parse_row('\t'.join(ran[1])),
        ratchet.Row(ran[1][0], float(ran[1][1]), 0., 'discard', 'another status')]
    with open(root/'results.tsv', 'a') as f: f.write(''.join(r.line()+'\n' for r in forged))
    st = json.loads(ar(root, 'ar-status', '--json').stdout)
    assert ([o['ran'] for o in st['last']] == [True, True, False, False, False, False]
        and st['unproven'] == 4 and st['best'] == float(ran[1][1]))
    assert ar(root, 'ar-status').stdout.count('NOBODY RAN THIS') == 4
    edit(root, 'STEPS = 300 ', 'STEPS = 299 ')
    code,answer = answered(root, lab, 'discard')
    assert (f'best before: {float(ran[1][1]):.6f}' in answer and len(rows(root)) == 7
        and rows(root)[2:6] == [r.line().split('\t') for r in forged])
    for sha in ('abcdef1',): assert ar(root, 'ar-run', '--rewind', sha, ok=False).returncode == 1
    out = ar(root, 'ar-frontier').stdout
    assert '0.000100' not in out, out

def test_a_run_that_writes_its_own_row(lab, tmp_path):
    root = copied(lab, tmp_path)
    old = best(root)
    edit(root, 'evaluate(coefs)\\n', f"open({str(root/'results.tsv')!r}, 'a')"
        ".write('abcdef1\\\\t0.000001\\\\t0.0\\\\tkeep\\\\tmine\\\\n')\\nevaluate(coefs)\\n")
    edit(root, *EDITS['discard'])
    out = ar(root, 'ar-run', '-m', 'an idea', '--walls', 'none').stdout # behind walls it has no effect
    assert out.startswith('status:   discard') and f'best before: {old:.6f}' in out, out
    assert ar(root, 'ar-status').stdout.count('NOBODY RAN THIS') == 1 and len(rows(root)) == 3

# Judging is total

def deep(n): return json.loads('{"a":'*n + '1' + '}'*n)
def block(**more): return lambda r: r['block'].update(more)
RECORDS = {'memory is NaN': block(peak_vram_mb=float('nan')),
    'memory is text': block(peak_vram_mb='much'), 'memory is huge': block(peak_vram_mb=1e308),
    'memory is negative': block(peak_vram_mb=-5.), 'value is text': block(rmse='low'),
    'value is NaN': block(rmse=float('nan')), 'value is inf': block(rmse=float('inf')),
    'value is a list': block(rmse=[]), 'steps are text': block(num_steps='many'),
    'no block': lambda r: r.pop('block'), 'block is a list': lambda r: r.update(block=[1]),
    'clock is text': lambda r: r.update(clock='fast'),
    'evaluation is null': lambda r: r.update(evaluation=None),
    'deep': lambda r: r.update(info=deep(400)), 'deeper': lambda r: r.update(info=deep(900)),
    'an int of a thousand digits': block(peak_vram_mb=10**1000),
    'seconds are null': block(training_seconds=None)}

@pytest.mark.parametrize('what', RECORDS)
def test_judging_is_total(lab, tmp_path, what):
    """A record of nonsense: a crash row with its reason (or a row like any other, where nothing
    that counts is touched), and the session goes on"""
    root = copied(lab, tmp_path)
    edit(root, *EDITS['keep'])
    def call():
        def run_experiment(canvas, run_dir, p, seed, bar, code, nonce, contract, data, **held):
            replay(lab/'run-keep')(canvas, run_dir, p, seed, bar, code, nonce, contract, data,
                **held)
            record = read_json(run_dir/'record.json')
            RECORDS[what](record)
            sys.setrecursionlimit(20000)
            (run_dir/'record.json').write_text(json.dumps(record))
            sys.setrecursionlimit(1000)
            status,reason,record = ratchet.classify(run_dir, p, True, 0, nonce, contract)
            return ratchet.Result(status, run_dir, 1., record, reason)
        ratchet.run_experiment = run_experiment
        return ratchet._supervisor('an idea', 'word')
    assert ended(forked(root, call, tmp_path/'log')) == 0, (
        said(root), (tmp_path/'log').read_text())
    status,row = said(root)[0], rows(root)[-1]
    assert len(rows(root)) == 2 and row[3] == (
        'keep' if what.startswith('deep') and 'keep' in status else 'crash'), said(root)
    if row[3] == 'crash': assert re.search(r'reason: +\w+: .{5}', said(root)[1]), said(root)
    ar(root, 'ar-log')
    ar(root, 'ar-drop')
    goes_on(root, lab)
    sound(root)

# What starts the supervisor is ours

SLOW_TOO = pytest.mark.slow # of a kind with one that is not

@pytest.mark.parametrize('name', ['queue.py', 'autoresearch.py', 'sitecustomize.py',
    *(pytest.param(o, marks=SLOW_TOO) for o in ('json.py', 'psutil.py', 'fcntl.py'))])
def test_scratch_modules(lab, tmp_path, name):
    "They are refused by name; none is imported by the supervisor, or by any command"
    root = copied(lab, tmp_path)
    (root/name).write_text("open('imported', 'w')\nraise SystemExit('scratch')\n")
    edit(root, *EDITS['keep'])
    def anew(*args, ok=True): # not in a fork, which has imported them
        r = sh(root, BIN/args[0], *args[1:], ok=ok)
        assert not (root/'imported').exists(), r
        return r
    r = anew('ar-run', '-m', 'an idea', ok=False)
    assert r.returncode == 1 and f'untracked {name}' in r.stderr, r
    anew('ar-status')
    for line in advice(r.stderr): typed(root, line)
    assert anew('ar-run', '-m', 'an idea').stdout.startswith('status:   keep')

# Causes are told

def test_causes_of_git(lab, tmp_path):
    plain = tmp_path/'plain'
    shutil.copytree(ROOT/'examples/polynomial', plain)
    r = ar(plain, 'ar-status', ok=False, GIT_CEILING_DIRECTORIES=str(tmp_path))
    assert r.returncode == 1 and 'not a git repository' in r.stderr and 'detached' not in r.stderr
    git(plain, 'init', '-q', '-b', 'main', '--template=')
    r = setup(plain, ok=False)
    assert r.returncode == 1 and 'has no commit' in r.stderr
    root = copied(lab, tmp_path)
    r = ar(root, 'ar-status', ok=False, PATH=str(tmp_path))
    assert r.returncode == 1 and 'git is not installed' in r.stderr
    git(root, 'checkout', '-q', '--detach')
    assert 'HEAD is detached' in ar(root, 'ar-status', ok=False).stderr

@pytest.mark.skipif(os.getuid() != 0, reason='needs two users')
def test_somebody_elses_checkout(nobodys):
    "Git refuses another user's repository; its own words, with its way out, are passed on"
    root,_ = nobodys
    r = ar(root, 'ar-status', ok=False, HOME=str(root.parent), GIT_CONFIG_NOSYSTEM='1',
        GIT_CONFIG_GLOBAL='/dev/null')
    assert (r.returncode == 1 and 'dubious ownership' in r.stderr and 'safe.directory' in r.stderr
        and 'detached' not in r.stderr)

# Names are bytes, line ends are git's

def test_names_are_bytes(lab, tmp_path):
    root = copied(lab, tmp_path)
    odd = os.fsencode(root)+b'/\xff\xfe odd.txt'
    open(odd, 'w').close()
    edit(root, *EDITS['keep'])
    assert run(root).stdout.startswith('status:   keep')
    open(os.fsencode(root)+b'/\xff.py', 'w').write('# mine\n')
    edit(root, 'STEPS = 300 ', 'STEPS = 299 ')
    r = run(root, ok=False)
    assert r.returncode == 1 and 'untracked' in r.stderr and 'not foreseen' not in r.stderr, r
    for line in advice(r.stderr): typed(root, line)
    assert 'status:' in run(root).stdout

def repository(tmp_path, **files):
    "The example with more files, committed, in a session"
    root = example(tmp_path/'r')
    for name,data in files.items():
        f = Path(os.fsdecode(os.fsencode(root)+b'/'+name.encode('utf8', 'surrogateescape')))
        f.parent.mkdir(exist_ok=True)
        f.write_bytes(data)
    return root

ATTRIBUTES = {'eol': '*.py text eol=crlf\n*.ipynb text eol=crlf\n', 'ident': '*.py ident\n',
    'export': 'evaluator.py export-ignore\nREADME.md export-subst\n',
    'encoding': 'README.md working-tree-encoding=UTF-16\n'}

@pytest.mark.parametrize('what',
    [*ATTRIBUTES, 'autocrlf', 'a name that is no UTF-8', 'a submodule', 'a link and a program'])
def test_the_base_copy_is_what_git_has(lab, tmp_path, what):
    odd = {'a name that is no UTF-8': {'d/\udcff odd.txt': b'x'},
        'a link and a program': {'tool.sh': b'#!/bin/sh\n'}}.get(what, {})
    root = repository(tmp_path, **odd)
    if what in ATTRIBUTES:
        (root/'.gitattributes').write_text(ATTRIBUTES[what])
        if what == 'ident': edit(root, '"""How good', '# $Id$\n"""How good', 'evaluator.py')
    if what == 'autocrlf': git(root, 'config', 'core.autocrlf', 'true')
    if what == 'a submodule':
        example(tmp_path/'other')
        git(root, '-c', 'protocol.file.allow=always', 'submodule', '--quiet', 'add',
            str(tmp_path/'other'), 'sub')
    if what == 'a link and a program':
        (root/'tool.sh').chmod(0o755)
        (root/'again').symlink_to('README.md')
    git(root, 'add', '-A')
    git(root, '-c', 'user.name=t', '-c', 'user.email=t@e', 'commit', '-q',
        '--allow-empty', '-m', 'more')
    for f in ('evaluator.py', 'canvas.ipynb', 'README.md'):
        (root/f).unlink()
        git(root, 'checkout', '--', f) # as git writes it under these attributes
    setup(root)
    # what a kernel imports is the base copy, which is looked at byte by byte: one real kernel is enough
    if what == 'eol': assert run(root, 'baseline').stdout.startswith('status:   keep')
    else: assert answered(root, lab, 'baseline')[1].startswith('status:   keep')
    base, = (root/f'runs/{TAG}').glob('base-*')
    show = subprocess.run(['git', 'cat-file', 'blob', 'HEAD:evaluator.py'], cwd=root,
        capture_output=True).stdout
    assert (base/'evaluator.py').read_bytes() == show, 'blob by blob'
    text = (root/'canvas.ipynb').read_bytes()
    (root/'canvas.ipynb').write_bytes(text.replace(b'DEGREE = 1 ', b'DEGREE = 3 '))
    assert answered(root, lab, 'keep')[1].startswith('status:   keep')
    (root/'canvas.ipynb').write_bytes(
        (root/'canvas.ipynb').read_bytes().replace(b'RATE = 0.5 ', b'RATE = 0.001 '))
    assert (answered(root, lab, 'discard')[1].startswith('status:   discard')
        and b'RATE = 0.5 ' in (root/'canvas.ipynb').read_bytes())
    assert len(rows(root)) == 3 and not git(root, 'diff', '--name-only')

# Waiting

def test_four_at_once(lab, tmp_path):
    "Each caller gets its own answer, and the log of the one that runs is not cut"
    root = copied(lab, tmp_path)
    edit(root, 'budget = Budget(profile)', "time.sleep(2)\\nbudget = Budget(profile)")
    answers = together(*[lambda i=i: run(root, f'idea {i}', ok=False) for i in range(4)])
    done = [r for r in answers if r.returncode == 0]
    refused = [r for r in answers if r.returncode == 1]
    assert len(done) == 1 and len(refused) == 3, answers
    assert (done[0].stdout.startswith('status:') and all(
        'is running' in r.stderr or 'edit a cell first' in r.stderr for r in refused)), answers
    assert ('without an answer' not in ''.join(r.stdout+r.stderr for r in answers)
        and len(rows(root)) == 2)
    assert done[0].stdout.split('\n')[0] in ar(root, 'ar-wait').stdout, 'not the refusals'

def test_a_clock_that_is_set_back(lab, tmp_path, monkeypatch):
    "`ar-wait --timeout` counts seconds that pass, whatever the clock says"
    root = copied(lab, tmp_path)
    edit(root, *SLOW)
    run(root, 'a slow one', '--background')
    p = ratchet.get_profile('polynomial', root/'settings.ini')
    real,t0 = time.time, time.monotonic()
    monkeypatch.setattr(time, 'time', lambda: real()-86400*(time.monotonic()-t0 > .2))
    code,lines = ratchet.follow(p, .6)
    monkeypatch.undo()
    assert (code is None and time.monotonic()-t0 < 60
        and '-' not in lines[0].split('for ')[-1]), lines
    let_go(root)
    assert 'status:' in ar(root, 'ar-wait').stdout

# Looking is not touching

def lab_opened(path):
    "What JupyterLab does to a notebook that somebody opens"
    nb = json.loads(path.read_text())
    nb['metadata']['kernelspec'] = dict(display_name='Python 3 (ipykernel)',
        language='python', name='python3')
    nb['metadata']['language_info'] = dict(name='python', version='3.11.2',
        codemirror_mode=dict(name='ipython', version=3), file_extension='.py')
    for c in nb['cells']:
        if c['cell_type'] == 'code': c['execution_count'] = 7
    path.write_text(json.dumps(nb, indent=1))

def test_looking_is_not_touching(lab, tmp_path):
    root = example(tmp_path/'r')
    shutil.copy(root/'canvas.ipynb', root/'other.ipynb')
    git(root, 'add', '-A')
    commit(root)
    for n in ('canvas.ipynb', 'other.ipynb'): lab_opened(root/n)
    setup(root)
    assert answered(root, lab, 'baseline')[0] == 0
    lab_opened(root/'other.ipynb')
    lab_opened(root/'canvas.ipynb')
    code,answer = answered(root, lab)
    assert code == 1 and 'edit a cell first' in answer, 'metadata are no experiment'
    edit(root, *EDITS['keep'])
    assert answered(root, lab)[1].startswith('status:   keep')
    edit(root, '"# A polynomial for the sine', '"# Another title', 'other.ipynb')
    edit(root, 'STEPS = 300 ', 'STEPS = 299 ')
    code,answer = answered(root, lab)
    assert code == 1 and 'changed   other.ipynb' in answer, 'its prose is'

NO_EXPERIMENT = {'a comment': lambda t: t.replace('# step size', '# the step size'),
    'prose': lambda t: t.replace('Plain gradient descent', 'Gradient descent'),
    'a blank line': lambda t: t.replace(
        '"budget = Budget(profile)\\n",', '"budget = Budget(profile)\\n",\n    "\\n",'),
    'outputs': lambda t: t.replace('"outputs": []',
        '"outputs": [{"name": "stdout", "output_type": "stream", "text": ["x"]}]', 1),
    'spaces': lambda t: t.replace('DEGREE = 1      #', 'DEGREE  =  1  #')}

@pytest.mark.parametrize('what', NO_EXPERIMENT)
def test_no_experiment(lab, tmp_path, what):
    root = copied(lab, tmp_path)
    text = NO_EXPERIMENT[what]((root/'canvas.ipynb').read_text())
    assert text != (root/'canvas.ipynb').read_text()
    (root/'canvas.ipynb').write_text(text)
    before = git(root, 'for-each-ref')
    code,answer = answered(root, lab)
    assert (code == 1 and 'edit a cell first' in answer and git(root, 'for-each-ref') == before
        and len(rows(root)) == 1)

# A canvas that is no canvas, and one that would write another module

@pytest.mark.parametrize('text', ['', 'no json', '[]', '{"cells": 3}',
    '{"cells": [{"source": "x"}]}', '{"cells": [1]}', '{"a":'*2000 + '1' + '}'*2000])
def test_a_canvas_that_is_no_notebook(lab, tmp_path, text):
    root = copied(lab, tmp_path)
    (root/'canvas.ipynb').write_text(text)
    code,answer = answered(root, lab)
    assert (code == 1 and 'notebook' in answer and 'not foreseen' not in answer
        and len(rows(root)) == 1), answer
    out = ar(root, 'ar-drop').stdout
    assert 'the edit is kept as' in out and sound(root) == ''
    copy, = (root/f'runs/{TAG}').glob('dropped-*.ipynb')
    assert copy.read_text() == text

# Smaller

def test_refused_after_the_commit_is_undone(lab, tmp_path):
    "The base copy can't be made: the branch is where it was, and trying again adds no folder"
    root = copied(lab, tmp_path)
    edit(root, *EDITS['keep'])
    head = git(root, 'rev-parse', 'HEAD')
    def call():
        ratchet.base_copy = lambda s: (_ for _ in ()).throw(
            ratchet.Refused('the base can\'t be made'))
        return ratchet._supervisor('an idea', 'word')
    assert ended(forked(root, call, tmp_path/'log')) == 1 and "can't be made" in said(root)[0]
    assert (git(root, 'rev-parse', 'HEAD') == head and sound(root) == 'M canvas.ipynb'
        and len(rows(root)) == 1)
    assert answered(root, lab)[1].startswith('status:   keep') and sound(root) == ''

def test_what_nobody_foresaw(lab, tmp_path):
    "A bug is named as one and keeps its traceback, in the supervisor and in a command"
    root = copied(lab, tmp_path)
    edit(root, *EDITS['keep'])
    def call():
        ratchet.guard = lambda s: int('seven')
        return ratchet._supervisor('an idea', 'word')
    assert (ended(forked(root, call, tmp_path/'log')) == 1
        and 'not foreseen: ValueError' in said(root)[0])
    assert 'Traceback' in (tmp_path/'log').read_text() and sound(root) == 'M canvas.ipynb'
    def command():
        ratchet.status_of = lambda *_: {}['nothing']
        return ratchet.ar_status()
    assert ended(forked(root, command, tmp_path/'log')) == 1
    assert ('not foreseen: KeyError' in (tmp_path/'log').read_text()
        and 'in status_of' not in (tmp_path/'log').read_text())
    assert 'Traceback' in (root/'runs/supervisor.log').read_text()

def test_another_profile_is_refused(lab, tmp_path):
    root = example(tmp_path/'r')
    with open(root/'settings.ini', 'a') as f: f.write('\n[longer]\ntime_budget = 0.4\n')
    git(root, 'add', '-A')
    commit(root)
    setup(root, '--profile', 'longer')
    for command in (['ar-status'], ['ar-run', '-m', 'x'], ['ar-drop'], ['ar-log'],
            ['ar-wait'], ['ar-stop']):
        for how in (dict(AUTORESEARCH_PROFILE='polynomial'), {}):
            r = ar(root, *command, *([] if how else ['--profile', 'polynomial']), ok=False, **how)
            assert (r.returncode == 1 and 'longer' in r.stderr
                and 'polynomial' in r.stderr), (command, how, r)
    assert not rows(root) and run(root, 'baseline').stdout.startswith('status:   keep')
    assert read_json(next((root/f'runs/{TAG}').glob('001*'))/'record.json')['profile'] == 'longer'

def test_a_gpu_that_is_gone(lab, tmp_path):
    "A session that began on a GPU goes on on none of the machine's other devices"
    root = copied(lab, tmp_path)
    write_json(root/S, {**read_json(root/S), 'gpu': True})
    git(root, 'update-ref', f'refs/autoresearch/{TAG}/state', git(root, 'hash-object', '-w', S))
    edit(root, *EDITS['keep'])
    r = run(root, ok=False)
    assert (r.returncode == 1 and 'began on a GPU' in r.stderr and 'polynomial' in r.stderr
        and 'tiny' in r.stderr)
    assert (len(rows(root)) == 1 and sound(root) == 'M canvas.ipynb'
        and 'best' in ar(root, 'ar-status').stdout)

def test_describe_and_undrop(lab, tmp_path):
    root = copied(lab, tmp_path, 'done-keep')
    head = git(root, 'rev-parse', 'HEAD')
    ar(root, 'ar-describe', '2', 'a cubic,\tin fact')
    assert rows(root)[1][4] == 'a cubic, in fact' and git(root, 'rev-parse', 'HEAD') == head
    folder, = (root/f'runs/{TAG}').glob('002-*')
    notes = read_json(folder/'experiment.json')
    assert (notes['description'] == 'a cubic, in fact'
        == read_json(folder/'run.ipynb')['metadata']['autoresearch']['description'])
    assert json.loads(git(root, 'cat-file', 'blob', f'refs/autoresearch/{TAG}/notes/002')) == notes
    for n,text,why in ((7, 'x', 'no experiment 7'), (2, ' ', 'say what')):
        assert why in ar(root, 'ar-describe', str(n), text, ok=False).stderr
    assert 'nothing was dropped' in ar(root, 'ar-drop', '--undo', ok=False).stderr
    edit(root, 'RATE = 0.5 ', 'RATE = 0.25 ')
    edited = (root/'canvas.ipynb').read_text()
    ar(root, 'ar-drop')
    assert 'RATE = 0.5 ' in (root/'canvas.ipynb').read_text()
    edit(root, 'RATE = 0.5 ', 'RATE = 0.3 ')
    assert 'has an edit' in ar(root, 'ar-drop', '--undo', ok=False).stderr
    ar(root, 'ar-drop')
    assert 'RATE 0.5 -> 0.3' in ar(root, 'ar-drop', '--undo').stdout
    ar(root, 'ar-drop')
    assert 'RATE 0.5 -> 0.3' in ar(root, 'ar-drop', '--undo').stdout, 'the last one, not an older'
    assert code_hash(root/'canvas.ipynb') != code_hash(json.loads(edited))

def test_what_an_edit_changed_is_said(lab, tmp_path):
    root = copied(lab, tmp_path)
    edit(root, *EDITS['keep'])
    edit(root, 'rng.random() for _ in range(40)', 'rng.random() for _ in range(41)')
    answer = answered(root, lab)[1]
    assert 'DEGREE 1 -> 3; cells loop' in answer, answer

def test_disturbed_runs_are_made_again(lab, tmp_path):
    """Once; the second counts. A baseline disturbed twice is measured again before the next
    experiment"""
    root = copied(lab, tmp_path, 'tree-baseline')
    def call(disturbed, kind='keep'):
        def go():
            todo = list(disturbed)
            ratchet.run_experiment = replay(lab/f'run-{kind}')
            # its runs are shorter
            ratchet.SHORT,ratchet.disturbance = 0., lambda *a: todo.pop(0) if todo else ''
            return ratchet._supervisor('an idea', 'word')
        return ended(forked(root, go, tmp_path/'log'))
    assert call(['a neighbour', 'the neighbour again'], 'baseline') == 0, (
        (tmp_path/'log').read_text())
    assert (len(rows(root)) == 1 and rows(root)[0][4] == 'an idea (disturbed twice)'
        and 'disturbed: the neighbour again' in '\n'.join(said(root)))
    folder, = (root/f'runs/{TAG}').glob('001-*')
    assert ((folder/'disturbed/run.log').exists()
        and read_json(folder/'experiment.json')['disturbed'] == 'the neighbour again')
    edit(root, *EDITS['keep'])
    assert call([], 'keep') == 0
    assert ([r[3] for r in rows(root)] == ['keep', 'keep', 'discard']
        and 'measured again' in rows(root)[1][4]), rows(root)
    assert rows(root)[0][0] == rows(root)[1][0] and sound(root) == ''
    edit(root, 'STEPS = 300 ', 'STEPS = 299 ')
    assert (call(['a neighbour'], 'discard') == 0
        and rows(root)[-1][4] == 'an idea (disturbed, run again)' and len(rows(root)) == 4)

# Two faults at once, and repositories of other kinds

def test_state_that_goes_while_it_runs(lab, tmp_path):
    "Notes and ledger vanish under a run: it is judged by what git says, not as a baseline"
    root = copied(lab, tmp_path)
    edit(root, *EDITS['discard'])
    def call():
        def run_experiment(*args, **named):
            both(gone('results.tsv'), gone(N))(root)
            return replay(lab/'run-discard')(*args, **named)
        ratchet.run_experiment = run_experiment
        return ratchet._supervisor('an idea', 'word')
    assert ended(forked(root, call, tmp_path/'log')) == 0, (tmp_path/'log').read_text()
    answer = '\n'.join(said(root))
    assert (answer.startswith('status:   discard') and 'were gone and are back' in answer
        and len(rows(root)) == 2 and sound(root) == '')

@pytest.mark.parametrize('how', ['delete', 'rename'])
def test_branch_gone_while_it_runs(lab, tmp_path, how):
    root = copied(lab, tmp_path)
    edit(root, *EDITS['discard'])
    def call():
        def run_experiment(*args, **named):
            if how == 'delete': git(root, 'update-ref', '-d', f'refs/heads/{BRANCH}')
            else: git(root, 'branch', '-m', BRANCH, 'autoresearch/mine')
            return replay(lab/'run-discard')(*args, **named)
        ratchet.run_experiment = run_experiment
        return ratchet._supervisor('an idea', 'word')
    assert ended(forked(root, call, tmp_path/'log')) == 0, (tmp_path/'log').read_text()
    assert 'was gone and is back' in '\n'.join(said(root)) and len(rows(root)) == 2
    if how == 'rename':
        typed(root, re.search(r'git switch autoresearch/\w+',
            ar(root, 'ar-status', ok=False).stderr)[0], ok=False)
    assert (git(root, 'rev-parse', BRANCH) == git(root, 'rev-parse', 'main')
        and not list((root/'runs').rglob('journal.json')))

def test_branch_gone_between_runs(lab, tmp_path):
    root = copied(lab, tmp_path, 'done-keep')
    head = git(root, 'rev-parse', 'HEAD')
    git(root, 'branch', '-m', BRANCH, 'autoresearch/mine')
    typed(root, re.search(r'git branch -m \S+ autoresearch/\w+',
        ar(root, 'ar-status', ok=False).stderr)[0])
    goes_on(root, lab)
    git(root, 'switch', '-q', 'main')
    git(root, 'branch', '-D', BRANCH)
    typed(root, re.search(r'git switch -c \S+ \S+', ar(root, 'ar-status', ok=False).stderr)[0])
    assert git(root, 'rev-parse', 'HEAD') == head
    goes_on(root, lab)

def test_neither_notes_nor_references(lab, tmp_path):
    "A ledger that nothing stands behind is no empty one: refused, with the way to begin"
    root = copied(lab, tmp_path)
    for ref in git(root, 'for-each-ref', '--format=%(refname)', 'refs/autoresearch').split():
        git(root, 'update-ref', '-d', ref)
    gone(f'runs/{TAG}/0*')(root)
    edit(root, *EDITS['keep'])
    code,answer = answered(root, lab)
    assert code == 1 and 'no run is known' in answer and len(rows(root)) == 1, answer
    typed(root, re.search(r'mkdir -p .*', answer)[0])
    assert (answered(root, lab)[0] == 0 and len(rows(root)) == 1
        and list((root/'runs').glob('aside-*/results.tsv')))

@pytest.mark.parametrize('kind', ['keep', 'discard'])
@pytest.mark.parametrize('step', ['ran', 'appended', 'moved'])
@pytest.mark.parametrize('damage',
    [None, dict(commit='f'*40), dict(outcome=dict(status=3)), dict(row='x')])
def test_killed_and_its_journal_damaged(lab, tmp_path, kind, step, damage):
    """Whatever a journal holds, the next command gets past it, and what can't be proven counts for
    nothing"""
    root = copied(lab, tmp_path, f'tree-{kind}')
    points = (lab/f'points-{kind}').read_text().split('\n')
    assert ended(forked(root, supervised(lab/f'run-{kind}',
        points.index(f'{step}: after step {step}')), tmp_path/'log')) == -9
    f = root/f'runs/{TAG}/journal.json'
    if damage is None: f.unlink()
    elif set(damage) <= set(read_json(f)): write_json(f, {**read_json(f), **damage})
    else: return
    recover(root, tmp_path/'log')
    sound(root)
    assert (git(root, 'rev-parse', 'HEAD') == git(root, 'rev-parse', 'main')
        == git(root, 'rev-parse', f'refs/autoresearch/{TAG}/tip'))
    assert git(root, 'cat-file', '-t', f'refs/autoresearch/{TAG}/002') == 'commit', (
        'the edit is somewhere')
    (root/'canvas.ipynb').write_text(
        (root/'canvas.ipynb').read_text().replace('STEPS = 300 ', 'STEPS = 299 '))
    code,answer = answered(root, lab, 'discard')
    assert code == 0 and f'best before: {float(rows(root)[0][1]):.6f}' in answer, answer

def test_repository_of_sha256_in_a_subfolder(lab, tmp_path):
    """Names of 64 digits; settings.ini below the top; git's own settings on relative names; a
    tracked ledger and picture"""
    top = tmp_path/'top'
    top.mkdir()
    root = example(top/'sub dir')
    shutil.rmtree(root/'.git')
    for name in ('results.tsv', 'progress.png', '../other.txt'): (root/name).write_text('')
    git(top, 'init', '-q', '-b', 'main', '--template=', '--object-format=sha256')
    for key in ('diff.relative', 'status.relativePaths'): git(top, 'config', key, 'true')
    git(top, 'add', '-A', '-f')
    commit(top)
    setup(root)
    assert answered(root, lab, 'baseline')[0] == 0
    (root/'progress.png').write_text('drawn')
    edit(root, *EDITS['keep'])
    skipped(root)
    r = run(root, ok=False)
    for line in advice(r.stderr): typed(root, line)
    code,answer = answered(root, lab)
    assert code == 0 and answer.startswith('status:   keep') and len(rows(root)) == 2, answer
    (top/'other.txt').write_text('mine')
    git(top, '-c', 'user.name=t', '-c', 'user.email=t@e', 'commit', '-qm', 'x', '--', 'other.txt')
    edit(root, 'STEPS = 300 ', 'STEPS = 299 ')
    code,answer = answered(root, lab, 'discard')
    assert code == 1 and 'change other.txt' in answer, answer

def test_two_worktrees(lab, tmp_path):
    "References are shared, runs are not; a killed git's locks lie in both folders"
    root,other = copied(lab, tmp_path, 'done-keep'), tmp_path/'other'
    git(root, 'worktree', 'add', '-q', '-b', 'side', str(other), 'main')
    ar(other, 'ar-setup', 'two')
    assert answered(other, lab, 'baseline')[0] == 0 and len(rows(other)) == 1
    edit(other, *EDITS['keep'])
    at = (lab/'points-keep').read_text().split('\n').index('committed: before run')
    assert ended(forked(other, supervised(lab/'run-keep', at), tmp_path/'log')) == -9
    for name in ('refs/heads/autoresearch/two', 'packed-refs', 'worktrees/other/index'):
        (root/f'.git/{name}.lock').touch()
    assert ('was cut off' in ar(other, 'ar-status').stdout
        and not list((root/'.git').rglob('*.lock')))
    assert (git(other, 'rev-parse', 'HEAD') == git(root, 'rev-parse', 'main')
        and len(rows(root)) == 2)
    goes_on(root, lab)

@pytest.mark.parametrize('what', ['merge', 'rebase', 'cherry-pick'])
def test_under_way(lab, tmp_path, what):
    root = copied(lab, tmp_path, 'done-keep')
    git(root, 'switch', '-qc', 'side', 'main')
    edit(root, 'DEGREE = 1 ', 'DEGREE = 2 ')
    commit(root)
    git(root, 'switch', '-q', BRANCH)
    head = git(root, 'rev-parse', 'HEAD')
    assert sh(root, 'git', '-c', 'user.name=t', '-c', 'user.email=t@e', what, 'side',
        ok=False).returncode
    for command in (['ar-run', '-m', 'x'], ['ar-drop']):
        r = ar(root, *command, ok=False)
        assert r.returncode == 1 and f'a git {what} is under way' in r.stderr, r
    typed(root, re.search(rf'git {what} --abort', r.stderr)[0])
    assert git(root, 'rev-parse', 'HEAD') == head and sound(root) == ''
    goes_on(root, lab)

def test_tags_that_are_in_the_way(lab, tmp_path):
    root = copied(lab, tmp_path)
    git(root, 'switch', '-q', 'main')
    (root/'runs/last.json').write_text('{}')
    for tag in ('answers', 'last.json', 'x'*200):
        r = ar(root, 'ar-setup', tag, ok=False)
        assert (r.returncode == 1 and 'Errno' not in r.stderr
            and not git(root, 'for-each-ref', f'refs/heads/autoresearch/{tag}')), r
    git(root, 'switch', '-qc', 'autoresearch/a/b')
    typed(root, re.search(r'ar-setup [^ \n]+', ar(root, 'ar-status', ok=False).stderr)[0])
    plain = example(tmp_path/'plain')
    git(plain, 'branch', 'autoresearch')
    r = setup(plain, ok=False)
    assert r.returncode == 1 and not (plain/f'runs/{TAG}').exists()
    typed(plain, re.search(r'git branch -m .*', r.stderr)[0])
    setup(plain)

def test_a_session_of_an_older_version(lab, tmp_path):
    """State without seed, data and gpu, notes without what is known since, no copies in git: it
    goes on, and has copies from then on"""
    root = copied(lab, tmp_path, 'done-keep')
    for ref in ('state', 'tip', 'notes/001', 'notes/002'):
        git(root, 'update-ref', '-d', f'refs/autoresearch/{TAG}/{ref}')
    write_json(root/S,
        {k: v for k,v in read_json(root/S).items() if k in ('tag', 'base', 'profile', 'created')})
    for f in (root/f'runs/{TAG}').glob('0*/experiment.json'):
        old = read_json(f)
        for k in ('code', 'load', 'exit', 'rate', 'steps', 'counts', 'overran', 'disturbed',
                'rerun', 'changed'):
            old.pop(k, None)
        write_json(f, old)
    head = git(root, 'rev-parse', 'HEAD')
    assert f'best {best(root):.6f}' in ar(root, 'ar-status').stdout
    ar(root, 'ar-describe', '1', 'the first')
    goes_on(root, lab)
    shutil.rmtree(root/'runs')
    (root/'results.tsv').unlink()
    ar(root, 'ar-status')
    assert (len(rows(root)) == 3 and rows(root)[0][4] == 'the first'
        and git(root, 'rev-parse', 'HEAD') == head)
    goes_on(root, lab)

def test_describe_knows_its_row(lab, tmp_path):
    "A row of the same commit and status that somebody put before it stays as it is"
    root = copied(lab, tmp_path, 'done-keep')
    lines = (root/'results.tsv').read_text().splitlines()
    forged = lines[2].replace(rows(root)[1][1], '0.000001').replace('an idea', 'forged')
    (root/'results.tsv').write_text('\n'.join([*lines[:2], forged, lines[2]]) + '\n')
    ar(root, 'ar-describe', '2', 'the true one')
    assert [r[4] for r in rows(root)] == ['an idea', 'forged', 'the true one']
    last = json.loads(ar(root, 'ar-status', '--json').stdout)['last']
    assert ([o['ran'] for o in last] == [True, False, True] and 'steps' in last[2]
        and 'steps' not in last[1])

def test_dropped_last_is_brought_back(lab, tmp_path):
    "Whatever the clock says; and what is no notebook comes back as it was"
    root = copied(lab, tmp_path)
    for rate in ('0.25', '0.3'):
        edit(root, 'RATE = 0.5 ', f'RATE = {rate} ')
        ar(root, 'ar-drop')
    for f in (root/f'runs/{TAG}').glob('dropped-002-*'): os.utime(f, (1, 1))
    assert 'RATE 0.5 -> 0.3' in ar(root, 'ar-drop', '--undo').stdout
    (root/'canvas.ipynb').write_text('no notebook')
    ar(root, 'ar-drop')
    assert ('it is no notebook' in ar(root, 'ar-drop', '--undo').stdout
        and (root/'canvas.ipynb').read_text() == 'no notebook')

def test_a_disturbed_run_that_was_killed(lab, tmp_path):
    "Its record is there, but nobody said yet that it was disturbed: recovery says so"
    root = copied(lab, tmp_path, 'tree-keep')
    at = (lab/'points-keep').read_text().split('\n').index('committed: after run')
    assert ended(forked(root, supervised(lab/'run-keep', at), tmp_path/'log')) == -9
    def call():
        ratchet.SHORT,ratchet.disturbance = 0., lambda *a: 'a neighbour'
        return ratchet.ar_status()
    assert ended(forked(root, call, tmp_path/'log')) == 0, (tmp_path/'log').read_text()
    assert rows(root)[-1][4] == 'an idea (disturbed)' and sound(root) == ''
