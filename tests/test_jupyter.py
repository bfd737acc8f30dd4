"""A person in JupyterLab beside the loop: a cell is run by a kernel, the notebook is saved by Jupyter's own
server, and `ar-run` in a terminal beside it takes the edit and nothing else."""
import asyncio, json, subprocess
from uuid import uuid4
import nbformat, pytest
from jupyter_client.manager import KernelManager
from jupyter_server.services.contents.largefilemanager import AsyncLargeFileManager
import lab
from autoresearch.cells import changed_lines

CANVAS = 'canvas.ipynb'

class Lab:
    "JupyterLab's server, as far as it reads and writes files: it keeps what it read until it saves"
    def __init__(self, root): self.files = AsyncLargeFileManager(root_dir=str(root))
    def call(self, name, *args, **kwargs):
        async def ask(): return await getattr(self.files, name)(*args, **kwargs)
        return asyncio.run(ask())
    def open(self, name=CANVAS): # Lab asks for a checkpoint when a notebook is opened first
        model = self.call('get', name, content=True)
        self.nb = model['content']
        self.call('create_checkpoint', name)
        return self
    def cell(self, id): return next(c for c in self.nb['cells'] if c['id'] == id)
    def save(self, name=CANVAS):
        "What the browser sends; the server answers with what it made of it"
        model = dict(type='notebook', format='json', content=json.loads(json.dumps(self.nb)))
        self.call('save', model, name)
        self.call('create_checkpoint', name)

def run_cells(page, root, *ids):
    "Run cells in a kernel and keep what Lab keeps of it in the notebook"
    km = KernelManager(kernel_name='python3')
    km.start_kernel(cwd=str(root), env=lab.environ())
    kc = km.blocking_client()
    try:
        kc.start_channels()
        kc.wait_for_ready(timeout=lab.PATIENCE)
        info = kc.kernel_info(reply=True, timeout=60)['content']
        page.nb['metadata']['language_info'] = dict(info['language_info'])
        page.nb['metadata']['kernelspec'] = dict(display_name='Python 3 (ipykernel)',
            language='python', name='python3')
        for n,id in enumerate(ids, 1): page.cell(id).update(shown(kc, page.cell(id), n))
    finally:
        kc.stop_channels()
        km.shutdown_kernel(now=True)

def shown(kc, cell, n):
    "Outputs, count and times of a cell, as Lab writes them with the times of execution switched on"
    outputs = []
    def hook(msg):
        kind = msg['header']['msg_type']
        if kind in ('stream', 'display_data', 'execute_result', 'error'):
            outputs.append(nbformat.v4.output_from_msg(msg))
    r = kc.execute_interactive(cell['source'], output_hook=hook, timeout=lab.PATIENCE)
    times = {'iopub.execute_input': '2026-11-27T06:00:00.000Z', 'shell.execute_reply':
        '2026-11-27T06:00:01.000Z'}
    meta = dict(cell['metadata'], execution=times, scrolled=True)
    return dict(outputs=outputs, execution_count=r['content']['execution_count'], metadata=meta)

@pytest.fixture
def root(tmp_path):
    root = lab.example(tmp_path/'polynomial')
    lab.setup(root)
    lab.run(root, 'baseline')
    return root

def at_commit(root, commit='HEAD'):
    return json.loads(lab.git(root, 'show', f'{commit}:{CANVAS}'))

def edit(page, id, old, new):
    cell = page.cell(id)
    assert old in cell['source']
    cell['source'] = cell['source'].replace(old, new)

def test_a_cell_is_run_edited_and_saved(root):
    page = Lab(root).open()
    edit(page, 'hparams', 'DEGREE = 1 ', 'DEGREE = 3 ')
    run_cells(page, root, 'imports', 'parameters', 'hparams')
    assert page.cell('hparams')['execution_count'] == 3
    page.save()
    saved = json.loads((root/CANVAS).read_text())
    assert 'execution' in saved['cells'][1]['metadata'] and (root/'.ipynb_checkpoints').exists()
    assert 'keep' in lab.run(root, 'a cubic, by hand').stdout
    assert lab.git(root, 'diff', '--name-only', 'HEAD~1', 'HEAD').split() == [CANVAS]
    before,after = at_commit(root, 'HEAD~1'), at_commit(root)
    assert changed_lines(before, after) == {'hparams': (1, 1)}, 'one line is the experiment'
    assert not any(c.get('outputs') or c.get('execution_count') for c in after['cells'])

def test_running_cells_is_no_experiment(root):
    page = Lab(root).open()
    run_cells(page, root, 'imports', 'parameters')
    page.save()
    r = lab.run(root, 'nothing', ok=False)
    assert r.returncode == 1 and 'outputs are no experiment' in r.stderr and len(lab.rows(root)) == 1
    edit(page, 'hparams', 'DEGREE = 1 ', 'DEGREE = 2 ')
    page.save()
    assert lab.run(root, 'a parabola').returncode == 0 and len(lab.rows(root)) == 2

def test_cells_that_lab_makes(root):
    "Lab names a new cell by a UUID; a raw cell, a note and an empty cell stand among the others"
    page = Lab(root).open()
    def new(kind, source, **more):
        return dict(cell_type=kind, id=str(uuid4()), metadata={}, source=source, **more)
    code = dict(outputs=[], execution_count=None)
    cells = page.nb['cells']
    at = cells.index(page.cell('hparams')) + 1
    cells[at:at] = [new('code', 'DEGREE = 3', **code), new('markdown', 'A cubic?'),
        new('raw', 'raw'), new('code', '', **code)]
    run_cells(page, root, 'imports', 'hparams', cells[at]['id'])
    page.save()
    assert 'keep' in lab.run(root, 'a cubic in a cell of its own').stdout

def test_saved_while_a_run_is_under_way(root):
    "The run is of what was committed; what is saved meanwhile is the next experiment, and no hindrance"
    page = Lab(root).open()
    edit(page, 'loop', 'rng,coefs', 'time.sleep(4)\nrng,coefs')
    page.save()
    proc = subprocess.Popen([lab.BIN/'ar-run', '-m', 'slow'], cwd=root, env=lab.environ(),
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    lab.until(lambda: list((root/f'runs/{lab.TAG}').glob('002-*/run.log')))
    edit(page, 'hparams', 'DEGREE = 1 ', 'DEGREE = 3 ')
    edit(page, 'loop', 'time.sleep(4)\n', '')
    run_cells(page, root, 'imports', 'hparams')
    page.save()
    said = proc.communicate(timeout=lab.PATIENCE)
    assert proc.returncode == 0, said
    r = lab.run(root, 'a cubic, saved beside the run')
    assert 'keep' in r.stdout and len(lab.rows(root)) == 3
    assert 'DEGREE = 3 ' in (root/CANVAS).read_text()

def test_a_stale_copy_is_saved_over_what_the_loop_put_back(root):
    "Lab still shows the discarded edit and saves it again: the loop takes it as an edit, no more"
    page = Lab(root).open()
    edit(page, 'hparams', 'STEPS = 300 ', 'STEPS = 2 ')
    page.save()
    assert 'discard' in lab.run(root, 'too few steps').stdout
    assert 'STEPS = 300 ' in (root/CANVAS).read_text(), 'put back'
    edit(page, 'hparams', 'DEGREE = 1 ', 'DEGREE = 3 ')
    page.save()
    assert lab.run(root, 'both').returncode == 0 and len(lab.rows(root)) == 3
    Lab(root).open().save() # opened anew and saved as it is
    assert lab.ar(root, 'ar-status').returncode == 0
