"""The researcher's memory: its files under two writers, torn lines and hand edits; the commands in
a session of the torch-free example."""
import io, json, os, subprocess, sys, time, traceback
from contextlib import redirect_stderr, redirect_stdout
import jsonschema, pytest
import lab
from autoresearch.ideas import (MOST, SHAPES, Change, Idea, about, about_lines, ar_ideas, became,
    claim_of, facts, gather, idea_files, merge_lines, near_failure, parse_change, plateau, public_ideas, read_events,
    tried_in, write_event)
from autoresearch.repo import Refused

def ideas(root, *args, ok=True): return lab.ar(root, 'ar-ideas', *args, ok=ok)
def told(root, *args):
    "A verb's answer in JSON, by its one schema"
    res = json.loads(ideas(root, *args, '--json').stdout)
    jsonschema.validate(res, SHAPES['ar-ideas'])
    assert res['command'] == args[0]
    return res
def note(number, status, changed, value=None, best=.99, **more):
    return dict(dict(commit=f'{number:07x}', dir=f'{number:03d}-{number:07x}', status=status,
        changed=changed, value=value, best=best, **{'class': 'ok' if value else 'oom'}), **more)

def test_two_writers_lose_nothing(tmp_path):
    code = ('import sys; from autoresearch.ideas import write_event\n'
        'for i in range(25): write_event(sys.argv[1], sys.argv[2], "add", text=f"{i}")')
    made = [subprocess.Popen([sys.executable, '-c', code, str(tmp_path), tag], env=lab.environ())
        for tag in ('', 'nov1')]
    assert [p.wait(lab.PATIENCE) for p in made] == [0, 0]
    found,events,damaged = gather(idea_files(tmp_path))
    assert sorted(found) == list(range(1, 51)) and not damaged
    assert [len(events[k]) for k in ('', 'nov1')] == [25, 25]

@pytest.mark.parametrize('end', [b'', b'\n', b'{"event": "add", "idea": 9, "te', b'\xff\xfe'])
def test_a_torn_end_takes_nothing_with_it(tmp_path, end):
    for text in ('one', 'two'): write_event(tmp_path, '', 'add', text=text)
    file = tmp_path/'ideas.jsonl'
    whole = file.read_bytes()
    file.write_bytes(whole.removesuffix(b'\n') + b'\n'*bool(end) + end)
    write_event(tmp_path, '', 'add', text='three')
    events,damaged = read_events(file)
    assert [o['text'] for o in events] == ['one', 'two', 'three']
    assert len(damaged) == bool(end.strip()) and file.read_bytes().startswith(whole[:-1])
    assert all(o.line == 3 for o in damaged)

@pytest.mark.parametrize('line,why', [('[]', 'no object'), ('{"event": "eat"}', "event 'eat'"),
    ('{"event": "add", "idea": "x", "text": "y"}', "idea 'x' is no number"),
    ('{"event": "add", "idea": true, "text": "y"}', 'idea True is no number'),
    ('{"event": "add", "idea": 3}', 'without a text'), ('{"event": "take"}', 'is no number'),
    ('{"event": "drop", "idea": 1, "why": 3}', 'why is no text'),
    ('{"event": "take", "idea": 1, "after": "x"}', 'after is no number'),
    ('{"event": "take", "idea": 1, "until": "soon"}', 'until is no number'),
    ('{"event": "take", "idea": 1, "submitted": null}', 'submitted is no number'),
    ('{"event": "take", "idea": 1, "agent": 7}', 'agent is no text'),
    ('{"event": "add", "idea": 1, "text": "again"}', 'number 1 twice'),
    ('{"event": "take", "idea": 7}', 'no idea 7'), ('['*9999, 'no JSON')])
def test_a_hand_edit_is_named(tmp_path, line, why):
    write_event(tmp_path, '', 'add', text='one')
    file = tmp_path/'ideas.jsonl'
    file.write_text(file.read_text() + line + '\n')
    found,_,damaged = gather(idea_files(tmp_path))
    assert list(found) == [1] and found[1].text == 'one'
    assert len(damaged) == 1 and why in damaged[0].why
    assert (damaged[0].file, damaged[0].line) == (str(file), 2)
    assert file.read_text().endswith(line + '\n')
    assert write_event(tmp_path, 't', 'add', text='next')['idea'] > 1

def test_a_writer_that_does_not_end(tmp_path, monkeypatch):
    from autoresearch.contract import file_lock
    def refuse(seconds): raise Refused('locked')
    monkeypatch.setattr('autoresearch.ideas._waiting', lambda path: refuse)
    with file_lock(tmp_path/'ideas.jsonl', refuse), pytest.raises(Refused, match='locked'):
        write_event(tmp_path, '', 'add', text='one')
    assert read_events(tmp_path/'ideas.jsonl') == ([], [])

@pytest.mark.parametrize('changed,expected', [
    ('A 1 -> 2', Change({'A': ('1', '2')}, [])), ('cells a, cell 3', Change({}, ['a', 'cell 3'])),
    ('A (hparams-tiny) 1 -> 2, B (1, 2) -> (3, 4); cells b',
        Change({'A': ('1', '2'), 'B': ('(1, 2)', '(3, 4)')}, ['b'])),
    ('A (hparams) 1 -> 2, A (hparams-tiny) 5 -> 4', Change({'A': ('1', '2')}, [])),
    ('A 3 (gone), B 2 (new)', Change({'A': ('3', None), 'B': (None, '2')}, [])),
    ('', Change({}, []))])
def test_parse_change(changed, expected): assert parse_change(changed) == expected

def test_what_links_an_idea_to_experiments():
    notes = [note(i, 'discard', 'A 1 -> 2', 1.) for i in range(1, 9)]
    notes[3]['status'] = 'repeat'
    def take(idea, after, **more): return dict(event='take', idea=idea, after=after, **more)
    events = [take(1, 1), take(2, 3, experiment=1), take(2, 5), dict(event='drop', idea=2, after=6)]
    known = {i: Idea(i, 'x') for i in (1, 2, 3)}
    found = became(known, events, notes)
    assert [(o.state, o.experiments) for o in found.values()] == [('tried', [2, 3, 5]),
        ('dropped', [1, 6]), ('open', [])]
    assert became(known, events[:1], notes[:1])[1].state == 'taken'

def made(submission): return dict(submission=dict(id=submission)) if submission else {}
def of_agent(number, agent, submission='', status='discard', **more):
    return note(number, status, 'A 1 -> 2', 1., agent=agent, **(made(submission) | more))
def claim(idea, agent, after, submitted, until=3600., **more):
    return dict(event='take', idea=idea, agent=agent, after=after, submitted=submitted, until=until,
        **more)

@pytest.mark.parametrize('events,notes,pending,now,expected', [
    # nobody's experiments but the taker's, submitted after the take, whatever their numbers
    ([claim(1, 'ada', 3, 5)], [of_agent(4, 'bob', 's006'), of_agent(5, 'ada', 's005')], [], 9,
        ('taken', 'ada', [])),
    ([claim(1, 'ada', 3, 5)], [of_agent(4, 'ada', 's007')], [], 9, ('tried', None, [4])),
    ([claim(1, 'ada', 3, 5), claim(2, 'bob', 3, 5)], [of_agent(4, 'ada', 's007')], [], 9,
        ('tried', None, [4])), # what bob takes ends nothing of ada's
    ([claim(1, 'ada', 3, 5), claim(2, 'ada', 3, 6)], [of_agent(4, 'ada', 's007'),
        of_agent(5, 'ada', 's006')], [], 9, ('tried', None, [5])),
    # the end of its time, and what holds it beyond
    ([claim(1, 'ada', 3, 5)], [], [], 3601, ('open', None, [])),
    ([claim(1, 'ada', 3, 5)], [], [dict(made('s006'), agent='ada')], 3601,
        ('taken', 'ada', [])),
    ([claim(1, 'ada', 3, 5)], [], [dict(made('s006'), agent='bob')], 3601, ('open', None, [])),
    ([claim(1, '', 3, 0)], [], [dict(dir='004-abcdef0')], 3601, ('taken', '', [])),
    ([claim(1, '', 3, 0)], [of_agent(4, '')], [], 9, ('tried', None, [4])), # by ar-run
    # again: the claim is new, what was tried stays
    ([claim(1, 'ada', 3, 5), claim(1, 'ada', 4, 6, 9000.)], [of_agent(4, 'ada', 's006')], [], 3601,
        ('tried', 'ada', [4])),
    ([claim(1, 'ada', 3, 5), claim(1, 'bob', 4, 6)], [of_agent(4, 'ada', 's006')], [], 9,
        ('tried', 'bob', [4])),
    # no try: ended by the machine; of a search beside the agent; an older list; dropped
    ([claim(1, '', 3, 5)], [of_agent(4, '', 's006', 'crash', **{'class': 'lost'})], [], 9,
        ('taken', '', [])),
    ([claim(1, '', 3, 5)], [of_agent(4, '', 's006', by='search-1a2b3c/1')], [], 9,
        ('taken', '', [])),
    ([dict(event='take', idea=1, after=3)], [], [], 9e9, ('taken', None, [])),
    ([dict(event='take', idea=1, after=3)], [of_agent(4, '', 's001')], [], 9,
        ('tried', None, [4])),
    ([claim(1, 'ada', 3, 5), dict(event='drop', idea=1, agent='ada', after=3, submitted=5)], [],
        [], 9, ('dropped', None, [])),
    ([claim(1, 'ada', 3, 5), dict(event='take', idea=1, experiment=2, agent='bob')], [], [], 9,
        ('tried', 'ada', [2]))])
def test_claims(events, notes, pending, now, expected):
    o = became({1: Idea(1, 'x'), 2: Idea(2, 'y')}, events, notes, pending, now)[1]
    assert (o.state, o.agent, o.experiments) == expected
    assert (o.until is None) == (o.agent is None) and bool(claim_of(o, now)) == (o.agent is not None)

def test_near_failure_wants_all_the_same():
    past = [note(2, 'discard', 'A 1 -> 2, B 4 -> 2; cells mlp', 1.)]
    assert near_failure('A 1 -> 9, B 4 -> 3; cells mlp', past) == past[0]
    for other in ('A 1 -> 9', 'A 1 -> 9, B 4 -> 5; cells mlp', 'A 1 -> 9, B 4 -> 3', ''):
        assert not near_failure(other, past), other
    assert not near_failure('A 1 -> 2', [note(3, 'repeat', 'A 1 -> 2', 1.)])

def test_tried_and_page():
    page = {o.idea: o for o in public_ideas()}
    assert len(page) >= 30 and list(page)[0] == 'batch-2-18'
    gains = [o.per_run for o in page.values()]
    assert gains == sorted(gains, reverse=True) and gains[-1] > 0
    tries = [note(2, 'discard', 'WARMDOWN_RATIO 0.5 -> 0.4', 1.)]
    assert tried_in(page['warmdown-075'], tries) == []
    assert tried_in(page['warmdown-075'], [note(2, 'crash', 'WARMDOWN_RATIO 0.5 -> 0.8')]) == [2]
    seen = note(3, 'discard', 'cells gpt, init', 1., description='a smear gate')
    assert tried_in(page['smear'], [seen]) == [3] and tried_in(page['backout'], [seen]) == []

def test_about_is_short_whatever_there_is():
    tries = [facts('t', note(i, 'discard', f'RATE 1 -> {i}', 1.+i, description='x'*400))
        for i in range(1, 40)]
    known = [Idea(i, 'the rate', 'w'*400) for i in range(40)]
    lines = about_lines('rate', about('rate', tries, known))
    assert lines[0] == 'rate: 39 tried here, 0 kept, best +1.010000' and len(lines) == MOST
    assert all(len(l) <= 150 for l in lines) and lines[-1].startswith('61 more')
    assert len(about_lines('rate', about('rate', tries[:2], known))) == MOST
    assert len(about_lines('rate', about('rate', tries, []))) == MOST
    assert about('the', tries, known).tries == []

@pytest.mark.parametrize('noise', [dict(sigma='x'), dict(odd=1), 3, None,
    dict(sigma='x', df=1, low=0, high=1), dict(sigma=0., df=1, low=0, high=1)])
def test_plateau_without_a_sound_noise(noise):
    night = [note(i, 'discard', 'A 1 -> 2', 1., noise=noise) for i in range(12)]
    found = plateau(night)
    assert found.flat and found.error is None and not plateau(night[1:]).flat

def test_merge_lines_edges():
    m = merge_lines
    assert m(['a'], ['a', 'b'], ['c', 'a'])[0] == ['c', 'a', 'b']
    assert m(['a'], ['a', 'b'], ['a', 'c'])[0] is None
    assert m(['a', 'b', 'c'], ['a', 'c'], ['a', 'B', 'c']) == (None, 'b')
    assert m(['a', 'b'], ['A', 'b'], ['a', 'B'])[0] == ['A', 'B']
    assert m([], ['a'], ['a'])[0] == ['a']

@pytest.fixture(scope='module')
def session(tmp_path_factory):
    "Four runs: the baseline, a keep, a discard, a crash"
    root = lab.example(tmp_path_factory.mktemp('ideas')/'repo', rule='strict')
    lab.setup(root)
    lab.run(root, 'baseline')
    ideas(root, 'add', 'a cubic', '--why', 'the sine bends twice', '--gain', '0.1')
    ideas(root, 'take', '1')
    lab.edit(root, 'DEGREE = 1', 'DEGREE = 3')
    lab.run(root, 'of degree three')
    ideas(root, 'drop', '1')
    lab.edit(root, 'RATE = 0.5', 'RATE = 0.05')
    lab.run(root, 'tiny steps')
    return root

def test_a_session_remembers(session):
    found = told(session, 'about', 'degree')
    assert [(o['number'], o['status'], o['ideas']) for o in found['experiments']] == [(2, 'keep', [1])]
    assert found['experiments'][0]['constants'] == {'DEGREE': ['1', '3']}
    assert found['experiments'][0]['difference'] < 0
    assert [o['number'] for o in told(session, 'about', 'bends')['experiments']] == [2]
    text = ideas(session, 'about', 'rate').stdout.splitlines()
    assert len(text) <= MOST and '003 discard' in text[1] and 'RATE 0.5 -> 0.05' in text[1]
    assert told(session, 'about', 'muon')['failed'] == [] # the public page is of another canvas

def test_every_verb_in_one_shape(session, tmp_path):
    assert [o['idea'] for o in told(session, 'list')['ideas']] == [1]
    assert told(session, 'add', 'for all', '--everywhere')['ideas'][0]['home'] == ''
    assert told(session, 'next')['ideas'][0]['idea'] == 2
    assert told(session, 'take', '2')['ideas'][0]['state'] == 'taken'
    assert told(session, 'take', '2', '--experiment', '3')['ideas'][0]['experiments'] == [3]
    assert told(session, 'drop', '2', '--why', 'no')['ideas'][0]['said'] == 'no'
    assert told(session, 'next')['ideas'] == []
    file = session/'runs/ideas.jsonl'
    file.write_text(file.read_text() + 'oops\n')
    r = ideas(session, 'list')
    assert 'ideas.jsonl, line 2: no JSON' in r.stderr and 'oops' in r.stderr
    assert told(session, 'list', '--all')['damaged'][0]['text'] == 'oops'

@pytest.mark.parametrize('args,said', [(['take', '99'], 'no idea 99'), (['drop', 'x'], 'no idea x'),
    (['add', ' '], 'say what to try'), (['add', 'x', '--gain', '-1'], 'a number above 0'),
    (['take', '1', '--experiment', '77'], 'no experiment 77'), (['eat'], "no verb 'eat'")])
def test_refusals(session, args, said):
    r = ideas(session, *args, ok=False)
    assert r.returncode == 1 and said in r.stderr and 'Traceback' not in r.stderr

def test_show_and_apply(session):
    r = lab.ar(session, 'ar-show', '3')
    assert '+RATE = 0.05' in r.stdout and 'place:    ' in r.stdout
    canvas = session/'canvas.ipynb'
    before = canvas.read_text()
    assert 'RATE = 0.5' in before
    o = json.loads(lab.ar(session, 'ar-show', '3', '--apply', '--json').stdout)
    jsonschema.validate(o, SHAPES['ar-show'])
    assert o['applied'] == ['hparams'] and list(o['cells']) == ['hparams'] and o['of'] == 3
    assert 'RATE = 0.05' in canvas.read_text() and 'DEGREE = 3' in canvas.read_text()
    assert 'already' in lab.ar(session, 'ar-show', o['commit'], '--apply').stdout
    lab.edit(session, 'RATE = 0.05', 'RATE = 0.7')
    edited = canvas.read_text()
    r = lab.ar(session, 'ar-show', f'{lab.TAG}/3', '--apply', ok=False)
    assert r.returncode == 1 and 'hparams: 003: both change `RATE' in r.stderr
    assert canvas.read_text() == edited
    canvas.write_text(before)
    r = lab.ar(session, 'ar-show', '99', ok=False)
    assert 'no experiment of session' in r.stderr and 'Traceback' not in r.stderr

def test_show_takes_the_number_as_it_is_seen(tmp_path):
    "With a # before it, too; a number without a row is told what it was"
    root = lab.example(tmp_path/'polynomial')
    lab.setup(root)
    lab.run(root, 'baseline')
    lab.ar(root, 'ar-run', '--repeat')
    lab.edit(root, 'DEGREE = 1 ', 'DEGREE = 3 ')
    lab.run(root, 'a cubic')
    assert lab.ar(root, 'ar-show', '#3').stdout == lab.ar(root, 'ar-show', '3').stdout
    assert 'already' in lab.ar(root, 'ar-show', f'{lab.TAG}/#3', '--apply').stdout
    r = lab.ar(root, 'ar-show', '2', ok=False)
    folder = next((root/f'runs/{lab.TAG}').glob('002-*'))
    commit = folder.name[4:]
    assert r.stderr == (f'ar-show: 2: a run of {commit} again, which has no row; {folder}/run.log '
        'tells of it\n') and (folder/'run.log').exists()

@pytest.fixture(scope='module')
def crew(session, tmp_path_factory):
    "Worktrees of three agents, made by git alone"
    home = tmp_path_factory.mktemp('crew')
    names = 'ada', 'bob', 'cyd'
    for k in names: lab.git(session, 'worktree', 'add', '-q', '-b', f'autoresearch/{lab.TAG}-{k}',
        str(home/k))
    return {k: home/k for k in names}

def test_who_has_an_idea(session, crew):
    key = str(told(session, 'add', 'a quartic')['ideas'][0]['idea'])
    o = told(crew['ada'], 'take', key)['ideas'][0]
    assert o['agent'] == 'ada' and 3500 < o['until']-time.time() < 3700
    for verb in ('take', 'drop'):
        r = ideas(crew['bob'], verb, key, ok=False)
        assert r.returncode == 1 and f'idea {key} is taken by agent ada until ' in r.stderr
    assert 'taken by agent ada' in ideas(session, 'take', key, ok=False).stderr
    assert f'{key}: a quartic (taken by agent ada until ' in ideas(session, 'list').stdout
    assert key not in [str(o['idea']) for o in told(crew['bob'], 'next')['ideas']]
    again = told(crew['ada'], 'take', key, '--hours', '2')['ideas'][0]
    assert again['until'] > o['until'] + 3000
    assert told(session, 'drop', key)['ideas'][0]['state'] == 'dropped' # a person has the last word
    assert told(crew['bob'], 'take', key, '--hours', '0.0001')['ideas'][0]['state'] in (
        'taken', 'open')
    lab.until(lambda: told(crew['cyd'], 'list')['ideas'][0]['state'] == 'open' or
        all(o['agent'] is None for o in told(crew['cyd'], 'list')['ideas']), every=.3)
    assert told(crew['cyd'], 'take', key)['ideas'][0]['agent'] == 'cyd'
    for hours in ('0', '-1', 'nan', '25'):
        assert 'at most 24 hours' in ideas(crew['cyd'], 'take', key, '--hours', hours, ok=False).stderr

def said(*args):
    "What a verb prints in this process, and its exit code"
    out,err = io.StringIO(), io.StringIO()
    try:
        with redirect_stdout(out), redirect_stderr(err): ar_ideas([*args])
    except SystemExit as e: return 1, f'{err.getvalue()}{e.code}'
    return 0, out.getvalue()

def at_once(folders, work):
    "Call `work` in each of these folders, in processes that begin together"
    gate,opener = os.pipe()
    pids = []
    for folder in folders:
        if pid := os.fork():
            pids.append(pid)
            continue
        code = 1
        try:
            os.chdir(folder)
            os.environ.pop('AUTORESEARCH_PROFILE', None)
            os.close(opener)
            os.read(gate, 1)
            work()
            code = 0
        except BaseException: traceback.print_exc()
        finally: os._exit(code)
    os.close(opener)
    os.close(gate)
    assert [os.waitstatus_to_exitcode(os.waitpid(p, 0)[1]) for p in pids] == [0]*len(pids)

def test_three_agents_race_for_ideas(session, crew, tmp_path):
    "Each asks for the next and takes it: every idea has one taker, and the losers are told who"
    keys = [told(session, 'add', f'idea {i}')['ideas'][0]['idea'] for i in range(6)]
    free = {o['idea'] for o in told(session, 'list')['ideas'] if o['state'] == 'open'}
    assert free.issuperset(keys)
    def work():
        while True:
            code,words = said('next', '--json')
            assert code == 0, words
            found = json.loads(words)['ideas']
            if not found: return
            key = str(found[0]['idea'])
            code,words = said('take', key)
            who = os.path.basename(os.getcwd())
            with open(tmp_path/'log', 'a') as f: f.write(f'{code} {key} {who}\n')
            assert code == 0 or 'is taken by agent' in words, words
    at_once(crew.values(), work)
    log = [l.split() for l in (tmp_path/'log').read_text().splitlines()]
    won = [(int(k), who) for code,k,who in log if code == '0']
    assert sorted(k for k,_ in won) == sorted(free) # every one, none twice
    assert {o['idea']: o['agent'] for o in told(session, 'list')['ideas'] if o['idea'] in free} == (
        dict(won))

def test_without_a_session(tmp_path):
    root = lab.example(tmp_path/'repo')
    assert 'idea 1: later' in ideas(root, 'add', 'later').stdout
    assert (root/'runs/ideas.jsonl').exists()
    r = ideas(root, 'take', '1', ok=False)
    assert r.returncode == 1 and 'ar-setup TAG' in r.stderr
    lab.setup(root)
    assert told(root, 'next')['ideas'][0]['text'] == 'later'
