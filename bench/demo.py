"""make demo: a baseline and a few trials of the search in a clone, results copied to the top.

    python bench/demo.py [--minutes 10] [--trials 9]
    python bench/demo.py --check     # what make asks before it installs anything; needs no package

Whatever ends it early, the deadline, Ctrl-C, a search that gives up, it shows what there is: the
ledger, the picture, and a sentence."""
import argparse, contextlib, fcntl, json, math, os, shutil, signal, subprocess, sys, time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ['results.tsv', 'run.log', 'progress.png']
BIN = Path(sys.executable).parent
TRIALS = 9
MINUTES = 10
CLOSING = 15 # seconds of them kept for the picture
NEXT = ('On an H100 type: source .venv/bin/activate && ar-prepare && ar-setup first && '
    'ar-search --hours 8, or let an agent follow program.md.')

class DemoError(Exception):
    "The demo can't begin, or has nothing to show; says why and the way out"

class Demo:
    "Where a demo happens, and until when"
    def __init__(self, root=ROOT, profile='tiny', minutes=MINUTES, trials=TRIALS):
        self.root = Path(root)
        self.profile,self.minutes,self.trials = profile, minutes, trials
        self.kept = self.root/'runs'/'demo' # a copy of the last demo's results
        self.clone = self.kept/'repo'
        self.began = time.monotonic()
        self.interrupted = False

    def seconds(self): return time.monotonic() - self.began
    def left(self): return 60*self.minutes - self.seconds()
    def environ(self):
        path = [str(self.clone), *filter(None, [os.environ.get('PYTHONPATH')])]
        more = dict(AUTORESEARCH_PROFILE=self.profile, PYTHONPATH=os.pathsep.join(path))
        return {**os.environ, **more}

def git(demo, *args):
    "Output of a git command in the checkout. Raises `DemoError` with git's own words."
    r = subprocess.run(['git', *args], cwd=demo.root, capture_output=True)
    out,err = (o.decode(errors='replace').strip() for o in (r.stdout, r.stderr))
    if r.returncode: raise DemoError(f'git {args[0]}: {err or "there is no commit"}')
    return out

def check(demo):
    "Can the checkout be cloned? Returns a line on what the clone will lack. Raises `DemoError`."
    if not shutil.which('git'): raise DemoError('it needs git, which is not installed')
    try:
        if git(demo, 'rev-parse', '--show-prefix'):
            top = git(demo, 'rev-parse', '--show-toplevel')
            raise DemoError(f'the repository around it is {top}')
        git(demo, 'rev-parse', '--verify', '--quiet', 'HEAD^{commit}')
    except DemoError as e:
        if 'dubious ownership' in str(e): raise
        raise DemoError(f'it runs in a clone of the last commit, and {demo.root} has none ({e}).\n'
            'An archive comes without git: clone the repository instead, or type here first:\n'
            'git init && git add -A && '
            'git -c user.name=me -c user.email=me@localhost commit -qm start') from None
    changed = [l.split(maxsplit=1)[1] for l in git(demo, 'status', '--porcelain').splitlines()]
    if not changed: return ''
    names = ', '.join(changed[:5]) + (' ...' if len(changed) > 5 else '')
    return f'the demo runs the last commit; what is not committed is not in it: {names}'

@contextlib.contextmanager
def alone(demo):
    "One demo at a time in a checkout. Raises `DemoError`."
    demo.kept.mkdir(parents=True, exist_ok=True)
    with open(demo.kept/'.lock', 'a') as f:
        try: fcntl.flock(f, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            who = f'another one is at work in {demo.root}'
            raise DemoError(f'{who}: let it end, or end it') from None
        yield

def call(demo, *cmd, seconds=None, cwd=None):
    "Run a command; asked to end after `seconds`, or some after Ctrl-C. Returns its exit code."
    print('$', *(Path(cmd[0]).name, *cmd[1:]), flush=True)
    cmd = [str(o) for o in cmd]
    asked = False
    proc = subprocess.Popen(cmd, cwd=cwd or demo.clone, env=demo.environ())
    while True:
        try: return proc.wait(seconds)
        except subprocess.TimeoutExpired:
            proc.kill() if asked else proc.terminate()
            asked,seconds = True, 60
        except KeyboardInterrupt: # on a terminal the command got it too, and puts things in order
            demo.interrupted,seconds = True, 5

def clone(demo):
    "What the demo needs of git happens in a clone: your branch and files stay as they are"
    lock = demo.clone/'runs'/'.lock'
    if lock.exists() and lock.stat().st_size: # a demo that was killed may have left an experiment
        subprocess.run([BIN/'ar-stop'], cwd=demo.clone, env=demo.environ(), capture_output=True)
    if demo.clone.exists(): shutil.rmtree(demo.clone)
    cmd = ['git', 'clone', '--quiet', '--no-hardlinks', demo.root, demo.clone]
    if call(demo, *cmd, cwd=demo.root):
        raise DemoError(f'git could not clone {demo.root}; its reason stands above')

def begin(demo):
    "A session in a clone. Raises `DemoError` where one of its commands fails"
    clone(demo)
    for name,*args in (['ar-prepare'], ['ar-setup', 'demo', '--seed', '42']):
        code = call(demo, BIN/name, *args)
        if demo.interrupted: raise KeyboardInterrupt
        if code: raise DemoError(f'{name} ended with exit code {code}; its reason stands above')

def rows(demo):
    "Rows of the demo's ledger, as lists of five texts"
    ledger = demo.clone/'results.tsv'
    lines = ledger.read_text(errors='replace').splitlines()[1:] if ledger.is_file() else []
    return [r for l in lines if len(r := l.split('\t')) == 5]

def kept(demo): return [float(r[1]) for r in rows(demo) if r[3] == 'keep']

def reasons(demo):
    "Why experiments have no value, in order"
    res = {}
    for f in (demo.clone/'runs'/'demo').glob('[0-9]*/experiment.json'):
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            n = json.loads(f.read_text())
            res[n['commit'][:7]] = ' '.join(n['reason'].split())
    return [res.get(r[0], 'no reason is known') for r in rows(demo) if r[3] == 'crash']

def baseline(demo):
    "The first experiment; once more if it came to nothing and there is time"
    for _ in range(2):
        call(demo, BIN/'ar-run', '-m', 'baseline')
        if kept(demo) or demo.interrupted or demo.left() < demo.seconds(): return

def search(demo):
    "As many trials as fit into the time. Returns which are left out and why, '' for none"
    before = len(rows(demo))
    room = demo.left()-CLOSING
    code = 0
    if room > 0:
        length = ['--trials', demo.trials, '--hours', f'{room/3600:.5f}']
        code = call(demo, BIN/'ar-search', *length, seconds=room)
    done = len(rows(demo)) - before
    if done >= demo.trials: return ''
    which = f'{done+1} to {demo.trials}' if done < demo.trials-1 else f'{demo.trials}'
    why = f'the demo takes {demo.minutes:g} minutes at most'
    if demo.interrupted: why = 'it was interrupted'
    elif code and demo.left() > CLOSING:
        why = f'ar-search ended with exit code {code} and says why above'
    return f'Left out of {demo.trials} trials: {which}, for {why}.'

def foreign(path, own):
    "Is a file at the top somebody else's than the last demo's?"
    if not os.path.lexists(path): return False
    return path.is_symlink() or not own.is_file() or path.read_bytes() != own.read_bytes()

def copy_results(demo):
    "To the top, but never over a ledger that is not the last demo's own. Returns where they are."
    mine = [n for n in RESULTS if foreign(demo.root/n, demo.kept/n)]
    if mine: print(f"{', '.join(mine)} at the top: not the demo's, and left as they are")
    for folder in [demo.kept] + [demo.root]*(not mine):
        for n in RESULTS:
            (folder/n).unlink(missing_ok=True)
            if (demo.clone/n).is_file(): shutil.copyfile(demo.clone/n, folder/n)
    return demo.kept if mine else demo.root

def outcome(demo):
    "What came of it, as lines. Raises `DemoError` where no experiment has a value."
    tried,values,lost = len(rows(demo))-1, kept(demo), reasons(demo)
    if not values and lost:
        log = demo.clone/'run.log'
        raise DemoError(f'the baseline has no value: {lost[-1]}; all of it stands in {log}')
    if not values:
        raise DemoError('the baseline has no result' + ', it was interrupted'*demo.interrupted)
    what = 'a model and measured it on what it had not seen'
    if demo.profile == 'tiny':
        what = 'a small language model and measured val_bpb on text it had not seen'
    made = f'{tried+1} real experiments' if tried else 'One real experiment'
    said = [f'{made} in {demo.seconds():.0f} s: each trained {what}.']
    if not tried: said.append(f'It is the baseline, {values[0]:.6f}.')
    elif len(values) == 1:
        said.append(f'The ratchet kept none of {tried}: the staircase is flat at {values[0]:.6f}, '
            'which happens in so few trials.')
    else:
        gain = f'{values[0]:.6f} -> {values[-1]:.6f}'
        said.append(f'The ratchet kept {len(values)-1} of {tried}: {gain}; '
            'each is a commit, the rest went back.')
    if lost: said.append(f'Without a value: {len(lost)} ({"; ".join(dict.fromkeys(lost))}).')
    return said

def show(demo, note):
    "Picture, ledger, and what came of it. Raises `DemoError` where there is nothing to show."
    if rows(demo) and call(demo, BIN/'ar-frontier', seconds=60):
        print('there is no picture; ar-frontier says why above')
    where = copy_results(demo)
    ledger,picture = where/'results.tsv', where/'progress.png'
    if ledger.exists(): print(f'\nresults.tsv\n{ledger.read_text(errors="replace").expandtabs(12)}')
    if picture.exists(): print(f'the staircase: {os.path.relpath(picture)}\n')
    print(*outcome(demo), *filter(None, [note]), sep='\n')

def run(demo):
    "The whole demo. Returns its exit code: 0 where the baseline has a value, 130 after Ctrl-C"
    if line := check(demo): print(line)
    note = ''
    with alone(demo):
        try:
            begin(demo)
            baseline(demo)
            if kept(demo) and not demo.interrupted: note = search(demo)
        except KeyboardInterrupt: demo.interrupted = True
        show(demo, note)
    return 130 if demo.interrupted else 0

def main():
    args = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    args.add_argument('--minutes', type=float, default=MINUTES,
        help='trials that would last longer are left out')
    args.add_argument('--trials', type=int, default=TRIALS)
    args.add_argument('--check', action='store_true',
        help='only say whether it can run in this checkout')
    o = args.parse_args()
    if not 0 < o.minutes < math.inf: args.error(f'--minutes {o.minutes:g}: a number above 0')
    if o.trials < 1: args.error(f'--trials {o.trials}: 1 or more')
    demo = Demo(minutes=o.minutes, trials=o.trials)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        if o.check:
            check(demo)
            return 0
        print(f'A baseline and up to {o.trials} trials, {o.minutes:g} minutes at most; '
            'Ctrl-C ends it and shows what there is.', flush=True)
        code = run(demo)
    except DemoError as e: return f'make demo: {e}'
    except KeyboardInterrupt: return 130
    print(NEXT)
    return code

if __name__ == '__main__': sys.exit(main())
