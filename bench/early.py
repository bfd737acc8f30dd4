"""What would early stop have cost, and saved? Asked of runs that went to their end.

    python bench/early.py runs/TAG [runs/OTHER ...]            # sessions, folder by folder
    python bench/early.py bench/sessions/early.json            # or curves that were recorded
    python bench/early.py runs/TAG --save early.json --every 3 # records them, each third point

An experiment is replayed as it came: its first run's curve beside the curves of the runs that the
best had by then, under the noise that all repeats by then tell of. `cut_at` of the package says
where it would have ended. A keep that would have been cut is what must not be; a discard that is
cut saves the rest of its budget. What counts as an experiment is a folder with a status of keep or
discard; a repeat, and the runs in `more/`, join the runs of their commit.

Prints a line an experiment, and of each session: keeps, those that would have been cut, discards,
those cut, those that can't be (another schedule, or none traced), the share of all budgets saved,
and experiments an hour before and with early stop, by the wall. Exit code 1 where a keep was cut."""
import argparse, json, sys
from pathlib import Path
from autoresearch.judge import curve_of, early_stop, noise_at_marks, same_schedule
from autoresearch.run import read_json, read_notes

COLUMNS = 'fraction', 'loss', 'schedule'

def run_of(folder, commit, status):
    "A run as it is replayed: of which commit, how it ended, its seconds and curve"
    notes,record = read_notes(folder/'experiment.json'), read_json(folder/'record.json')
    block = record.get('block') or notes.get('block') or {}
    return dict(name=folder.name, commit=commit, status=status, seconds=notes.get('seconds', 0.),
        trained=block.get('training_seconds', 0.), curve=curve_of(read_json(folder/'progress.json')))

def session_runs(folder):
    "All runs of a session in order; those in `more/` are repeats of their experiment, or the best"
    runs,best = [], ''
    for f in sorted(Path(folder).glob('[0-9][0-9][0-9]*-*')):
        notes = read_notes(f/'experiment.json')
        if notes.get('class') != 'ok': continue
        commit = notes['commit'][:7]
        runs.append(run_of(f, commit, notes.get('status', '')))
        for m in sorted(f.glob('more/*')):
            of_best = any(r['dir'].endswith(f'more/{m.name}') for r in notes.get('best_runs') or [])
            runs.append(run_of(m, best if of_best else commit, 'repeat'))
        if notes.get('status') == 'keep': best = commit
    return runs

def replay(runs):
    "Each experiment with where it would have ended (1: not before its end) and why"
    curves,best,told = {}, '', []
    for run in runs:
        if run['status'] in ('keep', 'discard'):
            noises = noise_at_marks(curves.values())
            theirs = curves.get(best, [])
            found = early_stop(run['curve'], theirs, noises)
            apart = not all(same_schedule(run['curve'], o) for o in theirs)
            at = found.at if found.stop else 1.
            told.append(dict(run, at=at, apart=apart, reason=found.reason))
        if run['curve']: curves.setdefault(run['commit'], []).append(run['curve'])
        if run['status'] == 'keep': best = run['commit']
    return told

def summary(told):
    "The figures of a session"
    keeps,discards = ([o for o in told if o['status'] == s] for s in ('keep', 'discard'))
    cut = [o for o in discards if o['at'] < 1]
    seconds = sum(o['seconds'] for o in told)
    saved = sum((1-o['at'])*o['trained'] for o in discards)
    trained = sum(o['trained'] for o in told)
    hours = [s/3600 for s in (seconds, seconds-saved) if s > 0]
    rates = [len(told)/h for h in hours]
    return dict(keeps=len(keeps), keeps_cut=sum(o['at'] < 1 for o in keeps),
        discards=len(discards), cut=len(cut),
        apart=sum(o['apart'] for o in discards),
        saved=saved/trained if trained else 0., before=rates[0] if rates else 0.,
        after=rates[-1] if rates else 0.)

def said(name, told):
    "A session in words"
    lines = [f"{o['name']:24} {o['status']:8} {o['at']:>5.0%}  {o['reason']}" for o in told]
    s = summary(told)
    return '\n'.join([*lines, f"{name}: {s['keeps_cut']} of {s['keeps']} keeps cut, {s['cut']} of "
        f"{s['discards']} discards, {s['apart']} of them of another schedule or not traced; "
        f"{s['saved']:.1%} of the training saved, "
        f"{s['before']:.1f} -> {s['after']:.1f} experiments an hour"])

def short(run, every):
    "A run with every so-manyth point of its curve, and the last"
    return dict(run, curve=run['curve'][:-1:every] + run['curve'][-1:])

def read(path):
    "The runs of a session's folder, or of a recorded file"
    if Path(path).is_dir(): return session_runs(path)
    runs = json.loads(Path(path).read_text())
    def points(run): return dict(columns=list(COLUMNS), curve=run['curve'])
    return [dict(run, curve=curve_of(points(run))) for run in runs]

def main():
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('sessions', nargs='+', help='folders runs/TAG, or recorded .json files')
    parser.add_argument('--save', default='', help='record the runs of all sessions in this file')
    parser.add_argument('--every', type=int, default=1, help='record every so-manyth point')
    args = parser.parse_args()
    every = [(path, read(path)) for path in args.sessions]
    for path,runs in every: print(said(path, replay(runs)))
    if args.save:
        lines = [json.dumps(short(run, args.every)) for _,runs in every for run in runs]
        Path(args.save).write_text('[' + ',\n'.join(lines) + ']\n')
    return int(any(o['status'] == 'keep' and o['at'] < 1 for _,runs in every for o in replay(runs)))

if __name__ == '__main__': sys.exit(main())
