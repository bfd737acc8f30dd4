"""What the rules of the judge make of the published night, played again under noise.

    python bench/nights.py [--nights 200] [--seed 17]          # the tables of RESULTS.md, minutes
    python bench/nights.py --scan                              # where the defaults come from

Each night begins with five runs of the starting line, then come the 125 other experiments in their
order. A run's value is the true value of its canvas and a normal noise of sigma. An edit has a true
gain, which adds to whatever is the best at its turn. Three worlds say what the true gains are:

`word`   as observed on the published night, each against the best before it. Observed gains hold
         luck, so there are more small gains in this world than there were: the hardest for a rule.
`drawn`  the published values were noisy with the same sigma. True values are drawn from what they
         leave open, by Gibbs sampling: a tree (each run hangs on the best it was an edit of) and a
         prior of true gains that begins with most edits changing nothing and is learned from the
         night itself. That takes the winner's curse out: what was kept was chosen by its value
         alone, and the values are all there.
`null`   no edit gains anything: all keeps are false.

Rules: `strict` is the original's less-than, one run an edit; `twice` the same on the mean of two
runs an edit; `filed` the first proposal (worse by sigma is out, better by two sigma and again under
the best's first seed is in, all others are run to the last look); `confirm` what the package ships;
`early` that with early stop, under the assumption that the loss at 25, 50 and 75 % of the budget
tells the final value with an error of 4, 2.5 and 1.5 sigma and that no edit changes the schedule.

Columns: false keeps a night (true gain of 0 or less), true gains missed, runs spent on all
experiments (whole runs' worth), the true gain in the morning of what `twice` gets, the true value
in the morning, and the same when the night ends after 126 runs."""
import argparse, csv, math, random
from pathlib import Path
from statistics import fmean
from autoresearch.judge import (MARKS, Noise, Rule, Run, decide, early_stop, gain_over, looks,
    next_run, share, t_tail)
import autoresearch.judge as judge

FILE = Path(__file__).parent/'published-night.csv'
SIGMAS = 1e-4, 2e-4, 3e-4, 5e-4, 7e-4, 1e-3, 2e-3
CALIBRATION = 5
MARK_ERRORS = dict(zip(MARKS, (4., 2.5, 1.5))) # of the loss at a mark, in sigmas
SEEDS = range(1000)

def published():
    "Of each experiment of the published night its value, None for a crash, and its parent"
    with FILE.open() as f:
        rows = list(csv.DictReader(l for l in f if not l.startswith('#')))
    best,values,parents = None, [], []
    for i,r in enumerate(rows):
        values.append(None if r['status'] == 'crash' else float(r['val_bpb']))
        parents.append(best) # what it was an edit of: the last keep
        if r['status'] == 'keep': best = i
    return values, parents

def observed(values, parents):
    "Gains at their word; None for a crash. The first is the starting line and has none."
    pairs = list(zip(values, parents))[1:]
    return [None if v is None else gain_over(values[p], v, 'lower') for v,p in pairs]

# true gains, drawn

LOSSES = -.012, -.007, -.005, -.003, -.002, -.0013, -.0008, -.0004, -.0002
GAINS = .0002, .0004, .0008, .0013, .002, .003, .005, .012
MEANS = *LOSSES, 0, *GAINS # kinds of edits; those of the kind 0 change nothing
NOTHING = len(LOSSES)
COUNTS = [.5]*len(LOSSES) + [20] + [.1]*len(GAINS) # edits of each kind seen before the night began
FAR = .02 # a loss beyond this is no matter of noise

def widths():
    "Each kind of edit spreads as far as the kinds beside it"
    ends = [MEANS[0]*1.5, *MEANS, MEANS[-1]*1.5]
    res = [(b-a)/4 for a,b in zip(ends, ends[2:])]
    return [*res[:NOTHING], 1e-5, *res[NOTHING+1:]]

class Posterior:
    "True values of the published runs, given their values with noise sigma"
    def __init__(self, values, parents, sigma, chance):
        self.sigma,self.chance,self.sd = sigma, chance, widths()
        known = [i for i,v in enumerate(values) if v is not None and v < values[0]+FAR]
        self.values = {i: values[i] for i in known}
        self.parent = {i: p for i,p in enumerate(parents) if i in self.values}
        self.children = {i: [j for j in known if self.parent[j] == i] for i in known}
        self.true = dict(self.values)
        self.kind = {}
        self.weights = [1/len(MEANS)]*len(MEANS)

    def kinds(self):
        "Draw the kind of each edit, then how frequent the kinds are"
        counts = [*COUNTS]
        for i,p in self.parent.items():
            if p is None: continue
            gain = self.true[p]-self.true[i]
            odds = [w/s*math.exp(-.5*((gain-m)/s)**2)
                for w,m,s in zip(self.weights, MEANS, self.sd)]
            self.kind[i] = self.chance.choices(range(len(MEANS)), odds)[0]
            counts[self.kind[i]] += 1
        drawn = [self.chance.gammavariate(c, 1) for c in counts]
        self.weights = [d/sum(drawn) for d in drawn]

    def values_once(self):
        "Draw each true value, given its run's value, its parent's and its children's"
        for i,v in self.values.items():
            terms = [(v, self.sigma)]
            if self.parent[i] is not None:
                k = self.kind[i]
                terms.append((self.true[self.parent[i]]-MEANS[k], self.sd[k]))
            for j in self.children[i]:
                k = self.kind[j]
                terms.append((self.true[j]+MEANS[k], self.sd[k]))
            precision = sum(1/s**2 for _,s in terms)
            mean = sum(m/s**2 for m,s in terms)/precision
            self.true[i] = self.chance.gauss(mean, precision**-.5)

    def gains(self, sweeps=10):
        "True gains of a night, `sweeps` later; the observed where a run is far off"
        for _ in range(sweeps):
            self.kinds()
            self.values_once()
        return {i: 0. if self.kind[i] == NOTHING else self.true[p]-self.true[i]
            for i,p in self.parent.items() if p is not None}

def drawn_nights(values, parents, sigma, n, seed):
    "True gains of n nights"
    post = Posterior(values, parents, sigma, random.Random(seed))
    post.gains(500)
    word = observed(values, parents)
    for _ in range(n):
        gains = post.gains()
        yield [None if o is None else gains.get(i, o) for i,o in enumerate(word, 1)]

# a night

class Pool:
    "The noise known so far, from sums of squares"
    def __init__(self): self.squares,self.df = 0., 0
    def noise(self, *groups):
        "With the runs that are under way"
        squares,df = self.squares, self.df
        for g in groups:
            m = fmean(g)
            squares += math.fsum((o-m)**2 for o in g)
            df += len(g)-1
        return Noise(math.sqrt(squares/df), df, 0., 0.)
    def add(self, group):
        now = self.noise(group) if len(group) > 1 else None
        if now: self.squares,self.df = now.sigma**2*now.df, now.df

def values_of(runs): return [o.value for o in runs]

class Night:
    "True value and runs of the best, and what has been counted"
    def __init__(self, sigma, chance, rule):
        self.sigma,self.chance,self.rule = sigma, chance, rule
        self.true,self.number = 0., 0
        self.best = [self.run(0., i) for i in range(CALIBRATION)]
        self.pool,self.curves = Pool(), [self.curve(0.) for _ in self.best]
        self.marks = {m: Pool() for m in MARKS}
        self.runs,self.false,self.missed,self.cut = float(CALIBRATION), 0, 0, 0
        self.at_126 = None

    def run(self, true, seed): return Run(self.chance.gauss(true, self.sigma), seed)

    def curve(self, true):
        "Loss at the marks, as fraction, loss, rate"
        return [(m, self.chance.gauss(true, e*self.sigma), 1.) for m,e in MARK_ERRORS.items()]

    def pay(self, runs):
        "Count runs; what is the best when 126 are used up is the morning of a short night"
        if self.runs + runs > 126 and self.at_126 is None: self.at_126 = self.true
        self.runs += runs

    def early(self, true):
        "The judge's word on the first run's curve"
        losses = {m: [c[i][1] for c in self.curves] for i,m in enumerate(MARKS)}
        noises = {m: self.marks[m].noise(losses[m]) for m in MARKS}
        return early_stop(self.curve(true), self.curves, noises)

    def experiment(self, gain, verdict, early=False):
        "An edit with a true gain, judged by `verdict`"
        self.number += 1
        if gain is None: return self.pay(1)
        true = self.true - gain
        found = self.early(true) if early else None
        if found and found.stop:
            self.cut += gain > 0
            self.missed += gain > 0
            return self.pay(1-found.saved)
        candidate = [self.run(true, 0)]
        self.beside = [] # runs of the best that were made beside this edit
        self.pay(1)
        while (status := verdict(self, candidate)) == 'again':
            known = self.beside if verdict is confirm else self.best
            who,seed = next_run(known, candidate, SEEDS)
            if who == 'best': self.beside.append(self.run(self.true, seed))
            else: candidate.append(self.run(true, seed))
            if who == 'best' and verdict is not confirm: self.best.append(self.beside[-1])
            self.pay(1)
        if verdict is confirm: self.best += self.beside
        self.settle(gain, candidate, status == 'keep')

    def settle(self, gain, candidate, kept):
        "Count a verdict; a keep is the new best"
        self.false += kept and gain <= 0
        self.missed += not kept and gain > 0
        self.pool.add(values_of(self.best if kept else candidate))
        if not kept: return
        for i,m in enumerate(MARKS): self.marks[m].add([c[i][1] for c in self.curves])
        self.true -= gain
        self.best = candidate
        self.curves = [self.curve(self.true) for _ in candidate]

    def noise(self, candidate): return self.pool.noise(values_of(self.best), values_of(candidate))

def strict(night, candidate): return decide(night.best[:1], candidate).status

def twice(night, candidate):
    "The original's less-than on the mean of two runs"
    if len(candidate) < 2: return 'again'
    return decide(night.best[:2], candidate).status

def confirm(night, candidate):
    "What the package ships: from the second run on against runs of the best beside it"
    noise = night.noise(candidate)
    first = decide(night.best+night.beside, candidate, noise, night.rule, night.number).status
    if first == 'discard' or not night.beside: return first
    return decide(night.beside, candidate, noise, night.rule, night.number).status

def calibrated(night, candidate):
    "The same against all runs of the best, those of its calibration among them"
    noise = night.noise(candidate)
    return decide(night.best, candidate, noise, night.rule, night.number).status

def filed(night, candidate):
    "The rule as first proposed"
    noise,n = night.noise(candidate), len(candidate)
    gain = fmean(values_of(night.best)) - fmean(values_of(candidate))
    if n == 1: return 'discard' if gain < -noise.sigma else 'again'
    first = fmean(values_of(night.best)) - candidate[0].value
    if n == 2 and first > 2*noise.sigma and candidate[1].value < night.best[0].value: return 'keep'
    if len(night.best) < n: return 'again'
    t = gain/noise.sigma/math.sqrt(1/n + 1/len(night.best))
    if t_tail(t, noise.df) <= share(night.rule, night.number, n): return 'keep'
    return 'again' if n < looks(night.rule)[-1] else 'discard'

RULES = dict(strict=strict, twice=twice, filed=filed, calibrated=calibrated, confirm=confirm,
    early=confirm)

def play(name, gains, sigma, chance, rule):
    "One night"
    night = Night(sigma, chance, rule)
    if name in ('strict', 'twice'): night.runs = 1. + (name == 'twice')
    for gain in gains: night.experiment(gain, RULES[name], early=name == 'early')
    return night

def play_all(name, nights, sigma, seed, rule=Rule()):
    "Means over nights"
    chance = random.Random(f'{seed} {name} {sigma}')
    done = [play(name, gains, sigma, chance, rule) for gains in nights]
    short = [-(o.true if o.at_126 is None else o.at_126) for o in done]
    return dict(false=fmean(o.false for o in done), any=fmean(o.false > 0 for o in done),
        missed=fmean(o.missed for o in done), runs=fmean(o.runs for o in done),
        gain=-fmean(o.true for o in done), short=fmean(short), cut=fmean(o.cut for o in done))

# tables

def row(*cells): print('|', ' | '.join(str(c) for c in cells), '|', flush=True)

def header(*cells):
    row(*cells)
    row(*['---']*len(cells))

def world_table(world, nights_of, args, start):
    "A table of all rules under all sigmas"
    print(f'\n{world}, {args.nights} nights a row\n')
    header('sigma', 'rule', 'false keeps', 'missed', 'runs', 'gain of twice', 'value',
        'value after 126 runs', 'gains cut early')
    for sigma in SIGMAS:
        nights = nights_of(sigma)
        found = {n: play_all(n, nights, sigma, args.seed) for n in RULES if n != 'filed'}
        for name,o in found.items():
            row(f'{sigma:.4f}', name, f'{o["false"]:.3f}', f'{o["missed"]:.1f}', f'{o["runs"]:.0f}',
                f'{o["gain"]/found["twice"]["gain"]:.1%}', f'{start-o["gain"]:.4f}',
                f'{start-o["short"]:.4f}', f'{o["cut"]:.2f}')

def null_table(args, n=125):
    "False keeps where nothing gains; sigma is the unit there"
    print(f'\nnull, {n} experiments a night\n')
    header('rule', 'nights', 'false keeps a night', 'nights with one', 'runs')
    for name in RULES:
        many = 5*args.nights if name in ('confirm', 'early') else args.nights
        if name == 'filed': many = max(args.nights//10, 1)
        o = play_all(name, [[0.]*n]*many, 1., args.seed)
        row(name, many, f'{o["false"]:.3f}', f'{o["any"]:.3f}', f'{o["runs"]:.0f}')

def scan(args, word):
    "By the settings: of the gain of `twice`; runs; with 126 runs, of the gain of `strict`"
    sigmas = 1e-4, 3e-4, 7e-4, 2e-3
    word = [word]*args.nights
    against = {s: play_all('twice', word*5, s, args.seed)['gain'] for s in sigmas}
    short = {s: play_all('strict', word*5, s, args.seed)['gain'] for s in sigmas}
    header('pairs', 'hope', *sigmas, 'null: runs')
    for pairs in (4, 8, 16, 24, 32):
        for hope in (.5, .8, 1.1):
            judge.HOPE = hope
            rule = Rule(pairs=pairs)
            found = [play_all('confirm', word, s, args.seed, rule) for s in sigmas]
            null = play_all('confirm', [[0.]*125]*args.nights, 1., args.seed, rule)
            cells = [f'{o["gain"]/against[s]:.1%}; {o["runs"]:.0f}; {o["short"]/short[s]:.1%}'
                for o,s in zip(found, sigmas)]
            row(pairs, hope, *cells, f'{null["runs"]:.0f}')

def main():
    a = argparse.ArgumentParser(description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter)
    a.add_argument('--nights', type=int, default=200, help='nights a row')
    a.add_argument('--seed', type=int, default=17)
    a.add_argument('--scan', action='store_true', help='settings instead of rules')
    args = a.parse_args()
    values,parents = published()
    word = observed(values, parents)
    if args.scan: return scan(args, word)
    null_table(args)
    world_table('word', lambda s: [word]*args.nights, args, values[0])
    def drawn(sigma): return list(drawn_nights(values, parents, sigma, args.nights, args.seed))
    world_table('drawn', drawn, args, values[0])

if __name__ == '__main__': main()
