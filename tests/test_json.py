"""`--json` of every command: a schema beside the command says each key, and what the command prints
in a real session fits it; a new command is missed here until it has both."""
import functools, importlib, json, math, re, shutil, signal, socket, subprocess
from pathlib import Path
import jsonschema, numpy as np, pytest
import lab
from autoresearch.contract import ERROR

ROOT = Path(__file__).parent.parent
SCRIPTS = dict(re.findall(r'^(ar-[\w-]+) = "([\w.]+):', (ROOT/'pyproject.toml').read_text(), re.M))

def shape_of(command): return importlib.import_module(SCRIPTS[command]).SHAPES[command]

def faults(schema, at='answer'):
    "What a schema leaves untold: a key without a sentence, an object that takes any key"
    kinds = schema.get('type')
    kinds = [kinds] if isinstance(kinds, str) else kinds or []
    keys = schema.get('properties')
    if not schema.get('description'): yield f'{at}: no description'
    if not kinds: yield f'{at}: no type'
    if 'array' in kinds and 'items' not in schema: yield f'{at}: what its items are'
    if 'object' in kinds and keys is None and not isinstance(
            schema.get('additionalProperties'), dict): yield f'{at}: any key'
    if keys is not None and schema.get('additionalProperties') is not False:
        yield f'{at}: keys besides those that are told'
    for k,o in (keys or {}).items(): yield from faults(o, f'{at}.{k}')
    for o in (schema.get('items'), schema.get('additionalProperties')):
        if isinstance(o, dict) and 'properties' in o: yield from faults(o, f'{at}[]')

@pytest.mark.parametrize('command', SCRIPTS)
def test_each_key_is_told(command):
    schema = shape_of(command)
    jsonschema.Draft202012Validator.check_schema(schema)
    assert schema['type'] == 'object' and not [*faults(schema)]

@pytest.mark.parametrize('schema', [dict(type='object'), dict(type='object', properties={}),
    dict(type='array'), dict(type='object', additionalProperties=False, properties=dict(a={}))])
def test_what_is_untold_is_found(schema):
    assert [*faults(dict(schema, description='x'))]

def site(root):
    "The smallest checkout that has a site"
    (root/'nbs').mkdir(parents=True)
    shutil.copy(ROOT/'settings.ini', root)
    shutil.copy(ROOT/'pyproject.toml', root)
    (root/'autoresearch').symlink_to(ROOT/'autoresearch')
    (root/'_quarto.yml').write_text('website: {sidebar: {contents: [index.ipynb]}}\n')
    cell = dict(cell_type='markdown', id='title', metadata={}, source='# A page\n\n> For a test')
    (root/'nbs/index.ipynb').write_text(json.dumps(
        dict(cells=[cell], metadata={}, nbformat=4, nbformat_minor=5)))
    return root

def audited(root):
    "Two keeps with the rows that an audit compares, as the ratchet leaves them"
    folder = root/'runs'/lab.TAG
    (folder/'audit').mkdir(exist_ok=True)
    dirs = sorted(folder.glob('00[12]-*'))
    for n,run_dir in enumerate(dirs, 1):
        value = json.loads((run_dir/'experiment.json').read_text())['value']
        noise = np.arange(40) - 19.5 # in bytes, so that the mean is the run's value
        rows = np.stack([value*math.log(2)*1000 + noise/100, np.full(40, 1000.)], 1)
        np.save(run_dir/'row_nats.npy', rows.astype(np.float32))
        np.save(folder/f'audit/{n:03d}-rows.npy', rows)
        (folder/f'audit/{n:03d}.json').write_text(json.dumps(dict(commit=run_dir.name[4:],
            number=n, value=value, error=.01, rows=40, which='audit')))

def free_port():
    with socket.socket() as s:
        s.bind(('127.0.0.1', 0))
        return s.getsockname()[1]

def served(root):
    "What `ar-dashboard` answers, and that it ends when it is interrupted"
    p = subprocess.Popen([lab.BIN/'ar-dashboard', '--port', str(free_port()), '--json'], cwd=root,
        env=lab.environ(), stdout=-1, stderr=-1, text=True, start_new_session=True)
    try: said = p.stdout.readline()
    finally: p.send_signal(signal.SIGINT)
    rest,_ = p.communicate(timeout=lab.PATIENCE)
    return said + rest

@pytest.fixture(scope='module')
def told(tmp_path_factory):
    "(words, exit code, standard output) of each call, by command, of one session"
    root = lab.example(tmp_path_factory.mktemp('json')/'repo', rule='strict')
    res = {}
    def ar(command, *args, at=root):
        if command not in SCRIPTS: return
        r = lab.ar(at, command, *args, '--json', ok=False)
        res.setdefault(command, []).append((args, r.returncode, r.stdout))
    def edit(old, new): lab.edit(root, old, new)
    ar('ar-status')
    ar('ar-help')
    ar('ar-help', 'disturbed')
    ar('ar-help', 'what', 'nobody', 'says')
    ar('ar-new', root.parent/'mine', '--example', 'polynomial')
    ar('ar-new', root.parent/'mine')
    ar('ar-prepare')
    ar('ar-prepare', '--profile', 'nope')
    ar('ar-setup', lab.TAG, '--seed', '42', '--hours', '8', '--max-crashes', '9')
    ar('ar-status', '--brief')
    ar('ar-log')
    ar('ar-wait')
    ar('ar-stop')
    ar('ar-run', '-m', 'baseline')
    ar('ar-ideas', 'add', 'a cubic', '--why', 'two bends', '--gain', '0.1')
    for args in (['next'], ['take', '1'], ['list', '--all'], ['about', 'bends'], ['take', '77']):
        ar('ar-ideas', *args)
    (root/'edits').write_text('[{"cell": "hparams", "old": "DEGREE = 1", "new": "DEGREE = 3"}]')
    for args in (['list'], ['show', 'hparams'], ['show', '--loop'], ['edit', 'edits'],
            ['edit', 'edits']): ar('ar-cells', *args)
    (root/'edits').unlink()
    ar('ar-run', '-m', 'of degree three')
    ar('ar-ideas', 'drop', '1')
    lab.git(root.parent, 'init', '-q', '--bare', root.parent/'board.git')
    ar('ar-board', 'push', root.parent/'board.git')
    ar('ar-board', 'sync')
    ar('ar-board', 'list')
    edit('RATE = 0.5', 'RATE = 0.05')
    ar('ar-run', '-m', 'tiny steps', '--background')
    ar('ar-wait')
    ar('ar-show', '3')
    ar('ar-show', '99')
    ar('ar-show', '3', '--apply')
    ar('ar-drop')
    ar('ar-drop', '--undo')
    edit('RATE = 0.05', 'RATE = nope')
    ar('ar-run', '-m', 'a slip')
    ar('ar-log')
    ar('ar-drop')
    edit('STEPS = 300', 'STEPS = 310')
    ar('ar-run', '-m', 'more steps, later refused', '--background')
    ar('ar-stop')
    lab.ar(root, 'ar-drop', ok=False)
    ar('ar-describe', '3', 'tiny steps, too tiny')
    ar('ar-describe', '99', 'none')
    ar('ar-note', 'degree three it is')
    ar('ar-note')
    ar('ar-expedition', 'start', '--steps', '1', '--why', 'a test')
    edit('RATE = 0.5', 'RATE = 0.3')
    ar('ar-run', '-m', 'a step of the line')
    ar('ar-expedition')
    ar('ar-expedition', 'finish')
    ar('ar-expedition', 'drop')
    ar('ar-combine', '3')
    lab.ar(root, 'ar-drop', ok=False)
    ar('ar-combine', '99')
    ar('ar-ablate')
    edit('STEPS = 300', 'STEPS = 320')
    ar('ar-submit', '-m', 'more steps, for a swarm')
    ar('ar-submit', '-m', 'nothing')
    ar('ar-wait', 's001', '--timeout', '0')
    ar('ar-stop', 's001')
    ar('ar-swarm', 'status')
    ar('ar-swarm', 'stop')
    ar('ar-calibrate', '-n', '2')
    ar('ar-search', '--trials', '1')
    ar('ar-status', '--all')
    ar('ar-status', '--go-on')
    ar('ar-frontier')
    ar('ar-report')
    ar('ar-export-runs', '--to', 'csv')
    ar('ar-export-runs', '--to', 'papers')
    ar('ar-audit')
    audited(root)
    ar('ar-audit')
    ar('ar-finish')
    ar('ar-docs', '--check', at=site(root.parent/'site'))
    ar('ar-docs', '--check')
    if 'ar-dashboard' in SCRIPTS: res['ar-dashboard'] = [((), 0, served(root))]
    return res

@functools.cache
def validator(command): return jsonschema.Draft202012Validator(shape_of(command))

@pytest.mark.parametrize('command', SCRIPTS)
def test_what_it_prints_is_what_is_told(told, command):
    "One object and nothing else on the standard output; a refusal has the exit code that it says"
    answered = 0
    for args,code,out in told[command]:
        o = json.loads(out)
        if 'error' in o and code:
            jsonschema.validate(o, ERROR)
            assert o['code'] == code and o['error'], (args, o)
            continue
        assert not (wrong := [*validator(command).iter_errors(o)]), (args, wrong[0].message)
        answered += 1
    assert answered, told[command]
