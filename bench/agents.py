"""Three scripted agents in three worktrees on one pool: no idea tried twice, one branch, one ledger.

    python bench/agents.py [--agents 3] [--workers 2] [--ideas 10] [--small 2] [--at FOLDER] [--out FILE]

A session on the polynomial of `examples/` in a folder of its own, a pool of CPU workers by Ray
(extra `swarm`), and for each agent a worktree and a process. An agent does what any agent does, by
the commands alone: it asks for the next idea and takes it, and where none is free it makes a small
step of a constant; it edits by `ar-cells`, queues by `ar-submit`, has two submissions out at most,
and waits by `ar-wait --any`. Afterwards everything that must hold is looked at in git, in the
ledger, in the notes and in the list of ideas; the first thing that does not ends it with an error.
With `--out` the figures are added to a file, a line of JSON."""
import argparse, json, os, random, re, shutil, subprocess, sys, tempfile, time
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BIN = Path(sys.executable).parent
TAG = 'agents'
NAMES = 'ada', 'bob', 'cyd', 'dan', 'eve', 'fay', 'gus', 'hal'
# Among them two that can't help and one that can't run: the evaluator takes eight coefficients
IDEAS = [('DEGREE', '3'), ('DEGREE', '5'), ('RATE', '1.0'), ('RATE', '1.4'), ('STEPS', '450'),
    ('STEPS', '600'), ('DEGREE', '7'), ('RATE', '0.05'), ('STEPS', '100'), ('DEGREE', '9')]
SETTINGS = dict(rule='strict', clock='cpu', wall_limit=200) # a busy machine disturbs no run
OUT = 2 # submissions of an agent without a verdict, at most
PATIENCE = 3600 # seconds, after which something hangs

def environ():
    "The environment of a command: this package, and no profile but the example's own"
    own = {k: v for k,v in os.environ.items() if not k.startswith('AUTORESEARCH_')}
    return {**own, 'PYTHONPATH': str(ROOT), 'PYTHONUNBUFFERED': '1'}

def sh(folder, *args, ok=True):
    "A command, waited for"
    r = subprocess.run([str(a) for a in args], cwd=folder, env=environ(), capture_output=True,
        text=True, timeout=PATIENCE)
    assert not ok or r.returncode == 0, (args, r.returncode, r.stdout, r.stderr)
    return r

def ar(folder, command, *args, ok=True): return sh(folder, BIN/command, *args, ok=ok)
def told(folder, command, *args): return json.loads(ar(folder, command, *args, '--json').stdout)
def git(folder, *args): return sh(folder, 'git', *args).stdout.strip()

def make_session(root, workers, ideas):
    "The example as a repository of its own, with a session, ideas and a pool at work"
    shutil.copytree(ROOT/'examples/polynomial', root,
        ignore=shutil.ignore_patterns('runs', '__pycache__', 'results.tsv', 'run.log'))
    text = (root/'settings.ini').read_text()
    for k,v in SETTINGS.items(): text = re.sub(rf'^{k} = .*$', f'{k} = {v}', text, flags=re.M)
    (root/'settings.ini').write_text(text)
    (root/'.gitignore').write_text('runs/\nresults.tsv\nrun.log\n__pycache__/\n')
    git(root, 'init', '-q', '-b', 'main', '--template=')
    for k,v in dict(name='bench', email='bench@localhost').items(): git(root, 'config', f'user.{k}', v)
    git(root, 'add', '-A')
    git(root, 'commit', '-qm', 'start')
    ar(root, 'ar-setup', TAG, '--seed', '42')
    for i,(name,value) in enumerate(IDEAS[:ideas]):
        ar(root, 'ar-ideas', 'add', f'{name} = {value}', '--gain', f'{.1-.005*i:.3f}')
    ar(root, 'ar-swarm', 'start', '--workers', str(workers))

class Agent:
    "An agent: its worktree, and what it has done so far"
    def __init__(self, folder, small, seed):
        self.folder,self.small,self.rng = Path(folder), small, random.Random(seed)
        self.out,self.seen = [], Counter()
        self.tried = {} # {number of an idea: submission}

    def values(self):
        "The constants as the canvas has them"
        source = ar(self.folder, 'ar-cells', 'show', 'hparams').stdout
        return dict(re.findall(r'^(DEGREE|RATE|STEPS) = (\S+)', source, flags=re.M))

    def take(self):
        "The number and edit of an idea that is this agent's now; None where none is free"
        while found := told(self.folder, 'ar-ideas', 'next')['ideas']:
            o = found[0]
            r = ar(self.folder, 'ar-ideas', 'take', o['idea'], ok=False)
            if r.returncode == 0: return o['idea'], o['text'].split(' = ')
            assert 'is taken by agent' in r.stderr, r.stderr
            self.seen['claims refused'] += 1

    def step(self):
        "A small step of a constant"
        now = self.values()
        name = self.rng.choice(['RATE', 'STEPS'])
        by = self.rng.uniform(.8, 1.25)
        if name == 'RATE': return name, f"{min(2., max(.05, float(now[name])*by)):.3f}"
        return name, str(min(600, max(100, int(int(now[name])*by))))

    def submit(self, name, value, idea=None):
        "Edit and queue; the submission's name, '' where there was nothing to queue"
        before = self.values()[name]
        what = f'{name} {before} -> {value}' + f', idea {idea}'*bool(idea)
        if before == value: return self.give_up(idea, 'the best has it')
        ar(self.folder, 'ar-cells', 'edit', 'hparams', '--old', f'{name} = {before} ', '--new',
            f'{name} = {value} ')
        r = ar(self.folder, 'ar-submit', '-m', what, '--json', ok=False)
        if r.returncode == 0:
            self.seen['submitted'] += 1
            self.out.append(made := json.loads(r.stdout)['submission'])
            return made
        assert 'ran before' in r.stderr or 'queued already' in r.stderr or 'ar-run --again' in (
            r.stderr), r.stderr
        ar(self.folder, 'ar-drop')
        return self.give_up(idea, 'its code ran before')

    def give_up(self, idea, why):
        "Nothing to run"
        self.seen['not new'] += 1
        if idea: ar(self.folder, 'ar-ideas', 'drop', idea, '--why', why)
        return ''

    def wait(self):
        "The next verdict of this agent's"
        r = ar(self.folder, 'ar-wait', '--any', '--timeout', str(PATIENCE/2), '--json',
            ok=False)
        assert r.returncode == 0, (r.returncode, r.stdout, r.stderr)
        self.out.remove(json.loads(r.stdout)['submission'])
        self.seen['verdicts'] += 1

    def work(self):
        "Ideas while there are any, then small steps"
        steps = 0
        while (taken := self.take()) or steps < self.small:
            if taken and (made := self.submit(*taken[1], taken[0])): self.tried[taken[0]] = made
            elif not taken:
                steps += 1
                self.submit(*self.step())
            if len(self.out) >= OUT: self.wait()
        while self.out: self.wait()
        return dict(self.seen, tried=self.tried)

def main_agent(folder, small, seed):
    "Main of an agent's process"
    print(json.dumps(Agent(folder, int(small), seed).work()))

def submission(n): return (n.get('submission') or {}).get('id', '')

def rows_of(root):
    return [l.split('\t') for l in (root/'results.tsv').read_text().splitlines()[1:]]

def notes_of(root):
    "Notes of the experiments that have a row, in order"
    found = [json.loads(f.read_text()) for f in (root/'runs'/TAG).glob('[0-9]*-*/experiment.json')]
    made = [n for n in found if n.get('status') in ('keep', 'discard', 'crash')]
    return sorted(made, key=lambda n: int(n['dir'].split('-')[0]))

def check_ideas(root, said):
    "No idea was tried twice; each is linked with what its one taker ran for it, and with no other's"
    ideas = {o['idea']: o for o in told(root, 'ar-ideas', 'list', '--all')['ideas']}
    by = Counter(int(k) for o in said.values() for k in o['tried'])
    assert all(n == 1 for n in by.values()), by
    number = lambda n: int(n['dir'].split('-')[0])
    notes = notes_of(root)
    lost = {submission(n) for n in notes if n['class'] == 'lost'} # which is no try
    tried = {int(k): made for o in said.values() for k,made in o['tried'].items()}
    left = {k: o['state'] for k,o in ideas.items() if o['state'] not in ('tried', 'dropped')
        and tried.get(k) not in lost}
    assert not left, left
    of = {submission(n): number(n) for n in notes}
    for name,o in said.items():
        own = {number(n) for n in notes if n.get('agent') == name}
        for k,made in o['tried'].items():
            linked = ideas[int(k)]['experiments']
            if made in lost: continue
            assert of[made] in linked and own.issuperset(linked), (name, k, made, linked)

def check_branch(root, names):
    "One branch, each commit of it a keep that is better than the one before"
    kept = [n for n in notes_of(root) if n['status'] == 'keep']
    values = [n['value'] for n in kept]
    assert values == sorted(set(values), reverse=True), values
    line = git(root, 'rev-list', '--first-parent', f'refs/heads/autoresearch/{TAG}').split()
    assert line[:len(kept)] == [n['commit'] for n in kept][::-1], line
    assert not git(root, 'rev-list', '--merges', f'refs/heads/autoresearch/{TAG}')
    for k in names: # where an agent stands is a keep
        git(root, 'merge-base', '--is-ancestor', f'autoresearch/{TAG}-{k}', f'autoresearch/{TAG}')

def check_ledger(root, said):
    "One ledger, in which every submission stands once"
    notes,rows = notes_of(root), rows_of(root)
    assert [r[0] for r in rows] == [n['commit'][:7] for n in notes]
    assert len({n['code'] for n in notes}) == len(notes)
    made = Counter(submission(n) for n in notes if n.get('agent'))
    assert set(made.values()) <= {1} and sum(made.values()) == sum(
        o.get('submitted', 0) for o in said.values()), (made, said)
    for k,o in said.items():
        mine = [n for n in notes if n.get('agent') == k]
        assert len(mine) == o.get('submitted', 0) == o.get('verdicts', 0), (k, len(mine), o)

def check_left(root, folders):
    "Nothing is left over: no edit, no queue, no journal"
    for f in (root, *folders):
        assert not git(f, 'status', '--porcelain'), (f, git(f, 'status', '--porcelain'))
        assert (f/'results.tsv').samefile(root/'results.tsv')
    assert not list((root/'runs').rglob('journal.json'))
    assert not list((root/'runs'/TAG/'swarm').glob('s[0-9]*/job.json'))

def race(root, names, small):
    "All agents at once; what each says of itself"
    folders = {k: root.parent/k for k in names}
    for k,f in folders.items(): ar(root, 'ar-swarm', 'agent', k, '--at', f)
    procs = {k: subprocess.Popen([sys.executable, __file__, 'agent', folders[k], str(small), k],
        env=environ(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for k in names}
    said = {}
    for k,proc in procs.items():
        out,err = proc.communicate(timeout=PATIENCE)
        assert proc.returncode == 0, (k, err)
        said[k] = json.loads(out)
    return said, list(folders.values())

def main():
    p = argparse.ArgumentParser(description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('--agents', type=int, default=3, choices=range(1, len(NAMES)+1))
    p.add_argument('--workers', type=int, default=2, help='slots of the pool, on CPU cores')
    p.add_argument('--ideas', type=int, default=len(IDEAS), help='on the list, at most')
    p.add_argument('--small', type=int, default=2, help='small steps of each agent')
    p.add_argument('--at', help='folder of the session, which stays; else a temporary one')
    p.add_argument('--out', help='file to which the figures are added')
    a = p.parse_args()
    home = Path(a.at or tempfile.mkdtemp(prefix='agents-')).resolve()
    home.mkdir(exist_ok=True)
    root,names = home/'main', NAMES[:a.agents]
    begun = time.monotonic()
    try:
        make_session(root, a.workers, a.ideas)
        said,folders = race(root, names, a.small)
    finally: ar(root, 'ar-swarm', 'stop', ok=False)
    check_ideas(root, said)
    check_branch(root, names)
    check_ledger(root, said)
    check_left(root, folders)
    notes = notes_of(root)
    status = json.loads((root/'runs'/TAG/'swarm/status.json').read_text())
    rebased = sum(bool((n.get('submission') or {}).get('rebased')) for n in notes)
    figures = dict(agents=a.agents, workers=a.workers, seconds=round(time.monotonic()-begun),
        rows=len(notes), **Counter(n['status'] for n in notes), rebased=rebased,
        idle=round(status['idle'], 3), **{k: {m: v for m,v in o.items() if m != 'tried'} for k,o in said.items()})
    print(json.dumps(figures))
    if a.out:
        with open(a.out, 'a') as f: f.write(json.dumps(figures) + '\n')
    if not a.at: shutil.rmtree(home)

if __name__ == '__main__':
    if sys.argv[1:2] == ['agent']: main_agent(*sys.argv[2:])
    else: main()
