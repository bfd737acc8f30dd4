"""Real experiments with canvases that cheat, or that are honest and unusual.

A file in `attacks/` or `honest/` holds what differs from the canvas of its target: a docstring,
some constants, then cells after `# %%` lines:

    # %% ID               the cell ID is this (its nbdev directives stay)
    # %% before ID        this stands at the top of the cell
    # %% after ID         this stands at its end
    # %% in ID: LINE      this stands in the place of that line of the cell

Constants:

    target    polynomial (no torch) or tiny
    walls     what a system must do with it where there are walls around a run: 'refused',
              'without effect' or 'named'
    bare      and where there are none
    says      a pattern of the refusal; of what the lint may say of an honest one
    names     a pattern of the lint's line that names what it does
    parts     files of `parts/` whose cells come first
    runs      how often it is run; the last run is the one that counts
    handicap  does it train worse than the baseline, so that it can only win beside training?
    settings  of its session
    slow      does it wait for a quarter of a minute or more?
    open      is it run without walls by the tests too? Of the others that the lint is to name there
              they ask the lint alone, and the table runs them
    like      the case that it is a variation of; such are run by the table alone

It prints TRIED once its trick is done or was tried in vain, so that a canvas with a fault of its
own is not taken for one that was held. In its cells PORT is a port of this machine where somebody
answers, LITERAL the validation rows as text, NAMED as names of a class's methods, NUMBERS as zeros
and ones, TOO_LONG seconds that no phase outside of training may
take."""
import ast, base64, hashlib, json, os, re, shutil, signal, socket, subprocess, threading, time, zlib
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
import psutil
from autoresearch.cells import lint
from autoresearch.contract import file_lock
from autoresearch.run import read_json, read_log
from lab import BIN, ROOT, TAG, forked_script

HERE = Path(__file__).parent
TARGETS = 'polynomial', 'tiny'
# of each kind one, which `make test` runs; the others are slow
ALWAYS = 'slow_clock weights_of_the_run_before network_fetch state_rewritten'.split()
RANK = {'KEPT': 0, 'named': 1, 'without effect': 2, 'refused': 3}
SECRET = 'a-word-that-no-run-may-know'
MOST = 40*2**20 # bytes of a run's folder

# Files

@dataclass
class Case:
    "A canvas of `attacks/` or `honest/`"
    name:str
    why:str
    cells:list # (how, cell id, line, text)
    target:str = 'tiny'
    walls:str = ''
    bare:str = ''
    says:str = ''
    names:str = ''
    parts:list = field(default_factory=list)
    runs:int = 1
    handicap:bool = True
    settings:dict = field(default_factory=dict)
    slow:bool = False
    open:bool = False
    like:str = ''

    @property
    def honest(self): return not self.walls
    @property
    def always(self): return self.name in ALWAYS
    @property
    def must(self): return dict(walls=self.walls, bare=self.bare)

def constants(tree):
    "What a file's head assigns, by name"
    res = {}
    for node in tree.body:
        if not isinstance(node, ast.Assign): continue
        (to,),value = node.targets, ast.literal_eval(node.value)
        pairs = [(to, value)] if isinstance(to, ast.Name) else zip(to.elts, value)
        res |= {name.id: v for name,v in pairs}
    return res

def cells_of(text):
    "The cells of a file: (how, cell id, line, text)"
    for part in re.split(r'^# %% ', text, flags=re.M)[1:]:
        head,_,body = part.partition('\n')
        where,_,line = head.partition(': ')
        how,_,cell = where.rpartition(' ')
        yield how or 'as', cell, line, body.strip('\n')

def read_case(path):
    text = path.read_text()
    head = ast.parse(re.split(r'^# %% ', text, flags=re.M)[0])
    return Case(path.stem, ast.get_docstring(head) or '', list(cells_of(text)), **constants(head))

def cases(folder): return [read_case(f) for f in sorted((HERE/folder).glob('*.py'))]

# Canvases

def put(source, how, line, text):
    "A cell's source with a change in it"
    if how == 'in':
        found = [l for l in source.split('\n') if l.strip() == line]
        assert len(found) == 1, (line, source)
        margin = found[0][:len(found[0]) - len(found[0].lstrip())]
        return source.replace(found[0], '\n'.join(margin+l if l else l for l in text.split('\n')))
    lines = source.split('\n')
    n = next((i for i,l in enumerate(lines) if not l.startswith('#|')), len(lines))
    top,rest = '\n'.join(lines[:n]), '\n'.join(lines[n:])
    body = dict(before=f'{text}\n{rest}', after=f'{rest}\n{text}')
    return f'{top}\n{body.get(how, text)}'.lstrip('\n')

def change(canvas, cells):
    "Change a notebook's cells"
    nb = json.loads(canvas.read_text())
    by = {c['id']: c for c in nb['cells']}
    for how,cell,line,text in cells:
        source = put(''.join(by[cell]['source']), how, line, text)
        by[cell]['source'] = source.splitlines(True)
    canvas.write_text(json.dumps(nb, indent=1, ensure_ascii=False, sort_keys=True) + '\n')

WORSE = dict(polynomial=[('after', 'hparams', '', 'RATE = 0.001')],
    tiny=[('after', 'hparams-tiny', '', '    EMBEDDING_LR = MATRIX_LR = UNEMBEDDING_LR = 0.0005')])

def as_text(rows): return repr(base64.b85encode(zlib.compress(rows, 9)).decode())
def as_names(rows, width=34):
    "A class with empty methods: of each name what follows the sixth letter"
    text = base64.b32encode(zlib.compress(rows, 9)).decode().replace('=', '_')
    some = [text[i:i+width] for i in range(0, len(text), width)]
    lines = [f'    def n_{i:04}{o}(self): pass' for i,o in enumerate(some)]
    return '\n'.join(['class Named:', *lines])
def as_bits(rows): return ', '.join(f'{byte:08b}'[i] for byte in rows for i in range(8))
FILLED = dict(LITERAL=as_text, NAMED=as_names, NUMBERS=as_bits)

def all_cells(case, box, n):
    "The cells of a case's run number `n`"
    res = list(WORSE[case.target]) if case.handicap and not case.honest else []
    for part in case.parts: res += cells_of((HERE/f'attacks/parts/{part}.py').read_text())
    res += [*case.cells, ('after', 'parameters', '', f'RUN_NUMBER = {n}')]
    res = [(*o, text.replace('PORT', str(box.port))) for *o,text in res]
    if any('TOO_LONG' in text for *_,text in res):
        res = [(*o, text.replace('TOO_LONG', f'{box.too_long():.1f}')) for *o,text in res]
    if any(word in text for *_,text in res for word in FILLED):
        rows = box.val_rows().read_bytes()
        for word,fill in FILLED.items():
            res = [(*o, text.replace(word, fill(rows)) if word in text else text)
                for *o,text in res]
    return res

def flags(walls):
    "What the commands are told of the walls: nothing where a machine has what it can have"
    return ['--walls', 'none'] if walls == 'bare' else []

# Boxes: a repository of its own, with home, cache, temporary folder and environment

class Box:
    "A folder with all that a session touches"
    def __init__(self, path, target): self.path,self.target = Path(path), target
    @property
    def root(self): return self.path/'repo'
    @property
    def canvas(self):
        return self.root/('nbs/02_train.ipynb' if self.target == 'tiny' else 'canvas.ipynb')
    @property
    def runs(self): return self.root/'runs'/TAG
    def val_rows(self): return next((self.path/'cache').glob('*/tokens/val_rows*.tokens'))
    def too_long(self):
        "Seconds before the first batch, and of an evaluation, that the baseline does not allow"
        [notes] = self.runs.glob('001-*/experiment.json')
        phases = read_json(notes)['phases']
        return 2*max(phases[k]['seconds'] for k in ('before', 'evaluation')) + 11
    def env(self, **more):
        kept = {k: v for k,v in os.environ.items() if not k.startswith('AUTORESEARCH_')}
        package = self.root if self.target == 'tiny' else self.path/'package'
        return {**kept, 'PYTHONPATH': str(package), 'HOME': str(self.path/'home'),
            'TMPDIR': str(self.path/'tmp'), 'HF_TOKEN': SECRET, 'AUTORESEARCH_PROFILE': self.target,
            'AUTORESEARCH_CACHE': str(self.path/'cache/autoresearch'), 'OMP_NUM_THREADS': '1',
            **more}

    def sh(self, *args, ok=True, **more):
        r = subprocess.run([str(a) for a in args], cwd=self.root, env=self.env(**more), text=True,
            capture_output=True, timeout=180, errors='replace')
        assert not ok or r.returncode == 0, (args, r.stdout, r.stderr)
        return r
    def ar(self, command, *args, **more): return self.sh(BIN/command, *args, **more)
    def ar_here(self, command, *args):
        "In a fork of this process, which spares the imports: a command that runs no experiment"
        if threading.current_thread() is not threading.main_thread():
            return self.ar(command, *args, ok=False)
        return forked_script(self.root, str(BIN/command), *args, env=self.env())
    def git(self, *args): return self.sh('git', *args).stdout.strip()

def settings(text, **values):
    "The settings with other values in the last section, and in its place where it has them"
    head,at,own = text.rpartition('\n[')
    for k,v in values.items():
        own,n = re.subn(rf'^{k} = .*$', f'{k} = {v}', own, flags=re.M)
        if not n: own = f'{own.rstrip()}\n{k} = {v}\n'
    return head + at + own

SMALL = dict(time_budget=.6, free_steps=3, free_seconds=1, max_seq_len=64,
    eval_tokens=4096)
UNUSED = 'curves', 'sample', 'count-lesson', 'polar-lesson' # they show, and cost seconds
SMALLER = [('in', 'hparams-tiny', 'DEPTH = 2                 # 128 wide [1 .. 3]', 'DEPTH = 1'),
    ('after', 'hparams-tiny', '', '    HEAD_DIM,TOTAL_BATCH_SIZE = 32, 2**10'),
    ('in', 'run', "threading.Thread(target=importlib.import_module, args=['matplotlib.pyplot'])"
        '.start()', '')]

def begin_canvas(canvas, target):
    "Change the project's canvas, or the example's, to the one that all cases change"
    if target == 'polynomial': change(canvas, [('after', 'hparams', '', 'DEGREE = 3')])
    else:
        nb = json.loads(canvas.read_text())
        nb['cells'] = [c for c in nb['cells']
            if c['cell_type'] == 'code' and c['id'] not in UNUSED]
        canvas.write_text(json.dumps(nb))
        change(canvas, SMALLER)

def begin_tiny(box):
    "The project's own files, with a canvas that trains in half a second"
    listed = subprocess.run(['git', 'ls-files', 'settings.ini', 'nbs', 'autoresearch',
        'pyproject.toml', '_quarto.yml', '.gitignore'], cwd=ROOT, capture_output=True, text=True)
    for name in listed.stdout.split():
        if name.startswith('nbs/images'): continue
        (box.root/name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT/name, box.root/name, follow_symlinks=False)
    path = box.root/'settings.ini'
    path.write_text(settings(path.read_text(), **SMALL))

def begin_polynomial(box):
    "The torch-free example, and a copy of the package that runs it"
    shutil.copytree(ROOT/'examples/polynomial', box.root, dirs_exist_ok=True,
        ignore=shutil.ignore_patterns('runs', '__pycache__', 'results.tsv', 'run.log'))
    (box.root/'.gitignore').write_text('runs/\nresults.tsv\nrun.log\n__pycache__/\n')
    shutil.copytree(ROOT/'autoresearch', box.path/'package/autoresearch',
        ignore=shutil.ignore_patterns('__pycache__', 'corpus'))

def begin_box(path, case):
    "A session with its baseline"
    target = case.target
    box = Box(path, target)
    for name in ('repo', 'home/.ssh', 'home/.cache', 'cache', 'tmp'):
        (path/name).mkdir(parents=True)
    (path/'home/.ssh/id_ed25519').write_text(SECRET)
    dict(tiny=begin_tiny, polynomial=begin_polynomial)[target](box)
    begin_canvas(box.canvas, target)
    file = box.root/'settings.ini'
    # a busy machine takes its time
    file.write_text(settings(file.read_text(), wall_limit=90, **case.settings))
    box.git('init', '-q', '-b', 'main', '--template=')
    box.git('config', 'user.name', 't')
    box.git('config', 'user.email', 't@example.org')
    shutil.copy(box.canvas, box.path/'canvas.ipynb')
    if case.honest: change(box.canvas, WORSE[target])
    box.git('add', '-A')
    box.git('commit', '-qm', 'start')
    if target == 'tiny': box.ar('ar-prepare')
    box.ar('ar-setup', TAG)
    box.ar('ar-run', '-m', 'baseline')
    return box

def new_box(base, case, to):
    "A copy of the box of a session, which the first that wants one makes"
    said = json.dumps([case.target, case.settings, case.honest], sort_keys=True).encode()
    origin = base/hashlib.sha256(said).hexdigest()[:8]
    with file_lock(base/f'{origin.name}.lock', lambda seconds: None):
        if not (origin/'made').exists():
            shutil.rmtree(origin, ignore_errors=True)
            begin_box(origin, case)
            (origin/'made').touch()
    shutil.copytree(origin, to, symlinks=True)
    return Box(to, case.target)

# What stands

OURS = re.compile('|'.join([ # what experiments, git and the libraries write
    r'repo/(run\.log|results\.tsv|runs/(answers/.*|last\.json|supervisor\.log|lock|\.lock.*))$',
    r'repo/\.git/(index|objects/.*|logs/.*|ORIG_HEAD|refs/.*)$',
    r'repo/autoresearch/(train|_modidx)\.py$',
    r'repo/runs/[^/]+/((export|heard)\.json|base-.*|dropped-.*|\d+-.*)$',
    r'tmp/tmp\w+\.json$', r'.*\.pyc$', r'cache/[^/]+/(compiled/.*|(.*/)?\.lock)$',
    r'tmp/\.?autoresearch-run-.*', # the next run removes what a killed one left
    r'home/(\.cache/(matplotlib|fontconfig)|\.config/matplotlib)']))

def snapshot(box):
    "Every file of a box that no honest experiment changes, with its content"
    res = {}
    for root,dirs,names in os.walk(box.path):
        for n in [*names, *(d for d in dirs if os.path.islink(f'{root}/{d}'))]:
            f = os.path.relpath(f'{root}/{n}', box.path)
            if OURS.match(f): continue
            full = box.path/f
            if full.is_symlink(): res[f] = f'-> {os.readlink(full)}'
            elif not full.is_file(): res[f] = 'special'
            elif full.stat().st_size > 2**26: res[f] = f'{full.stat().st_size} bytes'
            else: res[f] = hashlib.sha256(full.read_bytes()).hexdigest()
    return res

def state_of(box):
    "What must be the same after an experiment that was not kept: files, refs, ledger, earlier runs"
    refs = dict(l.split() for l in box.git('for-each-ref', '--format=%(refname) %(objectname)')
        .splitlines())
    ledger = box.root/'results.tsv'
    runs = {d.name: {f.name: hashlib.sha256(f.read_bytes()).hexdigest()
        for f in d.iterdir() if f.is_file()} for d in sorted(box.runs.glob('[0-9]*-*'))}
    return dict(files=snapshot(box), refs=refs, head=box.git('symbolic-ref', 'HEAD'), runs=runs,
        ledger=ledger.read_text().splitlines() if ledger.exists() else [])

def differences(was, now):
    "What an experiment changed that none may"
    res = [f'file {f}' for f in {**was['files'], **now['files']}
        if was['files'].get(f) != now['files'].get(f)]
    new = {r for r in now['refs'] if re.fullmatch(
        rf'refs/autoresearch/{TAG}/((notes|by-hand)[/-])?\d+', r)} - set(was['refs'])
    new.add(f'refs/autoresearch/{TAG}/ledger') # git's copy, which grows with it
    res += [f'ref {r}' for r in {**was['refs'], **now['refs']}
        if r not in new and was['refs'].get(r) != now['refs'].get(r)]
    if was['head'] != now['head']: res.append(f"HEAD {now['head']}")
    if now['ledger'][:len(was['ledger'])] != was['ledger']: res.append('ledger')
    res += [f'run {d}: {n}' for d,files in was['runs'].items() for n,sha in files.items()
        if now['runs'].get(d, {}).get(n) != sha]
    return sorted(res)

def living(box):
    "Processes that a box's run left"
    res = []
    for p in psutil.process_iter():
        if p.pid == os.getpid(): continue
        with suppress(psutil.Error, OSError):
            said = ' '.join([*p.cmdline(), p.cwd(), p.environ().get('AUTORESEARCH_RUN_DIR', '')])
            if p.status() != psutil.STATUS_ZOMBIE and f'{box.path}/' in said + '/': res.append(p)
    return res

def end(box):
    "End what a run left; how many there were"
    left = living(box)
    for p in left:
        with suppress(psutil.Error): p.kill()
    return len(left)

# A server outside of the walls, on a port of this machine

@contextmanager
def helper(box):
    "Gives whoever asks the coefficients of a good polynomial, and counts who did"
    asked = []
    server = socket.create_server(('127.0.0.1', 0))
    def serve(server):
        with suppress(OSError):
            while True:
                with server.accept()[0] as c:
                    asked.append(time.time())
                    c.sendall(b'[-0.0419, 1.2703, -0.3767, -0.0104]')
    box.port = server.getsockname()[1]
    twin = socket.socket(socket.AF_UNIX)
    twin.bind(f'\0helper-{box.port}')
    twin.listen()
    for s in (server, twin): threading.Thread(target=serve, args=[s], daemon=True).start()
    try: yield asked
    finally:
        for s in (server, twin): s.close()

# One attack

@dataclass
class Outcome:
    kind:str # A key of `RANK`
    status:str # Of the last run: keep, discard, crash
    examined:str # What the notes say of an examination
    value:float
    reason:str
    lint:list
    changed:list # What the experiment changed beside its own row and folder
    tried:bool
    answer:str
    log:str

    def refused_by(self, says): return re.search(says, self.reason, re.I) is not None

    @property
    def line(self):
        extra = f'; CHANGED {", ".join(self.changed[:4])}' if self.changed else ''
        lint = f'; lint: {" | ".join(self.lint)[:90]}' if self.lint else ''
        return f'{self.kind} {self.value:.4f} {self.reason[:110]}{lint}{extra}'

def last_run(box):
    "Notes and folder of the latest experiment; {} and None where there is none but the baseline"
    dirs = [d for d in sorted(box.runs.glob('[0-9]*-*')) if not d.name.startswith('001-')]
    return (read_json(dirs[-1]/'experiment.json'), dirs[-1]) if dirs else ({}, None)

def lint_of(notes, answer):
    "The findings of the lint on a run"
    said = notes.get('lint')
    said = said if isinstance(said, list) else [said] if said else []
    return [str(o) for o in said] or re.findall(r'^lint: +(.*)$', answer, flags=re.M)

def named(case, lint):
    "Does the lint say what a case does? What `parts/trying` brings into the imports is not it"
    own = [l for l in lint if not l.startswith('imports,')]
    return any(re.search(case.names, l) for l in own)

def run_once(box, case, n, walls):
    shutil.copy(box.path/'canvas.ipynb', box.canvas)
    change(box.canvas, all_cells(case, box, n))
    r = box.ar('ar-run', '-m', case.name, *flags(walls), ok=False)
    settled = box.ar_here('ar-status') # what comes next mends first
    return r.stdout + r.stderr + settled.stderr

def ran(notes, answer):
    "The outcome's kind, by the notes"
    if notes.get('status') == 'keep': return 'KEPT'
    if notes.get('status') == 'discard': return 'without effect'
    return 'refused'

def lint_alone(case, folder, box=None):
    "What the lint says of a case that is not run; `box` has what its cells are filled from"
    canvas,base = folder/'canvas.ipynb', folder/'base.ipynb'
    own = 'nbs/02_train.ipynb' if case.target == 'tiny' else 'examples/polynomial/canvas.ipynb'
    shutil.copyfile(ROOT/own, base)
    begin_canvas(base, case.target)
    shutil.copyfile(base, canvas)
    change(canvas, all_cells(case, box or SimpleNamespace(port=1), case.runs-1))
    return lint(canvas, base)

def attempt(box, case, walls='walls'):
    "Run a case; its outcome. A box serves for one."
    with helper(box) as asked:
        before = state_of(box)
        for n in range(case.runs):
            if n: box.ar_here('ar-drop') # what a refused run left in the working tree
            answer = run_once(box, case, n, walls)
            if n < case.runs-1 and last_run(box)[0].get('status') == 'keep': before = state_of(box)
        left = end(box)
    shutil.rmtree('/tmp/rows' + str(box.path).replace('/', '-'), ignore_errors=True)
    notes,run_dir = last_run(box)
    log = '\n'.join(map(read_log, sorted(box.runs.glob('[0-9]*-*'))))
    kind = ran(notes, answer)
    if kind == 'refused': box.ar_here('ar-drop')
    changed = differences(before, state_of(box)) if kind != 'KEPT' else []
    if left: changed.append(f'{left} processes left')
    changed += leaks(box, log, run_dir)
    lint = lint_of(notes, answer)
    if changed: kind = 'KEPT'
    if kind == 'KEPT' and named(case, lint): kind = 'named'
    reason = notes.get('reason') or ' '.join(answer.split())[-300:]
    return Outcome(kind, notes.get('status', ''), str(notes.get('examined', '')),
        notes.get('value') or 0., reason, lint, changed, 'TRIED' in log, answer, log)

def leaks(box, log, run_dir):
    "Words that got out, and a folder that is too full"
    res = ['the secret is in the log'] if SECRET in log else []
    if run_dir is None or not run_dir.exists(): return res
    size = sum(f.lstat().st_blocks*512 for f in run_dir.rglob('*') if not f.is_symlink())
    return res + ([f'{size/2**20:.0f} MiB in the run\'s folder'] if size > MOST else [])

def tried(base, folder, case, walls):
    "Run a case in a box of its own, a copy of one in `base`; its outcome"
    box = new_box(base, case, folder/'box')
    try: return attempt(box, case, walls)
    finally: shutil.rmtree(box.path, ignore_errors=True)

ATTACKS,HONEST = cases('attacks'), cases('honest')
