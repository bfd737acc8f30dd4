"""A swarm under attack: runs that leave odd files, results and submissions that are damaged, sessions
begun in the midst of it, worktrees taken away by hand, verdicts that must not be lost."""
import json, os, shutil
from pathlib import Path
import pytest
import lab
from autoresearch import queue, ratchet
from autoresearch.repo import Refused, add_agent, current_session
from lab import TAG, edit, git
from test_queue import (BASE, CORE, CUBIC, OWN, QUINTIC, SimulatedPool, by_degree, check_whole, drive,
    here, made, packed, pool_for, statuses, submit) # noqa: F401

def ends(s, pool, name):
    "A driver that goes on until a submission has ended"
    return drive(s, pool, lambda: queue.job(s, name)['state'] in queue.ENDED)

def changed(pool, change):
    "The pool, whose results are changed"
    measure = pool.measure
    pool.measure = lambda spec: change(measure(spec))
    return pool

def test_a_run_may_leave_what_it_likes(here):
    "Names of the queue's own files are those of no run"
    s,run = here
    odd = {'job.json': '{}', 'stop': '', 'more/x': 'y', 'before/00/z': '1', '.in-1/x': '1',
        '../out': 'x', 'ünï \n': 'x'}
    texts = {**run[1], **odd}
    pool = SimulatedPool([CORE]*2, by_degree(s, (run[0], texts, *run[2:])))
    submit(s, BASE, CUBIC, 'a cubic')
    drive(s, pool)
    assert statuses(s) == ['keep', 'keep'] and not list(s.dir.rglob('out'))
    check_whole(s)

@pytest.mark.parametrize('data', [b'', b'x'*99, packed({'run.log': 'x'*9999})[:60], None],
    ids=['empty', 'no-archive', 'cut-off', 'none'])
def test_a_folder_that_comes_back_damaged(here, data):
    "It is lost, tried once more, and a crash of class `lost`; the next submission is judged"
    s,run = here
    drive(s, pool_for(s, run))
    o = submit(s, BASE, CUBIC, 'a cubic')
    ends(s, changed(pool_for(s, run), lambda r: r | dict(folder=data)), o['id'])
    assert statuses(s) == ['keep', 'crash'] and s.experiments()[-1]['class'] == 'lost'
    submit(s, BASE, QUINTIC, 'a quintic')
    drive(s, pool_for(s, run))
    assert statuses(s) == ['keep', 'crash', 'keep']
    check_whole(s)

@pytest.mark.parametrize('poison', [dict(runs=[3]), dict(runs=[]), dict(runs=[{}]),
    dict(description=None), dict(commit='0'*40), dict(parent='0'*40), dict(created='x'),
    dict(agent=3)])
def test_a_damaged_submission_ends_no_driver(here, poison):
    s,run = here
    drive(s, pool_for(s, run))
    bad = submit(s, BASE, CUBIC, 'a cubic')
    file = queue.swarm_dir(s)/bad['id']/'job.json'
    file.write_text(json.dumps(json.loads(file.read_text()) | poison))
    good = submit(s, BASE, QUINTIC, 'a quintic')
    ends(s, pool_for(s, run), good['id'])
    assert statuses(s) == ['keep', 'keep']
    assert s.rev(f'{OWN}/swarm/{bad["id"]}') == bad['commit'] # nothing of it is lost

def test_a_verdict_is_not_lost_to_a_commit_by_hand(here, tmp_path):
    s,run = here
    drive(s, pool_for(s, run))
    a = add_agent(s, 'ada', tmp_path/'ada')
    o = submit(a, BASE, CUBIC, 'a cubic')
    (a.p.root/'notes.md').write_text('x')
    git(a.p.root, 'add', 'notes.md')
    lab.commit(a.p.root, 'notes')
    drive(s, pool_for(s, run))
    code,lines,facts = queue.wait_for(a, '', 5)
    assert code == 0 and facts['submission'] == o['id'] and 'keep' in facts['experiment']['status']
    assert any('notes.md' in l for l in lines)

def test_a_verdict_is_told_once_its_notes_are_there(here):
    "`done/ID.json` comes before the notes; who waits must not hear of it in between"
    s,run = here
    drive(s, pool_for(s, run))
    o = submit(s, BASE, CUBIC, 'a cubic')
    drive(s, pool_for(s, run))
    done = queue.swarm_dir(s)/f'done/{o["id"]}.json'
    whole = json.loads(done.read_text())
    notes = next(s.dir.glob('002-*'))/'experiment.json'
    text = notes.read_text()
    done.write_text(json.dumps(whole | dict(lines=[], facts={})))
    notes.unlink()
    for name in (o['id'], ''):
        assert queue.next_told(s, name) == {} and queue.waits_for(s, name)['id'] == o['id']
    notes.write_text(text)
    code,lines,_ = queue.wait_for(s, '', 5)
    assert code == 0 and 'status:   keep' in lines

def test_a_session_is_begun_by_nobody_in_the_midst(here, tmp_path):
    s,run = here
    drive(s, pool_for(s, run))
    a = add_agent(s, 'ada', tmp_path/'ada')
    r = lab.ar(a.p.root, 'ar-setup', 'other', ok=False)
    assert r.returncode == 1 and 'worktree of agent ada of session' in r.stderr
    with queue.Driver(s, pool_for(s, run)):
        r = lab.ar(s.p.root, 'ar-setup', 'other', ok=False)
        assert r.returncode == 1 and 'ar-swarm stop' in r.stderr
        # whichever session is the current one: its driver alone moves the swarm's branch
        (s.p.root/'runs/current.json').write_text('{"tag": "other"}')
        r = lab.ar(s.p.root, 'ar-run', '-m', 'beside it', ok=False)
        assert r.returncode == 1 and f'a swarm is at work in session {TAG}' in r.stderr
    assert git(s.p.root, 'symbolic-ref', 'HEAD') == s.ref

def test_worktrees_taken_away_by_hand(here, tmp_path):
    s,run = here
    at = tmp_path/'ada'
    add_agent(s, 'ada', at)
    shutil.rmtree(at)
    a = add_agent(s, 'ada', at) # git still has it in its list
    assert (at/'runs').resolve() == (s.p.root/'runs').resolve()
    git(s.p.root, 'update-ref', '-d', f'{OWN}/state') # as a session of an older version
    assert lab.ar(at, 'ar-status').stdout.startswith(f'autoresearch/{TAG} at')
    os.rename(s.p.root/'runs', tmp_path/'away')
    r = lab.ar(at, 'ar-status', ok=False)
    assert r.returncode == 1 and 'Errno' not in r.stderr and str(s.p.root/'runs') in r.stderr
    os.rename(tmp_path/'away', s.p.root/'runs')
    assert lab.ar(at, 'ar-status').returncode == 0
    assert a.p.root == at

def test_an_exclude_file_that_is_no_text(here, tmp_path):
    s,_ = here
    path = s.p.root/'.git/info/exclude'
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(b'\xff\xfe')
    add_agent(s, 'ada', tmp_path/'ada')
    assert path.read_bytes().startswith(b'\xff\xfe\n') and b'/runs\n' in path.read_bytes()

def test_an_edit_put_aside_comes_back_onto_the_best_of_now(here, tmp_path):
    "And to the worktree that it was put aside in"
    s,run = here
    drive(s, pool_for(s, run))
    a = add_agent(s, 'ada', tmp_path/'ada')
    submit(s, BASE, CUBIC, 'a cubic')
    edit(a.p.root, 'RATE = 0.5 ', 'RATE = 0.7 ')
    ratchet.drop(a)
    drive(s, pool_for(s, run))
    queue.follow_best(a)
    with pytest.raises(Refused, match='nothing was dropped'): ratchet.undrop(s)
    said, = ratchet.undrop(a)
    text = (a.p.root/a.p.canvas).read_text()
    assert CUBIC in text and 'RATE = 0.7 ' in text and 'DEGREE' not in said
    edit(a.p.root, CUBIC, QUINTIC)
    ratchet.drop(a)
    submit(s, CUBIC, 'DEGREE = 4 ', 'of degree four')
    drive(s, pool_for(s, run))
    queue.follow_best(a)
    with pytest.raises(Refused, match='both change `DEGREE'): ratchet.undrop(a)
    assert not git(a.p.root, 'status', '--porcelain') and list(s.dir.glob('dropped-002-*.ipynb'))

def test_a_baseline_that_was_made_while_no_driver_was_at_work(here):
    s,run = here
    with queue.Driver(s, pool_for(s, run)) as d: d.read_new()
    assert [o['description'] for o in queue.pending_jobs(s)] == ['baseline']
    lab.ar(s.p.root, 'ar-run', '-m', 'by hand')
    submit(s, BASE, CUBIC, 'a cubic')
    ends(s, pool_for(s, run), 's002')
    assert [r[4] for r in lab.rows(s.p.root)].count('baseline') == 0
    check_whole(s)
