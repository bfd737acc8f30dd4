"""What holds a night together: limits, notes, the user's command, the brief, and what an agent finds
first; in a session of the torch-free example, with the commands as the hooks call them."""
import json, os, re, shutil, subprocess, sys, threading, time, tomllib
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
import jsonschema, pytest, yaml
import lab
from autoresearch import night
from autoresearch.contract import get_profile, write_json
from autoresearch.night import (IDLE, MOST, NOTES, SHAPES, add_note, brief, config_path, ended,
    event_line, extend, go_on, hours_used, limits_line, limits_of, notes_kept, notify, read_remarks)
from autoresearch.ratchet import status_of
from autoresearch.repo import Refused, Session, own_refs, read_blob
from autoresearch.run import walls_kind

# characters a token, as cl100k_base and o200k_base cut program.md (3.8), a brief and an idea (2.85)
PROSE,FIGURES = 3.7, 2.8

@pytest.fixture(scope='module')
def root(tmp_path_factory):
    "Three runs: the baseline, a crash, a discard; no limits, as in a session of an older version"
    root = lab.example(tmp_path_factory.mktemp('night')/'repo', rule='strict')
    for name in ('skills', 'examples/agents'): shutil.copytree(lab.ROOT/name, root/name)
    shutil.copy(lab.ROOT/'AGENTS.md', root)
    (root/'CLAUDE.md').symlink_to('AGENTS.md')
    lab.git(root, 'add', '-A')
    lab.commit(root, 'for agents')
    lab.setup(root)
    page = (root/'examples/agents/README.md').read_text()
    lab.sh(root, 'sh', '-c', re.search('^mkdir -p .claude.*', page, re.M)[0])
    lab.run(root, 'baseline')
    lab.edit(root, 'DEGREE = 1', 'DEGREE = 1/0')
    lab.run(root, 'a division', ok=False)
    lab.edit(root, 'DEGREE = 1/0', 'DEGREE = 1')
    lab.edit(root, 'RATE = 0.5', 'RATE = 0.05')
    lab.run(root, 'tiny steps')
    return root

def last(s): return len(s.run_dirs()) # number of the last experiment

def profile(root): return get_profile('polynomial', root/'settings.ini')

@pytest.fixture
def s(root, monkeypatch):
    "The session as it is on the disk; afterwards as it was"
    s = Session(profile(root), lab.TAG)
    before = s.state
    monkeypatch.delenv('AUTORESEARCH_PROFILE', raising=False)
    yield s
    write_json(s.dir/'state.json', before)
    s.git('update-ref', f'{s.own}/state', s.git('hash-object', '-w', str(s.dir/'state.json')))
    for name in (NOTES, 'sent-back.json'): (s.dir/name).unlink(missing_ok=True)
    s.git('update-ref', '-d', night.notes_ref(s))

def with_limits(s, **limits):
    state = dict(s.state, limits=dict(dict(hours=None, max_crashes=None, until=None,
        since=time.time(), after=dict(hours=0, crashes=0)), **limits))
    return Session(s.p, s.tag, state)

def test_an_older_session_has_no_end_until_it_is_given_one(s):
    assert (ended(s), limits_line(s), go_on(s)[0]) == ('', '', 0)
    said = extend(s, hours=8, max_crashes=20)
    assert said == 'limits:   8.0 h left of 8 h, 0 of 20 crashes in a row'
    again = Session(s.p, s.tag)
    assert limits_of(again)['after'] == dict(hours=last(s), crashes=last(s)) and limits_line(again) == said
    assert json.loads(read_blob(s.p.root, f'{s.own}/state')) == again.state

def test_days_later(s):
    long_ago = with_limits(s, hours=8, since=time.time()-3*86400)
    assert ended(long_ago) == 'its 8 h are used up' and go_on(long_ago)[0] == 0
    assert extend(long_ago, hours=2) == 'limits:   2.0 h left of 2 h'
    assert not ended(Session(s.p, s.tag)) and go_on(Session(s.p, s.tag))[0] == 2
    assert extend(Session(s.p, s.tag), hours=3) == 'limits:   5.0 h left of 5 h'

def test_a_clock_that_was_set_back_gives_no_endless_night(s):
    notes = s.experiments()
    took = sum(n['seconds'] for n in notes)
    soon = with_limits(s, hours=took/3600*.9, since=time.time()+9e6)
    assert hours_used(limits_of(soon), notes) == took/3600
    assert ended(soon, notes).endswith('h are used up')
    assert not ended(with_limits(s, hours=took/3600*1.1, since=time.time()+9e6), notes)

def test_more_crashes_leave_the_hours_as_they_are(s):
    notes = s.experiments()
    stopped = with_limits(s, hours=8, max_crashes=1, since=time.time()-3600)
    assert extend(stopped, max_crashes=2) == 'limits:   7.0 h left of 8 h, 0 of 2 crashes in a row'
    assert extend(with_limits(s, hours=.5), max_crashes=2).startswith('limits:   30 min left of 0.5 h')
    late = with_limits(s, max_crashes=1)
    late.experiments = lambda: notes[:2]
    assert ended(late) == '1 crash in a row'
    assert extend(late) == 'limits:   0 of 1 crashes in a row' # a person has looked at it

def test_crashes_and_a_value(s):
    notes = s.experiments()
    one = with_limits(s, max_crashes=1)
    assert not ended(one, notes) and ended(one, notes[:2]) == '1 crash in a row'
    best = night.best_value(s, notes)
    assert ended(with_limits(s, until=best), notes) == f'the best, {best:.6f}, has reached {best:.6f}'
    assert not ended(with_limits(s, until=best-1e-5), notes)
    with pytest.raises(Refused, match='has reached'): extend(s, hours=1, until=best)
    assert 'limits' not in Session(s.p, s.tag).state

@pytest.mark.parametrize('limits,named', [('soon', "limits: 'soon'"), (dict(hours='8'), "hours '8'"),
    (dict(hours=8), 'since None'), (dict(hours=8, since='x'), "since 'x'"), ([8], r'limits: \[8\]'),
    (dict(max_crashes=1.5), 'max_crashes 1.5'), (dict(after='x'), "after 'x'"),
    (dict(after=dict(hours=1)), 'after {'), (dict(after=dict(hours=1, crashes='x')), 'after {')])
def test_limits_that_cannot_be_read_end_the_session(s, limits, named):
    bad = Session(s.p, s.tag, dict(s.state, limits=limits))
    assert re.search(named, ended(bad)) and night.MORE in ended(bad)
    assert limits_of(bad) == night.no_limits() and go_on(bad)[0] == 0 and 'over' in limits_line(bad)
    assert extend(bad, hours=2).startswith('limits:   2.0 h left')

def test_an_extension_killed_before_git_knew_is_none(root, s):
    extend(s, hours=1)
    write_json(s.dir/'state.json', dict(s.state, limits=dict(s.state['limits'], hours=1000)))
    lab.ar(root, 'ar-note')
    assert limits_of(Session(s.p, s.tag))['hours'] == 1
    assert json.loads((s.dir/'state.json').read_text()) == s.state

def test_what_extend_refuses(s):
    for given,why in ((dict(), 'say of what'), (dict(hours=-1), '--hours -1'),
        (dict(max_crashes=0), '--max-crashes 0'), (dict(until=float('nan')), '--until nan'),
        (dict(max_crashes=True), '--max-crashes True')):
        with pytest.raises(Refused, match=why): extend(s, **given)
    over = with_limits(s, hours=1, since=0)
    with pytest.raises(Refused, match='its 1 h are used up'): extend(over, max_crashes=3)
    assert own_refs(s)['state'] and 'limits' not in Session(s.p, s.tag).state

def test_two_writers_of_notes(s):
    code = ('import sys; from autoresearch.contract import get_profile\n'
        'from autoresearch.night import add_note; from autoresearch.repo import Session\n'
        's = Session(get_profile("polynomial", "settings.ini"), sys.argv[1])\n'
        'for i in range(12): add_note(s, f"{sys.argv[2]} {i}")')
    made = [subprocess.Popen([sys.executable, '-c', code, s.tag, who], env=lab.environ(), cwd=s.p.root)
        for who in 'ab']
    assert [p.wait(lab.PATIENCE) for p in made] == [0, 0]
    said = [o['text'] for o in notes_kept(s)]
    assert sorted(said) == sorted(f'{who} {i}' for who in 'ab' for i in range(12))
    assert [t for t in said if t[0] == 'a'] == [f'a {i}' for i in range(12)]
    assert read_blob(s.p.root, night.notes_ref(s)) == (s.dir/NOTES).read_bytes()

@pytest.mark.parametrize('damage', [b'', b'\n', b'{"text": "tor', b'\xff\xfe', b'[]', b'['*9999,
    b'{"text": "x", "commit": "c", "time": "now", "experiment": 1}'])
def test_a_torn_note_takes_nothing_with_it(s, damage):
    for text in ('one', 'two'): add_note(s, text)
    file = s.dir/NOTES
    with open(file, 'ab') as f: f.write(damage)
    add_note(s, 'drei: ß 💡')
    notes,damaged = read_remarks(s)
    assert [o['text'] for o in notes] == ['one', 'two', 'drei: ß 💡']
    assert damaged == [3]*bool(damage.strip()) and damage in file.read_bytes()

def test_notes_outlive_their_folder_and_a_run(root, s):
    before = own_refs(s)
    add_note(s, 'odd degrees\x1b[31m help')
    assert own_refs(s) == before # nothing of what a run must leave as it was
    lab.edit(root, 'RATE = 0.05' if 'RATE = 0.05' in (root/'canvas.ipynb').read_text() else
        'RATE = 0.5', 'RATE = 0.7')
    lab.ar(root, 'ar-drop')
    (s.dir/NOTES).write_bytes(b'')
    add_note(s, 'even ones do not')
    assert [o['text'] for o in notes_kept(s)] == ['odd degrees [31m help', 'even ones do not']
    later = Session(s.p, s.tag, dict(s.state, created=s.state['created']+1))
    assert notes_kept(later) == [] # a session of the same name, begun anew

def test_ar_note(root, s):
    assert 'no notes yet' in lab.ar(root, 'ar-note').stdout
    assert 'two words' in lab.ar(root, 'ar-note', 'two', 'words').stdout
    with open(s.dir/NOTES, 'a') as f: f.write('oops\n')
    r = lab.ar(root, 'ar-note', '--json', 'a "third"')
    answer = json.loads(r.stdout)
    jsonschema.Draft202012Validator.check_schema(SHAPES['ar-note'])
    jsonschema.validate(answer, SHAPES['ar-note'])
    assert [o['text'] for o in answer['notes']] == ['two words', 'a "third"']
    assert answer['added'] == answer['notes'][1] and answer['added']['experiment'] == last(s)
    assert answer['damaged'] == [2] and f'{NOTES}, line 2' in r.stderr
    assert json.loads(lab.ar(root, 'ar-note', '--json').stdout)['added'] is None

@pytest.mark.parametrize('text,why', [(' \n', 'the note is empty'), ('x'*(MOST+1), '501 characters')])
def test_ar_note_refuses(root, s, text, why):
    r = lab.ar(root, 'ar-note', text, ok=False)
    assert r.returncode == 1 and why in r.stderr and not notes_kept(s)

# the user's command

@pytest.fixture
def config(tmp_path, monkeypatch):
    "The user's config file, in a folder of its own; gives a function that writes it"
    monkeypatch.setenv('XDG_CONFIG_HOME', str(tmp_path/'my config'))
    path = config_path()
    path.parent.mkdir(parents=True)
    def write(text):
        path.write_text(text)
        return path.parent
    return write

@pytest.fixture
def log(root):
    log = root/'runs/notify.log'
    log.unlink(missing_ok=True)
    def said(): return log.read_text() if log.exists() else ''
    yield said
    log.unlink(missing_ok=True)

def test_the_command_gets_one_line(root, config, log):
    folder = config('[DEFAULT]\nnotify = sh hear.sh "two words" %%s\n')
    (folder/'hear.sh').write_text('printf "%s\\n" "$@" >args; cat >input; mv input heard')
    event = dict(event='keep', session='nov1', value=.5, description='"; touch bad #\n$(id) ü',
        gain=float('nan'), long='x'*9999)
    began = time.monotonic()
    notify(profile(root), event)
    assert time.monotonic()-began < 5
    lab.until((folder/'heard').exists)
    lines = (folder/'heard').read_text().splitlines()
    assert (folder/'args').read_text().splitlines() == ['two words', '%%s', *lines]
    o = json.loads(lines[0])
    assert len(lines) == 1 and o.pop('time') > 1e9
    assert o == dict(event, gain=None, long='x'*MOST) and not (folder/'bad').exists() and not log()

@pytest.mark.parametrize('text,why', [
    ('[DEFAULT]\nnotify = no-such-command\n', 'no-such-command: No such file'),
    ('[DEFAULT]\nnotify = sh -c "echo what is missing >&2; exit 3"\n', 'ended with 3: what is missing'),
    ('notify = x\n', 'MissingSectionHeader'), ('[DEFAULT]\nnotify = "open\n', 'No closing quotation'),
    ('[DEFAULT]\nnotify = sh {root}/canvas.ipynb\n', 'lies in the checkout')])
def test_a_failure_is_a_line_in_the_log(root, config, log, text, why):
    folder = config(text.replace('{root}', str(root)))
    notify(profile(root), dict(event='over'))
    said = lab.until(log)
    assert why in said and said.count('\n') == 1 and str(folder/'config.ini') in said

def test_what_the_log_says_works_when_typed(root, config, log):
    folder = config('[DEFAULT]\nnotify = sh -c \'printf %s "$1" >typed; exit 4\' "my name"\n')
    notify(profile(root), dict(event='over'))
    said = lab.until(log)
    subprocess.run(['sh', '-c', said.partition('to try it: ')[2]], cwd=folder)
    assert json.loads((folder/'typed').read_text()) == dict(event='test')

def test_a_command_that_hangs_is_killed_with_what_it_began(root, config, log, monkeypatch):
    monkeypatch.setattr(night, 'SECONDS', .5)
    folder = config('[DEFAULT]\nnotify = sh -c "sleep 300 & echo $! >child; sleep 300" name\n')
    notify(profile(root), dict(event='over'))
    assert 'ran over 0.5 s and was killed' in lab.until(log)
    child = int((folder/'child').read_text())
    def gone():
        stat = Path(f'/proc/{child}/stat')
        if not stat.parent.parent.joinpath('self').exists(): # no /proc: ask by a signal
            try: os.kill(child, 0)
            except ProcessLookupError: return True
            return False
        return not stat.exists() or stat.read_text().rpartition(')')[2].split()[0] == 'Z'
    lab.until(gone)

def test_nothing_can_go_wrong_in_notify(root, config, log, monkeypatch):
    notify(profile(root), dict(event='keep')) # no config at all
    config('[DEFAULT]\nother = 1\n')
    notify(profile(root), dict(event='keep'))
    assert not log()
    config('[DEFAULT]\nnotify = true\n')
    notify(profile(root), {('no', 'key'): object()})
    assert 'TypeError' in log()
    monkeypatch.setenv('XDG_CONFIG_HOME', str(root/'inside'))
    (root/'inside/autoresearch').mkdir(parents=True)
    config_path().write_text('[DEFAULT]\nnotify = touch ran\n')
    notify(profile(root), dict(event='keep'))
    assert 'lies in the checkout' in log()
    shutil.rmtree(root/'inside')
    monkeypatch.setenv('XDG_CONFIG_HOME', 'relative/is/ignored')
    assert config_path().parts[-3:] == ('.config', 'autoresearch', 'config.ini')

@pytest.mark.skipif(walls_kind('auto').name == 'none', reason='no walls on this machine')
def test_a_run_does_not_see_the_command(root, config):
    folder = config('[DEFAULT]\nnotify = true secret-word\n')
    lab.edit(root, 'DEGREE = 1', f'DEGREE = len(open({str(folder/"config.ini")!r}).read())')
    r = lab.run(root, 'reads the config', ok=False)
    lab.ar(root, 'ar-drop')
    assert re.search('FileNotFound|Permission', r.stdout), r

# may the agent stop?

def test_an_agent_that_cannot_work_is_let_go(s, config):
    folder = config('[DEFAULT]\nnotify = sh -c \'cat >>heard\' name\n')
    s = with_limits(s, hours=1)
    assert [go_on(s)[0] for _ in range(IDLE+2)] == [2]*IDLE + [0, 0]
    heard = lab.until(lambda: (folder/'heard').exists() and (folder/'heard').read_text())
    assert [json.loads(l)['event'] for l in heard.splitlines()] == ['stop']
    for made,times in ((last(s)-1, 99), (last(s), 'x')): # an experiment since; a hand edit
        write_json(s.dir/'sent-back.json', dict(made=made, times=times))
        assert go_on(s)[0] == 2

def test_go_on_while_an_experiment_runs(s, monkeypatch):
    monkeypatch.setattr(night, 'experiment_runs', lambda p: True)
    s = with_limits(s, hours=1)
    assert {go_on(s)[0] for _ in range(IDLE+3)} == {2} and 'ar-wait' in go_on(s)[1][0]
    assert go_on(s, now=time.time()+3601) == (0, [f'session {lab.TAG} is over: its 1 h are used up'])

def test_without_hours_nobody_is_held(s):
    code,lines = go_on(with_limits(s, max_crashes=5, until=0.))
    assert code == 0 and '--hours' in lines[0]

# the brief

def full(root, s, monkeypatch):
    "The longest brief that there can be"
    for i in range(5): add_note(s, f'{i} ' + 'word '*95)
    s = with_limits(s, hours=8, max_crashes=20, until=0.)
    monkeypatch.chdir(root)
    st = status_of(s)
    st['last'] = st['last'][:1]*7
    st['expedition'] = dict(number=2, steps=5, line=[{}, {}], why='y'*300)
    st['running'] = dict(description='z'*300)
    st['plateau'] = [k.ljust(10) + 'p '*200 for k in ('plateau:', 'next:', 'combine:', 'or:')]
    return brief(s, st)

def test_brief_is_short_whatever_there_is(root, s, monkeypatch):
    lines = full(root, s, monkeypatch)
    assert len(lines) <= 15 and max(map(len, lines)) <= night.WIDTH
    heads = [l.partition(':')[0] for l in lines]
    assert heads[:3] == ['session', 'best', 'tried'] and heads[-1] == 'then'
    assert [l[10] for l in lines if l.startswith('note:')] == ['2', '3', '4'][-heads.count('note'):]
    assert heads.count('note') >= 2 and 'limits' in heads

def test_what_to_do_next(root, s, monkeypatch):
    monkeypatch.chdir(root)
    st = status_of(s)
    then = lambda s, st=st, **more: brief(s, {**st, **more})[-1]
    assert 'ar-ideas' in then(s)
    assert 'ar-wait' in then(s, running=dict(description='x'))
    asked = dict(number=1, why='', line=[], steps=2)
    assert 'ar-run -m "the next step", or ar-expedition finish' in then(s, expedition=asked)
    spent = dict(asked, line=[{}, {}])
    assert then(s, expedition=spent) == 'then:     ar-expedition finish'
    over = with_limits(s, hours=1, since=0)
    assert 'ar-report' in then(over)
    assert 'ar-expedition drop' in then(over, expedition=asked)
    lab.edit(root, 'DEGREE = 1', 'DEGREE = 3')
    assert 'ar-drop' in then(s)
    lab.edit(root, 'DEGREE = 3', 'DEGREE = 1')
    new = then(s, baseline=None, best=None, best_commit=None)
    assert 'ar-run -m "baseline"' in new

def test_what_a_fresh_agent_reads_costs_few_tokens(root, s, monkeypatch):
    prose = [(lab.ROOT/f).read_text() for f in ('AGENTS.md', 'program.md')]
    dense = ['\n'.join(full(root, s, monkeypatch)), lab.ar(lab.ROOT, 'ar-ideas', 'next').stdout]
    cost = [len(o)/PROSE for o in prose] + [len(o)/FIGURES for o in dense]
    assert min(cost) > 10 and sum(cost) < 4000, cost

# what an agent finds first

SCRIPTS = tomllib.loads((lab.ROOT/'pyproject.toml').read_text())['project']['scripts']
SKILL = lab.ROOT/'skills/autoresearch/SKILL.md'
AGENTS = lab.ROOT/'examples/agents'

def test_agents_md():
    link = lab.ROOT/'CLAUDE.md'
    assert link.is_symlink() and os.readlink(link) == 'AGENTS.md'
    text = (lab.ROOT/'AGENTS.md').read_text()
    assert '[program.md](program.md)' in text and text.count('\n\n') == 2

@pytest.mark.parametrize('page', ['AGENTS.md', 'skills/autoresearch/SKILL.md',
    'examples/agents/README.md'])
def test_commands_and_options_are_there(page):
    text = (lab.ROOT/page).read_text()
    named = re.findall(r'\b(ar-[a-z]+)((?: (?!ar-)[\w."-]+| --[a-z-]+)*)', text)
    assert named
    for command,words in named:
        assert command in SCRIPTS, command
        options = re.findall(r'(?<= )--[a-z][a-z-]*', words)
        if not options: continue
        verb = words.split()[:1] if command == 'ar-ideas' else []
        said = lab.ar(lab.ROOT, command, *verb, '-h').stdout
        assert set(options) <= set(re.findall(r'--[a-z][a-z-]*', said)), (command, words)

def test_skill_is_as_specified():
    "https://agentskills.io/specification"
    _,front,body = SKILL.read_text().split('---\n', 2)
    meta = yaml.safe_load(front)
    known = {'name', 'description', 'license', 'compatibility', 'metadata', 'allowed-tools'}
    assert {'name', 'description'} <= set(meta) <= known
    assert re.fullmatch('[a-z0-9]+(-[a-z0-9]+)*', meta['name']) and len(meta['name']) <= 64
    assert meta['name'] == SKILL.parent.name
    assert 1 <= len(meta['description']) <= 1024 and ' when ' in meta['description'].lower()
    assert not set('<>') & set(meta['description']) and 1 <= len(meta['compatibility']) <= 500
    assert len(body)/PROSE < 5000 and body.count('\n') < 500

HOOKS = json.loads((AGENTS/'claude/settings.json').read_text())['hooks']
def hook(root, name, cwd=None, **said):
    "A hook as the agent runs it: its command in a shell, with JSON on standard input"
    placed = root/'.claude/settings.json'
    hooks = json.loads(placed.read_text())['hooks'] if placed.exists() else HOOKS
    (entry,) = hooks[name]
    (h,) = entry['hooks']
    assert h['type'] == 'command' and h['timeout'] <= 60
    env = lab.environ(CLAUDE_PROJECT_DIR=str(root), PATH=f"{lab.BIN}:{os.environ['PATH']}")
    return subprocess.run(['sh', '-c', h['command']], cwd=cwd or root, env=env, text=True,
        capture_output=True, timeout=lab.PATIENCE, input=json.dumps(dict(hook_event_name=name, **said)))

def test_hooks_have_the_shape_of_claude_code():
    assert set(HOOKS) == {'SessionStart', 'PreCompact', 'Stop'}
    assert HOOKS['SessionStart'][0]['matcher'] == 'startup|resume|clear|compact'
    assert 'matcher' not in HOOKS['Stop'][0]

@pytest.mark.parametrize('name', ['SessionStart', 'PreCompact'])
def test_the_brief_at_a_start_and_before_compaction(root, s, name):
    add_note(s, 'what the last one knew')
    r = hook(root, name, cwd='/', source='compact')
    lines = r.stdout.splitlines()
    assert r.returncode == 0 and len(lines) <= 15 and not r.stderr
    assert lines[0].startswith(f'session:  autoresearch/{lab.TAG}') and lines[-1].startswith('then:')
    assert any('what the last one knew' in l for l in lines)

def test_the_brief_of_an_expedition(root, s, monkeypatch):
    lab.ar(root, 'ar-expedition', 'start', '--steps', '2', '--why', 'over the hill')
    monkeypatch.chdir(root)
    lines = brief(s, status_of(s))
    lab.ar(root, 'ar-expedition', 'drop')
    (line,) = [l for l in lines if l.startswith('line:')]
    assert 'expedition 1, no step yet; 2 steps' in line and 'over the hill' in line
    assert lines[-1] == ('then:     edit the canvas, ar-run -m "the next step", or '
        'ar-expedition finish')

def test_the_stop_hook(root, s):
    r = hook(root, 'Stop', cwd='/', stop_hook_active=False)
    assert r.returncode == 0 # no hours, nobody is held
    extend(s, hours=1, max_crashes=5)
    r = hook(root, 'Stop', stop_hook_active=True)
    assert r.returncode == 2 and 'is not over' in r.stderr and not r.stdout
    write_json(s.dir/'sent-back.json', dict(made=last(s), times=IDLE))
    assert hook(root, 'Stop', stop_hook_active=True).returncode == 0

def test_a_stop_hook_beside_an_older_version(tmp_path):
    "Its usage error has the exit code that holds an agent"
    old = tmp_path/'ar-status'
    old.write_text('#!/bin/sh\necho "usage: ar-status [-h]" >&2; exit 2\n')
    old.chmod(0o755)
    (entry,) = HOOKS['Stop']
    env = dict(os.environ, PATH=f'{tmp_path}:{os.environ["PATH"]}')
    r = subprocess.run(['sh', '-c', entry['hooks'][0]['command']], env=env, capture_output=True)
    assert r.returncode == 0
    old.unlink()
    env['PATH'] = str(tmp_path)
    sh = shutil.which('sh')
    r = subprocess.run([sh, '-c', entry['hooks'][0]['command']], env=env, capture_output=True)
    assert r.returncode == 127 and b'not found' in r.stderr # an error that a person sees

def test_hooks_where_no_session_is(tmp_path):
    root = lab.example(tmp_path/'repo')
    for name in HOOKS: assert hook(root, name).returncode == 0

# the examples of notify

class Hook(BaseHTTPRequestHandler):
    def do_POST(self):
        self.server.got.append(self.rfile.read(int(self.headers['Content-Length'])))
        self.send_response(204)
        self.end_headers()
    def log_message(self, *a): pass

@pytest.mark.skipif(not shutil.which('curl'), reason='no curl')
@pytest.mark.parametrize('line', [0, 1])
def test_webhook_and_chat(root, config, log, line):
    server = HTTPServer(('127.0.0.1', 0), Hook)
    server.got = []
    threading.Thread(target=server.serve_forever, daemon=True).start()
    text = (AGENTS/'notify/config.ini').read_text()
    lines = [l.removeprefix('; ') for l in text.splitlines() if re.match('(; )?notify = ', l)]
    command = re.sub(r'https://example\.com\S*', f'http://127.0.0.1:{server.server_port}', lines[line])
    folder = config(f'[DEFAULT]\n{command}\n'.replace('~/.config/autoresearch/', ''))
    shutil.copy(AGENTS/'notify/chat.sh', folder)
    event = dict(event='keep', session='nov1', value=.5, description='@/etc/passwd "quoted" ü')
    notify(profile(root), event)
    (got,) = map(json.loads, lab.until(lambda: server.got or log() and [log()]))
    server.shutdown()
    if line: assert got == dict(text='keep of session nov1, value: 0.5, '
        'description: @/etc/passwd "quoted" ü')
    else: assert event.items() <= got.items()

def test_desktop(tmp_path):
    tool = tmp_path/'bin/notify-send'
    tool.parent.mkdir()
    tool.write_text(f'#!/bin/sh\nprintf "%s\\n" "$@" >{tmp_path}/shown\n')
    tool.chmod(0o755)
    said = event_line(dict(event='over', session='nov1', why='8 h are used up', description='-x $(id)'))
    env = dict(os.environ, PATH=f'{tool.parent}:{os.environ["PATH"]}')
    subprocess.run(['sh', AGENTS/'notify/desktop.sh', said], input=said, text=True, env=env, check=True)
    assert (tmp_path/'shown').read_text().splitlines() == ['--', 'autoresearch nov1: over',
        'why: 8 h are used up, description: -x $(id)']

def test_the_example_config_names_one_command():
    text = (AGENTS/'notify/config.ini').read_text()
    assert len(re.findall('^notify = ', text, re.M)) == 1
    assert set(re.findall(r'https?://([\w.]+)', text)) == {'example.com'}
