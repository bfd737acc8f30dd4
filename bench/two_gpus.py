"""What two GPUs of one host are worth to the swarm, by the commands alone.

    python bench/two_gpus.py runs S        # one GPU, then two: rates of runs alone and beside
    python bench/two_gpus.py search S      # goes on in the same session: eight trials on both
    python bench/two_gpus.py show S        # the table of RESULTS.md

S is a folder for a clone of the last commit and its session. `runs` makes the baseline and two
edits one after the other, so that each has the host for itself, then two edits at once, then
`search` eight trials on both GPUs. None of these edits is examined, which takes 24 s of the GPU
each. Wanted: Ray, two GPUs and a prepared profile (climbmix60; --profile names another)."""
import argparse, json, os, subprocess, sys, time
from pathlib import Path
from sessions import ROOT, make_commands, random_edits

TAG = 'two'

class Swarm:
    "A session in a folder, and its commands"
    def __init__(self, folder, profile):
        self.folder = Path(folder).resolve()
        self.repo,self.log = self.folder/'repo', self.folder/'session.log'
        more = os.environ.get('PYTHONPATH', '')
        self.env = {**os.environ, 'PYTHONUNBUFFERED': '1',
            'PYTHONPATH': os.pathsep.join(filter(None, [str(self.repo), more])),
            'AUTORESEARCH_PROFILE': profile,
            'PATH': f'{self.folder}/bin:{os.environ["PATH"]}'}

    def ask(self, *words, check=True):
        t0 = time.time()
        r = subprocess.run([self.folder/f'bin/ar-{words[0]}', *words[1:]], cwd=self.repo,
            env=self.env, capture_output=True, text=True)
        with open(self.log, 'a') as f:
            f.write(f'$ ar-{" ".join(words)}   [{r.returncode}, {time.time()-t0:.1f} s]\n'
                f'{r.stdout}{r.stderr}\n')
        print(f'{time.time()-t0:6.1f} s  ar-{" ".join(words)[:70]}  [{r.returncode}]', flush=True)
        if check and r.returncode: raise SystemExit(f'{r.stdout}{r.stderr}')
        return r

    def begin(self):
        "Clone, commands and session, where they are not there yet"
        if (self.folder/'begun').exists(): return
        subprocess.run(['git', 'clone', '-q', ROOT, self.repo], check=True)
        make_commands(self.folder/'bin')
        self.ask('setup', TAG)
        (self.folder/'begun').touch()

    def workers(self, n):
        "A swarm of so many workers, where none is at work"
        st = json.loads(self.ask('swarm', 'status', '--json', check=False).stdout or '{}')
        if st.get('state') != 'running': self.ask('swarm', 'start', '--workers', str(n))

    def submit(self, edit):
        said,change = edit
        change(self.repo/'nbs/02_train.ipynb')
        return json.loads(self.ask('submit', '--no-examine', '-m', said, '--json').stdout)['submission']

    def notes(self):
        folders = sorted((self.repo/f'runs/{TAG}').glob('[0-9]*-*/experiment.json'))
        return [json.loads(f.read_text()) for f in folders]

    def wait_all(self, ids):
        for i in ids: self.ask('wait', i, check=False)

def mark(s, name, began, ids):
    "Note how long a part took, and which jobs it was"
    with open(s.folder/'parts.jsonl', 'a') as f:
        f.write(json.dumps(dict(part=name, seconds=time.time()-began, jobs=ids))+'\n')

def together(s, name, edits, at_once):
    "Submit edits, all at once or each after the verdict on the one before"
    began = time.time()
    if at_once:
        ids = [s.submit(e) for e in edits]
        s.wait_all(ids)
    else:
        ids = []
        for e in edits:
            ids.append(s.submit(e))
            s.wait_all(ids[-1:])
    mark(s, name, began, ids)

def runs(s):
    s.begin()
    edits = random_edits(6)
    began = time.time()
    s.workers(2)
    s.ask('wait', 's001') # the baseline, the swarm's own first job
    mark(s, 'baseline', began, ['s001'])
    together(s, 'one after the other', edits[:2], False)
    together(s, 'at once', edits[2:4], True)
    print(f'{time.time()-began:.0f} s in all')

def search(s, trials):
    s.begin()
    began = time.time()
    s.workers(2)
    known = len(s.notes())
    s.ask('search', '--swarm', '--no-examine', '--trials', str(trials), check=False)
    made = [n for n in s.notes()[known:] if n.get('submission')]
    mark(s, f'a search of {trials}', began, [n['submission']['id'] for n in made])
    s.ask('swarm', 'status', check=False)
    s.ask('swarm', 'stop', '--now', check=False)

def show(s):
    by = {n['submission']['id']: n for n in s.notes() if n.get('submission')}
    print('| part | seconds | run | slot | tokens/s | value | verdict |')
    print('| --- | --- | --- | --- | --- | --- | --- |')
    parts = s.folder/'parts.jsonl'
    for line in parts.read_text().splitlines() if parts.exists() else []:
        part = json.loads(line)
        for i in part['jobs']:
            n = by.get(i, {})
            slot = (n.get('submission') or {}).get('slot', '')
            print(f"| {part['part']} | {part['seconds']:.0f} | {i} | {slot} | "
                f"{n.get('rate') or 0:,.0f} | {n.get('value') or 0:.6f} | {n.get('status', 'none')} |")
    lanes = s.repo/f'runs/{TAG}/swarm/lanes.jsonl'
    for line in lanes.read_text().splitlines() if lanes.exists() else []:
        o = json.loads(line)
        print(f"{o['slot']:24} {o['key']:10} {o['whose']:10} {o['ended']-o['began']:6.1f} s  "
            f"{o['status']}")

if __name__ == '__main__':
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('what', choices=['runs', 'search', 'show'])
    parser.add_argument('folder')
    parser.add_argument('--profile', default='climbmix60')
    parser.add_argument('--trials', type=int, default=8)
    o = parser.parse_args()
    s = Swarm(o.folder, o.profile)
    dict(runs=lambda: runs(s), search=lambda: search(s, o.trials), show=lambda: show(s))[o.what]()
    if o.what != 'show': show(s)
