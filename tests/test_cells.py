"ar-cells: bytes that must not move, editors at once, editors killed, requests that are refused"
import difflib, io, json, os, random, re, resource, shutil, signal, stat, subprocess, sys, time
import warnings
from pathlib import Path
import pytest
from fastcore.nbio import mk_cell, mk_stream, nb2str, new_nb, write_nb
from nbdev.clean import nbdev_clean
from autoresearch.cells import (CellsError, ar_cells, canvas_path, cells_diff, changed_cells,
    changed_constants, changed_lines, code_hash, code_lines, code_of, delete_cell, diff_html, edit_cell,
    edit_cells, insert_cell, list_cells, parse_cells, parse_edits, replace_cell, show_cells, show_code,
    show_part, _locked)

ROOT = Path(__file__).parent.parent
COMMAND = [sys.executable, '-c', 'from autoresearch.cells import ar_cells; ar_cells()']

@pytest.fixture
def canvas(tmp_path): return Path(shutil.copy(ROOT/'nbs/02_train.ipynb', tmp_path/'canvas.ipynb'))

@pytest.fixture
def small(tmp_path):
    path = tmp_path/'small.ipynb'
    write_nb(new_nb([mk_cell('# Small', 'markdown', id='title'),
        mk_cell('SEED = 1', id='parameters', metadata=dict(tags=['parameters'])),
        mk_cell('x = 1\ny = 2\nz = 3', id='xyz', outputs=[mk_stream('stdout', 'out\n')]),
        mk_cell('print(x)', id='show-x', outputs=[mk_stream('stdout', '1\n')])]), path)
    return path

def source(path, cell):
    return next(''.join(c['source']) for c in json.loads(path.read_text())['cells']
        if c['id'] == cell)

def changed(before, after):
    return [l for l in difflib.ndiff(before.decode().splitlines(), after.decode().splitlines())
        if l[0] in '+-']

def command(*words, **kwargs):
    return subprocess.run([*COMMAND, *map(str, words)], capture_output=True, text=True, timeout=200,
        **kwargs)

# the bytes

def test_one_line_of_the_canvas(canvas):
    before = canvas.read_bytes()
    line = next(l for l in source(canvas, 'hparams').splitlines() if l.startswith('DEPTH = 8 '))
    new = line.replace('8', '9', 1)
    diff = edit_cell(canvas, 'hparams', 'DEPTH = 8 ', 'DEPTH = 9 ')
    assert changed(before, canvas.read_bytes()) == [f'-     "{line}\\n",', f'+     "{new}\\n",']
    assert canvas.read_bytes() == before.replace(b'DEPTH = 8  ', b'DEPTH = 9  ')
    assert [l for l in diff.splitlines() if l[0] in '+-'] == [
        '--- hparams', '+++ hparams', f'-{line}', f'+{new}']

def test_cells_of_the_canvas_there_and_back(canvas):
    "Cells deleted and inserted again, changed and changed back, give the file that was there"
    before = canvas.read_bytes()
    cells = json.loads(before)['cells']
    for prev,c in [*zip(cells, cells[1:])][::3]:
        src = ''.join(c['source'])
        assert (replace_cell(canvas, c['id'], src + '\n# é ü 漢')
            and replace_cell(canvas, c['id'], src))
        if c['id'] == 'parameters': continue
        delete_cell(canvas, c['id'])
        insert_cell(canvas, prev['id'], c['id'], src, c['cell_type'] == 'markdown')
    assert canvas.read_bytes() == before

def test_clean_finds_nothing_to_do(canvas, monkeypatch):
    edit_cell(canvas, 'hparams', 'MATRIX_LR = 0.04', 'MATRIX_LR = 0.05')
    replace_cell(canvas, 'norm-why', 'Prose with "quotes", a \\ and\n\na blank line.\n')
    replace_cell(canvas, 'parameters', '#| export\nSEED = 7\nPROFILE = ""\nRUN_DIR = ""')
    insert_cell(canvas, 'norm', 'norm-two',
        '#| export\ndef norm2(x):\n\n    return norm(norm(x))\n')
    insert_cell(canvas, 'report', 'last', 'The end.', markdown=True)
    delete_cell(canvas, 'title')
    delete_cell(canvas, 'curves')
    before = canvas.read_bytes()
    monkeypatch.chdir(ROOT) # where nbdev's configuration is
    nbdev_clean(str(canvas))
    assert canvas.read_bytes() == before and nb2str(json.loads(before)).encode() == before

FOREIGN = '''{"nbformat": 4, "nbformat_minor": 5,   "metadata": {"cells": [1], "x_": 1.50e3},
  "cells": [
    { "id": "a", "cell_type": "code", "execution_count": 3, "metadata": {"scrolled_": true}, \
"source": "a = 1\\nb = 2",
      "outputs": [{"output_type": "display_data", "metadata": {}, \
"data": {"application/json": {"": 1, "self": 2, "k_": 1e2}}}] },
    {"source": ["c = '\\u00e9'"], "outputs": [], "metadata": {}, "id": "b", \
"execution_count": null, "cell_type": "code"}
  ,
    {"id":"c","cell_type":"markdown","metadata":{},"source":["# h"]}]  }
'''

def test_foreign_formatting_becomes_the_usual_once(tmp_path):
    "The first edit ends another program's style, and says so; keys, values and line ends stay"
    path = tmp_path/'foreign.ipynb'
    path.write_bytes(FOREIGN.replace('\n', '\r\n').encode())
    want = json.loads(FOREIGN)
    with pytest.warns(UserWarning, match='foreign.ipynb: keys and indents were not as '
            'nbdev-clean and Jupyter write them') as caught:
        edit_cell(path, 'b', 'c =', 'd =')
    want['cells'][1]['source'] = ["d = '\u00e9'"]
    assert (len(caught) == 1 and json.loads(path.read_text()) == want
        and want['cells'][0]['outputs'][0]['data']['application/json']['k_'] == 100)
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        insert_cell(path, 'c', 'd', 'e = 1')
        assert b'\n' not in path.read_bytes().replace(b'\r\n', b''), 'one kind of line end'
        before = path.read_bytes()
        edit_cell(path, 'd', 'e = 1', 'e = 2')
        assert len(changed(before, path.read_bytes())) == 2, 'from now on one line is one line'
        delete_cell(path, 'b')
        delete_cell(path, 'a')
    assert ([c['id'] for c in json.loads(path.read_text())['cells']] == ['c', 'd']
        and {k: v for k,v in json.loads(path.read_text()).items() if k != 'cells'}
            == {k: v for k,v in want.items() if k != 'cells'})

def test_a_command_says_that_it_reformats(tmp_path):
    path = tmp_path/'foreign.ipynb'
    path.write_text(FOREIGN)
    for words,says in (
            ('edit b --old c --new d', 'ar-cells: foreign.ipynb: keys and indents were not'),
            ('edit b --old d --new c', '')):
        p = command(*words.split(), '--notebook', 'foreign.ipynb', cwd=tmp_path)
        assert (p.returncode == 0 and p.stderr.startswith(says)
            and p.stderr.count('\n') == bool(says) and p.stdout.startswith('--- b\n+++ b\n'))

@pytest.mark.parametrize('change', [
    lambda t: t.rstrip('\n'),
    lambda t: json.dumps(dict(reversed(json.loads(t).items())), indent=1,
        ensure_ascii=False) + '\n',
    lambda t: json.dumps(json.loads(t), indent=2, ensure_ascii=False),
    lambda t: t.replace('\n', '\r\n', 1)],
    ids=['no final newline', 'order of keys', 'indent', 'mixed line ends'])
def test_a_canvas_that_is_not_canonical(canvas, change):
    "Whatever was wrong, the first edit gives what it gives of the canvas that nbdev-clean writes"
    other = canvas.with_name('other.ipynb')
    other.write_bytes(change(canvas.read_text()).encode())
    with pytest.warns(UserWarning, match='other.ipynb: keys and indents'):
        edit_cell(other, 'hparams', 'MATRIX_LR = 0.04', 'MATRIX_LR = 0.05')
    edit_cell(canvas, 'hparams', 'MATRIX_LR = 0.04', 'MATRIX_LR = 0.05')
    assert other.read_bytes() == canvas.read_bytes()

def test_a_refused_edit_reformats_nothing(tmp_path):
    path = tmp_path/'foreign.ipynb'
    path.write_text(FOREIGN)
    with pytest.raises(CellsError): edit_cell(path, 'b', 'c =', 'c = =')
    assert edit_cell(path, 'b', 'c =', 'c =') == '' and path.read_text() == FOREIGN

def test_outputs(small):
    edit_cell(small, 'xyz', 'x = 1', 'x = 2')
    outputs = {c['id']: c['outputs'] for c in json.loads(small.read_text())['cells']
        if c['cell_type'] == 'code'}
    assert outputs['xyz'] == [] and outputs['show-x']

def test_no_change_writes_nothing(small):
    before = small.stat()
    assert (edit_cell(small, 'xyz', 'x = 1', 'x = 1')
        == replace_cell(small, 'xyz', 'x = 1\ny = 2\nz = 3\n') == '')
    assert small.stat() == before and json.loads(small.read_text())['cells'][2]['outputs']

@pytest.mark.parametrize('old, new, expected', [
    ('y = 2', '', 'x = 1\nz = 3'), ('z = 3', '', 'x = 1\ny = 2'), ('x = 1', '', 'y = 2\nz = 3'),
    ('x = 1\ny = 2\nz = 3', '', ''), ('y = 2\n', '', 'x = 1\nz = 3'),
    ('z = 3\n', '', 'x = 1\ny = 2'), ('= 2', '= 3', 'x = 1\ny = 3\nz = 3'),
    ('y = 2', 'y = 2\nw = 4', 'x = 1\ny = 2\nw = 4\nz = 3'),
    ('2\nz', '2; z', 'x = 1\ny = 2; z = 3')])
def test_edits(small, old, new, expected):
    edit_cell(small, 'xyz', old, new)
    assert source(small, 'xyz') == expected

# the file

def test_mode_and_link_stay(small, tmp_path):
    small.chmod(0o640)
    link = tmp_path/'sub'/'link.ipynb'
    link.parent.mkdir()
    link.symlink_to(small)
    edit_cell(link, 'xyz', 'x = 1', 'x = 5')
    assert (link.is_symlink() and source(small, 'xyz').startswith('x = 5')
        and stat.S_IMODE(small.stat().st_mode) == 0o640)
    assert (sorted(p.name for p in tmp_path.iterdir()) == ['small.ipynb', 'sub']
        and [*link.parent.iterdir()] == [link])

@pytest.mark.skipif(os.geteuid() == 0, reason='root may write everywhere')
def test_read_only(small):
    small.chmod(0o440)
    with pytest.raises(CellsError, match='read-only'): edit_cell(small, 'xyz', 'x = 1', 'x = 5')

def test_no_room(small):
    "A write that the system cuts off leaves the notebook and no temporary file"
    before = small.read_bytes()
    p = command('edit', 'xyz', '--old', 'x = 1', '--new', 'x = 5', '--notebook', small,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (200, 200)))
    assert p.returncode == 1 and 'File too large' in p.stderr and 'Traceback' not in p.stderr
    assert small.read_bytes() == before and [*small.parent.iterdir()] == [small]

EDITOR = '''
import sys
from autoresearch.cells import edit_cell
path,cell,n = sys.argv[1], sys.argv[2], int(sys.argv[3])
for i in range(n): edit_cell(path, cell, f'count = {i}\\n', f'count = {i+1}\\n')
'''

def test_editors_at_once(tmp_path):
    "Three editors, one notebook: every edit arrives, and whoever reads sees a whole notebook"
    path,n = tmp_path/'shared.ipynb', 40
    write_nb(new_nb([mk_cell('count = 0', id=f'cell-{k}') for k in 'abc']), path)
    editors = [subprocess.Popen([sys.executable, '-c', EDITOR, path, f'cell-{k}', str(n)])
        for k in 'abc']
    seen = set()
    while any(p.poll() is None for p in editors):
        seen.add(show_cells(path))
        time.sleep(.005)
    assert [p.returncode for p in editors] == [0, 0, 0] and len(seen) > 3
    assert [source(path, f'cell-{k}') for k in 'abc'] == [f'count = {n}']*3

def test_killed_editor(tmp_path):
    "SIGKILL at any moment leaves a whole notebook, and no lock"
    path,rng = tmp_path/'killed.ipynb', random.Random(1)
    count = 0
    for _ in range(8):
        write_nb(new_nb([mk_cell('count = 0', id='cell-a'),
            mk_cell('pass\n'*2000, id='ballast')]), path)
        p = subprocess.Popen([sys.executable, '-c', EDITOR, path, 'cell-a', '100000'])
        while source(path, 'cell-a') == 'count = 0': time.sleep(.01)
        time.sleep(rng.random()*.05)
        p.send_signal(signal.SIGKILL)
        p.wait()
        assert nb2str(json.loads(path.read_text())) == path.read_text()
        count += int(source(path, 'cell-a').split()[-1])
        insert_cell(path, 'cell-a', 'after', 'x = 1')
        assert [*tmp_path.iterdir()] == [path]
    assert count > 8

def test_lock_is_waited_for(small):
    with _locked(small.parent):
        with pytest.raises(CellsError, match='locked for 0.05 s by another editor'):
            with _locked(small.parent, timeout=.05): pass
    edit_cell(small, 'xyz', 'x = 1', 'x = 5')

# refusals

REFUSED = [
    (['show', 'xyy'], "no cell 'xyy'; did you mean xyz"),
    (['show'], 'name the cells, or say --code or --all'),
    (['show', 'xyz', '--all'], 'name the cells'),
    (['show', '--code', '--all'], 'name the cells'), (['show', 'xyz', '--code'], 'name the cells'),
    (['edit', 'nothing-like-it', '--old', 'x', '--new', 'y'],
        "no cell 'nothing-like-it' `ar-cells` lists all"),
    (['edit', 'xyz', '--old', 'print', '--new', 'y'],
        'xyz: the old text occurs 0 times; it is in show-x'),
    (['edit', 'xyz', '--old', 'y =2', '--new', 'y'],
        'xyz: the old text occurs 0 times; nearest is line 2: y = 2'),
    (['edit', 'xyz', '--old', ' = ', '--new', 'y'],
        'xyz: the old text occurs 3 times, in lines 1, 2, 3'),
    (['edit', 'xyz', '--old', '', '--new', 'y'], 'the old text is empty'),
    (['show', 'print'], "no cell 'print'"), (['show', 'z'], "no cell 'z'; it is defined in xyz;"),
    (['edit', 'xyz', '--old', 'x'], 'either --new TEXT or --new-file FILE'),
    (['edit', 'xyz', '--old', 'x', '--old-file', 'f', '--new', 'y'],
        'either --old TEXT or --old-file FILE'),
    (['edit', 'xyz', '--old-file', '-', '--new-file', '-'], 'only one of'),
    (['edit', 'xyz', '--old', '2', '--new', '2 +'], 'xyz, line 2: invalid syntax: y = 2 +'),
    (['edit', 'xyz', '--old', '2', '--new', '(2'], "xyz, line 2: '(' was never closed"),
    (['edit', 'xyz', '--old', '2', '--new', '2\nreturn'], "xyz, line 3: 'return' outside function"),
    (['edit', 'xyz', '--old', 'y', '--new', '!ls\ny'], 'xyz, line 2: invalid syntax: !ls'),
    (['edit', 'xyz', '--old', '2', '--new', '"\udcff"'], 'xyz, line 1: '),
    (['edit', 'title', '--old', 'Small', '--new', '\udcff'], 'not UTF-8'),
    (['replace', 'xyz', 'no/such/file'], 'no/such/file: No such file'),
    (['replace', 'xyz', '.'], '.: Is a directory'),
    (['replace', 'xyz', '/dev/null'], 'the new source is empty; `ar-cells delete xyz`'),
    (['insert', '--after', 'xyz', '--id', 'show-x', 'new.py'], 'there is a cell show-x already'),
    *((['insert', '--after', 'xyz', '--id', i, 'new.py'], 'is no name for a cell')
        for i in ('Two', 'a_b', '2b', 'a--b', 'a-', 'deadbeef', 'a'*65, '')),
    (['insert', '--after', 'zyx', '--id', 'new', 'new.py'], "no cell 'zyx'"),
    (['insert', '--after', 'xyz', '--id', 'new', 'bad.py'], 'new, line 2: '),
    (['delete', 'parameters'], 'can be edited but not deleted'),
    (['delete', 'zyx'], "no cell 'zyx'"),
    (['remove', 'xyz'], "no verb 'remove'; accepted: list, show"),
]

@pytest.mark.parametrize('words, message', REFUSED,
    ids=[' '.join(w)[:40].encode('ascii', 'replace').decode() for w,_ in REFUSED])
def test_refused(small, monkeypatch, words, message):
    monkeypatch.chdir(small.parent)
    Path('new.py').write_text('n = 1\n')
    Path('bad.py').write_text('n = 1\nn = = 1\n')
    before = small.read_bytes(), small.stat()
    with pytest.raises(SystemExit) as e: ar_cells([*words, '--notebook', 'small.ipynb'])
    assert e.value.code.startswith('ar-cells: ') and message in e.value.code, e.value.code
    assert (small.read_bytes(), small.stat()) == before

def test_refusal_of_a_process(small):
    p = command('delete', 'parameters', '--notebook', small)
    assert ((p.returncode, p.stdout, p.stderr.count('\n')) == (1, '', 1)
        and p.stderr.startswith('ar-cells: parameters: '))
    assert command('delete', '--notebook', small).returncode == 2

@pytest.mark.parametrize('text, message', [
    (None, 'No such file'), ('', 'not a notebook'), ('{"cells": [', 'not a notebook'),
    ('[]', 'not a notebook'), ('7', 'not a notebook'),
    ('{"a": 1}', "not a notebook: notebook requires 'cells'"), ('\ufeff{}', 'not a notebook'),
    ('{"cells": [1], "metadata": {}, "nbformat": 4}', 'not a notebook'),
    ('{"cells": [{"cell_type": "markdown", "metadata": {}, "source": []}], '
        '"metadata": {}, "nbformat": 4}', 'cell 1 has no id; nbdev-clean gives one')])
def test_no_notebook(tmp_path, text, message):
    path = tmp_path/'broken.ipynb'
    if text is not None: path.write_text(text)
    for words in (['list'], ['delete', 'x']):
        with pytest.raises(SystemExit) as e: ar_cells([*words, '--notebook', str(path)])
        assert str(path) in e.value.code and message in e.value.code
    assert not path.exists() if text is None else path.read_text() == text

def test_twice_the_same_id(tmp_path):
    path = tmp_path/'twice.ipynb'
    write_nb(new_nb([mk_cell('a = 1', id='a'), mk_cell('b = 1', id='a')]), path)
    with pytest.raises(CellsError, match='duplicate cell id.*a'):
        edit_cell(path, 'a', 'a = 1', 'a = 2')

def test_magics_stay_where_they_were(tmp_path):
    path = tmp_path/'magics.ipynb'
    write_nb(new_nb([mk_cell('x = 1\n%time y = 2\nfiles = !ls', id='magic'),
        mk_cell('%%bash\nls |', id='bash'), mk_cell('x = 1', id='plain')]), path)
    assert parse_cells(path) == []
    edit_cell(path, 'magic', 'x = 1', 'x = 2\n!pwd')
    edit_cell(path, 'bash', 'ls |', 'ls | cat')
    with pytest.raises(CellsError, match='magic, line 1: '):
        edit_cell(path, 'magic', 'x = 2', 'x = = 2')
    with pytest.raises(CellsError, match='plain, line 1: '):
        edit_cell(path, 'plain', 'x = 1', '%time x = 1')
    with pytest.raises(CellsError, match='new, line 1: '):
        insert_cell(path, 'plain', 'new', '!ls')
    insert_cell(path, 'plain', 'prose', '!ls is a magic', markdown=True)

def test_parse_cells(canvas):
    assert parse_cells(canvas) == []
    nb = json.loads(canvas.read_text())
    for c in nb['cells']:
        if c['id'] == 'norm': c['source'] = ['#| export\n', 'def norm(x):\n', 'return x']
        if c['id'] == 'loop': c['source'] = ['x = 1\n', 'y = "\x00"']
    (norm,line,message),(loop,_,null) = parse_cells(nb)
    assert ((norm, line, loop) == ('norm', 3, 'loop')
        and 'expected an indented block' in message and 'null' in null)

# the command

def test_text_from_files_and_stdin(small, tmp_path, monkeypatch, capsys):
    old,new = tmp_path/'old', tmp_path/'new'
    old.write_text('y = 2\n')
    new.write_text('y = "$HOME `ls` \'q\' \\\\n"\n')
    nb = ['--notebook', str(small)]
    ar_cells(['edit', 'xyz', '--old-file', str(old), '--new-file', str(new), *nb])
    assert source(small, 'xyz') == 'x = 1\ny = "$HOME `ls` \'q\' \\\\n"\nz = 3'
    monkeypatch.setattr('sys.stdin', io.StringIO('x = 1\nw = 0\n'))
    ar_cells(['edit', 'xyz', '--old', 'x = 1', '--new-file', '-', *nb])
    assert source(small, 'xyz').startswith('x = 1\nw = 0\ny =')
    old.write_text('w = 0\n')
    new.write_text('')
    ar_cells(['edit', 'xyz', '--old-file', str(old), '--new-file', str(new), *nb])
    assert source(small, 'xyz').startswith('x = 1\ny =')
    for words in (['replace', 'xyz', '-'], ['insert', '--after', 'xyz', '--id', 'new-one', '-'],
            ['insert', '-', '--after', 'xyz', '--markdown', '--id', 'prose']):
        monkeypatch.setattr('sys.stdin', io.StringIO('\nq = 9\n\n'))
        ar_cells([*words, *nb])
    assert source(small, 'xyz') == source(small, 'new-one') == source(small, 'prose') == 'q = 9'
    capsys.readouterr()
    new.write_text('q = 9')
    ar_cells(['replace', 'xyz', str(new), *nb])
    assert capsys.readouterr().out == 'no change\n'
    ar_cells(['delete', 'prose', *nb])
    ar_cells(['show', 'new-one', '--numbers', 'xyz', *nb])
    assert capsys.readouterr().out.endswith('# %% new-one\n  1  q = 9\n\n# %% xyz\n  1  q = 9\n')

def test_list(small, capsys):
    ar_cells(['--notebook', str(small)])
    assert capsys.readouterr().out == '# Small\n  parameters 1 [parameters], xyz 3, show-x 1\n'
    ar_cells(['--long', '--notebook', str(small)])
    assert capsys.readouterr().out == (
        '# Small  (title)\n'
        '  parameters code   1  [parameters] SEED = 1\n'
        '  xyz        code   3  x = 1\n'
        '  show-x     code   1  print(x)\n')

def test_show_code(canvas, small, capsys):
    "Every exported cell to the letter, nothing else, and the rest by name"
    cells = json.loads(canvas.read_text())['cells']
    ar_cells(['show', '--code', '--notebook', str(canvas)])
    *shown,last = capsys.readouterr().out.rstrip('\n').split('\n\n# ')
    want = [c for c in cells if c['cell_type'] == 'code' and '#| export\n' in c['source']]
    assert ('\n\n# '.join(shown) == show_cells(canvas, *(c['id'] for c in want))
        and 'parameters' in [c['id'] for c in want])
    rest = [c['id'] for c in cells if c['cell_type'] == 'code' and c not in want]
    assert last == (
        f"left out: code that is not exported ({', '.join(rest)}) and "
        f"{sum(c['cell_type'] == 'markdown' for c in cells)} cells of prose") and 'curves' in rest
    assert len(show_code(canvas)) < .7*len(show_cells(canvas))
    ar_cells(['show', '--code', '--numbers', '--notebook', str(small)])
    assert capsys.readouterr().out == (
        '# %% parameters #parameters\n  1  SEED = 1\n\n'
        '# %% xyz\n  1  x = 1\n  2  y = 2\n  3  z = 3\n\n'
        '# %% show-x\n  1  print(x)\n\n# left out: 1 cells of prose\n')
    assert (show_code(code_with_ids('x = 1')) == '# %% c0\nx = 1'
        and show_code(dict(new_nb([]))) == '')

def code_with_ids(*sources): return new_nb([mk_cell(s, id=f'c{i}') for i,s in enumerate(sources)])

def test_list_code(canvas, capsys):
    ar_cells(['list', '--code', '--notebook', str(canvas)])
    out = capsys.readouterr().out
    assert ([c.id for c in list_cells(canvas, code=True) if c.kind == 'code']
        == [c.id for c in list_cells(canvas) if c.kind == 'code'])
    assert (' md ' not in out and '## Hyperparameters  (hparams-h)' in out
        and len(out) < .7*len(repr(list_cells(canvas))))

# parts

def test_the_model_of_the_canvas(canvas):
    "All that is exported under its heading, after the constants it reads; it follows an insertion"
    text = show_part(canvas, 'model')
    shown = re.findall('^# %% (.+)', text, re.M)
    cells = json.loads(canvas.read_text())['cells']
    ids = [c['id'] for c in cells]
    a,b = ids.index('model-h'), ids.index('optimizer-h')
    want = [c['id'] for c in cells[a:b] if '#| export\n' in c['source']]
    assert shown == ['hparams', *want] and 'left out: count-lesson and' in text
    assert len(text) < 9000 and 'kernels' not in text and 'matplotlib' not in text
    insert_cell(canvas, 'mlp', 'gated-mlp', '#| export\nclass Gated(nn.Module): pass')
    insert_cell(canvas, 'hparams', 'more-hparams', '#| export\nSHARPNESS = 2.0\nUNUSED = 1')
    edit_cell(canvas, 'norm', 'F.rms_norm(x', 'SHARPNESS*F.rms_norm(x')
    shown = re.findall('^# %% (.+)', show_part(canvas, 'model'), re.M)
    assert {'gated-mlp', 'more-hparams'} <= set(shown) and 'hparams-tiny' not in shown
    assert shown == [k for k in [c.id for c in list_cells(canvas)] if k in shown]
    both = show_part(canvas, 'opt', 'schedules')
    assert '# %% muon\n' in both and '# %% schedules\n' in both and '# %% mlp\n' not in both

def test_parts_of_any_canvas(tmp_path, capsys, monkeypatch):
    code = lambda i, s='x = 1': mk_cell(s, id=i)
    head = lambda i, s: mk_cell(s, 'markdown', id=i)
    path = tmp_path/'other.ipynb'
    write_nb(new_nb([head('title', '# Mine\r\n\r\nof 2026'), code('a', 'WIDTH = 2'),
        head('two', '# Das große Modell'), code('b', 'y = WIDTH'), head('sub', '### Muon für alles'),
        code('c'), head('three', '# Ende'), code('d')]), path)
    for word,ids in (('modell', ['a', 'b', 'c']), ('große', ['a', 'b', 'c']), ('muon', ['c']),
            ('mod', ['a', 'b', 'c']), ('ende', ['d'])):
        assert re.findall('# %% (.+)', show_part(path, word)) == ids, word
    assert show_part(path, 'muon', numbers=True) == '# %% c\n  1  x = 1'
    ar_cells(['show', '--modell', '--ende', '--notebook', str(path)])
    assert re.findall('# %% (.+)', capsys.readouterr().out) == ['a', 'b', 'c', 'd']
    for words,said in ((['--optimizer'], 'the headings are: Mine; Das große Modell; Muon für alles'),
            (['--part', ''], 'no heading'), (['--b'], 'ar-cells show b` shows the cell'),
            (['--modell', 'a'], 'name the cells, or say')):
        with pytest.raises(SystemExit) as e: ar_cells(['show', *words, '--notebook', str(path)])
        assert said in e.value.code
    write_nb(new_nb([head('title', '# Small'), code('loop')]), path)
    with pytest.raises(CellsError, match='no headings under its title; `ar-cells show --code`'):
        show_part(path, 'loop')

# several edits at once

def block(*texts, n=7, words=('', '')):
    a,b = words
    return '\n'.join([f'{"<"*n}{a}', ('\n' + '='*n + '\n').join(texts), f'{">"*n}{b}', ''])

def test_several_edits(small):
    before = json.loads(small.read_text())
    text = ('\n cell: xyz\n' + block('x = 1', 'x = (1 +') + block('y = 2', '2)', words=(' OLD', ' NEW'))
        + block('2)\nz = 3', '2)') + '\ninsert: more after: xyz\n' + block('a = "é"\n\nb = 漢')
        + 'insert: said after: more markdown\n' + block('Title\n=====\n') + 'delete: show-x\n'
        + 'replace: title\n' + block('# Other'))
    diff = edit_cells(small, text)
    assert source(small, 'xyz') == 'x = (1 +\n2)' and source(small, 'more') == 'a = "é"\n\nb = 漢'
    assert source(small, 'said') == 'Title\n=====' and source(small, 'title') == '# Other'
    cells = json.loads(small.read_text())['cells']
    assert [c['id'] for c in cells] == ['title', 'parameters', 'xyz', 'more', 'said']
    assert diff == cells_diff(before, small) and cells[2]['outputs'] == []
    there = [dict(cell='xyz', old='(1 +\n2)', new='0'), dict(replace='xyz', source='x = (1 +\n2)'),
        dict(insert='p', after='xyz', source='p', markdown=True), dict(delete='p')]
    as_it_was = small.read_bytes()
    assert edit_cells(small, json.dumps(there)) == '' and small.read_bytes() == as_it_was
    assert parse_edits(json.dumps(there[0]))[0].old == '(1 +\n2)'

@pytest.mark.parametrize('n', [5, 7, 9])
def test_text_with_the_marks_themselves(small, n):
    "Between marks of another length every line is text"
    inner = block('a', 'b', n=7 if n != 7 else 9) + '\n# ' + '='*n + ' \n ' + '<'*n
    edit_cells(small, f'replace: title\n' + block(inner, n=n))
    assert source(small, 'title') == inner
    edit_cells(small, f'cell: title\r\n' + block(inner, 'gone  ', n=n).replace('\n', '\r\n'))
    assert source(small, 'title') == 'gone  '

HEAD = 'cell: xyz\n'
GOOD = HEAD + block('x = 1', 'x = 7')
@pytest.mark.parametrize('text,said', [
    (GOOD + block('q', 'r') + 'delete: parameters\n' + 'delete: xyy',
        ['block 2, line 7: xyz: the old text occurs 0 times', 'block 3, line 12: parameters: the run',
        "block 4, line 13: small.ipynb: no cell 'xyy'; did you mean xyz", 'nothing was written']),
    (GOOD + block('y = 2', 'y = = 2'), ['block 2, line 7: xyz, line 2: invalid syntax: y = = 2']),
    (GOOD + block(' = ', '='), ['xyz: the old text occurs 3 times, in lines 1, 2, 3']),
    (GOOD + block('y =2', ''), ['nearest is line 2: y = 2']),
    (GOOD + block('x = 1', 'x = 8'), ['nearest is line 1: x = 7']),
    (GOOD + block('y = 2 ', ''), ['but for blanks at the ends of lines, or empty lines, it is there']),
    (GOOD + block('', 'a'), ['the old text is empty']),
    (block('a', 'b'), ['block 1, line 1: a block before any line `cell: NAME`']),
    (HEAD, ['cell: xyz: no block follows it']), (HEAD + HEAD, ['cell: xyz: no block follows it']),
    (HEAD + block('x = 1'), ['block 1, line 2: a block of xyz without a line of =']),
    ('replace: xyz\n' + block('a', 'b'), ['replace: xyz takes one text, without a line of =']),
    ('replace: xyz\n' + block('a') + block('b'), ['a second block for replace: xyz']),
    ('insert: a-b\n' + block('a'), ['line 1: insert: a-b after: which cell?']),
    ('insert: a-b after: nope\n' + block('a'), ["block 1, line 2: small.ipynb: no cell 'nope'"]),
    ('delete: xyz\n' + block('a'), ['block 2, line 2: delete: xyz takes no block']),
    (GOOD + 'x = 2', ['line 7: neither a line like `cell: NAME` nor a block: x = 2']),
    (HEAD + '<<<<<<<\na\n=======\nb\n', ['line 2: the block has no end, a line of 7 >']),
    (HEAD + '<<<<<<<\na\n=======\nb\n' + block('c', 'd'),
        ['line 6: a block begins within that of line 2, whose end is missing']),
    (HEAD + block('x = 1', 'a', 'b'), ['line 6: a second line of 7 = in the block of line 2; if it is '
        'text, take 9 of each sign']),
    ('', ['no edit in it', 'cell: NAME']), ('[]', ['no edit in it']), ('[{', ['no JSON']),
    ('[{"cell": "xyz", "old": "x", "now": "y"}]', ['edit 1: {"cell": "xyz", "old": "x", "now"']),
    ('{"cell": "xyz", "old": 1, "new": "2"}', ['is no edit; accepted: {"cell", "old", "new"}']),
    ('[7, {"delete": ["xyz"]}]', ['edit 1: 7 is no edit']),
    ('{"delete": "xyz", "markdown": true}', ['is no edit']),
    ('{"insert": "a", "after": "xyz", "source": "x", "markdown": 1}', ['is no edit']),
])
def test_all_or_nothing(small, monkeypatch, capsys, text, said):
    monkeypatch.setattr('sys.stdin', io.StringIO(text))
    before = small.read_bytes(), small.stat()
    monkeypatch.chdir(small.parent)
    with pytest.raises(SystemExit) as e: ar_cells(['edit', '-', '--notebook', 'small.ipynb'])
    assert all(o in e.value.code for o in [*said, 'nothing was written']), e.value.code
    assert (small.read_bytes(), small.stat()) == before

def test_edits_from_a_file(small, tmp_path, capsys, monkeypatch):
    file = tmp_path/'edits.txt'
    file.write_text('\ufeff' + GOOD + 'delete: show-x\n')
    ar_cells(['edit', str(file), '--notebook', str(small)])
    assert capsys.readouterr().out == (
        '--- xyz\n+++ xyz\n@@ -1 +1 @@\n-x = 1\n+x = 7\n--- show-x, 1 line\n')
    with pytest.raises(SystemExit) as e: ar_cells(['edit', 'xyz', '--notebook', str(small)])
    assert 'xyz: No such file' in e.value.code and '`edit CELL --old TEXT --new TEXT`' in e.value.code
    ar_cells(['edit', 'xyz', '--old', '7', '--new', '9', '--json', '--notebook', str(small)])
    o = json.loads(capsys.readouterr().out)
    assert o['changes'] == [dict(cell='xyz', what='changed', after='', added=1, removed=1,
        diff='--- xyz\n+++ xyz\n@@ -1,3 +1,3 @@\n-x = 7\n+x = 9\n y = 2\n z = 3')]
    with pytest.raises(SystemExit) as e: ar_cells(['show', 'q', '--json', '--notebook', str(small)])
    told = json.loads((said := capsys.readouterr()).out)
    assert e.value.code == told['code'] == 1 and told['error'] + '\n' == said.err

def test_a_cell_that_was_handed_in_is_not_printed_back(small, capsys, monkeypatch):
    monkeypatch.setattr('sys.stdin', io.StringIO('a = 1\nb = 2\n'))
    ar_cells(['insert', '--after', 'xyz', '--id', 'two', '-', '--notebook', str(small)])
    ar_cells(['delete', 'two', '--notebook', str(small)])
    ar_cells(['delete', 'show-x', '--notebook', str(small)])
    assert capsys.readouterr().out == (
        '+++ two (after xyz), 2 lines\n--- two, 2 lines\n--- show-x, 1 line\n')

# line ends, and what no terminal shows

@pytest.mark.parametrize('how', ['edit', 'replace', 'insert', 'delete'])
def test_a_canvas_with_crlf(canvas, how):
    "The file keeps its line ends and is otherwise what the same step makes of the canvas with LF"
    crlf = canvas.with_name('crlf.ipynb')
    crlf.write_bytes(canvas.read_bytes().replace(b'\n', b'\r\n'))
    for path in (canvas, crlf):
        if how == 'edit': diff = edit_cell(path, 'hparams', 'MATRIX_LR = 0.04', 'MATRIX_LR = 0.05')
        if how == 'replace':
            diff = replace_cell(path, 'norm', '#| export\r\ndef norm(x):\r\n    return x\r\n')
        if how == 'insert': diff = insert_cell(path, 'norm', 'norm-two', 'x = 1\r\ny = 2')
        if how == 'delete': diff = delete_cell(path, 'norm')
        assert '\r' not in diff
    assert crlf.read_bytes() == canvas.read_bytes().replace(b'\n', b'\r\n')
    assert not re.search(rb'(?<!\\)(\\\\)*\\r', crlf.read_bytes()), (
        'an escaped CR; the prose may hold \\right')

def test_sources_with_crlf(tmp_path):
    "A source with CRLF in it is found by its lines, changed in those meant, and is the same code"
    path = tmp_path/'crlf.ipynb'
    write_nb(new_nb([mk_cell('#| export\r\nx = 1\r\n\r\ny = 2', id='xy'),
        mk_cell('z = 1', id='z')]), path)
    old = json.loads(path.read_text())
    assert (show_cells(path, 'xy') == '# %% xy\n#| export\nx = 1\n\ny = 2'
        and parse_cells(path) == [] and cells_diff(old, path) == '')
    assert edit_cell(path, 'xy', '\r\ny = 2', '\ny = 3').splitlines()[3:] == [
        ' #| export', ' x = 1', ' ', '-y = 2', '+y = 3']
    assert source(path, 'xy') == '#| export\nx = 1\n\ny = 3' and changed_cells(old, path) == ['xy']

def test_what_no_terminal_shows(tmp_path):
    path = tmp_path/os.fsdecode(b'm\xfc.ipynb')
    path.write_text('{"cells": [{"cell_type": "code", "id": "odd", '
        '"source": ["x = \'\\udcff \u65e5\'"], "outputs": [], "execution_count": null, '
        '"metadata": {}}], "metadata": {}, "nbformat": 4, "nbformat_minor": 5}')
    for coding,shown in (('utf8', "x = '\\udcff \u65e5'"), ('ascii', "x = '\\udcff \\u65e5'")):
        p = subprocess.run([*COMMAND, 'show', 'odd', '--notebook', path], capture_output=True,
            env={**os.environ, 'PYTHONIOENCODING': coding}, timeout=200)
        assert (p.returncode, p.stdout.decode(coding)) == (0, f'# %% odd\n{shown}\n'), p.stderr
    p = subprocess.run([*COMMAND, 'show', 'none', '--notebook', path], capture_output=True,
        timeout=200)
    assert p.returncode == 1 and b"no cell 'none'" in p.stderr and b'Traceback' not in p.stderr

def test_whoever_reads_goes_away(canvas):
    p = subprocess.Popen([*COMMAND, 'show', '--all', '--notebook', str(canvas)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    p.stdout.close()
    assert p.stderr.read() == '' and p.wait(60) == 0

def test_list_of_the_canvas():
    cells = list_cells(ROOT/'nbs/02_train.ipynb')
    lines = repr(cells).splitlines()
    assert len(lines) == len(cells) and max(map(len, lines)) <= 100
    at = {c.id: c for c in cells}
    assert (at['parameters'].tags == ['parameters']
        and at['hparams'].heading == '## Hyperparameters'
        and at['hparams'].first.startswith('DEPTH = 8'))
    assert (at['config'].first.startswith('class ')
        and len([l for l in lines if '## Hyperparameters' in l]) == 1)

def test_the_nearest_settings_name_the_canvas(tmp_path, monkeypatch):
    assert canvas_path(ROOT/'nbs') == ROOT.resolve()/'nbs/02_train.ipynb'
    text = (ROOT/'settings.ini').read_text().replace(
        'canvas = nbs/02_train.ipynb', 'canvas = other.ipynb')
    (tmp_path/'settings.ini').write_text(text)
    monkeypatch.chdir(tmp_path)
    assert canvas_path() == tmp_path/'other.ipynb'
    (tmp_path/'settings.ini').write_text(
        text + 'canvas = tiny.ipynb\n') # the last section is [tiny]
    assert canvas_path() == tmp_path/'tiny.ipynb' # conftest chooses it
    monkeypatch.setenv('AUTORESEARCH_PROFILE', 'climbmix')
    assert canvas_path() == tmp_path/'other.ipynb'

def test_a_worker_needs_neither_pandas_nor_matplotlib(small):
    "Cells are listed, edited and compared where those are not installed"
    code = ('import sys\n'
        'for m in ("pandas", "matplotlib", "numpy", "torch", "IPython", "ipywidgets"): '
        'sys.modules[m] = None\n'
        'from autoresearch.cells import *\n'
        'print(edit_cell(sys.argv[1], "xyz", "y = 2", "y = 3"), list_cells(sys.argv[1]), '
        'code_hash(sys.argv[1]))')
    p = subprocess.run([sys.executable, '-c', code, small], capture_output=True, text=True,
        timeout=200)
    assert p.returncode == 0 and '+y = 3' in p.stdout, p.stderr

def test_nothing_heavy_is_imported():
    code = ('import sys; from autoresearch.cells import ar_cells; ar_cells(); '
        'print(sorted({m.split(".")[0] for m in sys.modules} & {"torch", "papermill", '
        '"nbformat", "matplotlib", "numpy", "pandas", "IPython"}))')
    p = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, cwd=ROOT,
        env={k: v for k,v in os.environ.items() if k != 'AUTORESEARCH_PROFILE'})
    assert p.returncode == 0 and p.stdout.endswith('\n[]\n'), p.stdout[-200:] + p.stderr

def test_help(capsys):
    ar_cells(['-h'])
    out = capsys.readouterr().out
    assert all(f'ar-cells {v} ' in out
        for v in ('list', 'show', 'edit', 'replace', 'insert', 'delete'))
    with pytest.raises(SystemExit) as e: ar_cells(['edit', '-h'])
    assert e.value.code == 0 and '--old-file' in capsys.readouterr().out

# the diff

def test_cells_diff(small):
    old = json.loads(small.read_text())
    assert cells_diff(old, small) == ''
    delete_cell(small, 'show-x')
    edit_cell(small, 'xyz', 'y = 2', 'y = 3')
    insert_cell(small, 'title', 'prose', 'why', markdown=True)
    assert cells_diff(old, small).splitlines() == [
        '--- /dev/null', '+++ prose [markdown] (after title)', '@@ -0,0 +1 @@', '+why',
        '--- xyz', '+++ xyz', '@@ -1,3 +1,3 @@', ' x = 1', '-y = 2', '+y = 3', ' z = 3',
        '--- show-x', '+++ /dev/null', '@@ -1 +0,0 @@', '-print(x)']

def test_cells_diff_of_kinds_tags_and_moves(small):
    old,new = json.loads(small.read_text()), json.loads(small.read_text())
    new['cells'].insert(0, new['cells'].pop())
    new['cells'][2]['metadata'] = {}
    new['cells'][3]['outputs'] = []
    assert cells_diff(old, new).splitlines() == [
        '--- show-x', '+++ show-x (after nothing)', '--- parameters #parameters', '+++ parameters']

# the code alone

def code(*sources, **more):
    return dict(cells=[dict(cell_type='code', source=s, **more) for s in sources])

SAME = [('x = 1', '#| export\n\nx  =  1 # why\n'), ('x = 1\ny = 2', 'x = 1\r\n\r\ny = 2\r\n'),
    ("s = 'a'", 's = "a"'), ('f(a, b)', 'f(\n    a,\n    b)'),
    ('def f(x): return x', 'def f(x):\n    "What"\n    return x'),
    ('def f(x): pass', 'def f(x):\n    """What"""'),
    ('class A:\n    x = 1', 'class A:\n    "What"\n\n    x = 1'),
    ('x = 1', '"""A cell"""\nx = 1'), ('await f()', 'await f() # top'), ('LR = 0.04', 'LR = 4e-2'),
    ('', '# nothing but\n#| hide'), ('x = 1', ['x = ', '1']), ('x = (1)', 'x = 1;')]
OTHER = [('x = 1', 'x = 2'), ('s = "# 1"', 's = "# 2"'), ('x = 1\ny = 2', 'y = 2\nx = 1'),
    ('if a: f()\ng()', 'if a:\n    f()\n    g()'), ('x = "a"', 'x = "a" # "b"\ny = 1'),
    ('def f(x): return "What"', 'def f(x):\n    "What"'), ('%time x = 1', '%time x = 2'),
    ('x = = 1', 'x = = 2'), ('!ls', '!pwd'), ('x = "\x00"', 'x = "a"'),
    ('x = "\udcff"', 'x = "\udcfe"')]

@pytest.mark.parametrize('a, b', SAME,
    ids=lambda s: repr(s)[:20].encode('ascii', 'replace').decode())
def test_the_same_code(a, b):
    assert (code_of(code(a)) == code_of(code(b)) and code_hash(code(a)) == code_hash(code(b))
        and changed_cells(code(a), code(b)) == changed_constants(code(a), code(b)) == [])

@pytest.mark.parametrize('a, b', OTHER,
    ids=lambda s: repr(s)[:20].encode('ascii', 'replace').decode())
def test_other_code(a, b):
    assert (code_hash(code(a)) != code_hash(code(b))
        and changed_cells(code(a), code(b)) == ['cell 1'])

def test_code_hash_of_the_canvas(canvas):
    "What JupyterLab and people do without changing what runs keeps the hash; lost lines change it"
    old = json.loads(canvas.read_text())
    new = json.loads(canvas.read_text())
    new['metadata'] = dict(language_info=dict(name='python', version='3.12'))
    for i,c in enumerate(new['cells']):
        c.update(id=f'other-{i}', metadata=dict(collapsed=True),
            source=''.join(c['source']) + '\n# a comment' if c['cell_type'] == 'code' else 'prose')
        if c['cell_type'] == 'code':
            c.update(outputs=[dict(output_type='stream', name='stdout', text='1')],
                execution_count=i)
    new['cells'] = [c for c in new['cells'] if c['cell_type'] == 'code']
    assert code_hash(new) == code_hash(canvas) == code_hash(old)
    for i,(c,l) in enumerate([(c, l) for c in old['cells'] if c['cell_type'] == 'code'
            for l in c['source'] if l.strip() and not l.lstrip().startswith(('#', '"'))][::25]):
        was,c['source'] = c['source'], [o for o in c['source'] if o is not l]
        assert code_hash(old) != code_hash(canvas), l
        c['source'] = was

ODD = [dict(cells=[]),
    dict(cells=[None, 5, [], 'x', {}, dict(cell_type=[]), dict(cell_type='code'),
        dict(cell_type='code', source=None), dict(cell_type='code', source={}),
        dict(cell_type='code', source=[1, None])]),
    dict(cells=[dict(cell_type='code', source='x = 1', id=['a'])]),
    dict(cells=[dict(cell_type='code', source='('*5000 + ')'*5000)]),
    dict(cells=[dict(cell_type='code', source='+'.join(['1']*20_000))])]

@pytest.mark.parametrize('odd', ODD, ids=range(len(ODD)))
def test_code_of_odd_notebooks(odd):
    assert (code_hash(odd) == code_hash(odd)
        and changed_cells(odd, odd) == changed_constants(odd, odd) == [])
    assert (isinstance(changed_cells(odd, code('x = 1')), list)
        and changed_constants(odd, code('X = 1')) == ['X 1 (new)'])

@pytest.mark.parametrize('value', [
    None, 5, 'x', [], {}, [1], dict(tags=5), dict(tags=[5]), True, ['a', None], 'gone'], ids=str)
@pytest.mark.parametrize('key', [
    'cell_type', 'id', 'metadata', 'source', 'outputs', 'execution_count', 'cells', 'nbformat'])
def test_a_notebook_of_any_kind(key, value):
    "Whatever stands in one place of a notebook: it is read, or refused in one sentence"
    good = dict(cell_type='code', id='a', metadata={}, source='x = 1', outputs=[],
        execution_count=None)
    odd = {**good, **({} if value == 'gone' else {key: value})}
    if value == 'gone': odd.pop(key, None)
    nb = dict(cells=[odd, {**good, 'id': 'b'}], metadata={}, nbformat=4)
    if key in ('cells', 'nbformat'):
        nb = (dict(cells=[good], metadata={}, nbformat=4, **{})
            | ({} if value == 'gone' else {key: value}))
    old = dict(cells=[good], metadata={}, nbformat=4)
    for f in (lambda n: repr(list_cells(n)), show_cells, show_code, parse_cells,
            lambda n: cells_diff(n, old), lambda n: cells_diff(old, n),
            lambda n: changed_lines(old, n), lambda n: diff_html(n, old), code_hash):
        try: f(nb)
        except CellsError as e: assert str(e).startswith('notebook: not a notebook: ')

@pytest.mark.parametrize('data, says', [
    (b'{}', 'no list of cells'), (b'[]', 'no list of cells'),
    (b'{"cells": {}}', 'no list of cells'), (b'{', 'not a notebook'), (b'\xff', 'not a notebook'),
    (b'[' * 100_000, 'not a notebook'), (None, 'No such file')])
def test_code_of_no_notebook(tmp_path, data, says):
    path = tmp_path/'odd.ipynb'
    if data is not None: path.write_bytes(data)
    for f in (code_of, code_hash, lambda p: changed_cells(p, p), lambda p: changed_constants(p, p),
            show_cells, list_cells, parse_cells):
        with pytest.raises(CellsError, match='odd.ipynb: '): f(path)
    with pytest.raises(CellsError, match=says): code_of(path)

def test_changed_constants(canvas):
    old = json.loads(canvas.read_text())
    edit_cell(canvas, 'hparams', 'MATRIX_LR = 0.04 ', 'MATRIX_LR = 0.05 ')
    assert ((changed_constants(old, canvas), changed_cells(old, canvas))
        == (['MATRIX_LR 0.04 -> 0.05'], []))
    edit_cell(canvas, 'hparams-tiny', 'DEPTH = 2 ', 'DEPTH = 3 ')
    edit_cell(canvas, 'norm', 'F.rms_norm', '2*F.rms_norm')
    edit_cell(canvas, 'hparams', 'DEPTH = 8 ', 'DEPTH = 8    ')
    assert ((changed_constants(old, canvas), changed_cells(old, canvas))
        == (['DEPTH (hparams-tiny) 2 -> 3', 'MATRIX_LR 0.04 -> 0.05'], ['norm']))
    insert_cell(canvas, 'norm', 'norm-two', 'GAIN = 2\ndef norm2(x): return GAIN*norm(x)')
    delete_cell(canvas, 'curves')
    assert (changed_constants(old, canvas)[-1] == 'GAIN 2 (new)'
        and changed_cells(old, canvas) == ['norm', 'norm-two', 'curves'])
    assert changed_constants(canvas, old)[-1] == 'GAIN 2 (gone)'

@pytest.mark.parametrize('a, b, says', [
    ('A, B = 1, 2', 'A, B = 1, 3', ['B 2 -> 3']),
    ('A = B = 1', 'A = B = 2', ['A 1 -> 2', 'B 1 -> 2']),
    ('A: int = 1', 'A: int = 2', ['A 1 -> 2']), ('A = 1', 'A += 1', ['A 1 -> += 1']),
    ('A = 1\nA += 1', 'A = 1\nA += 2', ['A += 1 -> += 2']),
    ('if x:\n    A = 1\nelse:\n    A = 2', 'if x:\n    A = 1\nelse:\n    A = 3', ['A 2 -> 3']),
    ('A = f(1)', 'A = f(1, 2)', ['A f(1) -> f(1, 2)']),
    ('A = 1', 'A = %r' % ('x'*99), ["A 1 -> '" + 'x'*58 + '…']),
    ('%time\nA = 1', '%time\nA = 2', ['A 1 -> 2']),
    ('def f():\n    A = 1', 'def f():\n    A = 2', []), ('A, *B = f()', 'A, *B = g()', []),
    ('A: int', 'A: str', [])])
def test_constants(a, b, says): assert changed_constants(code(a), code(b)) == says

def test_changed_cells():
    names = lambda *cells: dict(cells=[dict(cell_type='code', id=k, source=s) for k,s in cells])
    old = names(('a', 'x = 1'), ('b', 'A = 1\nB = 2'), ('c', 'def f(): return A'))
    for new,cells in [
            (names(('a', 'x = 2'), ('b', 'A = 3\nB = 2'), ('c', 'def f(): return A')), ['a']),
            (names(('b', 'A = 1\nB = 2'), ('c', 'def f(): return A')), ['a']),
            (names(('c', 'def f(): return A'), ('a', 'x = 1'), ('b', 'A = 1\nB = 2')), ['c']),
            (names(('a', 'x = 1'), ('b', 'A = 1\ny = 2'), ('c', 'def f(): return A')), ['b']),
            (names(('a', 'x = 1'), ('new', 'x = 1'), ('b', 'A = 1\nB = 2'),
                ('c', 'def f(): return A')), ['new'])]:
        assert changed_cells(old, new) == cells
    assert changed_cells(code('x = 1', 'y = 1'), code('x = 1', 'y = 2')) == ['cell 2']

LONG = """@functools.cache
def f(x):
    "Half of it"
    # a comment
    half = (x
        / 2)
    if half > 3: return half
    elif half > 2:
        return 2
    else: return 1

a = 1
b = 2
"""
SHORT = """@functools.cache
def f(x):
    half = x/2; del x
    if half > 3: return half
    elif half > 2: return 2
    else: return 1
a,b = 1,2"""

def one_cell(source): return dict(cells=[dict(cell_type='code', source=source)])

def test_lines_do_not_depend_on_the_layout():
    assert code_lines(one_cell(LONG)) == 11 and code_lines(one_cell(SHORT)) == 12
    assert code_lines(one_cell(SHORT.replace('; del x', ''))) == 11
    assert code_lines(one_cell(code_of(one_cell(LONG)))) == 11, 'nor on being written again'
    prose = dict(cell_type='markdown', source='a = 1')
    assert code_lines(dict(cells=[prose, *one_cell(LONG)['cells']])) == 11

@pytest.mark.parametrize('few,many', [('a = 1; b = 2; c = 3', 'a = 1\nb = 2\nc = 3'),
    ('a,b,c = 1,2,3', 'a = 1\nb = 2\nc = 3'), ('a = b = 1', 'a = 1\nb = 1'),
    ('if (n := f()): g(n)', 'n = f()\nif n:\n    g(n)'), ('x = 1 # why', '# why\n\nx = 1\n'),
    ('try: a\nexcept E: b', 'try:\n    a\nexcept E:\n    b'),
    ('with a: b; c', 'with a:\n    b\n    c')])
def test_layout_gains_nothing(few, many):
    assert code_lines(one_cell(few)) == code_lines(one_cell(many))

@pytest.mark.parametrize('source,n', [('', 0), ('# nothing', 0), ('"text"', 0), ('%%bash\nls\n\npwd', 3),
    ('!ls\nx = 1', 2), ('not python at all', 1), ('x = ' + '-'*5000 + '1', 1)])
def test_lines_of_what_is_odd(source, n): assert code_lines(one_cell(source)) == n
