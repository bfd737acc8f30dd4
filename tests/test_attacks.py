"""Canvases that cheat, and honest ones of unusual kinds, as real experiments.

What a file of `attacks/` says must hold, at least: an attack is refused, or it is without effect
(the run is no gain and nothing but its own row and folder is different afterwards), or the answer
names what the canvas does. `python tests/test_attacks.py [--bare] [NAME ...]` prints a table, with
the variations that are left out of the tests."""
import argparse, os, re, shutil, tempfile, time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
import pytest
from arena import ATTACKS, HONEST, RANK, TARGETS, attempt, new_box
from autoresearch import walls as around

def param(case, *more):
    marks = [pytest.mark.slow] if case.slow else []
    return pytest.param(case, *more, id='-'.join([case.name, *more]), marks=marks)

@pytest.fixture(scope='session')
def base(tmp_path_factory):
    "Where the boxes are that others are copied from; shared by all processes of a session"
    base = tmp_path_factory.getbasetemp()
    if 'PYTEST_XDIST_WORKER' in os.environ: base = base.parent
    base /= 'arena'
    base.mkdir(exist_ok=True)
    return base

def tried(base, tmp_path, case, walls):
    box = new_box(base, case, tmp_path/'box', walls)
    try: return attempt(box, case, walls)
    finally: shutil.rmtree(box.path, ignore_errors=True)

def has_walls(): return around.find().name == 'bwrap'

# where both columns are the same, the walls play no part
BOTH = [param(c, w) for c in ATTACKS if not c.like
    for w in ('walls', 'bare') if w == 'walls' or c.walls != c.bare]

@pytest.mark.parametrize('case,walls', BOTH)
def test_attack(base, tmp_path, case, walls):
    if walls == 'walls' and case.walls != case.bare and not has_walls():
        pytest.skip(f'no walls on this machine: {around.find().why}')
    o = tried(base, tmp_path, case, walls)
    must = case.must[walls]
    assert RANK[o.kind] >= RANK[must], f'{o.line}\n{o.answer}'
    told = case.says and o.refused_by(case.says)
    assert o.tried or told, f'never tried: {o.line}\n{o.log[-3000:]}'
    if must == o.kind == 'refused': assert o.refused_by(case.says), o.line

@pytest.mark.parametrize('case', [param(c) for c in HONEST])
def test_honest(base, tmp_path, case):
    "It is kept, by what the examiner measured, and nothing is said against it"
    o = tried(base, tmp_path, case, 'walls')
    assert o.status == 'keep' and not o.changed, f'{o.line}\n{o.answer}\n{o.log[-3000:]}'
    said = [l for l in o.lint if not case.says or not re.search(case.says, l)]
    assert o.examined == 'yes' and not said, f'{o.examined}, {said}\n{o.answer}'

def table(cases, walls, jobs):
    "What happens to every case, a line each"
    base = Path(tempfile.mkdtemp(prefix='arena-'))
    def one(case):
        t0 = time.time()
        try: o = tried(base, base/f'try-{case.name}', case, walls)
        except Exception as e: return case, f'{type(e).__name__}: {str(e)[-1500:]}', 0
        never = '' if o.tried or case.honest else '; NEVER TRIED'
        return case, o.line + never, time.time()-t0
    with ThreadPoolExecutor(jobs) as pool:
        for case,line,seconds in pool.map(one, cases):
            must = case.must[walls] or 'kept'
            print(f'{case.name:34} {must:15} {seconds:4.0f} s  {line}', flush=True)
    shutil.rmtree(base)

if __name__ == '__main__':
    parser = argparse.ArgumentParser()
    parser.add_argument('names', nargs='*')
    parser.add_argument('--bare', action='store_true')
    parser.add_argument('--jobs', type=int, default=2)
    parser.add_argument('--target', choices=TARGETS)
    args = parser.parse_args()
    chosen = [c for c in [*ATTACKS, *HONEST] if c.name in args.names or not args.names]
    chosen = [c for c in chosen if args.target in (None, c.target)]
    table(chosen, 'bare' if args.bare else 'walls', args.jobs)
