"""What an agent reads: the orders followed to the letter, on the canvas that ships and in a session
of the torch-free example, and counted; `python tests/test_reading.py` prints the table."""
import re, shutil, sys
from pathlib import Path
import pytest
import lab

ROOT = Path(__file__).parent.parent
# characters: before the first experiment, for one experiment, and of a fresh agent's context
FIRST, EACH, FRESH = 25_000, 800, 4_000
# of English with code, by the tokenizers that agents have
PER_TOKEN = 3.5

def text(name): return (ROOT/name).read_text()

@pytest.fixture(scope='module')
def read(tmp_path_factory):
    "What each step of the orders shows, in characters, by (when, what)"
    root = lab.example(tmp_path_factory.mktemp('reading')/'repo')
    canvas = root.parent/'canvas.ipynb'
    shutil.copy(ROOT/'nbs/02_train.ipynb', canvas)
    seen = {}
    def ar(when, command, *args, ok=True):
        r = lab.ar(root, command, *args, ok=ok)
        seen[when, ' '.join([command, *map(str, args)])] = r.stdout + r.stderr
    def cells(when, *args, what):
        r = lab.ar(root, 'ar-cells', *args, '--notebook', canvas)
        seen[when, what] = r.stdout + r.stderr
    for name in ('AGENTS.md', 'program.md', 'settings.ini'):
        if (ROOT/name).exists(): seen['first', name] = text(name)
    ar('first', 'ar-status', '--brief', ok=False)
    ar('first', 'ar-setup', lab.TAG, '--seed', '42', '--hours', '8')
    cells('first', what='ar-cells')
    cells('first', 'show', '--model', what='ar-cells show --model')
    ar('first', 'ar-run', '-m', 'baseline')
    ar('first', 'ar-calibrate', '-n', '2')
    ar('each', 'ar-ideas', 'next')
    cells('each', 'edit', 'hparams', '--old', 'WARMDOWN_RATIO = 0.5 ', '--new',
        'WARMDOWN_RATIO = 0.75 ', what='ar-cells edit')
    lab.edit(root, 'RATE = 0.5', 'RATE = 0.05')
    ar('each', 'ar-run', '-m', 'smaller steps')
    lab.ar(root, 'ar-note', 'what a researcher has learned about this landscape, in a line or so')
    ar('fresh', 'ar-status', '--brief')
    res = {k: len(v) for k,v in seen.items()}
    print(f'\n{table(res)}')
    return res

def total(read, when): return sum(n for k,n in read.items() if k[0] == when)

def table(read):
    "A row for each thing that is read"
    rows = [f'{k[0]:<7}{k[1]:<58}{n:>7,}' for k,n in read.items()]
    return '\n'.join([*rows, *(f'{w:<7}{"in all":<58}{total(read, w):>7,}' for w in ('first', 'each'))])

def test_before_the_first_experiment(read):
    assert 15_000 < total(read, 'first') <= FIRST, table(read)

def test_an_experiment(read):
    assert 300 < total(read, 'each') <= EACH, table(read)

def test_a_fresh_agent(read):
    "What it needs to go on with a session: orders, state, idea"
    public = len(lab.ar(ROOT, 'ar-ideas', 'next', ok=False).stdout)
    parts = [len(text(n)) for n in ('AGENTS.md', 'program.md') if (ROOT/n).exists()]
    brief = read['fresh', 'ar-status --brief']
    assert 300 < brief and sum([*parts, brief, public])/PER_TOKEN <= FRESH, (parts, brief, public)

# the orders say what is there

ORDERS = text('program.md')
def spans(): return re.findall(r'`([^`\n]+)`', re.sub(r'```.*?```', '', ORDERS, flags=re.S))

def commands():
    "Every command line in the orders, as words"
    fenced = [l.split('#')[0].strip() for b in ORDERS.split('```')[1::2] for l in b.splitlines()]
    lines = [o for o in [*spans(), *fenced] if o.startswith('ar-')]
    return [re.sub(r'"[^"]*"|<<.*', 'X', o).split() for o in lines]

def test_commands_are_there():
    scripts = dict(re.findall(r'^(ar-[a-z]+) = "(.+)"', text('pyproject.toml'), re.M))
    from autoresearch.contract import LOOP
    named = {c[0] for c in commands()}
    assert len(named) > 20 and named <= {f'ar-{o}' for o in LOOP}, named
    assert {c for c in named if c in scripts} >= {'ar-run', 'ar-cells', 'ar-ideas', 'ar-show'}

def test_new_commands_are_named():
    for o in ('ar-status --brief', 'ar-ideas next', 'ar-ideas about', 'ar-ideas add', 'ar-show',
            'ar-note', 'ar-combine', 'ar-expedition start', 'ar-expedition finish', 'ar-ablate',
            'ar-finish', 'ar-drop', 'ar-help', 'ar-cells show --model'):
        assert o in ORDERS, o

def options_of(words):
    "The options that the parser behind a command line takes; None for a command that is not here"
    import importlib
    from fastcore.script import anno_parser
    scripts = dict(re.findall(r'^(ar-[a-z]+) = "(.+)"', text('pyproject.toml'), re.M))
    if words[0] not in scripts: return None
    module,name = scripts[words[0]].split(':')
    module = importlib.import_module(module)
    f = getattr(module, name)
    verbs = getattr(module, '_VERBS', {})
    if len(words) > 1 and words[1] in verbs: f = verbs[words[1]]
    return anno_parser(getattr(f, '__wrapped__', f))._option_string_actions

@pytest.mark.parametrize('words', commands(), ids=' '.join)
def test_options_are_there(words):
    taken = options_of(words)
    if taken is None: return
    parts = ('--model', '--optimizer', '--loop') if words[:2] == ['ar-cells', 'show'] else ()
    missing = [o for o in words if re.match('--?[a-z]', o) and o not in taken and o not in parts]
    assert not missing

def test_the_edits_that_are_shown_are_made(tmp_path):
    "The file of edits in the orders, on the canvas that ships"
    from autoresearch.cells import edit_cells, list_cells
    canvas = shutil.copy(ROOT/'nbs/02_train.ipynb', tmp_path/'canvas.ipynb')
    said = re.search(r"<<'END'[^\n]*\n(.*?)END\n", ORDERS, re.S)[1]
    diff = edit_cells(canvas, said)
    ids = [c.id for c in list_cells(canvas)]
    assert '+    def forward(self, x): return self.c_proj(F.gelu(self.c_fc(x)))' in diff
    assert ids[ids.index('muon')+1] == 'my-idea'

def test_what_an_answer_means_can_be_asked_for():
    "Every label of a verdict, every refusal of the examiner, has an explanation"
    from autoresearch.agents import TOPICS, explain
    for label in 'gain speed kernels disturbed overran lint rows loss near early stop timeout'.split():
        assert explain(label), label
    for said in ('its logits depend on later tokens (row 3, position 17)',
            'it took 41.0 s before its first batch', 'asked again, later, it answers differently',
            'bare_model() builds another model than was evaluated: wte.weight', "PermissionError"):
        assert len(explain(said)) == 1, said
    assert not explain('') and not explain('17') and not explain('what nobody ever says')
    assert all(len(v) < 900 for v in TOPICS.values())

if __name__ == '__main__':
    sys.exit(pytest.main([__file__, '-qs', '-k', 'before or experiment or fresh']))
