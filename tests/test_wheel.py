"""An installed wheel works outside of a checkout: built, put into a fresh environment, and one
experiment of `tiny` run from it. And ar-new."""
import os, shutil, subprocess, sys, venv, zipfile
from importlib.util import find_spec
from pathlib import Path
import pytest
from autoresearch import new
from autoresearch.contract import get_profile

ROOT = Path(__file__).parent.parent

def run(*args, cwd, ok=True, **env):
    "A command in `cwd` that knows nothing of this checkout"
    own = {k: v for k,v in os.environ.items()
        if not k.startswith(('PYTHON', 'AUTORESEARCH_PROFILE', 'GIT_'))}
    r = subprocess.run([str(a) for a in args], cwd=cwd, env={**own, **env},
        capture_output=True, text=True, timeout=300)
    assert not ok or r.returncode == 0, (args, r.stdout, r.stderr)
    return r

def git(folder, *args): return run('git', *args, cwd=folder).stdout.strip()

# the wheel

@pytest.fixture(scope='module')
def wheel(tmp_path_factory):
    """Built as a release is, from the files that git knows: the archive of the sources,
    and from that the wheel"""
    if not find_spec('build'): pytest.skip('build is not installed, which nbdev brings')
    source,made = tmp_path_factory.mktemp('source'), tmp_path_factory.mktemp('dist')
    names = git(ROOT, 'ls-files', '-z', '--cached', '--others', '--exclude-standard').split('\0')
    for n in filter(None, names):
        if not (ROOT/n).exists(): continue
        (source/n).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT/n, source/n, follow_symlinks=False)
    run(sys.executable, '-m', 'build', '--no-isolation', '--outdir', made, cwd=source)
    assert len(list(made.glob('autoresearch-*.tar.gz'))) == 1
    return next(made.glob('autoresearch-*.whl'))

@pytest.fixture(scope='module')
def installed(wheel, tmp_path_factory):
    "The `bin` of a fresh environment with the wheel; what it depends on is this one's"
    home = tmp_path_factory.mktemp('env')
    venv.create(home, with_pip=False, symlinks=True)
    site = home/f'lib/python{sys.version_info[0]}.{sys.version_info[1]}/site-packages'
    # a .pth in there, as of an editable installation, is not read again
    ours = [p for p in sys.path if p.endswith('site-packages')]
    (site/'depends.pth').write_text('\n'.join(ours))
    run(sys.executable, '-m', 'pip', '--python', home/'bin/python', 'install', '--no-deps',
        '--no-index', '--no-warn-script-location', wheel, cwd=home)
    where = run(home/'bin/python', '-c', 'import autoresearch; print(autoresearch.__file__)',
        cwd=home).stdout.strip()
    assert Path(where).is_relative_to(home), where
    return home/'bin'

def test_a_wheel_holds_what_a_project_begins_with(wheel):
    "The same bytes as the checkout has, and nothing of it that a run has left"
    with zipfile.ZipFile(wheel) as z:
        names = [n for n in z.namelist() if n.startswith('autoresearch/files/')]
        held = {n.removeprefix('autoresearch/files/'): z.read(n) for n in names}
    assert {'settings.ini', 'program.md', 'nbs/02_train.ipynb',
        'examples/polynomial/.gitattributes', 'examples/polynomial/evaluator.py'} <= set(held)
    assert all((ROOT/n).read_bytes() == data for n,data in held.items())
    assert set(held) <= set(
        git(ROOT, 'ls-files', '--cached', '--others', '--exclude-standard').splitlines())

def test_commands_of_a_wheel(installed, tmp_path):
    said = run(installed/'ar-help', cwd=tmp_path).stdout
    assert len(said.splitlines()) > 15 and 'ar-new ' in said
    r = run(installed/'ar-status', cwd=tmp_path, ok=False)
    assert r.returncode == 1 and 'ar-new FOLDER' in r.stderr and 'Traceback' not in r.stderr

def test_an_experiment_of_tiny_from_a_wheel(installed, tmp_path):
    "From `ar-new` to a row, with two seconds of training"
    run(installed/'ar-new', 'mine', cwd=tmp_path)
    mine = tmp_path/'mine'
    settings = (mine/'settings.ini').read_text()
    head,tiny = settings.split('[tiny]')
    (mine/'settings.ini').write_text(
        f"{head}[tiny]{tiny.replace('time_budget = 20', 'time_budget = 2')}"
        .replace('eval_tokens = 98304', 'eval_tokens = 8192'))
    git(mine, '-c', 'user.name=t', '-c', 'user.email=t@example.org', 'commit', '-qam',
        'two seconds')
    path = dict(PATH=f'{installed}{os.pathsep}{os.environ["PATH"]}', AUTORESEARCH_PROFILE='tiny')
    run(installed/'ar-prepare', cwd=mine, **path)
    run(installed/'ar-setup', 'first', cwd=mine, **path)
    said = run(installed/'ar-run', '-m', 'baseline', cwd=mine, **path).stdout
    assert 'status:   keep' in said, said
    rows = [l.split('\t') for l in (mine/'results.tsv').read_text().splitlines()[1:]]
    assert len(rows) == 1 and rows[0][3:] == ['keep', 'baseline'] and 1 < float(rows[0][1]) < 4
    assert (git(mine, 'status', '--porcelain') == ''
        and git(mine, 'symbolic-ref', '--short', 'HEAD') == 'autoresearch/first')
    record = (next((mine/'runs/first').glob('001-*'))/'record.json').read_text()
    assert '"val_bpb"' in record and str(ROOT) not in record

# ar-new

@pytest.mark.parametrize('example', ['', 'polynomial'])
def test_a_project_is_ready_for_a_session(example, tmp_path):
    made = new.new_project(tmp_path/'deep'/'mine', example)
    assert (git(made, 'status', '--porcelain') == ''
        and git(made, 'symbolic-ref', '--short', 'HEAD') == 'main')
    names = git(made, 'ls-files').split()
    canvas = 'canvas.ipynb' if example else 'nbs/02_train.ipynb'
    assert {'settings.ini', canvas, 'program.md', 'AGENTS.md',
        '.gitignore', '.gitattributes'} <= set(names)
    assert (made/canvas).read_bytes() == (
        ROOT/('examples/polynomial/canvas.ipynb' if example else canvas)).read_bytes()
    p = get_profile(example or 'tiny', made/'settings.ini')
    assert (p.canvas == canvas and all((made/f).is_file() for f in p.frozen)
        and list(made.parent.iterdir()) == [made])
    for left in (f'{p.runs}/x/record.json', p.ledger, p.log, p.picture):
        assert git(made, 'check-ignore', left) == left

def test_orders_name_no_file_that_is_not_there(tmp_path):
    "The sentences that are replaced are in program.md as they are known; what they name is gone"
    orders = (ROOT/'program.md').read_text()
    assert all(orders.count(o) == 1 for o in new.ELSEWHERE)
    own = new.own_orders(orders)
    assert 'README.md' not in own and 'autoresearch/' not in (
        own.replace('autoresearch/mar5', '').replace('autoresearch/TAG', ''))
    assert 'nbs/02_train.ipynb' in own

def test_nobody_known_to_git(tmp_path, monkeypatch):
    for k in ('AUTHOR', 'COMMITTER'):
        for o in ('NAME', 'EMAIL'): monkeypatch.delenv(f'GIT_{k}_{o}', raising=False)
    monkeypatch.setenv('GIT_CONFIG_GLOBAL', os.devnull)
    monkeypatch.setenv('GIT_CONFIG_SYSTEM', os.devnull)
    monkeypatch.setenv('HOME', str(tmp_path))
    made = new.new_project(tmp_path/'mine', 'polynomial')
    assert git(made, 'log', '--format=%s') == 'A canvas, its settings, and orders for an agent'

def refused(*args, cwd):
    "What the command says, called as its console script calls it, which need not be installed"
    command = cwd.parent/'ar_new.py'
    command.write_text('from autoresearch.new import ar_new\nar_new()\n')
    r = run(sys.executable, command, *args, cwd=cwd, ok=False, PYTHONPATH=str(ROOT))
    assert (r.returncode == 1 and r.stderr.startswith('ar-new: ')
        and len(r.stderr.splitlines()) == 1), r
    return r.stderr

def test_what_ar_new_refuses(tmp_path, monkeypatch):
    (tmp_path/'full').mkdir()
    (tmp_path/'full/mine.txt').write_text('mine')
    (tmp_path/'file').write_text('')
    (tmp_path/'empty').mkdir()
    for there in ('full', 'file'):
        assert (f'{there} is there and not an empty folder: name another one'
            in refused(there, cwd=tmp_path))
    assert ("no example 'chess'; accepted: polynomial"
        in refused('new', '--example', 'chess', cwd=tmp_path))
    assert 'File exists' in refused('file/below', cwd=tmp_path)
    assert (sorted(f.name for f in tmp_path.iterdir()) == ['empty', 'file', 'full']
        and [f.name for f in (tmp_path/'full').iterdir()] == ['mine.txt'])
    monkeypatch.chdir(tmp_path/'empty')
    same = os.stat('.').st_ino
    new.new_project('.', 'polynomial')
    assert os.stat(tmp_path/'empty').st_ino == same and git(
        tmp_path/'empty', 'status', '--porcelain') == '', 'who stands in the folder still does'
    assert not [f for f in os.listdir('.') if f.startswith('.ar-new')]
    monkeypatch.setenv('PATH', str(tmp_path))
    with pytest.raises(ValueError, match='git is not installed'): new.new_project(tmp_path/'new')

def test_what_fails_midway_leaves_nothing(tmp_path, monkeypatch):
    def full(folder): raise OSError(28, 'No space left on device')
    monkeypatch.setattr(new, 'first_commit', full)
    with pytest.raises(OSError): new.new_project(tmp_path/'mine')
    assert list(tmp_path.iterdir()) == []
