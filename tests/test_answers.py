"""What the ratchet's commands answer beside verdicts: limits of a session and who is told, a plateau, an
edit like a failed one, and `--json`. By runs whose values are given."""
import json, os, shutil
import jsonschema
import pytest
from autoresearch import ratchet
from autoresearch.contract import write_json
from autoresearch.run import read_json
from lab import TAG, ar, edit, git, rows, sound, until
from test_confirm import notes, valued
from test_ratchet import die, ended, forked, instrument, lab # noqa: F401

SLOW,SLOWER = ('RATE = 0.5 ', 'RATE = 0.001 '), ('RATE = 0.5 ', 'RATE = 0.002 ')

def value(seed, text): return None if '1/0' in text else .3 + .1*('RATE = 0.5 ' not in text)

def run(root, lab, message='an idea', code=0, die_at='', **ask): # noqa: F811
    "A run with a given value, the user's own config beside the checkout"
    def call():
        os.environ['XDG_CONFIG_HOME'] = str(root.parent/'config')
        ratchet.run_experiment = valued(lab/'run-baseline', value)
        if die_at: instrument(lambda label, half: die() if label == die_at else None)
        return ratchet._supervisor(message, 'word', ask=json.dumps(ask))
    log = root.parent/'log'
    log.write_text('')
    got = ended(forked(root, call, log))
    answer = read_json(root/'runs/answers/word.json')
    assert got == code, (got, answer, log.read_text())
    return answer

def checked(root, command, *args, code=0):
    "What a command says to `--json`, held to its shape"
    r = ar(root, command, *args, '--json', ok=False)
    assert r.returncode == code, r
    said = json.loads(r.stdout)
    if code != 1: jsonschema.validate(said, ratchet.SHAPES[command])
    else: assert set(said) == {'error', 'code'} and said['code'] == 1 and said['error'] in r.stderr, r
    return said

@pytest.fixture
def session(lab, tmp_path): # noqa: F811
    "A session with a baseline, and a command of the user's that writes down what it is told"
    (tmp_path/'config/autoresearch').mkdir(parents=True)
    script = tmp_path/'config/tell.sh'
    script.write_text(f"printf '%s\\n' \"$1\" >> '{tmp_path}/told'\n")
    (tmp_path/'config/autoresearch/config.ini').write_text(f"[DEFAULT]\nnotify = sh '{script}'\n")
    root = tmp_path/'r'
    shutil.copytree(lab/'tree-baseline', root, symlinks=True)
    return root

def told(root, n):
    "The events of which the user's command was told, once there are n"
    path = root.parent/'told'
    read = lambda: path.read_text().splitlines() if path.exists() else []
    until(lambda: len(read()) >= n, 60)
    return [json.loads(l)['event'] for l in read()]

def test_a_session_ends_tells_it_and_goes_on(session, lab): # noqa: F811
    root = session
    said = checked(root, 'ar-setup', '--more', '--max-crashes', '2', '--hours', '8')
    assert said['limits']['max_crashes'] == 2 and '0 of 2 crashes in a row' in said['said'][0]
    assert 'kept' not in run(root, lab)['facts']['over'] and told(root, 1) == ['keep']
    for i,number in enumerate('34'):
        edit(root, 'budget = Budget(profile)', f'1/0; {number}') if not i else edit(root, '0; 3', '0; 4')
        answer = run(root, lab)
    over = [l for l in answer['lines'] if l.startswith('session:')]
    assert over == ['session:  over: 2 crashes in a row; ar-setup --more extends it'], answer
    assert answer['facts']['over'].startswith('2 crashes in a row') and len(answer['lines']) <= 16
    assert told(root, 3) == ['keep', 'crashes', 'over']
    edit(root, '0; 4', '0; 5')
    for _ in range(2): # refused, and told once
        said = run(root, lab, code=1)['lines'][0]
        assert 'session nov1 is over: 2 crashes in a row. ar-setup --more extends it' in said
    assert len(rows(root)) == 3 and sound(root) == 'M canvas.ipynb' and len(told(root, 3)) == 3
    assert 'limits:   over: 2 crashes' in ar(root, 'ar-status').stdout
    assert checked(root, 'ar-status', '--go-on')['go_on'] is False
    ar(root, 'ar-setup', '--more', '--max-crashes', '5')
    assert checked(root, 'ar-status', '--go-on', code=2)['go_on'] is True
    assert run(root, lab)['lines'][0].startswith('status:   crash') and len(rows(root)) == 4

@pytest.mark.parametrize('args, word', [(['nov2', '--hours', '0'], '--hours 0'), (['--more'], 'say of what'),
    (['--more', 'nov2', '--hours', '1'], 'git switch autoresearch/nov2'), ([], 'name the session'),
    (['--more', '--seed', '3'], 'the rest stays')])
def test_limits_that_are_refused(session, args, word):
    assert word in checked(session, 'ar-setup', *args, code=1)['error']
    assert git(session, 'branch', '--list', '--format=%(refname)', 'autoresearch/*').count('\n') == 0

def test_nobody_is_told_twice(session, lab): # noqa: F811
    "Killed once the verdict is final: whoever finishes it tells no more"
    run(session, lab, code=-9, die_at='moved: before removal of journal.json')
    assert told(session, 1) == ['keep']
    ar(session, 'ar-status', XDG_CONFIG_HOME=str(session.parent/'config'))
    assert len(rows(session)) == 1 and told(session, 1) == ['keep']

def test_like_one_that_failed_and_a_plateau(session, lab): # noqa: F811
    root = session
    run(root, lab)
    edit(root, *SLOW)
    assert run(root, lab, 'slow')['facts']['near'] == ''
    edit(root, *SLOWER)
    answer = run(root, lab, 'not as slow')
    near = [l for l in answer['lines'] if l.startswith('near:')]
    assert len(near) == 1 and 'like 002 ' in near[0] and 'RATE 0.5 -> 0.001; ar-show 2' in near[0]
    last = notes(root)[-1]
    for k in range(4, 14): # as many as make a plateau, without their runs
        made = dict(last, dir=f'{k:03d}-{last["commit"][:7]}', near='')
        write_json(root/f'runs/{TAG}/{made["dir"]}/experiment.json', made)
    said = ar(root, 'ar-status', '--all').stdout
    assert 'plateau:  no keep in 12 runs' in said and 'ar-expedition start --steps' in said
    assert said.count(' discard ') == 12 and '\n013  ' in said
    st = checked(root, 'ar-status', '--all', '--brief')
    assert len(st['rows']) == 13 and len(st['last']) == 10 and len(st['brief']) <= 15
    assert st['rows'][-1]['number'] == 13 and st['plateau'][0].startswith('plateau: ')
    edit(root, 'RATE = 0.5 ', 'RATE = 0.003 ')
    run(root, lab)
    assert told(root, 2) == ['keep', 'plateau']
    edit(root, 'RATE = 0.5 ', 'RATE = 0.004 ')
    run(root, lab)
    assert told(root, 2) == ['keep', 'plateau'], 'of one plateau once'

def test_shapes(session, lab): # noqa: F811
    root = session
    assert checked(root, 'ar-log', code=1)['error'].startswith('ar-log: no run')
    run(root, lab)
    edit(root, *SLOW)
    facts = run(root, lab)['facts']
    jsonschema.validate(dict(experiment=facts, running='', said=[]), ratchet.SHAPES['ar-run'])
    assert (facts['number'], facts['status'], facts['kind']) == (2, 'discard', '')
    assert checked(root, 'ar-wait')['experiment'] == facts
    assert checked(root, 'ar-log')['number'] == 2
    assert checked(root, 'ar-describe', '2', 'in other words')['description'] == 'in other words'
    assert checked(root, 'ar-expedition')['under_way'] is None
    said = checked(root, 'ar-expedition', 'start', '--steps', '2')
    assert said['under_way']['steps'] == 2 and said['bar'] == pytest.approx(.3)
    assert 'no step' in checked(root, 'ar-expedition', 'finish')['said'][0]
    edit(root, *SLOW)
    assert checked(root, 'ar-drop')['at'] == git(root, 'rev-parse', 'HEAD')
    assert 'nothing is running' in checked(root, 'ar-stop', code=1)['error']
    assert 'edit a cell first' in checked(root, 'ar-run', '-m', 'nothing', code=1)['error']
    assert 'accepted are 1 to 63' in checked(root, 'ar-calibrate', '-n', '64', code=1)['error']
    status = checked(root, 'ar-status')
    assert status['expedition'] is None and 'rows' not in status

def told_of(o):
    yield from [o] if 'type' in o else []
    for v in [*o.get('properties', {}).values(), *[o[k] for k in ('items',) if k in o]]: yield from told_of(v)

def test_every_key_of_a_shape_is_explained():
    for command,o in ratchet.SHAPES.items():
        jsonschema.Draft202012Validator.check_schema(o)
        assert all(v.get('description') for v in told_of(o)), command
