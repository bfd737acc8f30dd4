"""The house rules of the notebooks: cells one can hold in the head, ids that are words, a canvas without outputs."""
import json, re, statistics
from pathlib import Path
import pytest

ROOT = Path(__file__).parent.parent
NOTEBOOKS = sorted((ROOT/'nbs').glob('*.ipynb'))

def code_cells(nb): return [c for c in json.loads(nb.read_text())['cells'] if c['cell_type'] == 'code']
def lines(cell): return [l for l in ''.join(cell['source']).splitlines() if l.strip() and not l.startswith('#|')]

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
    assert not [i for i in ids if not re.fullmatch(r'[a-z][a-z0-9]*(-[a-z0-9]+)*', i) or re.fullmatch(r'[0-9a-f]{8}', i)]

@pytest.mark.parametrize('nb', NOTEBOOKS, ids=lambda p: p.stem)
def test_title_and_outputs(nb):
    cells = json.loads(nb.read_text())['cells']
    assert re.match(r'# .+\n\n> .+', ''.join(cells[0]['source'])), 'a title and a line that says what for'
    has_outputs = any(c['outputs'] for c in code_cells(nb))
    assert has_outputs != (nb.stem == '02_train'), 'the canvas is committed without outputs, the others with theirs'

def test_canvas_size():
    cells = code_cells(ROOT/'nbs/02_train.ipynb')
    assert sum(len(lines(c)) for c in cells) <= 650
    assert sum(len(lines(c)) for c in cells if '#| export' not in ''.join(c['source'])) <= 40
    ids = {c['id'] for c in cells}
    assert {'parameters', 'hparams', 'hparams-tiny', 'attention', 'muon', 'loop'} <= ids

def test_ids_survive_into_the_module():
    src = (ROOT/'autoresearch/train.py').read_text()
    assert '#hparams\n' in src and '#muon\n' in src

NARROW = ('00_contract', '01_prepare', '02_train', '12_run', '15_ratchet', 'index') # to be joined by the others

@pytest.mark.parametrize('nb', NOTEBOOKS, ids=lambda p: p.stem)
def test_width(nb):
    "The site shows no more than 100 columns of code"
    if nb.stem not in NARROW: pytest.skip('was written before that was a rule')
    wide = [(c['id'], len(l)) for c in code_cells(nb) for l in ''.join(c['source']).splitlines() if len(l) > 100]
    assert not wide, wide

def test_nbs_quarto_is_a_link():
    assert (ROOT/'nbs/_quarto.yml').is_symlink() and (ROOT/'nbs/_quarto.yml').resolve() == (ROOT/'_quarto.yml').resolve()

def test_readme_is_made_from_the_index():
    import readme
    text,pictures = readme.render()
    assert (ROOT/'README.md').read_text() == text, 'run make readme'
    assert pictures and all((ROOT/n).read_bytes() == data for n,data in pictures.items())
