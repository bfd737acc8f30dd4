"""Honest canvases of unusual kinds, as real experiments: the files of `honest/`."""
import re
import pytest
from arena import HONEST, tried

CASES = [pytest.param(c, id=c.name, marks=[] if c.always else [pytest.mark.slow]) for c in HONEST]

@pytest.mark.parametrize('case', CASES)
def test_honest(base, tmp_path, case):
    "It is kept, by what the examiner measured, and nothing is said against it"
    o = tried(base, tmp_path, case, 'walls')
    assert o.status == 'keep' and not o.changed, f'{o.line}\n{o.answer}\n{o.log[-3000:]}'
    said = [l for l in o.lint if not case.says or not re.search(case.says, l)]
    assert o.examined == 'yes' and not said, f'{o.examined}, {said}\n{o.answer}'
