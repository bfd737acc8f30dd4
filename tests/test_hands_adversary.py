"""What an adversary found in the commands of an agent's hands: cells, ideas, combinations, notes;
one session for all of it."""
import json, random
import pytest
import lab
from autoresearch.ideas import merge_lines

LOOP = ['for x in xs:', '    a = f(x)', '    b = g(a)', '    total += b']

@pytest.mark.parametrize('anew', [
    ['def step(x):', '    if x > 0:', '        return h(x)', '    return 0'],
    ['while xs:', '    x = xs.pop()', '    if x: break', '    y.append(x)'],
    ['for x in xs:', '  a = f(x)', '  b = g(a)', '  total += b']])
def test_a_line_does_not_go_into_a_block_written_anew(anew):
    more = [*LOOP[:2], '    a = clip(a)', *LOOP[2:]]
    assert merge_lines(LOOP, anew, more)[0] is None and merge_lines(LOOP, more, anew)[0] is None

def test_constants_on_neighbouring_lines_still_merge():
    then = ['DEPTH = 8   # layers', 'RATE = .5', "WINDOW = 'SSSL' # long and short"]
    now = ['DEPTH = 12', 'RATE = 1e-3 # x', then[2]]
    got = merge_lines(then, now, [*then[:2], "WINDOW = 'L'"])[0]
    assert got == [*now[:2], "WINDOW = 'L'"]

def test_merging_is_even_handed_and_loses_nothing():
    r = random.Random(3)
    def edited(lines):
        res = list(lines)
        for _ in range(r.randrange(4)):
            i = r.randrange(len(res)+1)
            res[i:i+r.randrange(2)] = r.sample('ABCDEFGH', r.randrange(2))
        return res
    for _ in range(2000):
        then = [r.choice('abcde') for _ in range(r.randrange(7))]
        a,b = edited(then), edited(then)
        assert merge_lines(then, a, then)[0] == merge_lines(then, then, a)[0] == a
        assert merge_lines(then, a, a)[0] == a
        both = merge_lines(then, a, b)[0]
        assert both == merge_lines(then, b, a)[0]
        assert both is None or {*a, *b} - {*then} <= {*both}

@pytest.fixture(scope='module')
def session(tmp_path_factory):
    "A baseline and a crash"
    root = lab.example(tmp_path_factory.mktemp('hands')/'repo', rule='strict')
    lab.setup(root)
    lab.run(root, 'baseline')
    lab.edit(root, 'DEGREE = 1 ', 'DEGREE = 1/0 ')
    lab.run(root, 'a crash', ok=False)
    lab.ar(root, 'ar-drop')
    return root

def refused(root, *args):
    "What a command says where it refuses, the same on both outputs"
    r = lab.ar(root, *args, '--json', ok=False)
    o = json.loads(r.stdout)
    assert r.returncode == o['code'] == 1 and o['error'] in r.stderr
    return o['error']

@pytest.mark.parametrize('args', [('ar-show', '³'), ('ar-combine', '³'), ('ar-combine', 'nov2/³'),
    ('ar-ideas', 'take', '³')])
def test_a_digit_that_is_no_number(session, args):
    assert 'not foreseen' not in (said := refused(session, *args)) and '³' in said

def test_a_crash_has_no_value(session):
    o = json.loads(lab.ar(session, 'ar-show', '2', '--json').stdout)
    assert (o['status'], o['value'], o['difference']) == ('crash', None, None)

@pytest.mark.parametrize('words', [['the'], ['...'], ['a', 'new'], [' ']])
def test_about_nothing(session, words):
    assert 'no word that says what' in refused(session, 'ar-ideas', 'about', *words)

def test_about_a_long_question(session):
    said = lab.ar(session, 'ar-ideas', 'about', 'z'*5000).stdout
    assert len(said) < 300 and said.endswith('0 tried here, 0 kept\n')
