"""A night without people on profile `tiny`: a scripted agent that has the commands and program.md.

    python bench/night.py run S [--budget 3] [--until 540]    # goes on where it was stopped
    python bench/night.py check S                             # what must hold of it
    python bench/night.py record S bench/sessions/night-18    # what stays of it, small

The agent takes ideas of `ar-ideas next` whose constants it can write down, small changes of one
constant otherwise, and runs each by `ar-run`. On the way it goes over the hill twice
(`ar-expedition`), combines two discards (`ar-combine`), and takes the keeps out one by one
(`ar-ablate`); in each of the four every process of the session is killed with SIGKILL at a random
moment, as by a machine that goes out, and the agent types the same command again.

What must hold: as many experiments as asked for, the branch monotone (its commits are the keeps,
in order, each a gain over the one before), every row with a folder and notes, every try found by
`ar-ideas about` with words of its own description, no process left."""
import argparse, json, os, random, re, subprocess, sys, time
from pathlib import Path
import psutil
from sessions import TAG, Session, record

ROOT = Path(__file__).resolve().parent.parent
# Constants of cell hparams that the agent moves, by a factor or to another value
FACTORS = dict(EMBEDDING_LR=1.3, UNEMBEDDING_LR=1.4, MATRIX_LR=1.3, SCALAR_LR=1.5, X0_INIT=1.4,
    WEIGHT_DECAY=1.4, WARMDOWN_RATIO=1.2, ROPE_BASE=2.)
# Of cell hparams-tiny, which has the last word on them here
CHOICES = dict(DEPTH=['1', '2', '3'], TOTAL_BATCH_SIZE=['2**11', '2**12'])
CELLS = 'hparams', 'hparams-tiny'
KILLS = 'expedition-1 combine expedition-2 ablate'.split()

class Agent:
    "A session and what the agent did in it so far"
    def __init__(self, folder, budget, cores, seed):
        self.s = Session(folder, 'aa', '1/1', str(budget), cores, 'none')
        self.rng = random.Random(seed)
        self.path = self.s.folder/'agent.json'
        self.done = json.loads(self.path.read_text()) if self.path.exists() else {}

    def remember(self, **more):
        self.done |= more
        self.path.write_text(json.dumps(self.done))

    def ask(self, *words, check=True): return self.s.ask(*map(str, words), check=check)
    def rows(self): return self.s.rows()
    def json(self, *words): return json.loads(self.s.ask(*words, '--json', check=False).stdout)

    def processes(self):
        "Those of the session: they have its cache in their environment"
        mark = self.s.env['AUTORESEARCH_CACHE']
        for p in psutil.process_iter():
            try: mine = p.environ().get('AUTORESEARCH_CACHE') == mark
            except psutil.Error: continue
            if mine: yield p

    def killed(self, seconds, *words):
        "A command whose session's processes are all killed after so many seconds; did it go on?"
        cmd = [str(self.s.folder/f'bin/ar-{words[0]}'), *map(str, words[1:])]
        p = subprocess.Popen(cmd, cwd=self.s.repo, env=self.s.env, stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL)
        try: p.wait(seconds)
        except subprocess.TimeoutExpired: pass
        cut = p.poll() is None
        for o in self.processes():
            try: o.kill()
            except psutil.NoSuchProcess: pass
        p.wait()
        with open(self.s.log, 'a') as f:
            f.write(f'$ ar-{" ".join(map(str, words))}   [all killed after {seconds:.1f} s]\n\n')
        return cut

    def kill_once(self, name, *words):
        "The one kill that is meant for this part of the night"
        for _ in range(3):
            if name in self.done.get('killed', []): return
            if not self.killed(self.rng.uniform(2, 7), *words): continue
            self.remember(killed=[*self.done.get('killed', []), name])

    def values(self):
        "Constants with the cell that has the last word on them: {name: (cell, text)}"
        res = {}
        for cell in CELLS:
            said = self.ask('cells', 'show', cell).stdout
            res |= {k: (cell, v) for k,v in re.findall(r'(?m)^ *([A-Z]\w+) = (\S+)', said)}
        return res

    def set(self, name, new):
        "Give a constant another value; False where it has that one already"
        cell,old = self.values().get(name, ('', new))
        if old == new: return False
        r = self.ask('cells', 'edit', cell, '--old', f'{name} = {old} ', '--new', f'{name} = {new} ',
            check=False)
        return r.returncode == 0

    def small_change(self):
        "One constant moved by its factor, up or down, or to another choice; says what it did"
        while True:
            name = self.rng.choice([*FACTORS, *CHOICES])
            _,old = self.values()[name]
            if name in CHOICES:
                new = self.rng.choice(CHOICES[name])
                if self.set(name, new): return f'{name} {old} -> {new}'
                continue
            v = float(old.replace('_', ''))*FACTORS[name]**self.rng.choice([-1, 1])
            new = f'{min(v, .95) if name == "WARMDOWN_RATIO" else v:.3g}'
            if float(new) and self.set(name, new): return f'{name} {old} -> {new}'

    def idea(self):
        "The next idea of the page whose constants are all in cell hparams; '' where none is left"
        for _ in range(40):
            found = self.json('ideas', 'next').get('ideas') or []
            if not found: return ''
            o,known = found[0], self.values()
            wants = {k: str(v) for k,v in (o.get('constants') or {}).items()}
            ours = {k for k,(cell,_) in known.items() if cell == CELLS[0]}
            moved = wants and {*wants} <= ours and self.rows()
            if moved and any([self.set(k, v) for k,v in wants.items()]):
                self.ask('ideas', 'take', o['idea'])
                return o['text']
            self.ask('ideas', 'drop', o['idea'], '--why', 'needs code, or is the value there is')
        return ''

    def run(self, said, **kw):
        "An experiment; again where another one or a kill stood in its way. True where a row came"
        for _ in range(4):
            n = len(self.rows())
            r = self.ask('run', '-m', said, check=False, **kw)
            if len(self.rows()) > n: return True
            if 'ran before' in r.stdout or 'has no edit' in r.stdout: break
        self.ask('drop', check=False)
        return False

    def one(self):
        "An experiment as program.md asks for them"
        said = self.idea() or self.small_change()
        self.run(said)
        if self.rows()[-1][3] == 'crash': self.ask('drop', check=False)

    def expedition(self, k):
        "Two constants moved twice each, the second step killed, then the best of the line is tried"
        self.ask('expedition', 'start', '--steps', 3, '--why', f'valley {k}: two rates at once')
        for step in range(3):
            said = self.small_change()
            if step == 1: self.kill_once(f'expedition-{k}', 'run', '-m', said)
            self.ask('status')
            self.run(said)
        self.ask('expedition', 'finish', check=False)
        self.ask('note', f'expedition {k} is over: see ar-expedition')

    def combine(self):
        "The two discards of least loss that touch other constants, onto the best"
        rows = [(float(r[1]), i, r) for i,r in enumerate(self.rows()) if r[3] == 'discard'
            and '->' in r[4]]
        rows.sort()
        for a in range(len(rows)):
            for b in range(a+1, len(rows)):
                x,y = rows[a][2], rows[b][2]
                if x[4].split()[0] == y[4].split()[0]: continue
                if self.ask('combine', x[0], y[0], check=False).returncode: continue
                said = f'combined: {x[4]}; {y[4]}'
                self.kill_once('combine', 'run', '-m', said)
                self.ask('status')
                return self.run(said)

    def ablate(self):
        "Every keep taken out once, the command killed on its way"
        self.kill_once('ablate', 'ablate')
        self.ask('status')
        r = self.ask('ablate', check=False)
        if '--apply' in r.stdout and not self.ask('ablate', '--apply', check=False).returncode:
            self.ask('run', '--simpler', '-m', 'keeps without effect taken out', check=False)
            self.ask('drop', check=False)

    def part(self, name, f, *args):
        "A part of the night that is done once"
        if name in self.done.get('parts', []): return
        f(*args)
        self.remember(parts=[*self.done.get('parts', []), name])

    def night(self, wanted, until):
        "Until there are as many experiments as wanted"
        def late(): return until and time.time() > until
        if not self.rows(): self.ask('run', '-m', 'baseline')
        self.ask('calibrate')
        plan = {wanted//4: ('expedition-1', self.expedition, 1), wanted//2: ('combine', self.combine),
            3*wanted//4: ('expedition-2', self.expedition, 2), wanted-8: ('ablate', self.ablate)}
        while len(self.rows()) <= wanted or len(self.done.get('parts', [])) < len(plan):
            if late(): return False
            for at,(name,*what) in plan.items():
                if len(self.rows()) >= at: self.part(name, *what)
            self.one()
        self.ask('status', '--all')
        self.ask('status', '--brief')
        return True

def make(agent, source):
    agent.s.make(source, '')
    agent.s.ask('status')

def folders(repo):
    found = {}
    for f in sorted((repo/f'runs/{TAG}').glob('*/experiment.json')):
        found[f.parent.name] = json.loads(f.read_text())
    return found

def check(agent, wanted):
    "What must hold; a line each, and whether all does"
    repo,rows,notes = agent.s.repo, agent.rows(), folders(agent.s.repo)
    git = lambda *a: agent.s.run(['git', *a]).stdout.split()
    base = json.loads((repo/f'runs/{TAG}/state.json').read_text())['base']
    branch = git('rev-list', '--reverse', '--first-parent', f'{base}..autoresearch/{TAG}')
    kept = [n for n in notes.values() if n['status'] == 'keep']
    by_commit = {n['commit'][:7]: n for n in kept}
    on = [by_commit.get(c[:7]) for c in branch]
    gains = [(n.get('gain') or {}).get('gain', (n.get('best') or 9e9)-n['value']) for n in on[1:] if n]
    own = [n for n in notes.values() if n['status'] in ('keep', 'discard', 'crash')]
    lost = []
    for r in rows:
        words = sorted({*re.findall(r'[A-Za-z_]{4,}', r[4])}, key=len, reverse=True)[:3]
        said = [agent.ask('ideas', 'about', w, '--json', check=False).stdout for w in words]
        if not any(r[0] in o for o in said): lost.append((r[0], words))
    left = [p.pid for p in agent.processes()]
    facts = {'experiments': len(rows), 'kept': len(kept), 'runs': sum(max(1, len(n.get('runs') or []))
        + len(n.get('best_runs') or []) for n in notes.values()),
        'expeditions': len([*(repo/f'runs/{TAG}/expeditions').glob('*.json')]),
        'side runs': len([n for n in own if n.get('side')]), 'killed': agent.done.get('killed', [])}
    holds = {'enough experiments': len(rows) >= wanted,
        'the branch has the keeps and nothing else': None not in on and len(on) <= len(kept),
        'each a gain over the one before': all(g > 0 for g in gains),
        'every row has its notes': {r[0] for r in rows} <= {n['commit'][:7] for n in own},
        'no row twice': len({r[0] for r in rows}) == len(rows),
        'every try is found': not lost, 'no process is left': not left,
        'a kill in each': {*KILLS} <= {*facts['killed']}}
    for k,v in facts.items(): print(f'{k:45} {v}')
    for k,v in holds.items(): print(f'{k:45} {"yes" if v else "NO"}')
    if lost: print('not found:', lost)
    return all(holds.values())

def main():
    a = argparse.ArgumentParser(description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter)
    a.add_argument('what', choices=['run', 'check', 'record'])
    a.add_argument('session')
    a.add_argument('to', nargs='?')
    a.add_argument('--source', default=str(ROOT))
    a.add_argument('--budget', type=float, default=3)
    a.add_argument('--experiments', type=int, default=60)
    a.add_argument('--until', type=float, default=0, help='end after so many seconds')
    a.add_argument('--cores', default='0')
    a.add_argument('--seed', type=int, default=18)
    args = a.parse_args()
    cores = [int(c) for c in args.cores.split(',')]
    agent = Agent(Path(args.session)/'night', args.budget, cores, args.seed)
    if args.what == 'record':
        args.sessions,args.curves = args.session, False
        return record(args)
    if args.what == 'run':
        os.sched_setaffinity(0, cores)
        until = time.time() + args.until if args.until else 0
        make(agent, args.source)
        if not agent.night(args.experiments, until): print('not at its end: the same command goes on')
    sys.exit(0 if check(agent, args.experiments) else 1)

if __name__ == '__main__': main()
