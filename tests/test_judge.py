"The judge's mathematics against closed forms, its promises against chance, its protocol to its end"
import math, random, subprocess, sys
from pathlib import Path
import pytest
from autoresearch.judge import (MARKS, Noise, Rule, Run, at_equal_steps, chi_square_point,
    chi_square_tail, compare_rows, curve_of, cut_at, decide, drifted, early_stop, equal_of,
    gain_of_runs, loss_at, next_run, noise_at_marks, noise_of, release, same_run, same_schedule,
    share, t_point, t_tail)

SIGMA = Noise(.0003, 20, .0002, .0005)
def runs(*values, first=0): return [Run(v, i) for i,v in enumerate(values, first)]
FIVE = runs(.9979, .9984, .9976, .9981, .9980)

def test_no_torch_no_numpy():
    "Whoever only wants a verdict waits for no library"
    code = ('import sys, autoresearch.judge; '
        'print([m for m in ("torch", "numpy", "pandas") if m in sys.modules])')
    said = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, timeout=60)
    assert said.stdout == '[]\n', said

# the tails

TS = -30, -3, -.2, 0, .1, 1, 2.5, 8.6, 40
@pytest.mark.parametrize('t', TS)
def test_student_in_closed_form(t):
    assert math.isclose(t_tail(t, 1), .5 - math.atan(t)/math.pi, rel_tol=1e-9, abs_tol=1e-15)
    two = .5 - t/(2*math.sqrt(2 + t*t))
    assert math.isclose(t_tail(t, 2), two, rel_tol=1e-9, abs_tol=1e-13)
    four = .5 - (x := t/math.sqrt(4 + t*t))*(3 - x*x)/4
    assert math.isclose(t_tail(t, 4), four, rel_tol=1e-9, abs_tol=1e-12)
    normal = math.erfc(t/math.sqrt(2))/2
    assert t_tail(t, math.inf) == normal
    assert math.isclose(t_tail(t, 1e7), normal, rel_tol=1e-3) or normal < 1e-100

@pytest.mark.parametrize('df', [1, 2, 3, 4, 7, 30, 250, 5000, math.inf])
@pytest.mark.parametrize('p', [1e-12, 1e-7, 3e-5, .004, .05, .4, .5, .9, .9999])
def test_student_there_and_back(p, df):
    assert math.isclose(t_tail(t_point(p, df), df), p, rel_tol=1e-7)

@pytest.mark.parametrize('x', [.01, .5, 1, 3, 10, 50, 200])
def test_chi_square_in_closed_form(x):
    assert math.isclose(chi_square_tail(x, 1), math.erfc(math.sqrt(x/2)), rel_tol=1e-9)
    assert math.isclose(chi_square_tail(x, 2), math.exp(-x/2), rel_tol=1e-9)
    four = math.exp(-x/2)*(1 + x/2)
    assert math.isclose(chi_square_tail(x, 4), four, rel_tol=1e-9)

@pytest.mark.parametrize('df', [1, 2, 4, 9, 50, 400])
@pytest.mark.parametrize('p', [.001, .025, .5, .975, .999])
def test_chi_square_there_and_back(p, df):
    assert math.isclose(chi_square_tail(chi_square_point(p, df), df), p, rel_tol=1e-7)

# rows

def test_rows_of_equal_gain_have_no_error():
    best = [(700*n, 1000*n) for n in (1, 2, 3)]
    found = compare_rows(best, [(n - .01*math.log(2)*b, b) for n,b in best])
    assert math.isclose(found.gain, .01) and found.error < 1e-15 and found.rows == 3

def test_clusters_by_hand():
    "Two documents of two rows each, against the formula written out"
    best = [(10., 10), (12., 10), (11., 10), (9., 10)]
    gains = 1., 2., -1., 0.
    candidate = [(n - g*math.log(2), b) for (n,b),g in zip(best, gains)]
    found = compare_rows(best, candidate, ['a', 'a', 'b', 'b'])
    mean = sum(gains)/4 # bits a row
    sums = gains[0]+gains[1]-2*mean, gains[2]+gains[3]-2*mean
    assert math.isclose(found.gain, mean/10)
    assert math.isclose(found.error, math.sqrt((sums[0]**2 + sums[1]**2)*2/1)/40)
    assert found.documents == 2

def test_a_document_that_comes_again_joins_rows():
    chance = random.Random(1)
    best = [(700., 1000.)]*60
    half = [chance.gauss(0, 5) for _ in range(30)]
    candidate = [(700. - o, 1000.) for o in half*2] # the same text twice
    alone = compare_rows(best, candidate)
    shared = [[i, f'own {j}'] for j,i in enumerate([*range(30)]*2)]
    joined = compare_rows(best, candidate, shared)
    once = compare_rows(best[:30], candidate[:30])
    assert math.isclose(joined.gain, once.gain) and alone.error < .75*once.error
    assert math.isclose(joined.error, once.error, rel_tol=.03)

@pytest.mark.parametrize('other,what', [
    ([(1., 10)], 'rows of'), ([(1., 10), (1., 9)], 'row 1 has')])
def test_other_rows_are_refused(other, what):
    with pytest.raises(ValueError, match=what): compare_rows([(1., 10), (1., 10)], other)

# noise

def test_groups_are_pooled_about_their_own_means():
    noise = noise_of([[1., 3.], [101., 103., 105.], [7.]])
    assert noise.df == 3 and math.isclose(noise.sigma, math.sqrt((2 + 8)/3))
    assert noise.low < noise.sigma < noise.high
    assert noise_of([]) is None and noise_of([[1.], [2.]]) is None
    assert noise_of([[1., 1.]]) is None # same to the last digit: nothing known of noise

def test_pairs_are_kept_apart():
    noise = noise_of([[1., 3., 2.]], [[.1, .2], [.5, .4]])
    assert noise.pair_df == 2 and math.isclose(noise.pair_sigma, math.sqrt(.01/2))

def drawn(value, n):
    "Runs that differ, as those of a canvas that uses its seed do"
    return runs(*(value + i*1e-7 for i in range(n)))

# the rule

@pytest.mark.parametrize('rule', [Rule(), Rule(alpha=.2, pairs=3, night=10), Rule(pairs=2)])
def test_shares_never_exceed_the_night(rule):
    spent = sum(share(rule, i, look) for i in range(1, 30*rule.night) for look in range(100))
    assert .9*rule.alpha < spent < rule.alpha

def test_unknown_rule():
    with pytest.raises(ValueError, match='strict and confirm'):
        decide(FIVE, FIVE, SIGMA, Rule('lenient'))
    with pytest.raises(ValueError, match='two runs'): decide(FIVE, FIVE, SIGMA, Rule(pairs=1))

@pytest.mark.parametrize('values', [(.9984,), (.9977,), (.9941, .9942), (.9968, .9972, .997, .9969, .997)])
@pytest.mark.parametrize('noise', [SIGMA, None])
def test_higher_is_the_mirror(values, noise):
    low = decide(FIVE, runs(*values), noise, number=7)
    up = [[Run(-o.value, o.seed) for o in r] for r in (FIVE, runs(*values))]
    high = decide(*up, noise, number=7, direction='higher')
    assert high.status == low.status
    assert high.certainty is None or math.isclose(high.certainty, low.certainty)

def test_one_run_never_keeps_and_one_sigma_worse_ends():
    assert decide(FIVE, runs(.5), SIGMA).status == 'again'
    bar = sum(o.value for o in FIVE)/5
    assert decide(FIVE, runs(bar + SIGMA.sigma), SIGMA).status == 'discard'
    assert decide(FIVE[:1], runs(FIVE[0].value + SIGMA.sigma), SIGMA).status == 'discard'

def test_runs_beyond_the_last_look_keep_nothing():
    "Whoever repeats a discard until it passes gets no more looks"
    rule = Rule(pairs=3)
    best = drawn(.998, 9)
    assert decide(best, drawn(.99, 3), SIGMA, rule).status == 'keep'
    assert decide(best, drawn(.99, 4), SIGMA, rule).status == 'discard'

def test_the_bar_is_the_mean_of_the_best():
    lucky = runs(.9970)
    joined = [*lucky, *runs(.9980, .9981, .9979, .9980, first=1)]
    for noise in (None, SIGMA):
        assert decide(lucky, runs(.9975), noise).status == 'discard'
    assert decide(joined, runs(.9975)).status == 'keep'
    assert decide(joined, runs(.9972), SIGMA).status == 'again'

def test_a_look_waits_for_the_best():
    "A candidate under a seed that the best has not run is not looked at: each look comes once"
    two = drawn(.99, 2)
    assert decide(FIVE[:1], two, SIGMA).status == 'again'
    assert next_run(FIVE[:1], two, [0, 1, 2]) == ('best', 1)
    assert decide(FIVE[:2], two, SIGMA).status == 'keep'

def test_between_looks_nothing_is_kept():
    best = drawn(.998, 9)
    found = [decide(best, drawn(.99, n), SIGMA).status for n in range(1, 10)]
    assert found == 'again keep keep keep again keep again keep again'.split()

def test_faults_and_beginnings():
    assert decide([], runs(.9), SIGMA).status == 'keep'
    assert decide([], runs(.9), SIGMA, fault='oom').status == 'crash'
    assert decide(FIVE, runs(.9), None, fault='nan')[:2] == ('crash', 'nan')

def test_one_lucky_seed_again_and_again_is_never_kept():
    "A canvas that sets its seed repeats one draw: of three sigma it would be sure in two runs"
    best = drawn(.998, 24)
    lucky = .998 - 3*SIGMA.sigma
    found = [decide(best, runs(*[lucky]*n), SIGMA) for n in (1, 2, 3)]
    assert [o.status for o in found] == ['again', 'again', 'discard']
    assert 'does not use the seed' in found[2].reason
    few = [lucky, lucky + 1e-6]*12 # and one of two seeds, by turns
    assert all(decide(best, runs(*few[:n]), SIGMA).status != 'keep' for n in range(1, 25))
    assert gain_of_runs(best, runs(*few), SIGMA).error > .7*SIGMA.sigma
    assert decide(best, runs(*[lucky]*4), SIGMA, lines=5).status == 'discard'
    assert decide(best, drawn(lucky, 24), SIGMA).status == 'keep'

def test_runs_of_one_value_know_no_noise():
    "Neither do they make it smaller, nor does a best of them make the rule forget who asked"
    real = [.9979, .9984, .9976]
    assert noise_of([[.5]*5]) is None and noise_of([real, [.5]*20]) == noise_of([real])
    assert noise_of([real, [.998, math.nan]]) == noise_of([real])
    found = decide(runs(*[.998]*5), runs(.9979))
    assert found.status == 'keep' and 'not known' in found.reason and found.certainty is None
    assert 'not known' not in decide(FIVE, runs(.99), None, Rule('strict')).reason
    assert decide(FIVE, runs(.99), Noise(0., 0, 0., 0.)).status == 'keep'

@pytest.mark.parametrize('rule,number', [(Rule(alpha=0), 1), (Rule(alpha=1), 1), (Rule(alpha=-.1), 1),
    (Rule(night=0), 1), (Rule(), 0), (Rule(alpha=math.nan), 1), (Rule('strict', alpha=0), 1)])
def test_settings_that_make_no_sense(rule, number):
    with pytest.raises(ValueError, match='accepted|from 1'): decide(FIVE, FIVE, SIGMA, rule, number)

@pytest.mark.parametrize('value', [math.nan, math.inf, -math.inf, None, 'a', True])
def test_a_value_that_is_none(value):
    for noise in (None, SIGMA):
        assert decide(FIVE, runs(.99, value), noise).status == 'crash'
        with pytest.raises(ValueError, match='run of the best'): decide(runs(value), FIVE, noise)

def test_pairs_decide_where_the_seed_moves_both():
    noise = Noise(.0003, 20, .0002, .0005, .00002, 12)
    better = [Run(o.value - .0002, o.seed) for o in FIVE[:2]]
    assert decide(FIVE, better, SIGMA).status == 'discard'
    assert decide(FIVE, better, noise).status == 'keep'
    assert gain_of_runs(FIVE, better, noise).df == 12

def test_simpler():
    def shorter(*values, **kw): return decide(FIVE, runs(*values), SIGMA, lines=5, **kw).status
    assert shorter(.9980) == 'again' and shorter(.9980, .9981, .9979, .9980) == 'keep'
    assert shorter(.9990) == 'discard' and shorter(.9980, .9985, .9984, .9985) == 'discard'
    assert shorter(.9900, .9901) == 'keep' # it is a gain as well
    assert decide(runs(.998), runs(.998), lines=5).status == 'keep'
    assert decide(runs(.998), runs(.998), lines=-5).status == 'discard'

# nights

def experiment(chance, gain, best, pool, number, rule, draw):
    "From the first run to the verdict; the protocol must end and ask for sensible runs"
    candidate = [Run(draw(chance, -gain, 0), 0)]
    for _ in range(3*rule.pairs):
        noise = noise_of([*pool, [o.value for o in best], [o.value for o in candidate]])
        found = decide(best, candidate, noise, rule, number)
        assert 0 <= found.certainty <= 1
        if found.status != 'again': return found, candidate
        who,seed = next_run(best, candidate, range(500))
        at = best if who == 'best' else candidate
        assert seed not in {o.seed for o in at}
        at.append(Run(draw(chance, 0 if who == 'best' else -gain, seed), seed))
    raise AssertionError('the rule never ended')

def normal(chance, true, seed): return chance.gauss(true, 1)
def tailed(chance, true, seed):
    "Student's with five degrees of freedom: now and then a run far off"
    return true + chance.gauss(0, 1)/math.sqrt(chance.gammavariate(2.5, 2)/5)
def of_seed(chance, true, seed):
    "Half of the variance is the seed's own, the same for every canvas"
    return true + random.Random(f'seed {seed}').gauss(0, .7) + chance.gauss(0, .7)

@pytest.mark.parametrize('draw', [normal, tailed, of_seed], ids=lambda f: f.__name__)
def test_equal_edits_are_not_kept(draw):
    "40 nights of 40 experiments: 0.6 false keeps are allowed, 4 would be 1 in 400 such tests"
    chance = random.Random(7)
    false = 0
    for night in range(40):
        best = [Run(draw(chance, 0, i), i) for i in range(5)]
        pool = []
        for number in range(1, 41):
            found,candidate = experiment(chance, 0, best, pool, number, Rule(), draw)
            pool.append([o.value for o in candidate])
            if found.status != 'keep': continue
            false += 1
            best = candidate
    assert false <= 3

def test_planted_gains_of_three_sigma_are_kept():
    "Twenty in a row, each on the one before, sigma from five runs and what follows"
    chance = random.Random(8)
    best = [Run(chance.gauss(0, 1), i) for i in range(5)]
    true,kept = 0., 0
    pool = []
    for number in range(1, 21):
        draw = lambda chance, rel, seed: chance.gauss(true + rel, 1)
        found,candidate = experiment(chance, 3, best, pool, number, Rule(), draw)
        if found.status != 'keep':
            pool.append([o.value for o in candidate])
            continue
        pool.append([o.value for o in best])
        best = candidate
        true -= 3
        kept += 1
    assert kept >= 18

def test_seeds_end():
    with pytest.raises(ValueError, match='used up'): next_run(FIVE, FIVE, range(5))

# curves

def curve(gap=0., rate=1., upto=1.):
    "Fraction, loss, rate"
    return [(i/100, 3 - i/100 + gap, rate) for i in range(1, 1+int(100*upto))]

BAND = {m: Noise(.001, 8, 0., 0.) for m in MARKS}

def test_early_stop_cuts_losers_only():
    best = [curve(), curve(.001)]
    assert not early_stop(curve(-1), best, BAND).stop
    assert not early_stop(curve(.003), best, BAND).stop
    assert early_stop(curve(.1, upto=.26), best, BAND)[2:] == (.25, .75)
    assert early_stop(curve(.1, upto=.2), best, BAND)[:2] == (False, 'before the first mark')
    assert cut_at(curve(.1), best, BAND) == .25 and cut_at(curve(), best, BAND) == 1.

@pytest.mark.parametrize('best,noises', [
    ([curve(rate=.5)], BAND), ([], BAND), ([curve()], {}), ([[o[:2] for o in curve()]], BAND),
    ([[(*o[:2], None) for o in curve()]], BAND)],
    ids='rates no-best no-band no-trace empty-trace'.split())
def test_early_stop_never(best, noises): assert not early_stop(curve(.5), best, noises).stop

def test_noise_at_marks():
    groups = [[curve(), curve(.2)], [curve(upto=.3), curve(.2, upto=.3)]]
    found = noise_at_marks(groups)
    assert [found[m].df for m in MARKS] == [2, 1, 1]
    assert math.isclose(found[.5].sigma, .2/math.sqrt(2)) and noise_at_marks([])[.25] is None

def test_schedules_that_part_later_part():
    later = [(x, y, 1. if x < .6 else .5) for x,y,_ in curve()]
    assert same_schedule(curve(upto=.55), later) and not same_schedule(curve(upto=.7), later)
    assert not early_stop(curve(.5, upto=.8), [later], BAND).stop
    assert early_stop(curve(.5, upto=.55), [later], BAND).stop

def traced(rates, n=100): return [(i/n, 3 - i/n, rates(i/n)) for i in range(1, 1+n)]

@pytest.mark.parametrize('mine,theirs,same', [
    (lambda x: [1-x, .95, 2048.], lambda x: [1-x, .95, 2048.], True),
    (lambda x: [1-x, .95, 2048.], lambda x: [1-x, .95, 4096.], False),
    (lambda x: [1-x, .95], lambda x: [1-x, .95, 2048.], False),
    (lambda x: [1.03*(1-x), 600.], lambda x: [1-x, 600.], False), # of its own top, not of all
    (lambda x: [1.01*(1-x), 600.], lambda x: [1-x, 600.], True),
    (lambda x: [float(x < .52)], lambda x: [float(x < .52)], True), # a step
    (lambda x: [float(x < .52)], lambda x: [float(x < .7)], False),
    (lambda x: [1., 0.], lambda x: [1., 0.], True), (lambda x: [1., .1], lambda x: [1., 0.], False),
    (lambda x: None, lambda x: [1.], False), (lambda x: [], lambda x: [], False),
    (lambda x: [1.] if x < .5 else [1., 1.], lambda x: [1.], False)])
def test_schedules(mine, theirs, same):
    assert same_schedule(traced(mine, 93), traced(theirs)) is same
    assert same_schedule(traced(mine), traced(theirs)) is same

def test_schedules_of_curves_that_do_not_meet():
    own = traced(lambda x: [1.])
    assert not same_schedule(own[:10], own[20:]) and not same_schedule([], own)
    assert same_schedule(own[:30], own[20:])

def test_curve_of_odd_files():
    "A canvas writes what it likes: points without numbers go, nothing is raised"
    columns = 'step seconds loss fraction schedule'.split()
    good = [5, 1., 2.5, .3, [.1, .9]]
    odd = [None, [], [1, 2, 3], 'abc', [1, 2, 'x', .2, [1]], [1, 2, math.nan, .2, [1]],
        [1, 2, 3., None, [1]], [1, 2, 10**400, .2, [1]], {}, [1, 2, 3., True, []]]
    assert curve_of(dict(columns=columns, curve=[*odd, good])) == [(.3, 2.5, (.1, .9))]
    for rates in (None, [], 'ab', [None], [math.nan], [[1]], {}, [1.]*5000):
        assert curve_of(dict(columns=columns, curve=[[*good[:4], rates]])) == [(.3, 2.5, None)]
    for p in ({}, dict(curve=[good]), dict(columns=columns), dict(columns=5, curve=5),
        dict(columns=columns[:3], curve=[good[:3]]), dict(columns=[[]], curve=[good])):
        assert curve_of(p) == []
    back = [[5, 1., 2., .4, [1.]], [4, 1., 3., .2, [1.]]]
    assert [o[0] for o in curve_of(dict(columns=columns, curve=back))] == [.2, .4]

def test_equal_of_files():
    def file(rate, columns='step seconds loss'.split()):
        return dict(columns=columns, curve=[[i, i/rate, 5 - i/100] for i in range(1, 100)])
    assert equal_of(file(1), file(2)).speed == 2 and equal_of(file(1), file(2)).at_steps == 0
    assert equal_of(file(1), {}).at_steps is None and equal_of({}, {}).speed == 0
    assert equal_of(file(1), dict(curve=[[1, None, 3]], columns=['step', 'seconds', 'loss'])).steps == 0

# the seed

def begun(seed, losses, value):
    curve = [[i, float(i), loss] for i,loss in enumerate(losses, 2)]
    return dict(seed=seed, value=value, progress=dict(columns=['step', 'seconds', 'loss'], curve=curve))

def test_a_canvas_that_does_not_use_its_seed():
    one,other = [9.01, 8.5, 8.2, 7.], [9.01, 8.6, 8.3, 7.1]
    assert not same_run(begun(1, one, 1.), begun(2, other, 1.1))
    said = same_run(begun(17, one, 1.), begun(4242, one, 1.1))
    assert said == 'the canvas does not use the seed: runs under 17 and 4242 begin alike'
    assert same_run(begun(17, one, 1.), begun(4242, other, 1.)).endswith('are the same')
    assert not same_run(begun(17, one, 1.), begun(17, one, 1.)) # one seed, one run
    assert not same_run(begun(1, one[:2], 1.), begun(2, one[:2], 1.1)) # a model that knows nothing yet
    assert not same_run(begun(1, one, None), begun(2, other, None))
    assert same_run(dict(seed=1, value=2.5), dict(seed=2, value=2.5))
    assert not same_run(dict(seed=1, progress={}), dict(seed=2, progress=None))

def test_loss_between_points():
    assert loss_at([(0, 4.), (10, 2.)], 5) == 3. and loss_at([(0, 4.)], 5) is None
    assert loss_at([], 1) is None and loss_at([(10, 2.)], 10) == 2. and loss_at([(10, 2.)], 4) == 2.

def test_speed_and_idea():
    def steps(rate, better=0):
        return [(i, i/rate, 5 - i/100 - better) for i in range(1, int(rate*100)+1)]
    faster,idea = (at_equal_steps(steps(1), o) for o in (steps(2), steps(1, .1)))
    assert faster.at_steps == 0 and faster.at_seconds > .9 and faster.speed == 2
    assert math.isclose(idea.at_steps, .1) and math.isclose(idea.at_seconds, .1) and idea.speed == 1
    assert at_equal_steps([], steps(1)).at_steps is None

def test_drift():
    assert not drifted([100., 101., 99.], 103) and drifted([100., 101., 99.], 150)
    assert not drifted([100., 101.], 500) and not drifted([], 500)
    assert drifted([100.]*3, 98) and not drifted([100.]*3, 100.5)

# the audit

def test_the_ladder_only_climbs():
    chance = random.Random(9)
    shown,told = None, []
    for i in range(500):
        shown = release(1.1 - i/1e5 + chance.gauss(0, .0005), .001, shown)
        told.append(shown)
    assert told == sorted(told, reverse=True) and len(set(told)) < 10
    assert release(71.26, .5, None, 'higher') == 71.5 and release(71., .5, 71.5, 'higher') == 71.5
    assert release(72.26, .5, 71.5, 'higher') == 72.5

# the simulation

def test_nights_again():
    "The same seed plays the same night, by the rule that ships"
    sys.path.insert(0, str(Path(__file__).parent.parent/'bench'))
    import nights
    values,parents = nights.published()
    gains = nights.observed(values, parents)
    assert len(gains) == 125 and len(set(parents)) == 24 # 22 gains kept, the start, none before it
    a,b = (nights.play_all('confirm', [gains]*2, 3e-4, 5) for _ in range(2))
    assert a == b and a['false'] == 0 and .02 < a['gain'] < .0283
    (drawn,) = nights.drawn_nights(values, parents, 2e-4, 1, 5)
    assert len(drawn) == 125 and drawn[14] is None
    assert abs(sum(g for g in drawn if g and g > 0) - .0285) < .003
