"""Canvases that cheat, as real experiments.

What a file of `attacks/` says must hold, at least: an attack is refused, or it is without effect
(the run is no gain and nothing but its own row and folder is different afterwards), or the answer
names what the canvas does. `python tests/test_attacks.py [--bare] [NAME ...]` prints a table, with
the variations that are left out of the tests and the honest canvases of test_honest.py."""
import argparse, shutil, tempfile, time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
import pytest
from arena import ATTACKS, HONEST, RANK, TARGETS, lint_alone, named, tried
from autoresearch import walls as around

def param(case, *more):
    "Without walls `make test` runs the small target alone"
    always = case.always and (more != ('bare',) or case.target == 'polynomial')
    marks = [] if always else [pytest.mark.slow]
    return pytest.param(case, *more, id='-'.join([case.name, *more]), marks=marks)

def has_walls(): return around.find().name == 'bwrap'

def columns(case):
    "Where both columns are the same the walls play no part"
    yield 'walls'
    if case.walls != case.bare and (case.bare != 'named' or case.open): yield 'bare'

# each target's first case makes a box: two processes begin with different ones
OWN = sorted((c for c in ATTACKS if not c.like), key=lambda c: (c.target, not c.slow))
N = len([c for c in OWN if c.target == 'polynomial'])
ORDER = [*OWN[:8], *OWN[N:], *OWN[8:N]]

@pytest.mark.parametrize('case,walls', [param(c, w) for c in ORDER for w in columns(c)])
def test_attack(base, tmp_path, case, walls):
    if walls == 'walls' and case.walls != case.bare and not has_walls():
        pytest.skip(f'no walls on this machine: {around.find().why}')
    o = tried(base, tmp_path, case, walls)
    must = case.must[walls]
    assert RANK[o.kind] >= RANK[must], f'{o.line}\n{o.answer}'
    told = case.says and o.refused_by(case.says)
    assert o.tried or told, f'never tried: {o.line}\n{o.log[-3000:]}'
    if must == o.kind == 'refused': assert o.refused_by(case.says), o.line

ONLY_NAMED = [pytest.param(c, id=c.name) for c in ATTACKS if c.bare == 'named' != c.walls]

@pytest.mark.parametrize('case', ONLY_NAMED)
def test_what_nothing_holds_without_walls_is_named(tmp_path, case):
    "The line that is in the answer; those that are `open` are run"
    found = lint_alone(case, tmp_path)
    assert named(case, found), found

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
