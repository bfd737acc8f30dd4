"""What a search on a swarm takes what still runs for: the lies compared on the model of profile tiny.

    python bench/liar.py [--beside 8] [--seeds 60] [--trials 32] [--lies min,mean,max,none]

The landscapes of `surrogate.py`, each searched with so many trials under way at once; they end in
the order in which they began, and the best is the one of that moment. `none` leaves out of the model
what still runs. Prints the mean gain as it was measured, in truth, and the standard error of that."""
import argparse, math, random, statistics
from concurrent.futures import ProcessPoolExecutor
from surrogate import NOISE, P, START, canvas_with, landscape
from autoresearch import search
from autoresearch.search import Tried, propose

def session(sampler, seed, trials, beside, kind):
    "Gain by what was measured, and in truth"
    if kind != 'none': search.LIE = kind
    rng,truth = random.Random(1000+seed), landscape(seed)
    best,start = dict(START), truth(START)
    low = first = start + rng.gauss(0, NOISE)
    tried,out,made = [Tried(best, low, 0)], [], 0
    while made < trials or out:
        while made < trials and len(out) < beside:
            known = kind != 'none'
            waits = [Tried(v, None, 0, known=known, pending=True) for v,_ in out]
            change,_ = propose(canvas_with(best), P, tried+waits, sampler, seed)
            values = {**best, **change}
            out.append((values, truth(values) + rng.gauss(0, NOISE)))
            made += 1
        values,value = out.pop(0)
        tried.append(Tried(values, value, len(tried)))
        if value < low: low,best = value, values
    return first-low, start-truth(best)

def main():
    a = argparse.ArgumentParser(description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter)
    for name,value in dict(beside=8, seeds=60, trials=32).items():
        a.add_argument(f'--{name}', type=int, default=value)
    a.add_argument('--lies', default='min,mean,max,none')
    o = a.parse_args()
    for kind in o.lies.split(','):
        with ProcessPoolExecutor(2) as pool:
            found = list(pool.map(session, ['local']*o.seeds, range(o.seeds), [o.trials]*o.seeds,
                [o.beside]*o.seeds, [kind]*o.seeds))
        gains,true = zip(*found)
        error = statistics.stdev(true)/math.sqrt(len(true))
        print(f'{o.beside} at once, {o.trials} trials, {o.seeds} seeds: {kind:4} gain '
            f'{statistics.fmean(gains):.4f}, in truth {statistics.fmean(true):.4f} +- {error:.4f}',
            flush=True)

if __name__ == '__main__': main()
