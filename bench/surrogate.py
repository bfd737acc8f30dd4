"""Searches compared on a model of profile tiny, to choose among designs in minutes, not hours.

    python bench/surrogate.py [--seeds 30] [--trials 16] [--set CURVE=8 SHAPE=2]

The rows of the first ten recorded seeds (`searches/first.tsv`, depth 1) are fitted by a ridge
regression on the place of each constant and its square. Each simulated seed draws a landscape from
what that leaves uncertain, and each of its runs noise of the size that is left. Deeper costs what
the means of the rows say. `--set` gives numbers of `autoresearch.search` other values. It says
which design to try in real sessions, and nothing about the size of real gains."""
import argparse, json, math, random, re, statistics
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
import numpy as np
from autoresearch import search
from autoresearch.contract import get_profile
from autoresearch.search import Tried, meaning, place, propose
from searches import read

ROOT = Path(__file__).resolve().parent.parent
RIDGE = .3
P = get_profile('tiny', ROOT/'settings.ini')
CANVAS = json.loads((ROOT/P.canvas).read_text())
ALL = search.searchable(CANVAS, P)
FREE = [n for n,c in ALL.items() if c.searched]

START = {n: ALL[n].text for n in FREE}

def moved(description):
    "{constant: new value} of a row"
    text = re.sub(r' [(]disturbed[^)]*[)]$', '', description)
    pieces = re.split(r', (?=[A-Z][A-Z0-9_]* )', text)
    found = (re.match(r'([A-Z][A-Z0-9_]*) (.*) -> (.*)$', o) for o in pieces)
    return {m[1]: m[3] for m in found if m}

def settings():
    "(values, metric) of every recorded run"
    for rows in read(ROOT/'bench/searches/first.tsv').values():
        best = dict(START)
        for o in rows:
            values = {**best, **moved(o['description'])}
            yield values, o['value']
            if o['status'] == 'keep': best = values

def features(values):
    "Place of each constant from where it starts, and its square"
    at = [place(ALL[n], values[n]) - place(ALL[n], START[n]) for n in FREE if n != 'DEPTH']
    return np.array([1., *at, *(o*o for o in at)])

def fitted():
    "Coefficients, a root of their covariance, the noise, and the mean cost of each depth"
    rows = list(settings())
    of = {d: [v for o,v in rows if o['DEPTH'] == d] for d in '123'}
    X = np.array([features(o) for o,_ in rows if o['DEPTH'] == '1'])
    y = np.array(of['1'])
    A = X.T@X + RIDGE*np.diag([0.] + [1.]*(X.shape[1]-1))
    b = np.linalg.solve(A, X.T@y)
    noise = float((y - X@b).std())
    root = np.linalg.cholesky(noise**2*np.linalg.inv(A) + 1e-12*np.eye(len(b)))
    return b, root, noise, {d: statistics.fmean(v)-statistics.fmean(of['1'])
        for d,v in of.items()}

MEAN,ROOT_OF,NOISE,DEEPER = fitted()

def landscape(seed):
    "A function of the constants' values"
    b = MEAN + ROOT_OF@np.random.default_rng(seed).standard_normal(len(MEAN))
    return lambda values: float(features(values)@b) + DEEPER[values['DEPTH']]

def canvas_with(values):
    "The canvas with other values of its constants"
    nb = json.loads(json.dumps(CANVAS))
    for cell in nb['cells']:
        own = [c for c in ALL.values() if c.searched and c.cell == cell['id']]
        lines = ''.join(cell['source']).split('\n')
        for c in own:
            before,after = search.set_line(CANVAS, c)
            lines[c.line-1] = f'{before}{values[c.name]}{after}'
        if own: cell['source'] = '\n'.join(lines)
    return nb

def steps_only(nb, tried, seed):
    "A (1+1) evolution strategy: the same steps and radius, but no memory of where"
    constants = search.searchable(nb, P)
    rng = random.Random(f'{seed} {len(tried)}')
    done = search.settings_tried(constants, FREE, tried, search.skeleton(nb, P, constants))
    def new(change): return {**done[0], **{n: meaning(t) for n,t in change.items()}} not in done
    reach = search.radius([t.value for t in tried], 0.)
    drawn = search.candidates(constants, FREE, new, reach, rng)
    return next(c for c in drawn if search.passes_checks(nb, P, constants, c))

def session(arm, seed, trials, other):
    "Gain by what was measured, in truth, and the first keep's trial"
    for name,value in other.items(): setattr(search, name, value)
    rng = random.Random(1000+seed)
    best,truth = dict(START), landscape(seed)
    start = truth(best)
    low = first = start + rng.gauss(0, NOISE)
    tried,kept = [Tried(best, low, 0)], []
    for t in range(1, trials+1):
        nb = canvas_with(best)
        if arm == 'steps': change = steps_only(nb, tried, seed)
        else: change,_ = propose(nb, P, tried, arm, seed)
        values = {**best, **change}
        value = truth(values) + rng.gauss(0, NOISE)
        tried.append(Tried(values, value, t))
        if value < low: low,best = value, values
        if value == low: kept.append(t)
    return first-low, start-truth(best), kept[0] if kept else math.inf

def main():
    a = argparse.ArgumentParser(description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter)
    a.add_argument('--seeds', type=int, default=30)
    a.add_argument('--trials', type=int, default=16)
    a.add_argument('--arms', default='random,tpe,steps,local', help='the first is the rival')
    a.add_argument('--set', nargs='*', default=[], help='NAME=NUMBER')
    o = a.parse_args()
    other = {k: float(v) for k,v in (t.split('=') for t in o.set)}
    print(f"noise {NOISE:.4f}, depth 2 costs {DEEPER['2']:.4f}")
    rival = None
    for arm in o.arms.split(','):
        with ProcessPoolExecutor(2) as pool:
            found = list(pool.map(session, [arm]*o.seeds, range(o.seeds), [o.trials]*o.seeds,
                [other]*o.seeds))
        gains,true,_ = zip(*found)
        rival = rival or gains
        ahead = sum(x > y for x,y in zip(gains, rival))
        ratio = statistics.fmean(gains)/statistics.fmean(rival)
        stepped = sum(when <= 9 for _,_,when in found)
        print(f'{arm:8} gain {statistics.fmean(gains):.4f}, in truth {statistics.fmean(true):.4f}, '
            f'{ratio:.2f} times random, ahead in {ahead} of {o.seeds}; a step within nine trials '
            f'in {stepped}', flush=True)

if __name__ == '__main__': main()
