"""The house rules of the notebooks: cells one can hold in the head, ids that are words, a canvas
without outputs."""
import ast, json, re, statistics
from pathlib import Path
import pytest

ROOT = Path(__file__).parent.parent
NOTEBOOKS = sorted((ROOT/'nbs').glob('*.ipynb'))

def code_cells(nb):
    return [c for c in json.loads(nb.read_text())['cells'] if c['cell_type'] == 'code']
def lines(cell):
    return [l for l in ''.join(cell['source']).splitlines() if l.strip() and not l.startswith('#|')]

@pytest.mark.parametrize('nb', NOTEBOOKS, ids=lambda p: p.stem)
def test_cells(nb):
    cells = code_cells(nb)
    if not cells: return
    n = sorted(len(lines(c)) for c in cells)
    big = [c['id'] for c in cells if len(lines(c)) > (60 if c['id'] in ('gpt', 'loop') else 45)]
    assert statistics.median(n) <= 8 and n[int(.9*(len(n)-1))] <= 25 and not big, (n, big)

@pytest.mark.parametrize('nb', NOTEBOOKS, ids=lambda p: p.stem)
def test_ids_are_words(nb):
    ids = [c['id'] for c in json.loads(nb.read_text())['cells']]
    assert len(set(ids)) == len(ids)
    assert not [i for i in ids
        if not re.fullmatch(r'[a-z][a-z0-9]*(-[a-z0-9]+)*', i) or re.fullmatch(r'[0-9a-f]{8}', i)]

@pytest.mark.parametrize('nb', NOTEBOOKS, ids=lambda p: p.stem)
def test_title_and_outputs(nb):
    cells = json.loads(nb.read_text())['cells']
    assert re.match(r'# .+\n\n> .+', ''.join(cells[0]['source'])), (
        'a title and a line that says what for')
    has_outputs = any(c['outputs'] for c in code_cells(nb))
    assert has_outputs != (nb.stem == '02_train'), (
        'the canvas is committed without outputs, the others with theirs')

def test_canvas_size():
    cells = code_cells(ROOT/'nbs/02_train.ipynb')
    assert sum(len(lines(c)) for c in cells) <= 650
    assert sum(len(lines(c)) for c in cells if '#| export' not in ''.join(c['source'])) <= 40
    ids = {c['id'] for c in cells}
    assert {'parameters', 'hparams', 'hparams-tiny', 'attention', 'muon', 'loop'} <= ids

def test_ids_survive_into_the_module():
    src = (ROOT/'autoresearch/train.py').read_text()
    assert '#hparams\n' in src and '#muon\n' in src

def module_of(cell):
    "A cell's code as a syntax tree; lines for the shell or for magics left out"
    lines = ''.join(cell['source']).splitlines()
    return ast.parse('\n'.join('' if l.startswith(('%', '!')) else l for l in lines))

def crowded(tree):
    "Line numbers of statements that share a line, and of tuples that join a call with what is none"
    for node in ast.walk(tree):
        for field in ('body', 'orelse', 'finalbody'):
            body = getattr(node, field, None)
            if not isinstance(body, list): continue
            yield from (b.lineno for a,b in zip(body, body[1:]) if a.end_lineno == b.lineno)
        if not isinstance(node, ast.Assign) or not isinstance(node.value, ast.Tuple): continue
        if not isinstance(node.targets[0], ast.Tuple): continue
        called = [any(isinstance(n, ast.Call) for n in ast.walk(e)) for e in node.value.elts]
        if any(called) and not all(called): yield node.lineno

@pytest.mark.parametrize('nb', NOTEBOOKS, ids=lambda p: p.stem)
def test_width(nb):
    "The site shows no more than 100 columns of code"
    wide = [(c['id'], len(l)) for c in code_cells(nb)
        for l in ''.join(c['source']).splitlines() if len(l) > 100]
    assert not wide, wide

@pytest.mark.parametrize('nb', NOTEBOOKS, ids=lambda p: p.stem)
def test_one_statement_a_line(nb):
    found = {c['id']: lines for c in code_cells(nb) if (lines := list(crowded(module_of(c))))}
    assert not found, found

@pytest.mark.parametrize('code,lines', [
    ('a = 1; b = 2', [1]), ('if a: b; c', [1]), ('a,b = f(), 0', [1]), ('x = 1\ny = 2', []),
    ('a,b = b, a', []), ('if a: b = c', []), ('x,y = batch', []), ('c,s = cos(t), sin(t)', [])])
def test_crowded(code, lines): assert list(crowded(ast.parse(code))) == lines

@pytest.mark.parametrize('nb', NOTEBOOKS, ids=lambda p: p.stem)
def test_words_between_definitions(nb):
    """No more than four cells of code in a row without a sentence before them or a value under one;
    but in the canvas, which is committed without outputs"""
    run,found = 0, []
    for c in json.loads(nb.read_text())['cells']:
        silent = c['cell_type'] == 'code' and not c['outputs']
        run = run + 1 if silent else 0
        if run > 4 and nb.stem != '02_train': found.append(c['id'])
    assert not found, found

def test_nbs_quarto_is_a_link():
    assert ((ROOT/'nbs/_quarto.yml').is_symlink()
        and (ROOT/'nbs/_quarto.yml').resolve() == (ROOT/'_quarto.yml').resolve())

def test_readme_is_made_from_the_index():
    import readme
    text,pictures = readme.render()
    assert (ROOT/'README.md').read_text() == text, 'run make readme'
    assert pictures and all((ROOT/n).read_bytes() == data for n,data in pictures.items())
