"""Searches compared on a model of profile tiny, to choose among designs in minutes, not hours.

    python bench/surrogate.py [--seeds 20] [--trials 16]

`searches/response.jsonl` has forty runs of the canvas, one constant moved at a time, beside a depth
of 1 (budget 10 s, one thread, a shared machine, so that steps differ from run to run). The model is
a sum of one function for each constant, through these values less what their number of steps makes,
shrunk by three tenths since each is a single run; beyond them it rises. A depth of 2 costs what was
measured, one of 3 what earlier sessions had. Each run adds noise of the size that is left. It says
which design to try in real sessions, and nothing about the size of real gains."""
import argparse, json, math, random, statistics
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
import numpy as np
from autoresearch import search
from autoresearch.contract import get_profile
from autoresearch.search import Tried, meaning, place, propose

ROOT = Path(__file__).resolve().parent.parent
SHRINK = .7
RISE = .15 # of the value, for the square of a range beyond what was measured
DEEPER = .11 # what depth 3 costs beyond depth 2, by the sessions of search.tsv
BATCH = .005 # what a doubled batch costs
P = get_profile('tiny', ROOT/'settings.ini')
CANVAS = json.loads((ROOT/P.canvas).read_text())
ALL = search.searchable(CANVAS, P)
FREE = [n for n,c in ALL.items() if c.searched]

def measured():
    "Effects by constant as (place, value less the start's), what depth 2 costs, and the noise"
    rows = [json.loads(l) for l in (ROOT/'bench/searches/response.jsonl').read_text().splitlines()]
    flat = [r for r in rows if r['change'].get('DEPTH') == '1'
        and 'TOTAL_BATCH_SIZE' not in r['change']]
    x,y = (np.array([r[k] for r in flat]) for k in ('steps', 'value'))
    slope,_ = np.polyfit(x, y, 1)
    level = lambda r: r['value'] - slope*(r['steps']-statistics.fmean(x))
    start = statistics.fmean(map(level, flat)) # all of them: the start's own runs are two
    effects = {}
    for r in flat:
        for n,t in r['change'].items():
            if n != 'DEPTH': effects.setdefault(n, []).append((place(ALL[n], t), level(r)-start))
    bare = {d: statistics.fmean(r['value'] for r in rows if r['change'] == c)
        for d,c in ((2, {}), (1, {'DEPTH': '1'}))}
    noise = float(np.std(y - np.polyval(np.polyfit(x, y, 1), x)))
    return effects, bare[2]-bare[1], noise

EFFECTS,DEEP,NOISE = measured()

def effect(n, text):
    "What a constant's value adds"
    v = meaning(text)
    if n == 'DEPTH': return {1: 0., 2: DEEP, 3: DEEP+DEEPER}[int(v)]
    if n == 'TOTAL_BATCH_SIZE': return BATCH*(v == 2**12)
    c = ALL[n]
    known = sorted({place(c, c.text): 0., **dict(EFFECTS.get(n, []))}.items())
    x,y = np.array(known).T
    at = place(c, text)
    beyond = max(x[0]-at, at-x[-1], 0.)
    return SHRINK*float(np.interp(at, x, y)) + RISE*beyond**2

def truth(values): return sum(effect(n, values[n]) for n in FREE)

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

def session(arm, seed, trials):
    "Gain by what was measured, in truth, and the keeps' trials"
    rng = random.Random(1000+seed)
    best = {n: ALL[n].text for n in FREE}
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
    a.add_argument('--seeds', type=int, default=20)
    a.add_argument('--trials', type=int, default=16)
    o = a.parse_args()
    print(f'noise {NOISE:.4f}, depth 2 costs {DEEP:.4f}')
    rival = None
    for arm in ('random', 'tpe', 'steps', 'local'):
        with ProcessPoolExecutor(2) as pool:
            found = list(pool.map(session, [arm]*o.seeds, range(o.seeds), [o.trials]*o.seeds))
        gains,true,_ = zip(*found)
        rival = rival or gains
        ahead = sum(x > y for x,y in zip(gains, rival))
        ratio = statistics.fmean(gains)/statistics.fmean(rival)
        stepped = sum(when <= 9 for _,_,when in found)
        print(f'{arm:8} gain {statistics.fmean(gains):.4f}, in truth {statistics.fmean(true):.4f}, '
            f'{ratio:.2f} times random, ahead in {ahead} of {o.seeds}; a step within nine trials '
            f'in {stepped}', flush=True)

if __name__ == '__main__': main()
