"""make install with stand-ins for Python and uv: which installer is asked for what, and what comes
of its failures. The locked versions, the workflows."""
import os, re, shutil, subprocess
from pathlib import Path
import pytest, yaml
from nbdev.config import tomllib

ROOT = Path(__file__).parent.parent
STUB = """#!/bin/sh
echo "$(basename $0) $*" >> "$LOG"
case "$*" in
  "-m venv .venv"|venv*) mkdir -p .venv/bin && cp "$STUBS/python" .venv/bin/python ;;
  *"pip install"*) case "$FAIL" in all|$(basename $0)) exit 1 ;; esac
    case "$FAIL $*" in "pins "*"-c .venv/constraints.txt"*) exit 1 ;; esac ;;
esac
"""

@pytest.fixture
def make(tmp_path):
    """make in a folder with this Makefile, with stand-ins that note how they were called; gives
    what was said, the calls, and the exit code"""
    for name in ('Makefile', 'pyproject.toml', 'constraints.txt', 'setup.py'):
        shutil.copy(ROOT/name, tmp_path)
    stubs = tmp_path/'stubs'
    stubs.mkdir()
    for name in ('python', 'uv'):
        (stubs/name).write_text(STUB)
        (stubs/name).chmod(0o755)
    def call(*goals, fail='', uv=False, **env):
        log = tmp_path/'calls'
        log.write_text('')
        args = ['make', *goals, f'PYTHON={stubs}/python', f'UV={stubs/"uv" if uv else ""}',
            'HOPPER=']
        own = {k: v for k,v in os.environ.items()
            if not k.startswith(('PIP_', 'UV_', 'MAKE', 'MFLAGS'))}
        r = subprocess.run(args, cwd=tmp_path,
            env={**own, 'LOG': str(log), 'STUBS': str(stubs), 'FAIL': fail, **env},
            capture_output=True, text=True, timeout=200)
        return r.stdout+r.stderr, log.read_text().splitlines(), r.returncode
    return call

PINNED = "-c .venv/constraints.txt -e .[dev,search,swarm,report,dashboard,site]"

def test_pip_where_there_is_no_uv(make, tmp_path):
    said,calls,code = make('install')
    assert code == 0 and calls[1:] == ['python -m venv .venv',
        f'python -m pip install --disable-pip-version-check {PINNED}'], calls
    assert 'installing into .venv with pip' in said and (
        (tmp_path/'.venv/constraints.txt').read_bytes() == (ROOT/'constraints.txt').read_bytes())
    assert make('install')[1] == [], 'a second call costs nothing'

def test_uv_where_it_is(make, tmp_path):
    said,calls,code = make('install', uv=True)
    assert (code == 0 and calls[1].startswith('uv venv --seed --python')
        and calls[2:] == [f'uv pip install --python .venv/bin/python {PINNED}']), calls
    assert 'installing into .venv with uv' in said

def test_uv_that_fails_leaves_it_to_pip(make):
    said,calls,code = make('install', uv=True, fail='uv')
    assert (code == 0 and [c.split()[0] for c in calls[2:]] == ['uv', 'python']
        and 'uv could not; now with pip' in said)

def test_versions_that_can_not_be_had(make):
    said,calls,code = make('install', fail='pins')
    assert (code == 0 and ['-c .venv' in c for c in calls[2:]] == [True, False]
        and 'now with the newest ones' in said)

def test_an_installation_that_fails(make, tmp_path):
    for uv,tries in ((False, 2), (True, 3)):
        said,calls,code = make('install', fail='all', uv=uv)
        assert (code and 'make: the installation failed; the reason stands above' in said
            and sum('pip install' in c for c in calls) == tries)
        assert not (tmp_path/'.venv/.installed').exists()

def test_a_torch_that_is_there_is_kept(make, tmp_path):
    (tmp_path/'.venv/lib/python3.11/site-packages/torch').mkdir(parents=True)
    make('install')
    pins = (tmp_path/'.venv/constraints.txt').read_text()
    assert 'numpy==' in pins and not re.search(r'^(torch|triton|nvidia-\S+|cuda-\S+)==', pins, re.M)

def test_a_python_that_is_too_old(make, tmp_path):
    (tmp_path/'stubs/python').write_text('#!/bin/sh\nexit 1\n')
    said,_,code = make('install')
    assert code and 'it needs Python 3.10 or newer' in said and not (tmp_path/'.venv').exists()

def test_without_a_browser_or_apt_the_target_says_so(make, tmp_path):
    "Every command it asks for is missing, or fails"
    for name in ('make', 'sh', 'id'): (tmp_path/'stubs'/name).symlink_to(shutil.which(name))
    said,_,code = make('browser', PATH=str(tmp_path/'stubs'))
    assert code == 0 and 'are skipped. sudo make browser installs them' in said
    (tmp_path/'stubs/apt-get').write_text('#!/bin/sh\nexit 100\n')
    (tmp_path/'stubs/apt-get').chmod(0o755)
    (tmp_path/'stubs/id').unlink()
    (tmp_path/'stubs/id').write_text('#!/bin/sh\necho 0\n')
    (tmp_path/'stubs/id').chmod(0o755)
    said,_,code = make('browser', PATH=str(tmp_path/'stubs'))
    assert (code == 0 and 'installing chromium chromium-driver' in said
        and 'apt-get could not; the tests in a browser are skipped' in said)

# the locked versions

PINS = (ROOT/'constraints.txt').read_text()
PROJECT = tomllib.loads((ROOT/'pyproject.toml').read_text())['project']

def test_the_pins_name_no_index():
    assert not re.search(r'https?://|file:|find-links|index', PINS)

def test_the_pins_are_of_these_dependencies():
    "Without uv: each that the project asks for is pinned, to a version that it allows"
    from packaging.requirements import Requirement
    def spelled(name): return re.sub(r'[-_.]+', '-', name).lower()
    pins = {}
    for name,version in re.findall(r'^([\w.-]+)==(\S+)', PINS, re.M):
        pins.setdefault(spelled(name), []).append(version)
    asked = [*PROJECT['dependencies'], *sum(PROJECT['optional-dependencies'].values(), [])]
    for r in map(Requirement, asked):
        versions = pins.get(spelled(r.name), [])
        assert versions and all(r.specifier.contains(v, prereleases=True) for v in versions), \
            f'{r}: pinned to {versions}; make lock'

@pytest.mark.skipif(not shutil.which('uv'), reason='uv is not here')
def test_the_pins_are_current(tmp_path):
    "By uv's own word: resolved again from what is pinned, nothing comes or goes"
    shutil.copy(ROOT/'constraints.txt', tmp_path)
    cmd = ['uv', 'pip', 'compile', 'pyproject.toml', '--universal', '--python-version', '3.10',
        '--all-extras', '--no-annotate', '--no-header', '--quiet',
        '-o', f'{tmp_path}/constraints.txt']
    r = subprocess.run(cmd, cwd=ROOT, capture_output=True, text=True, timeout=200)
    assert r.returncode == 0, r.stderr
    names = lambda text: set(re.findall(r'^[\w.-]+==\S+', text, re.M))
    assert names((tmp_path/'constraints.txt').read_text()) == names(PINS), 'make lock'

# the workflows, which run elsewhere

WORKFLOWS = sorted((ROOT/'.github/workflows').glob('*.yaml'))

@pytest.mark.parametrize('path', WORKFLOWS, ids=lambda p: p.stem)
def test_a_workflow_is_one(path):
    "Where nothing better is there: it is YAML, and of the form that the runners want"
    flow = yaml.safe_load(path.read_text())
    assert {'name', True, 'jobs', 'permissions'} <= set(flow), 'YAML reads the key `on` as true'
    for job in flow['jobs'].values():
        assert ({'runs-on', 'steps'} <= set(job)
            and set(job.get('needs', '').split()) <= set(flow['jobs']))
        assert all(('uses' in s) != ('run' in s) and re.search(r'@\S+$', s.get('uses', '@x'))
            for s in job['steps'])

@pytest.mark.skipif(not shutil.which('actionlint'), reason='actionlint is not here')
def test_the_workflows_are_without_fault():
    r = subprocess.run(['actionlint', *WORKFLOWS], capture_output=True, text=True)
    assert r.returncode == 0, r.stdout + r.stderr

def test_the_suite_runs_on_what_the_package_says_it_takes():
    matrix = yaml.safe_load((ROOT/'.github/workflows/test.yaml').read_text())[
        'jobs']['test']['strategy']['matrix']
    said = [c.rpartition(' ')[2] for c in PROJECT['classifiers'] if re.search(r':: 3\.\d+$', c)]
    assert matrix['python'] == said and PROJECT['requires-python'] == f'>={said[0]}'
