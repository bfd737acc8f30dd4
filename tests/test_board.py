"""The board: two clones of the torch-free example and bare repositories, by real commands and real
git; boards that are damaged or hostile, kills, two at once."""
import json, os, re, shutil, signal, subprocess, time
from pathlib import Path
import jsonschema, psutil, pytest
import lab
from autoresearch import board as module
from autoresearch.board import (MOST_FILE, REFS, SHAPES, accepted, ideas_elsewhere, others, parsed_ref, public_event,
    public_notes, without_private)
from autoresearch.contract import get_profile
from autoresearch.ideas import SHAPES as IDEAS
from autoresearch.repo import Refused

SHA = 'ab'*20
NAME = f'004-{SHA[:7]}'

def board(root, *args, ok=True): return lab.ar(root, 'ar-board', *args, ok=ok)
def told(root, *args):
    "A verb's answer in JSON, by its one schema"
    res = json.loads(board(root, *args, '--json').stdout)
    jsonschema.validate(res, SHAPES['ar-board'])
    return res
def refs(root): return lab.git(root, 'for-each-ref', '--format=%(refname) %(objectname)', REFS)
def state(root):
    "All that makes a session's results: ledger, notes, its branch"
    files = [f for f in (root/'runs').glob('*/*/experiment.json')] + [root/'results.tsv']
    return [(f.name, f.read_bytes()) for f in sorted(files)], lab.git(root, 'rev-parse', 'HEAD')
def note(**more):
    return dict(commit=SHA, status='discard', value=.5, profile='polynomial', reason='worse',
        seconds=2., started=1., time=3., block=dict(training_seconds=1.), **{'class': 'ok'}) | more

def write(repo, ref, files, mode='100644'):
    "A commit of files at a reference, as anybody may make it"
    stream = f'commit {ref}\ncommitter x <x@example.org> now\ndata 1\nx\n'.encode()
    for path,data in files.items():
        data = data if isinstance(data, bytes) else json.dumps(data).encode()
        stream += f'M {mode} inline {path}\ndata {len(data)}\n'.encode() + data + b'\n'
    subprocess.run(['git', 'fast-import', '--quiet', '--force', '--date-format=now'], cwd=repo,
        input=stream, check=True)

def bare(path):
    lab.git(path.parent, 'init', '-q', '--bare', path)
    return path

@pytest.fixture(scope='module')
def clones(tmp_path_factory):
    "Two clones of one project, each with a session: three runs here, none there"
    folder = tmp_path_factory.mktemp('board')
    one = lab.example(folder/'one', rule='strict')
    two = folder/'two'
    lab.git(folder, 'clone', '-q', one, two)
    lab.setup(one)
    lab.run(one, 'baseline')
    lab.ar(one, 'ar-ideas', 'add', 'a cubic', '--why', f'see {folder}/sine.txt')
    lab.edit(one, 'DEGREE = 1', 'DEGREE = 3')
    lab.run(one, f'of degree three, as {Path.home()}/notes says')
    lab.edit(one, 'RATE = 0.5', 'RATE = 0.05')
    lab.run(one, 'tiny steps')
    lab.ar(two, 'ar-setup', 'nov2', '--seed', '42')
    return one, two, bare(folder/'board.git')

def profile_of(root): return get_profile('polynomial', root/'settings.ini')

def test_two_clones_and_a_bare_repository(clones):
    one,two,repo = clones
    before = state(one), state(two)
    sent = told(one, 'push', '../board.git')
    assert len(sent['sent']) == 4 and len(sent['keeps']) == 2 and sent['remote'] == str(repo)
    at = refs(repo)
    again = told(one, 'push')
    assert not again['sent'] + again['keeps'] and refs(repo) == at
    got = told(two, 'sync', str(repo))
    assert [r['status'] for r in got['rows']] == ['keep', 'keep', 'discard']
    assert [r['unlike'] for r in got['rows']] == ['']*3 and not got['damaged']
    assert not told(two, 'sync')['new'] and not told(one, 'sync')['rows']
    found = others(profile_of(two))
    assert [(o['host'], o['tag']) for o in found] == [(sent['host'], lab.TAG)]*3
    idea, = ideas_elsewhere(profile_of(two))
    assert (idea.idea, idea.text, idea.why) == (f'{found[0]["host"]}/{lab.TAG}/1', 'a cubic',
        'see sine.txt')
    assert 'RATE 0.5 -> 0.05' in board(two, 'list').stdout
    # and the other way round: a baseline of its own, which the first one's board shows
    lab.run(two, 'baseline')
    assert len(told(two, 'push')['sent']) == 1
    assert [r['tag'] for r in told(one, 'sync')['rows']] == ['nov2']
    assert state(one) == before[0] and len(lab.rows(two)) == 1
    lab.sound(one)
    lab.sound(two)

def test_nothing_private_is_sent(clones):
    one,_,repo = clones
    board(one, 'push', repo)
    names = [r.split()[0] for r in refs(repo).splitlines() if lab.TAG in r and 'notes' in r]
    files = lab.git(repo, 'ls-tree', '-r', '--name-only', names[0]).splitlines()
    text = '\n'.join(lab.git(repo, 'show', f'{names[0]}:{f}') for f in files)
    log = lab.git(repo, 'log', '--format=%an %ae %cn %ce', names[0])
    for o in (str(one), str(one.parent), str(Path.home()), '"nonce"', '"held"', '"host"'):
        assert o not in text, o
    nobody = 'autoresearch autoresearch@localhost'
    assert set(log.splitlines()) == {f'{nobody} {nobody}'}
    assert 'as ~/notes says' in text

def test_a_session_that_changed_is_sent_again(clones):
    one,two,repo = clones
    board(one, 'push', repo)
    lab.ar(one, 'ar-describe', '3', 'steps far too small')
    third, = (one/'runs'/lab.TAG).glob('003-*')
    assert told(one, 'push')['sent'] == [f'experiments/{third.name}.json']
    board(two, 'sync', repo)
    rows = told(two, 'list')['rows']
    assert [r['description'] for r in rows if r['number'] == 3] == ['steps far too small']

@pytest.mark.parametrize('remote,says', [('no-such-name', 'nothing is lost'), ('-x', 'no repository'),
    ('http://127.0.0.1:9/x', 'nothing is lost'), ('ssh://nobody@127.0.0.1:9/x', 'nothing is lost'),
    ('ext::sh -c "touch hacked"', 'nothing is lost'), ('a\x1b[2Jb', 'no repository')])
def test_a_board_that_does_not_answer(clones, remote, says):
    one,_,repo = clones
    board(one, 'push', repo)
    before = refs(one)
    for verb in ('push', 'sync'):
        r = board(one, verb, '--', remote, ok=False)
        assert r.returncode == 1 and says in r.stderr and '\x1b' not in r.stderr, r
        assert len(r.stderr.splitlines()) == 1
    assert refs(one) == before and not (one/'hacked').exists()
    assert told(one, 'push')['remote'] == str(repo) # the one that answered is remembered

def test_refused_by_the_host_and_then_not(clones, tmp_path):
    one,_,_ = clones
    repo = bare(tmp_path/'closed.git')
    hook = repo/'hooks/pre-receive'
    hook.parent.mkdir(exist_ok=True)
    hook.write_text('#!/bin/sh\necho "no quota left" >&2\nexit 1\n')
    hook.chmod(0o755)
    r = board(one, 'push', repo, ok=False)
    assert r.returncode == 1 and 'no quota left' in r.stderr and 'Traceback' not in r.stderr
    assert refs(repo) == ''
    hook.unlink()
    assert len(told(one, 'push', repo)['keeps']) == 2 and 'notes' in refs(repo)

def test_a_hook_of_the_clone_does_not_run(clones, tmp_path):
    one,_,_ = clones
    hook = one/'.git/hooks/pre-push'
    hook.parent.mkdir(exist_ok=True)
    hook.write_text(f'#!/bin/sh\ntouch {tmp_path}/ran\nexit 1\n')
    hook.chmod(0o755)
    board(one, 'push', bare(tmp_path/'b.git'))
    hook.unlink()
    assert not (tmp_path/'ran').exists()

def test_a_copied_clone_takes_another_name(clones, tmp_path):
    one,_,_ = clones
    repo = bare(tmp_path/'b.git')
    name = told(one, 'push', repo)['host']
    copy = tmp_path/'copy'
    shutil.copytree(one, copy, symlinks=True)
    lab.ar(copy, 'ar-describe', '2', 'said in the copy')
    lab.ar(one, 'ar-describe', '2', 'said in the first')
    assert told(one, 'push')['host'] == name
    at = refs(repo)
    other = told(copy, 'push', repo)['host']
    assert other != name and set(at.splitlines()) < set(refs(repo).splitlines())
    assert told(copy, 'push')['host'] == other and told(one, 'push')['host'] == name

def test_a_hostile_board(clones, tmp_path):
    "What is not as it must be is named and left out; what is sound beside it comes"
    _,two,_ = clones
    repo = bare(tmp_path/'evil.git')
    good = note(description='good\x1b[31m\u202e', machine=dict(gpu='H100', machine='m', id='x'),
        unknown='key', nonce='x', runs=['x'])
    files = {f'experiments/{NAME}.json': good,
        f'experiments/005-{SHA[:7]}.json': b'x'*(MOST_FILE+1),
        f'experiments/006-{SHA[:7]}.json': b'{', f'experiments/007-{SHA[:7]}.json': b'['*90000,
        f'experiments/008-{SHA[:7]}.json': note(value='nan', status='keep'),
        f'experiments/009-{SHA[:7]}.json': b'{"value": NaN}', 'experiments/x.json': note(),
        f'experiments/010-{"0"*7}.json': note(), f'experiments/011-{SHA[:7]}.json': b'\xff\xfe',
        'ideas.jsonl': b'{"event": "add", "idea": 1, "text": "x"}\n[[\n{"event": 3}\n',
        f'experiments/012-{SHA[:7]}.json': {k: v for k,v in note().items() if k != 'seconds'},
        f'experiments/013-{SHA[:7]}.json': note(block={}), 'README': b'hi', f'runs/{NAME}/experiment.json': b'x', 'experiments/a b.json': note()}
    write(repo, f'{REFS}/evil-1/nov1/notes', files)
    write(repo, f'{REFS}/link-1/nov1/notes', {f'experiments/{NAME}.json': b'/etc/passwd'}, '120000')
    for odd in ('evil-1/a/b/notes', 'Evil/nov1/notes', 'evil-1/-x/notes', 'evil-1/nov1/hooks',
            'évil/nov1/notes'):
        lab.git(repo, 'update-ref', f'{REFS}/{odd}', f'{REFS}/evil-1/nov1/notes')
    lab.git(repo, 'update-ref', f'{REFS}/blob-1/nov1/notes',
        lab.git(repo, 'rev-parse', f'{REFS}/evil-1/nov1/notes:README'))
    before = state(two), sorted(f for f in two.parent.rglob('*') if '.git' not in f.parts
        and 'board' not in f.parts)
    got = told(two, 'sync', repo)
    assert [f"{r['host']} {r['number']}" for r in got['rows']] == ['evil-1 4']
    assert len(got['damaged']) >= 16, got['damaged']
    assert state(two) == before[0] and before[1] == sorted(f for f in two.parent.rglob('*')
        if '.git' not in f.parts and 'board' not in f.parts)
    n, = [o['notes'] for o in others(profile_of(two)) if o['host'] == 'evil-1']
    ideas = [o for o in ideas_elsewhere(profile_of(two)) if o.home == 'evil-1/nov1']
    assert n['description'] == 'good [31m' and n['machine'] == dict(gpu='H100')
    assert not {'unknown', 'nonce', 'runs'} & set(n) and len(ideas) == 1
    assert not (two/'runs/board/link-1').exists()
    lab.sound(two)

def test_a_writer_whose_objects_are_lost_takes_no_other_with_it(clones, tmp_path):
    _,two,_ = clones
    repo = bare(tmp_path/'torn.git')
    for host in ('aaa-1', 'bbb-1', 'ccc-1'):
        write(repo, f'{REFS}/{host}/nov1/notes', {f'experiments/{NAME}.json': note(reason=host)})
    lost = lab.git(repo, 'rev-parse', f'{REFS}/bbb-1/nov1/notes:experiments/{NAME}.json')
    if list((repo/'objects/pack').glob('*.pack')):
        packs = [p.read_bytes() for p in (repo/'objects/pack').glob('*.pack')]
        shutil.rmtree(repo/'objects/pack')
        (repo/'objects/pack').mkdir()
        for p in packs: subprocess.run(['git', 'unpack-objects', '-q'], cwd=repo, input=p)
    (repo/'objects'/lost[:2]/lost[2:]).unlink()
    got = told(two, 'sync', repo)
    assert {r['host'] for r in got['rows']} == {'aaa-1', 'ccc-1'}
    assert 'bbb-1' in [o['name'] for o in got['damaged']]

def test_a_writer_that_sends_too_much(clones, tmp_path, monkeypatch):
    "git may write so much and no more: that writer is named, the others come"
    _,two,_ = clones
    repo = bare(tmp_path/'big.git')
    write(repo, f'{REFS}/big-1/nov1/notes', {'README': os.urandom(2**20)})
    write(repo, f'{REFS}/small-1/nov1/notes', {f'experiments/{NAME}.json': note()})
    monkeypatch.setattr(module, 'MOST_FETCHED', 2**16)
    got = module.sync(profile_of(two), str(repo))
    assert [o for o in got['new'] if 'small-1' in o] and 'big-1' in [k for k,_ in got['damaged']]
    assert 'big-1' not in refs(two)

def test_a_host_that_hangs(clones, monkeypatch):
    "It is given up after a time, and what git started for it ends"
    one,_,_ = clones
    monkeypatch.setattr(module, 'SECONDS', 1)
    monkeypatch.setenv('GIT_SSH_COMMAND', 'sleep 98765;')
    begun = time.monotonic()
    with pytest.raises(Refused, match='no answer in 1 s; nothing is lost'):
        module.sync(profile_of(one), 'ssh://127.0.0.1/x')
    assert time.monotonic() - begun < 30
    alive = [p for p in psutil.process_iter(['cmdline']) if '98765' in (p.info['cmdline'] or [])]
    assert not alive

def test_what_was_deleted_here_is_back_after_a_sync(clones):
    one,two,repo = clones
    board(one, 'push', repo)
    board(two, 'sync', repo)
    found = [d for d in (two/'runs/board').iterdir() if (d/lab.TAG).is_dir()]
    before = {f: f.read_bytes() for d in found for f in d.rglob('*.json')}
    for d in found: shutil.rmtree(d)
    board(two, 'sync')
    assert before and {f: f.read_bytes() for f in before} == before
    torn = next(iter(before))
    torn.write_text('{')
    assert board(two, 'list').returncode == 0
    board(two, 'sync')
    assert torn.read_bytes() == before[torn]

@pytest.mark.parametrize('verb', ['push', 'sync'])
def test_killed_at_any_instant(clones, tmp_path, verb):
    one,two,_ = clones
    repo = bare(tmp_path/'b.git')
    if verb == 'sync': board(one, 'push', repo)
    root = one if verb == 'push' else two
    for k in range(6):
        p = subprocess.Popen([lab.BIN/'ar-board', verb, str(repo)], cwd=root, env=lab.environ(),
            stdout=-1, stderr=-1, start_new_session=True)
        time.sleep(.35 + .05*k)
        os.killpg(p.pid, signal.SIGKILL)
        p.communicate()
    board(root, verb, repo)
    board(one, 'push', repo)
    names = [r for r in refs(repo).splitlines()]
    assert len([r for r in names if '/notes ' in r]) == 1 # under one name: nobody was doubled
    assert told(two, 'sync', repo)['sent'] == []
    assert len({(r['tag'], r['number']) for r in told(two, 'list')['rows']
        if r['host'] == told(one, 'list')['host']}) == 3
    lab.sound(root)

def test_two_at_once_in_one_clone(clones, tmp_path):
    one,_,_ = clones
    repo = bare(tmp_path/'b.git')
    made = [subprocess.Popen([lab.BIN/'ar-board', 'push', str(repo)], cwd=one, env=lab.environ(),
        stdout=-1, stderr=-1, text=True) for _ in range(3)]
    said = [p.communicate(timeout=lab.PATIENCE) for p in made]
    assert [p.returncode for p in made] == [0]*3, said
    assert len(refs(repo).splitlines()) == 3

def test_without_a_session_or_a_board(tmp_path):
    root = lab.example(tmp_path/'repo')
    assert 'nothing of others' in board(root, 'list').stdout
    r = board(root, 'sync', ok=False)
    assert r.returncode == 1 and 'which board? ar-board push REMOTE' in r.stderr
    r = board(root, 'push', ok=False)
    assert r.returncode == 1 and 'ar-setup' in r.stderr
    assert board(root, 'sync', bare(tmp_path/'b.git')).returncode == 0
    lab.git(root, 'config', 'autoresearch.boardname', '../x')
    r = board(root, 'list', '--json', ok=False)
    assert 'git config --unset autoresearch.boardname' in json.loads(r.stdout)['error']

@pytest.mark.parametrize('text,expected', [('at /a/b/c.py:3: no', 'at c.py:3: no'),
    ('RATE 1/8 -> 1/4', 'RATE 1/8 -> 1/4'), ('https://x.org/a/b', 'https://x.org/a/b'),
    ("'/a/b/c'", "'c'"), ('api_key: 0123456789', 'api_key: ...'),
    ('tokens = 12345678', 'tokens = 12345678'),
    ('git@host:a/b.git', 'git@host:a/b.git'), ('/Users/ann.b/x', '~/x'),
    ('ssh://me:pw@h/x', 'ssh://h/x'), ('and/or', 'and/or'), ('', '')])
def test_without_private(text, expected): assert without_private(text) == expected

@pytest.mark.parametrize('ref', ['x', f'{REFS}/a/b', f'{REFS}/a/b/notes/x', f'{REFS}//b/notes',
    f'{REFS}/a/../notes', f'{REFS}/a/b.lock/notes', f'{REFS}/a/b/../../notes', f'{REFS}/A/b/notes',
    f'{REFS}/a/b\n/notes', f'{REFS}/a/b/001-abcdefg', f'{REFS}/1a/b/notes', f'{REFS}/{"a"*49}/b/notes',
    f'{REFS}/a/é/notes', f'{REFS}/a/b/notes\n'])
def test_names_that_are_none(ref): assert parsed_ref(ref) == ()

@pytest.mark.parametrize('data,why', [(None, 'no JSON'), (b'', 'no JSON'), (b'3', 'no object'),
    (b'{}', 'of another commit'), (json.dumps(note(commit='cd'*20)).encode(), 'of another commit'),
    (json.dumps(note(status='repeat')).encode(), 'no result'),
    (json.dumps(note(profile=3)).encode(), 'no result'), (json.dumps(note(value=True)).encode(),
    'without a value'), (json.dumps(note(value=10**400)).encode(), 'without a value'),
    (b'9'*9999, 'no JSON')])
def test_files_that_are_refused(data, why):
    n,said = accepted(NAME, data)
    assert n == {} and why in said

def test_public_notes_keep_their_kinds():
    n = public_notes(dict(value='1', noise=dict(sigma=1, x='y', z=float('inf')), status=['keep'],
        description='x'*9999, machine='H100', commit='ABC', block=[1]))
    assert n == dict(noise=dict(sigma=1), description='x'*500, machine={}, block={})
    assert public_event(dict(event='add', idea=True, text='x')) == {}
    assert public_event(dict(event='add', idea=1.5, text='x')) == {}

def test_others_are_found_by_about_and_shown(clones, tmp_path):
    one,two,_ = clones
    repo = bare(tmp_path/'b.git')
    host = told(one, 'push', repo)['host']
    board(two, 'sync', repo)
    def ideas(*args): return json.loads(lab.ar(two, 'ar-ideas', *args, '--json').stdout)
    found = ideas('about', 'degree')
    jsonschema.validate(found, IDEAS['ar-ideas'])
    at = [(o['tag'], o['number'], o['unlike']) for o in found['experiments']]
    assert (f'{host}/{lab.TAG}', 2, '') in at
    text = lab.ar(two, 'ar-ideas', 'about', 'degree').stdout
    assert '0 tried here' in text and f'{host}/{lab.TAG} 002 keep' in text
    assert f'{host}/{lab.TAG}/1' in [o['idea'] for o in ideas('about', 'cubic')['ideas']]
    name = f'{host}/{lab.TAG}'
    shown = json.loads(lab.ar(two, 'ar-show', f'{name}/2', '--json').stdout)
    jsonschema.validate(shown, IDEAS['ar-show'])
    assert '+DEGREE = 3' in shown['cells']['hparams'] and shown['difference'] < 0
    assert '003' in lab.ar(two, 'ar-show', f'{name}/3').stdout # a discard: what it changed in words
    r = lab.ar(two, 'ar-show', f'{name}/3', '--apply', ok=False)
    assert r.returncode == 1 and 'carries the commits of keeps only' in r.stderr
    for wrong in (f'{name}/99', 'nobody-1/x/1', '../../x/1', f'{name}/'):
        r = lab.ar(two, 'ar-show', wrong, ok=False)
        assert r.returncode == 1 and len(r.stderr.splitlines()) == 1, r.stderr
    lab.ar(two, 'ar-show', f'{name}/2', '--apply')
    assert 'DEGREE = 3' in (two/'canvas.ipynb').read_text()
    lab.ar(two, 'ar-drop')
    for command in ('ar-status', 'ar-frontier'): # nothing of it counts as run here
        assert host not in lab.ar(two, command, '--json').stdout
