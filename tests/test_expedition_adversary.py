"""Ways to get luck kept, or a commit lost, by expeditions, each closed. By runs whose values are given"""
import json, shutil
from autoresearch import ratchet
from autoresearch.contract import write_json
from autoresearch.run import read_json
from lab import TAG, ar, commit, edit, git, rows, sound
from test_expedition import (CUBIC, OWN, SLOW, copy, expedition, go, join, rev, # noqa: F401
    state, walks)
from test_ratchet import lab # noqa: F401

def test_a_commit_of_prose_by_hand_is_not_lost_by_a_finish(walks, tmp_path): # noqa: F811
    root = copy(walks, tmp_path, 'on')
    f = root/'canvas.ipynb'
    nb = json.loads(f.read_text())
    nb['cells'][0]['source'] = ['An hour of thought\n']
    f.write_text(json.dumps(nb, indent=1)+'\n')
    commit(root, 'prose')
    mine = rev(root, 'HEAD')
    join(root, walks, value=lambda seed, text: .31)
    assert rev(root, 'HEAD') == rev(root, 'main')
    assert git(root, 'for-each-ref', '--contains', mine), 'no reference holds it'

def test_a_copy_of_an_expedition_under_another_number_is_none(walks, tmp_path): # noqa: F811
    root = copy(walks, tmp_path, 'on')
    folder = root/f'runs/{TAG}/expeditions'
    shutil.copy(folder/'1.json', folder/'2.json')
    expedition(root, 'drop')
    assert state(root)['state'] == 'left'
    said = ar(root, 'ar-status').stdout
    assert 'under way' not in said and state(root)['state'] == 'left', said
    edit(root, *CUBIC)
    go(root, walks)

def test_what_was_told_is_damaged(walks, tmp_path): # noqa: F811
    root = copy(walks, tmp_path, 'on')
    write_json(root/f'runs/{TAG}/told.json', dict(number=None, over='x'))
    edit(root, *SLOW)
    go(root, walks)
    assert len(state(root)['line']) == 3 and sound(root) == ''

def test_a_doubtful_baseline_is_not_measured_on_a_line(walks, tmp_path): # noqa: F811
    "What `ar-run` would measure again, and keep, is the line's last step"
    root = copy(walks, tmp_path, 'on')
    for d in (root/f'runs/{TAG}').glob('001-*'):
        n = dict(read_json(d/'experiment.json'), disturbed='a neighbour')
        write_json(d/'experiment.json', n)
        sha = git(root, 'hash-object', '-w', '--no-filters', d/'experiment.json')
        git(root, 'update-ref', f'{OWN}/notes/001', sha)
    edit(root, *SLOW)
    go(root, walks)
    assert len(state(root)['line']) == 3 and rev(root, f'{OWN}/tip') == rev(root, 'main')
    assert [r[3] for r in rows(root)] == ['keep', *['discard']*3]

def test_what_nobody_examined_keeps_nothing(walks, tmp_path): # noqa: F811
    "A step is never examined: what it claims of itself may not count when it is joined"
    root = copy(walks, tmp_path, 'on')
    def call():
        from autoresearch.repo import current_session
        import os
        os.chdir(root)
        ratchet.not_examined = lambda s, examine=True: ''
        s = current_session('')
        e = state(root)
        j = dict(kind='join', best_code=ratchet.code_at(s, rev(root, 'main')), examine=True)
        return 0 if ratchet.of_join(s, j, e)['joined'] == [] else 7
    from test_ratchet import ended, forked
    assert ended(forked(root, call, tmp_path/'log')) == 0, (tmp_path/'log').read_text()

def told(code, values, kind='', status='discard', best='best'):
    "Notes of an experiment with a run of its code for each value"
    runs = [dict(code=code, value=v, seed=i) for i,v in enumerate(values)]
    return dict(kind=kind, status=status, code=code, best_code=best, runs=runs, best_runs=[])

def test_what_an_agent_repeats_at_will_is_no_noise():
    "Canvases with luck of their own, run twice alike, would make sigma small"
    kept = [told('best', [1., 1.01, .99, 1.02], status='keep', best=None)]
    known = ratchet.noise_known(kept)
    for kind in ratchet.CHOSEN:
        alike = [told(f'own-{k}', [k, k+1e-6], kind) for k in (2., 3., 4.)]
        assert ratchet.noise_known(kept + alike) == known, kind
    assert ratchet.noise_known([*kept, told('edit', [1.1, 1.12])]).df > known.df
    more = told('best', [1.03]*5, 'again')
    assert ratchet.noise_known([*kept, more]) != known, 'of the best they count'

def test_a_search_on_a_line_is_refused_at_once(walks, tmp_path): # noqa: F811
    root = copy(walks, tmp_path, 'on')
    r = ar(root, 'ar-search', '--trials', '1', ok=False)
    assert r.returncode == 1 and 'ar-expedition finish' in r.stderr, r
