"""The judge's protocol in the ratchet: calibration, further runs, repeats, a machine that changes;
killed wherever that adds a state. On the torch-free example, whose value moves with its seed. The
kill matrix copies the outcome of a real run in, with a value that seed and edit decide."""
import collections, json, random, re, shutil, tempfile
from pathlib import Path
from statistics import fmean
import pytest
from autoresearch import ratchet
from autoresearch.contract import get_profile, write_json
from autoresearch.ledger import get_ledger, noise_seen
from autoresearch.run import Result, read_json
from lab import TAG, ar, edit, example, git, rows, run, setup, sound
from test_ratchet import ALL, ended, forked, in_parallel, instrument, lab, replay # noqa: F401

CUBIC = 'DEGREE = 1 ', 'DEGREE = 3 '
RENAMED = 'errs', 'errors' # another code, the same values

def notes(root): return [read_json(f/'experiment.json') for f in
    sorted((root/'runs'/TAG).glob('[0-9]*-*'))]
def status(root): return json.loads(ar(root, 'ar-status', '--json').stdout)

# By real runs

@pytest.fixture(scope='module')
def calibrated(tmp_path_factory):
    "A session with a baseline and four runs of it under other seeds"
    root = tmp_path_factory.mktemp('calibrated')/'r'
    example(root)
    setup(root)
    run(root, 'baseline')
    ar(root, 'ar-calibrate', '-n', '4')
    return root

@pytest.fixture
def session(calibrated, tmp_path):
    shutil.copytree(calibrated, tmp_path/'r', symlinks=True)
    return tmp_path/'r'

def test_calibration_runs_the_best_under_the_seeds_of_the_session(calibrated):
    state = read_json(calibrated/'runs'/TAG/'state.json')
    assert len(state['seeds']) == len(set(state['seeds'])) == ratchet.SEEDS
    all_notes = notes(calibrated)
    assert [n['status'] for n in all_notes] == ['keep', *['repeat']*4]
    assert [n['seed'] for n in all_notes] == state['seeds'][:5]
    assert len({n['value'] for n in all_notes}) == 5 and len({n['commit'] for n in all_notes}) == 1
    assert len(rows(calibrated)) == 1 and len(rows(calibrated)[0]) == 5
    st = status(calibrated)
    assert st['rule'] == 'confirm' and st['noise']['df'] == 4
    mean = fmean(n['value'] for n in all_notes)
    assert st['bar'] == pytest.approx(mean) and st['best'] == pytest.approx(mean, abs=1e-6)
    assert f'best {mean:.6f} (' in ar(calibrated, 'ar-status').stdout
    sound(calibrated)

def test_a_calibration_that_is_there_is_not_made_again(session):
    said = ar(session, 'ar-calibrate', '-n', '4').stdout
    assert said.startswith('rule confirm, sigma ') and len(notes(session)) == 5
    ar(session, 'ar-calibrate', '-n', '5')
    assert len(notes(session)) == 6
    bad = ar(session, 'ar-calibrate', '-n', '64', ok=False)
    assert bad.returncode == 1 and 'accepted are 1 to 63' in bad.stderr

def test_a_gain_takes_two_runs_of_each(session):
    edit(session, *CUBIC)
    said = run(session, 'a cubic').stdout
    n = notes(session)[-1]
    assert n['status'] == 'keep' and n['rule'] == 'confirm' and n['certainty'] > .999
    two = read_json(session/f'runs/{TAG}/state.json')['seeds'][:2]
    assert [r['seed'] for r in n['runs']] == [r['seed'] for r in n['best_runs']] == two, (
        'the best runs beside it, under seeds that calibration had, too')
    more = sorted((session/f'runs/{TAG}/{n["dir"]}/more').iterdir())
    assert [f.name for f in more] == ['02', '03', '04'], 'which does not tell what they are'
    assert all((f/'record.json').exists() for f in more)
    assert n['value'] == fmean(r['value'] for r in n['runs'])
    assert rows(session)[-1][1] == f'{n["value"]:.6f}' and rows(session)[-1][3] == 'keep'
    assert f'rmse: {n["value"]:.6f}, the mean of 2 runs' in said and '% sure' in said
    assert len(said.splitlines()) <= 16
    sound(session)

def test_an_edit_that_changes_nothing_is_not_kept(session):
    edit(session, *RENAMED)
    run(session, 'other words')
    n = notes(session)[-1]
    assert n['status'] == 'discard' and len(rows(session)) == 2
    head = git(session, 'rev-parse', 'HEAD')
    assert head == n['best_commit']

def test_a_code_that_ran_is_refused_and_joins_by_again(session):
    edit(session, *RENAMED)
    run(session, 'other words')
    first = notes(session)[-1]
    edit(session, *RENAMED)
    edit(session, 'Plain gradient', 'Quite plain gradient') # prose is no other code
    r = run(session, 'once more', ok=False)
    assert r.returncode == 1 and 'this code ran before, as experiment 6' in r.stderr
    assert '(other words): discard' in r.stderr and 'ar-run --again -m' in r.stderr
    said = ar(session, 'ar-run', '--again', '-m', 'once more').stdout
    n = notes(session)[-1]
    assert n['status'] == 'repeat' and n['commit'] == first['commit'] and len(rows(session)) == 2
    assert n['seed'] not in {r['seed'] for r in first['runs']}
    count = len(first['runs'])+1
    assert f'{count} runs of {first["commit"][:7]}, mean ' in said
    assert 'errors' in (session/'canvas.ipynb').read_text(), 'the edit stays in the working tree'

def test_repeats_lower_a_lucky_bar(session):
    before = status(session)['bar']
    said = ar(session, 'ar-run', '--repeat').stdout
    st = status(session)
    values = [n['value'] for n in notes(session)]
    assert len(values) == 6 and len(rows(session)) == 1
    assert st['bar'] == pytest.approx(fmean(values)) and st['bar'] != before
    assert f'6 runs of {st["best_commit"]}, mean {st["bar"]:.6f}' in said
    both = ar(session, 'ar-run', '--repeat', '--again', '-m', 'x', ok=False)
    assert both.returncode == 1 and 'name one' in both.stderr

def test_nothing_to_repeat(tmp_path):
    example(tmp_path/'r')
    setup(tmp_path/'r')
    for command in (['ar-run', '--repeat'], ['ar-calibrate']):
        r = ar(tmp_path/'r', *command, ok=False)
        assert r.returncode == 1 and 'no baseline to run again: ar-run -m "baseline"' in r.stderr
    assert not (tmp_path/'r/runs'/TAG/'journal.json').exists()

@pytest.mark.slow
def test_a_rewind_takes_the_bar_with_it(session):
    edit(session, *CUBIC)
    run(session, 'a cubic')
    first,kept = notes(session)[0], notes(session)[-1]
    assert status(session)['bar'] == pytest.approx(kept['value'])
    ar(session, 'ar-run', '--rewind', first['commit'])
    mean = fmean(n['value'] for n in notes(session)[:5])
    assert status(session)['bar'] == pytest.approx(mean)
    edit(session, 'DEGREE = 1 ', 'DEGREE = 2 ')
    run(session, 'a parabola')
    n = notes(session)[-1]
    assert n['best'] == pytest.approx(mean) and n['status'] == 'keep'

# By runs whose values are given

def valued(folder, value):
    "In place of `run_experiment`: a real run's outcome, with the value of this seed and canvas"
    as_it_was = replay(folder)
    def run_experiment(canvas, run_dir, p, seed, *args, **named):
        r = as_it_was(canvas, run_dir, p, seed, *args, **named)
        v = value(seed, Path(canvas).read_text())
        if v is None: return Result('error', run_dir, 1., {}, 'it ended', marks=r.marks)
        r.record['block']['rmse'] = r.record['evaluation']['value'] = v
        write_json(run_dir/'record.json', r.record)
        return r
    return run_experiment

def luck(seed): return random.Random(seed).gauss(0, .001)

def as_drawn(seed, text):
    "Noise of 0.001, and four of it gained by the edit"
    return .3 + luck(seed) - .004*(CUBIC[1] in text)

def supervised(folder, ask=None, value=as_drawn, at=None, record=None, message='an idea', also=None):
    "What a forked supervisor does: runs with given values; it dies at point `at`"
    def call():
        points = []
        def hit(label, half):
            points.append(label)
            if at in (label, len(points)-1): (half or die)()
        from test_ratchet import die
        ratchet.run_experiment = valued(folder, value)
        if also: also()
        if at is not None or record: instrument(hit)
        code = ratchet._supervisor(message, 'word', ask=json.dumps(ask or {}))
        if record: record.write_text('\n'.join(points))
        return code
    return call

def go(root, lab, *args, code=0, **named):
    log = root.parent/'log'
    log.write_text('')
    got = ended(forked(root, supervised(lab/'run-baseline', *args, **named), log))
    said = '\n'.join(read_json(root/'runs/answers/word.json').get('lines', []))
    assert got == code, (got, said, log.read_text())
    return said

@pytest.fixture(scope='session')
def drawn(lab): # noqa: F811
    "Sessions to kill in: one with a calibrated baseline, and that with an edit"
    root = lab/'tree-calibrated'
    shutil.copytree(lab/'tree-baseline', root, symlinks=True)
    go(root, lab)
    for _ in range(4): go(root, lab, dict(kind='repeat'))
    shutil.copytree(root, lab/'tree-drawn', symlinks=True)
    edit(lab/'tree-drawn', *CUBIC)
    # the best has run under few seeds, so that its turn comes
    for name,args in dict(drawn=(None,), again=(dict(kind='repeat'),)).items():
        copy = lab/f'dry-{name}'
        shutil.copytree(lab/'tree-drawn', copy, symlinks=True)
        go(copy, lab, *args, record=lab/f'points-{name}', value=tight)
    return lab

def tight(seed, text):
    "A gain of two sigma: it takes more runs than calibration made of the best"
    return .3 + luck(seed) - .002*(CUBIC[1] in text) + .0005*luck(seed+1)/.001*(CUBIC[1] in text)

def test_the_rule_takes_runs_in_turns_until_it_is_sure(drawn):
    n = notes(drawn/'dry-drawn')[-1]
    assert n['status'] == 'keep' and len(n['runs']) > 2, n['reason']
    assert n['best_runs'], 'candidate and best on the same new seeds'
    seeds = read_json(drawn/f'dry-drawn/runs/{TAG}/state.json')['seeds']
    assert [r['seed'] for r in n['runs']] == seeds[:len(n['runs'])]
    assert [r['seed'] for r in n['best_runs']] == seeds[:len(n['best_runs'])]
    dirs = sorted(r['dir'].split('/')[-1] for r in [*n['runs'][1:], *n['best_runs']])
    assert dirs == [f'{i:02d}' for i in range(2, 2+len(dirs))]
    best = [r['dir'] for r in n['best_runs']]
    assert best == [f'{n["dir"]}/more/{2*i+2:02d}' for i in range(len(best))], 'in turns'
    assert n['noise']['pair_df'] > 0 or n['noise']['df'] >= 4

def kill_once(job):
    "One kill in an experiment of several runs, or in a repeat, and what follows"
    lab,name,at = job # noqa: F811
    points = (lab/f'points-{name}').read_text().split('\n')
    root = Path(tempfile.mkdtemp(dir=lab))/'r'
    log = root.parent/'log'
    ask = dict(kind='repeat') if name == 'again' else None
    try:
        shutil.copytree(lab/'tree-drawn', root, symlinks=True)
        call = supervised(lab/'run-baseline', ask, at=at, value=tight)
        assert ended(forked(root, call, log)) == -9, log.read_text()
        # a status mends, or the same command does, which a row that is there makes needless
        if at % 3 or name == 'drawn' and len(rows(root)) == 2:
            assert ended(forked(root, lambda: ratchet.ar_status(profile='polynomial'), log)) == 0, (
                log.read_text())
            dirty = sound(root)
            assert dirty in ('', 'M canvas.ipynb'), dirty
        if name == 'again' or len(rows(root)) == 1: # the same again ends as it would have
            code = ended(forked(root, supervised(lab/'run-baseline', ask, value=tight), log))
            finished = name == 'drawn' and len(notes(root)) == 6
            assert code == finished, (code, log.read_text()) # by recovering; it is no edit any more
        done = [n for n in notes(root) if n['status'] != 'interrupted']
        assert len(rows(root)) == (1 if name == 'again' else 2)
        assert [n['status'] for n in done[:5]] == ['keep', *['repeat']*4]
        if name == 'again':
            assert {n['status'] for n in done[5:]} == {'repeat'} and 'DEGREE = 3' in (
                root/'canvas.ipynb').read_text()
        else:
            n = done[-1]
            assert n['status'] == 'keep' and git(root, 'rev-parse', 'HEAD') == n['commit']
            runs = {r['seed']: r for r in ratchet.runs_in(notes(root)) if r['code'] == n['code']}
            same = fmean(r['value'] for r in runs.values())
            assert abs(n['value']-same) < 1e-9, (n['value'], same)
        assert not list((root/'runs').rglob('journal.json'))
        assert sound(root) == ('M canvas.ipynb' if name == 'again' else '')
        shutil.rmtree(root.parent)
        return points[at], None
    except BaseException as e:
        return points[at], f'{root}: killed {points[at]}, {name}: {type(e).__name__}: {e}'

@pytest.mark.parametrize('half', [0, pytest.param(1, marks=pytest.mark.slow)])
def test_kills_between_runs(drawn, half):
    "At each kind of call of the new states: further runs, their notes, a repeat's end"
    jobs = []
    for name in ('drawn', 'again'):
        points = (drawn/f'points-{name}').read_text().split('\n')
        first = next(i for i,l in enumerate(points) if l.startswith('ran: '))
        seen = collections.Counter()
        for at in range(first, len(points)):
            seen[points[at]] += 1 # each kind of call early, and once late
            if seen[points[at]] in (1, 2, 7): jobs.append((drawn, name, at))
    jobs = jobs[::1 if ALL else 9][half::2] # the other half in make test-all
    faults = [f for _,f in in_parallel(kill_once, jobs) if f]
    assert not faults, f'{len(faults)} of {len(jobs)}:\n' + '\n'.join(faults[:20])

def tree(drawn, tmp_path, name='drawn'):
    shutil.copytree(drawn/f'tree-{name}', tmp_path/'r', symlinks=True)
    return tmp_path/'r'

def test_a_crash_under_another_seed_is_a_crash(drawn, tmp_path):
    root = tree(drawn, tmp_path)
    second = read_json(root/f'runs/{TAG}/state.json')['seeds'][1]
    said = go(root, drawn, value=lambda seed, text: as_drawn(seed, text) if seed != second else None)
    n = notes(root)[-1]
    assert n['status'] == 'crash' == rows(root)[-1][3] and n['class'] == 'error'
    assert f'under seed {second}, it ended' in n['reason'] and 'crash' in said
    assert CUBIC[1] in (root/'canvas.ipynb').read_text()

def test_a_run_of_the_best_that_fails_is_made_once_more(drawn, tmp_path):
    root = tree(drawn, tmp_path)
    failed = []
    def once(seed, text):
        if CUBIC[1] not in text and not failed: return failed.append(seed)
        return tight(seed, text)
    go(root, drawn, value=once)
    n = notes(root)[-1]
    assert n['status'] == 'keep' and n['best_runs']
    other = tmp_path/'other'
    other.mkdir()
    root = tree(drawn, other)
    def never(seed, text):
        return None if CUBIC[1] not in text else tight(seed, text)
    said = go(root, drawn, value=never, code=1)
    assert 'failed twice under seed' in said and 'ar-run --rewind' in said
    n = notes(root)[-1]
    assert n['status'] == 'interrupted' and len(n['runs']) == 1 and len(rows(root)) == 1
    assert sound(root) == 'M canvas.ipynb'

def test_early_is_a_discard_with_its_last_value(drawn, tmp_path):
    root = tree(drawn, tmp_path)
    asked = []
    def run_experiment(canvas, run_dir, *args, early=None, **named):
        asked.append(early)
        if CUBIC[1] not in Path(canvas).read_text(): return None
        return Result('early', run_dir, 1., {}, 'at 25% its loss was beyond the band', saved=.75,
            last=1.25)
    def stand_in(): ratchet.run_experiment = run_experiment
    said = go(root, drawn, dict(early=True), also=stand_in)
    n = notes(root)[-1]
    assert (n['status'], n['class'], n['value'], n['saved']) == ('discard', 'early', 1.25, .75)
    assert rows(root)[-1][1] == '1.250000' and rows(root)[-1][3] == 'discard' and not n['runs']
    assert '75% of the budget saved' in said and sound(root) == ''
    assert status(root)['noise']['df'] == 4, 'it is no run of anything'
    edit(root, *CUBIC) # that was no run of it: --again makes a whole one
    assert 'discard, at 25%' in go(root, drawn, code=1)
    go(root, drawn, dict(kind='again'))
    assert notes(root)[-1]['status'] == 'keep'

def test_fewer_lines_at_the_same_value_are_kept_where_asked(drawn, tmp_path):
    root = tree(drawn, tmp_path, 'calibrated')
    edit(root, 'import math, random, time', 'import math, random') # no line less
    said = go(root, drawn, dict(simpler=True), code=1)
    assert '--simpler keeps an edit that has fewer lines' in said and len(notes(root)) == 5
    nb = json.loads((root/'canvas.ipynb').read_text())
    loop = next(c for c in nb['cells'] if c['id'] == 'loop')
    loop['source'] = [l for l in loop['source'] if not l.strip().startswith('show(')]
    (root/'canvas.ipynb').write_text(json.dumps(nb))
    go(root, drawn, dict(simpler=True))
    n = notes(root)[-1]
    assert n['status'] == 'keep' and n['simpler'] == 1 and '1 line fewer' in n['reason']
    assert len(n['runs']) >= 4 and abs(n['gain']['gain']) < n['gain']['error']

def machine(**more): return dict(ratchet.fingerprint(), id=str(more), **more)

def test_another_machine_runs_the_best_again_first(drawn, tmp_path):
    root = tree(drawn, tmp_path)
    other = machine(cpu='another')
    def elsewhere(): ratchet.fingerprint = lambda: other
    said = go(root, drawn, value=lambda seed, text: as_drawn(seed, text)+.1, also=elsewhere)
    repeat,n = notes(root)[-2:]
    assert repeat['status'] == 'repeat' and repeat['break'].startswith('the machine changed: ')
    assert 'the machine changed' in said
    assert n['best'] == pytest.approx(repeat['value']), 'runs elsewhere count no more'
    assert n['rule'] == 'strict' and n['status'] == 'keep', 'nor does the noise of there'
    st = status(root)
    assert st['noise'] is None
    ledger = get_ledger(get_profile('polynomial', root/'settings.ini'))
    seen = noise_seen(notes(root), ledger.read()[0])
    assert [(number, why) for number,why in seen.breaks] == [(2, repeat['break'])]
    assert 'the machine changed' in ar(root, 'ar-frontier').stdout

def test_a_best_that_fails_elsewhere_judges_nothing(drawn, tmp_path):
    root = tree(drawn, tmp_path)
    other = machine(cpu='another')
    def elsewhere(): ratchet.fingerprint = lambda: other
    said = go(root, drawn, value=lambda seed, text: None, also=elsewhere, code=1)
    assert 'failed on this one' in said and len(rows(root)) == 1
    assert CUBIC[1] in (root/'canvas.ipynb').read_text()

def test_what_was_cut_off_is_gone_on_with(drawn, tmp_path):
    root = tree(drawn, tmp_path)
    points = (drawn/'points-drawn').read_text().split('\n')
    at = [i for i,l in enumerate(points) if l == 'ran: before run'][2]
    log = tmp_path/'log'
    assert ended(forked(root, supervised(drawn/'run-baseline', at=at, value=tight), log)) == -9
    said = ar(root, 'ar-status').stdout
    assert 'was cut off before it had a result' in said and 'runs count when it is run again' in said
    cut = notes(root)[-1]
    assert cut['status'] == 'interrupted' and len(cut['runs']) >= 2 and len(rows(root)) == 1
    go(root, drawn, value=tight)
    n = notes(root)[-1]
    assert [r['seed'] for r in n['joined']] == [r['seed'] for r in cut['runs']]
    assert not {r['seed'] for r in n['runs']} & {r['seed'] for r in n['joined']}
    whole = notes(drawn/'dry-drawn')[-1]
    assert n['value'] == pytest.approx(whole['value']) and n['status'] == whole['status']

@pytest.mark.parametrize('step', ['ran', 'decided', 'moved'])
def test_a_journal_of_an_older_version_is_finished(lab, tmp_path, step): # noqa: F811
    root = tree(lab, tmp_path, 'keep')
    points = (lab/'points-keep').read_text().split('\n')
    at = points.index(f'{step}: after step {step}')
    from test_ratchet import supervised as replayed
    assert ended(forked(root, replayed(lab/'run-keep', at), tmp_path/'log')) == -9
    path = root/f'runs/{TAG}/journal.json'
    new = 'kind code best_code number machine joined joined_best value rule certainty noise gain'
    write_json(path, {k: v for k,v in read_json(path).items() if k not in new.split()})
    assert 'recovered: keep' in ar(root, 'ar-status').stdout
    assert rows(root)[-1][3] == 'keep' and f"{notes(root)[-1]['value']:.6f}" == rows(root)[-1][1]
