"""Every test runs on profile tiny, in the cache of this user, without a GPU or a network."""
import os, shutil
from pathlib import Path
import pytest
os.environ['AUTORESEARCH_PROFILE'] = 'tiny'
os.environ.setdefault('PYDEVD_DISABLE_FILE_VALIDATION', '1')
# the test processes share the cores: torch's threads would wait for each other,
# for seconds in a step
os.environ.setdefault('OMP_NUM_THREADS', '1')

# by their CPU seconds, from 150 to 20: handed out first, or one process waits for the other
LONGEST = ['test_ratchet', 'test_run', 'test_confirm', 'test_search', 'test_attacks',
    'test_faults', 'test_report', 'test_browser', 'test_dashboard', 'test_examine', 'test_demo', 'test_prepare', 'test_fuse',
    'test_honest', 'test_train', 'test_docs', 'test_search_waits', 'test_activations', 'test_turns',
    'test_confirm_adversary', 'test_wheel']

def pytest_collection_modifyitems(items):
    items.sort(key=lambda o: LONGEST.index(o.path.stem) if o.path.stem in LONGEST else len(LONGEST))

def made_once(base, name, make, to):
    """A copy of what `make` leaves in the folder that it is given, which the first process of a
    session that wants it makes for all"""
    from autoresearch.contract import file_lock
    origin = base/name
    with file_lock(base/f'{name}.lock', lambda seconds: None):
        if not (base/f'{name}.made').exists():
            shutil.rmtree(origin, ignore_errors=True)
            origin.mkdir()
            make(origin)
            (base/f'{name}.made').touch()
    return Path(shutil.copytree(origin, to, symlinks=True, dirs_exist_ok=True))

@pytest.fixture(scope='session')
def base(tmp_path_factory):
    """Where the boxes are that experiments of `arena` have copies of; shared by all processes of a
    session"""
    base = tmp_path_factory.getbasetemp()
    if 'PYTEST_XDIST_WORKER' in os.environ: base = base.parent
    base /= 'arena'
    base.mkdir(exist_ok=True)
    return base
