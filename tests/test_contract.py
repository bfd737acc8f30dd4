"""The contract at its edges: broken settings, a clock turned by hand, a device that only records,
the record and who may write it."""
import json, math, os, re, subprocess, sys, threading, time
from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace
import pytest
from autoresearch import contract as c
from autoresearch.run import CLOCK, bad_clock, charged, overtime

ROOT = Path(__file__).parent.parent
INI = (ROOT/'settings.ini').read_text(encoding='utf8')
KEYS = ['training_seconds', 'total_seconds', 'peak_vram_mb', 'mfu_percent', 'total_tokens_M',
    'num_steps', 'num_params_M', 'depth']
TARGET = """[DEFAULT]
canvas = target.ipynb
frozen = settings.ini measure.py
metric = {metric}
direction = higher
evaluator = measure.score
ledger = results.tsv
runs = runs
log = run.log
picture = progress.png
time_budget = 5
wall_limit = 20
free_steps = 0
free_seconds = 1
clock = wall
source = none
[{name}]
"""

@pytest.fixture(autouse=True)
def fresh_run():
    "RUN as a new process has it, and as it was afterwards"
    before = dict(vars(c.RUN))
    vars(c.RUN).update(t_batch=None, batches=0, tokens=0, budget=None, budgets=0, result=None)
    yield
    vars(c.RUN).clear()
    vars(c.RUN).update(before)

@pytest.fixture
def ini(tmp_path):
    "Writes a settings.ini; gives its path"
    def write(text):
        (tmp_path/'settings.ini').write_text(text, encoding='utf8')
        return tmp_path/'settings.ini'
    return write

def changed(old, new):
    "This repository's settings with one text replaced, once"
    assert INI.count(old) == 1, old
    return INI.replace(old, new)

def complaint(path, name='tiny'):
    with pytest.raises(c.SettingsError) as e: c.get_profile(name, path)
    return str(e.value)

# settings

def test_an_unknown_profile_is_named_with_the_known_ones():
    text = complaint(ROOT/'settings.ini', 'huge')
    assert (str(ROOT/'settings.ini') in text and "'huge'" in text
        and 'climbmix, climbmix60, tiny' in text)

@pytest.mark.parametrize('name', ['DEFAULT', 'default', ' tiny', 'Tiny'])
def test_only_sections_are_profiles(name):
    assert 'accepted: climbmix, climbmix60, tiny' in complaint(ROOT/'settings.ini', name)

def test_keys_that_came_later_mean_what_was_meant(ini):
    p = c.get_profile('tiny', ini(re.sub(f'^({"|".join(c.LATER)}) = .*\n', '', INI, flags=re.M)))
    assert (p.clock, p.revision, p.rule) == ('wall', 'main', 'strict')
    assert p.audit_shard == p.final_shard == -1, 'a session that began without an audit'

@pytest.mark.parametrize('key', [k for k in (*c.TARGET_KEYS, *c.TEXT_KEYS) if k not in c.LATER])
def test_a_missing_key_is_named(ini, key):
    path = ini(re.sub(rf'^{key} = .*\n', '', INI, flags=re.M))
    text = complaint(path)
    accepted = {**c.TARGET_KEYS, **c.TEXT_KEYS}[key].__doc__
    assert all(o in text for o in (str(path), '[tiny]', f'the key {key} is missing', accepted))

@pytest.mark.parametrize('key, bad, accepted', [
    ('time_budget', 'soon', 'seconds above 0'), ('time_budget', 'nan', 'seconds above 0'),
    ('time_budget', 'inf', 'seconds above 0'), ('wall_limit', '0', 'seconds above 0'),
    ('free_seconds', '-1', 'seconds above 0'), ('free_steps', '1.5', 'a whole number, 0 or above'),
    ('free_steps', '-1', 'a whole number, 0 or above'),
    ('vocab_size', '0', 'a whole number above 0'), ('train_shards', '-2', '-1 for all'),
    ('train_shards', '0', '-1 for all'), ('direction', 'down', 'lower or higher'),
    ('source', 'disk', 'hub or embedded or none'),
    ('evaluator', 'evaluate_bpb', 'package.module.function'), ('metric', '', 'not empty'),
    ('max_seq_len', '2_0 48', 'a whole number above 0'), ('rule', 'loose', 'strict or confirm'),
    ('alpha', '1', 'above 0 and below 1'), ('alpha', 'nan', 'above 0 and below 1'),
    ('pairs', '1', 'from 2 to 64'), ('pairs', '65', 'from 2 to 64'),
    ('audit_shard', '-2', 'or -1 for none'), ('final_shard', 'none', 'or -1 for none')])
def test_a_wrong_value_names_file_section_key_and_accepted(ini, key, bad, accepted):
    body = re.sub(rf'^{key} = .*\n', '', INI.split('[tiny]')[1], flags=re.M)
    path = ini(f'{INI.split("[tiny]")[0]}[tiny]\n{key} = {bad}\n{body}')
    text = complaint(path)
    assert all(o in text for o in (str(path), '[tiny]', f'{key} = {bad!r}', accepted))

@pytest.mark.parametrize('changes, key, other', [
    (dict(val_shard=6541), 'audit_shard', 'val_shard'),
    (dict(val_shard=6540), 'final_shard', 'val_shard'),
    (dict(audit_shard=6540), 'final_shard', 'audit_shard')])
def test_held_out_shards_are_not_the_same(ini, changes, key, other):
    text = complaint(ini(INI + ''.join(f'{k} = {v}\n' for k,v in changes.items())))
    assert f'another shard than {other}, or -1 for none' in text and f'{key} = ' in text

def test_no_held_out_shards_are_not_the_same(ini):
    p = c.get_profile('tiny', ini(INI + 'audit_shard = -1\nfinal_shard = -1\n'))
    assert p.audit_shard == p.final_shard == -1

def test_an_unknown_key_is_refused(ini):
    path = ini(INI + 'time_buget = 5\n')
    text = complaint(path)
    assert (str(path) in text and '[tiny]' in text and 'unknown key time_buget' in text
        and 'time_budget' in text)

def test_all_train_shards(ini):
    assert c.get_profile('climbmix',
        ini(changed('train_shards = 10', 'train_shards = -1'))).train_shards == -1

def test_no_settings_file(tmp_path):
    with pytest.raises(c.SettingsError, match=re.escape(f'{tmp_path/"none.ini"}: no such file')):
        c.get_profile('tiny', tmp_path/'none.ini')
    if not [p for p in tmp_path.parents if (p/'settings.ini').exists()]:
        with pytest.raises(c.SettingsError, match='no settings.ini in .* checkout'):
            c.settings_path(tmp_path)

def test_the_nearest_settings_file_upward_counts(ini, tmp_path, monkeypatch):
    path,deep = ini(changed('time_budget = 20\n', 'time_budget = 7\n')), tmp_path/'a'/'b'
    deep.mkdir(parents=True)
    monkeypatch.chdir(deep)
    p = c.get_profile('tiny')
    assert c.settings_path().samefile(path) and p.time_budget == 7 and p.root.samefile(tmp_path)

@pytest.mark.parametrize('text', ['time_budget = 3\n', '[DEFAULT]\nno sign here\n[tiny]\n',
    '[tiny]\na = 1\n[tiny]\n', '[tiny]\na = 1\na = 2\n', '[tiny\n'])
def test_a_broken_ini_is_named(ini, text):
    path = ini(text)
    assert f'{path}: not a settings file: ' in complaint(path)

@pytest.mark.parametrize('text', ['', '[DEFAULT]\nmetric = val_bpb\n'])
def test_a_file_without_profiles(ini, text): assert 'has no profile' in complaint(ini(text), '')

def test_interpolation_characters_are_ordinary(ini):
    odd = '100%-${home}-%(cache)s-$$'
    assert c.get_profile('tiny', ini(
        changed('cache = autoresearch-tiny', f'cache = {odd}'))).cache == odd
    p = c.get_profile('tiny', ini(
        changed('dataset = karpathy/climbmix-400b-shuffle', f'dataset = {odd}'))) # from [DEFAULT]
    assert p.dataset == odd
    assert (p.split_pattern.endswith(r"|\s*[\r\n]|\s+(?!\S)|\s+")
        and p.shard_name.format(7) == 'shard_00007.parquet')

def test_settings_are_never_written(ini):
    path = ini(INI)
    c.get_profile('tiny', path)
    assert (path.read_text(encoding='utf8') == INI
        and [p.name for p in path.parent.iterdir()] == ['settings.ini'])

# choosing a profile

def machine(monkeypatch, gpu):
    "torch as it would answer on a machine with or without a GPU"
    monkeypatch.setitem(sys.modules, 'torch',
        SimpleNamespace(cuda=SimpleNamespace(is_available=lambda: gpu)))

@pytest.mark.parametrize('gpu, want', [(True, 'climbmix'), (False, 'tiny')])
def test_the_machine_suggests(monkeypatch, gpu, want):
    machine(monkeypatch, gpu)
    for unset in (lambda: monkeypatch.delenv('AUTORESEARCH_PROFILE', raising=False),
            lambda: monkeypatch.setenv('AUTORESEARCH_PROFILE', '')):
        unset()
        assert c.get_profile(path=ROOT/'settings.ini').name == want

def test_the_environment_beats_the_machine_and_the_argument_both(monkeypatch):
    machine(monkeypatch, True)
    monkeypatch.setenv('AUTORESEARCH_PROFILE', 'climbmix60')
    assert (c.get_profile(path=ROOT/'settings.ini').name == 'climbmix60'
        and c.get_profile('tiny', ROOT/'settings.ini').name == 'tiny')
    monkeypatch.setenv('AUTORESEARCH_PROFILE', 'nope')
    assert "'nope'" in complaint(ROOT/'settings.ini', '')

def test_a_file_with_one_section_needs_no_choice(ini, monkeypatch):
    monkeypatch.delenv('AUTORESEARCH_PROFILE', raising=False)
    p = c.get_profile(path=ini(TARGET.format(metric='score', name='only')))
    assert (p.name, p.metric, p.direction, p.frozen) == (
        'only', 'score', 'higher', ('settings.ini', 'measure.py')) and not hasattr(p, 'vocab_size')

def test_importing_and_choosing_load_no_torch():
    code = (
        'import sys; from autoresearch import contract as c; c.has_gpu(); c.get_profile(); '
        'c.host_facts(); sys.exit("torch" in sys.modules)')
    env = {k: v for k,v in os.environ.items() if k != 'AUTORESEARCH_PROFILE'}
    subprocess.run([sys.executable, '-c', code], cwd=ROOT, env=env, check=True)

def test_a_profile_is_read_only():
    p = c.get_profile('tiny')
    for k in ('time_budget', 'something_new'):
        with pytest.raises(AttributeError, match=f'profile tiny is frozen: {k}'): setattr(p, k, 600)
    assert (p.time_budget == c.get_profile('tiny').time_budget
        and '| time_budget | `' in p._repr_markdown_())

# a session's profile

@pytest.fixture
def session(ini, monkeypatch):
    "A session of tiny under this repository's settings; gives the settings"
    monkeypatch.delenv('AUTORESEARCH_PROFILE', raising=False)
    path = ini(INI)
    c.write_json(path.parent/'runs/may1/state.json', dict(profile='tiny'))
    c.write_json(path.parent/'runs/current.json', dict(tag='may1'))
    return path

def test_a_session_has_one_profile(session, monkeypatch):
    machine(monkeypatch, True)
    assert (c.session_profile(path=session).name == c.session_profile('tiny', path=session).name
        == c.session_profile('', 'may1', session).name == 'tiny')
    for ask in (
            lambda: monkeypatch.setenv('AUTORESEARCH_PROFILE', 'climbmix60')
                or c.session_profile(path=session),
            lambda: c.session_profile('climbmix60', path=session)):
        with pytest.raises(c.SettingsError, match=(
                'session may1 is of profile tiny, not climbmix60.*'
                'AUTORESEARCH_PROFILE=climbmix60 ar-setup NEWTAG')):
            ask()
    assert c.session_profile('tiny', path=session).name == 'tiny', (
        'the argument beats the environment')

def test_without_a_session_the_machine_suggests(ini, monkeypatch):
    machine(monkeypatch, True)
    monkeypatch.delenv('AUTORESEARCH_PROFILE', raising=False)
    path = ini(INI)
    assert (c.session_profile(path=path).name == c.session_profile(tag='none', path=path).name
        == 'climbmix')
    for text in ('', '{"tag": 5}', '[', '{"tag": "gone"}', '['*9999):
        (path.parent/'runs').mkdir(exist_ok=True)
        (path.parent/'runs/current.json').write_text(text)
        assert c.session_profile(path=path).name == 'climbmix', text

def test_a_lost_state_is_made_up_for_by_the_notes(session):
    runs = session.parent/'runs/may1'
    for i,profile in enumerate(['tiny', 'climbmix60', None]):
        c.write_json(runs/f'00{i}-aaaaaaa/experiment.json', dict(profile=profile))
    for damage in (lambda: (runs/'state.json').write_text('{'),
            lambda: (runs/'state.json').write_text('{"profile": 5}'),
            lambda: (runs/'state.json').unlink()):
        damage()
        assert c.session_profile(path=session).name == 'climbmix60', 'the latest that says it'

def test_a_session_that_says_nothing_asks(session):
    (session.parent/'runs/may1/state.json').unlink()
    with pytest.raises(c.SettingsError, match=(
            'may1/state.json names no profile.*'
            'AUTORESEARCH_PROFILE=climbmix or climbmix60 or tiny')):
        c.session_profile(path=session)
    assert c.session_profile('tiny', path=session).name == 'tiny', 'and what it asks for works'

def test_what_a_machine_lacks(monkeypatch):
    machine(monkeypatch, False)
    assert (all(o in c.machine_lacks(c.get_profile('climbmix'))
            for o in ('climbmix', 'tiny', 'GPU'))
        and not c.machine_lacks(c.get_profile('tiny')))
    machine(monkeypatch, True)
    assert not c.machine_lacks(c.get_profile('climbmix'))

def test_settings_as_a_record_keeps_them():
    p = c.get_profile('tiny')
    said = json.loads(json.dumps(c.settings_of(p)))
    assert (set(said) == {*c.TARGET_KEYS, *c.TEXT_KEYS} and said['frozen'] == list(p.frozen)
        and said['clock'] == 'cpu')

HIDDEN = """import sys
from importlib.util import spec_from_file_location
class Editable: # as an editable install finds a package: after the path, by name, submodules too
    def find_spec(name, path=None, target=None):
        if name.startswith('autoresearch.'): return \
spec_from_file_location(name, {root!r} + '/' + name.replace('.', '/') + '.py')
sys.path[:] = [{folder!r}, *[p for p in sys.path if p and p != {root!r}]]
sys.meta_path.append(Editable)
from autoresearch import contract as c
try: c.settings_path()
except c.SettingsError as e: print(e)
"""

def test_a_folder_that_hides_the_package_is_named(tmp_path):
    (tmp_path/'parent/autoresearch').mkdir(parents=True)
    (tmp_path/'elsewhere').mkdir()
    code = HIDDEN.format(root=str(ROOT), folder=str(tmp_path/'parent'))
    said = subprocess.run([sys.executable, '-c', code], cwd=tmp_path/'elsewhere',
        capture_output=True, text=True)
    assert (f'{tmp_path}/parent/autoresearch hides the package' in said.stdout
        and f'take {tmp_path}/parent off' in said.stdout), said

# the clock

class Hand:
    "A clock that we turn"
    def __init__(self, t=100.): self.t = t
    def __call__(self): return self.t

class Device:
    "Stands for a GPU's torch: says it is in use, and notes every mark that is set and waited for"
    def __init__(self, hand=None, lag=0.):
        self.hand,self.lag,self.set,self.waited = hand, lag, 0, []
        self.torch = SimpleNamespace(__version__='0', cuda=SimpleNamespace(
            is_initialized=lambda: True, is_available=lambda: True, Event=self.event,
            synchronize=lambda *_: self.wait(self.set),
            get_device_name=lambda *_: 'NVIDIA H100 80GB HBM3'))
    def wait(self, n):
        if n not in self.waited: self.hand.t += self.lag if self.hand else 0.
        self.waited.append(n)
    def event(self, *_, **__):
        n = self.set+1
        def record(*_): self.set = n
        return SimpleNamespace(record=record, synchronize=lambda: self.wait(n))

@pytest.fixture
def host(monkeypatch):
    "A process without torch: nothing is asynchronous"
    monkeypatch.delitem(sys.modules, 'torch', raising=False)

def limits(time_budget=10., free_steps=2, free_seconds=8.):
    return SimpleNamespace(
        time_budget=time_budget, free_steps=free_steps, free_seconds=free_seconds)

def budget(hand, **kw): return c.Budget(limits(**kw), now=hand)

def turn(b, hand, *seconds):
    for s in seconds:
        hand.t += s
        b.step()
    return b.seconds

def test_free_steps_are_free_and_what_they_overrun_is_charged(host):
    for free_seconds,want in [(20., [0, 0, 1, 3]), (8., [0, 2, 3, 5]), (4., [1, 6, 7, 9])]:
        b = budget(hand := Hand(), free_seconds=free_seconds)
        assert [turn(b, hand, s) for s in (5, 5, 1, 2)] == pytest.approx(want)

def test_progress_runs_from_0_to_1_and_stops_there(host):
    b = budget(hand := Hand())
    assert b.progress == 0 and not b.done
    turn(b, hand, 1, 1, 5)
    assert b.progress == pytest.approx(.5) and not b.done
    turn(b, hand, 50)
    assert b.progress == 1. and b.done

def test_at_most_one_step_is_in_flight(monkeypatch):
    dev = Device(hand := Hand())
    monkeypatch.setitem(sys.modules, 'torch', dev.torch)
    b,flight = budget(hand), []
    for _ in range(6):
        b.step()
        flight.append(dev.set - len(set(dev.waited)))
    assert flight == [1, 0, 1, 1, 1, 1], (
        'everything is waited for at the last free step, later all but the newest step')
    assert dev.waited == sorted(set(dev.waited)), 'each mark once and in order'

def test_closing_waits_for_the_last_step(monkeypatch):
    dev = Device(hand := Hand(), lag=2.)
    monkeypatch.setitem(sys.modules, 'torch', dev.torch)
    b = budget(hand)
    for _ in range(5): b.step()
    before = b.seconds
    b.close()
    assert max(dev.waited) >= 5 and b.seconds >= before+2, 'what the device still did is charged'

def test_done_counts_the_step_in_flight(monkeypatch):
    dev = Device(hand := Hand(), lag=1.)
    monkeypatch.setitem(sys.modules, 'torch', dev.torch)
    b,n = budget(hand, time_budget=10.), 0
    while not b.done:
        b.step()
        n += 1
    b.close()
    assert n == 2+10 and b.seconds == pytest.approx(10), (
        'ten steps of 1 s fill 10 s: none is issued that would not fit')

def test_time_between_the_last_step_and_close_is_training(host):
    b = budget(hand := Hand())
    turn(b, hand, 1, 1, 3)
    hand.t += 4
    assert b.seconds == pytest.approx(3)
    b.close()
    hand.t += 100
    assert b.seconds == pytest.approx(7), 'and evaluation is not'

def test_begin_evaluation_closes_the_budget(host):
    b = budget(hand := Hand())
    turn(b, hand, 1, 1, 3)
    hand.t += 4
    c.begin_evaluation()
    assert b.seconds == pytest.approx(7)

def test_training_after_an_evaluation_is_charged(host):
    b = budget(hand := Hand())
    turn(b, hand, 1, 1, 3)
    b.close()
    hand.t += 4
    assert turn(b, hand, 1) == pytest.approx(8)

def test_training_before_the_budget_is_charged():
    c.note_batch()
    c.RUN.t_batch = c.RUN.t_batch[0]-50, c.RUN.t_batch[1] # handed out 50 s ago
    c.note_batch()
    b = c.Budget(limits(free_steps=1, free_seconds=20.))
    b.step()
    assert 29.9 < b.seconds < 51 and c.RUN.batches == 2

def test_evaluation_without_a_budget_is_no_error():
    c.begin_evaluation()
    assert c.clock_facts(None)['never_asked'] and c.clock_facts(None)['kind'] == 'none'

def test_a_budget_of_steps(host):
    b,seen = c.Budget(limits(), steps=4, now=(hand := Hand())), []
    while not b.done:
        seen.append(b.progress)
        turn(b, hand, 100)
    b.close()
    facts = c.clock_facts(b)
    assert seen == [0, .25, .5, .75] and b.num_steps == 4
    assert facts['kind'] == 'steps' and facts['budget'] == 4 and not facts['never_asked']

def facts(*steps, tail=(0., 0), clock='wall', threads=1, **kw):
    """The facts of a clock after steps of (seconds, batches) or of (seconds, batches, CPU seconds),
    and what came after them"""
    hand,cpu = Hand(), Hand(7.)
    vars(c.RUN).update(t_batch=None, batches=0, tokens=0, budget=None, budgets=0)
    def spend(seconds, batches, work=None):
        for _ in range(batches): c.note_batch()
        hand.t += seconds
        cpu.t += seconds*threads if work is None else work
    p = limits(**kw)
    p.clock = clock
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(c, 'num_threads', lambda cpus=0: threads)
        return _facts(p, hand, cpu, spend, steps, tail)

def _facts(p, hand, cpu, spend, steps, tail):
    b = c.Budget(p, now=hand, cpu=cpu)
    for o in steps:
        b.progress
        spend(*o)
        b.step()
    spend(*tail)
    b.close()
    return c.clock_facts(b), p

def test_a_stop_after_the_last_step_is_no_training(host):
    "A laptop that sleeps, a process that is stopped: the wall goes on, the process does not"
    assert verdict_of(*FREE, *[STEP]*10, tail=(60., 0, .1)) == ''

def verdict_of(*steps, **kw):
    told,p = facts(*steps, **kw)
    return bad_clock(told, p) or overtime(told, p)

FREE,STEP = [(1., 2), (1., 1)], (1., 1)
HONEST = dict(
    to_the_second=[*FREE, *[STEP]*10],
    a_last_step_of_any_length=[*FREE, *[STEP]*9, (.9, 1), (40., 1, 1.)],
    none_but_one=[(3., 1)],
    steps_longer_than_the_budget=[(17., 2), (25., 1)],
    as_many_as_the_free=[(16., 2), (16., 1)],
    one_more_than_the_free=[(8., 2), (8., 1), (11.5, 1)],
    free_steps_beyond_free_seconds=[(8., 2), (9., 1), (9., 1)],
    accumulated=[(1., 17), (1., 16), *[(2., 16)]*4, (2.9, 16)],
    drawn_ahead_by_a_thread=[(1., 6), (1., 0), *[(1., 2), (.9, 0)]*5, (1.5, 2)],
    stopped_early=[*FREE, STEP],
    trains_while_free_and_is_charged=[(4., 30), (4., 30), *[STEP]*4],
    batches_that_grow=[*FREE, *[(1., 1)]*3, *[(2., 2)]*4],
    accumulation_that_grows=[(1., 1), (1., 2), (2., 3), (2., 4), (2., 5), (2., 6), (2.1, 7)],
    a_shuffle_buffer=[(1., 65), (1., 1), *[STEP]*10],
    a_queue_before_long_steps=[(1., 21), (1., 1), (3., 1), (3., 1), (4.1, 1)],
    ten_thousand=[*FREE, *[(.001, 1)]*10_000],
    held_out_batches_now_and_then=[*FREE, *[STEP]*4, (1., 9), *[STEP]*4, (1.5, 1)],
    nothing_drawn=[(1., 0), (1., 0), *[(1., 0)]*9, (1.4, 0)])

@pytest.mark.parametrize('name', HONEST)
def test_an_honest_loop_stands(host, name):
    told,p = facts(*HONEST[name])
    assert verdict_of(*HONEST[name]) == '' and (
        told['overran'] == pytest.approx(max(0., told['training_seconds']-10)))

@pytest.mark.parametrize('tail', [(.9, 1), (0., 1), (1., 0)])
def test_a_moment_after_the_last_step_stands(host, tail):
    assert verdict_of(*FREE, *[STEP]*10, tail=tail) == ''

CHEATS = dict(
    goes_on=([*FREE, *[STEP]*12], 'its last step began after 11.0 s'),
    one_too_many=([*FREE, *[STEP]*11], 'its last step began after 10.0 s'),
    many_batches_at_last=([*FREE, *[STEP]*9, (20., 20)],
        'its last step drew 20 tokens, another at most 2'),
    batches_drawn_before=([*FREE, STEP, (1., 30), *[STEP]*7, (20., 0)],
        'its last step took 20.0 CPU seconds, another at most 1.0'),
    trains_in_the_last_step=([*FREE, *[STEP]*9, (20., 1)],
        'its last step took 20.0 CPU seconds, another at most 1.0'),
    a_single_step=([(40., 100)], 'in a single step'),
    trains_while_free=([(4., 30), (4., 30), *[STEP]*10],
        'drew 60 of 70 tokens'),
    trains_while_free_and_long_steps=([(4., 100), (4., 100), *[(1., 10)]*10],
        'drew 200 of 300 tokens'))

@pytest.mark.parametrize('name', CHEATS)
def test_a_loop_that_takes_more_does_not(host, name):
    steps,why = CHEATS[name]
    assert why in verdict_of(*steps)

@pytest.mark.parametrize('warmup, want', [(math.inf, 10.), (1., 15.), (8., 10.)])
def test_passes_over_one_batch_while_free(host, monkeypatch, warmup, want):
    "Two free steps of 4 s over a batch each, then steps of 1 s: charged but for a warm-up"
    monkeypatch.setattr(c.RUN, 'warmup', warmup)
    for clock,seconds in (('cpu', want), ('wall', 10.)): # on a GPU a compiler may work there
        told,p = facts((4., 1), (4., 1), *[STEP]*10, clock=clock)
        assert told['training_seconds'] == charged(told, p, warmup) == pytest.approx(seconds)

@pytest.mark.parametrize('tail, why', [((5., 0), '5.0 s of it after its last step'),
    ((9., 0, 5.), '5.0 s of it after its last step'),
    ((.5, 9), '9 batches were drawn after its last step')])
def test_what_comes_after_the_last_step_is_bounded(host, tail, why):
    assert why in verdict_of(*FREE, *[STEP]*10, tail=tail)

def test_a_longer_last_step_is_the_machines_where_the_process_did_not_work(host):
    assert verdict_of(*FREE, *[STEP]*9, (60., 1, 1.4)) == '' and (
        'CPU seconds' in verdict_of(*FREE, *[STEP]*9, (60., 1, 1.6)))

@pytest.mark.parametrize('step, steps',
    [(2.8, 4), (4.9, 2), (5.1, 2), (.125, 80), (.19, 53), (9., 1)])
def test_long_steps_end_at_the_nearest(host, step, steps):
    "Of a budget of 10 s, after free steps; steps up to a fiftieth of it end when it is spent"
    b = c.Budget(limits(), now=(hand := Hand()), cpu=Hand(0.))
    turn(b, hand, 1., 1.)
    while not b.done: turn(b, hand, step)
    assert b.num_steps == steps+2, b.num_steps

def test_a_large_batch_is_not_one_of_many(host):
    "Free steps of one batch each, thirty times as large: counted in tokens"
    b = c.Budget(limits(), now=(hand := Hand()), cpu=Hand(0.))
    for i in range(12):
        b.progress
        c.note_batch(30*64 if i < 2 else 64)
        turn(b, hand, 4. if i < 2 else 1.)
    b.close()
    told = c.clock_facts(b)
    assert told['batches'] == 12 and told['tokens'] == 70*64
    assert 'drew 3,840 of 4,480 tokens' in overtime(told, limits())

@pytest.mark.parametrize('changed',
    [dict(free_steps=1000), dict(free_steps=8), dict(free_seconds=99.)])
def test_free_steps_of_its_own_are_none_of_the_profiles(host, changed):
    "Whoever sets the budget's attributes is told so"
    b = c.Budget(limits(), now=(hand := Hand()), cpu=Hand(0.))
    vars(b).update(changed)
    while not b.done: turn(b, hand, 1)
    b.close()
    p = limits()
    p.clock = 'wall'
    assert "the clock's own free steps were" in bad_clock(c.clock_facts(b), p)

def test_waiting_for_a_device_is_no_work_of_the_last_step(monkeypatch):
    "Long steps on a slow card: at the end two are waited for, and a host that waits spins"
    hand,cpu,ends = Hand(), Hand(0.), {}
    class Spins(Device):
        def wait(self, n):
            left = max(0., ends.get(n, 0.)-hand.t)
            hand.t,cpu.t = hand.t+left, cpu.t+left
    monkeypatch.setitem(sys.modules, 'torch', Spins(hand).torch)
    p,at = limits(time_budget=10.), hand.t
    p.clock = 'wall'
    b = c.Budget(p, now=hand, cpu=cpu)
    while not b.done:
        at = max(at, hand.t) + 3. + .02*(b.num_steps % 3)
        ends[b.num_steps+1] = at
        hand.t,cpu.t = hand.t+.01, cpu.t+.01
        b.step()
    b.close()
    told = c.clock_facts(b)
    assert 8.5 < told['training_seconds'] < 12 and told['last_cpu'] < 3.1
    assert (bad_clock(told, p) or overtime(told, p)) == ''

def test_another_budget_is_none_of_the_profiles(host):
    told,p = facts(*FREE, STEP)
    assert "the clock's own budget was 99 s" in overtime({**told, 'budget': 99.}, p)

@pytest.mark.parametrize('key', CLOCK)
@pytest.mark.parametrize('bad', [None, 'soon', math.nan, math.inf, -1., [], True, 10**400])
def test_a_clock_that_tells_no_numbers(host, key, bad):
    told,p = facts(*FREE, STEP)
    assert f'the record says nothing of its clock: {key} is ' in bad_clock({**told, key: bad}, p)

# CPU seconds

def test_cpu_seconds_over_threads_are_charged(host):
    told,p = facts((9., 1, 2.), (9., 1, 2.), (9., 1, 6.), (9., 1, 2.), clock='cpu', threads=2)
    assert (told['training_seconds'] == charged(told, p) == 4 and told['free_seconds'] == 2
        and told['counts'] == 'cpu')
    assert told['cpu_seconds'] == 12 and told['wall_seconds'] == 36 and (
        told['threads'] == told['threads_began'] == told['threads_end'] == 2)

def test_waiting_is_free_and_work_is_not_where_cpu_seconds_count(host):
    assert verdict_of(*[(1., 1, 1.)]*12, tail=(90., 0, 0.), clock='cpu') == ''
    assert '5.0 s of it after its last step' in verdict_of(
        *[(1., 1, 1.)]*12, tail=(90., 0, 5.), clock='cpu')

def test_a_device_makes_the_wall_count(monkeypatch):
    dev = Device(hand := Hand())
    monkeypatch.setitem(sys.modules, 'torch', dev.torch)
    p = limits()
    p.clock = 'cpu'
    b = c.Budget(p, now=hand, cpu=Hand(0.))
    b.progress
    assert turn(b, hand, 1, 1, 3) == 3
    b.close()
    told = c.clock_facts(b)
    assert (told['counts'], told['device']) == ('wall', 'cuda') and bad_clock(told, p) == ''
    assert 'counted wall, not cpu' in bad_clock({**told, 'device': ''}, p), (
        'only a device makes it so')
    assert 'counted cpu, not wall' in bad_clock({**told, 'counts': 'cpu'}, p)

class Threads:
    "torch, as far as threads go"
    def __init__(self, n): self.n = n
    def get_num_threads(self): return self.n

def test_the_fewest_threads_ever_seen_divide(monkeypatch):
    torch = Threads(4)
    monkeypatch.setitem(sys.modules, 'torch', torch)
    monkeypatch.setattr(c, 'usable_cpus', lambda: 8)
    p = limits(free_steps=0)
    p.clock = 'cpu'
    for changes,want in [((4, 4, 4), 3.), ((4, 2, 4), 6.), ((4, 8, 8), 3.), ((1, 1, 1), 12.)]:
        torch.n,cpu = 4, Hand(0.)
        b = c.Budget(p, now=Hand(), cpu=cpu)
        for n in changes:
            torch.n = n
            cpu.t += 4
            b.step()
        told = c.clock_facts(b)
        assert b.seconds == want and (
            (told['threads_began'], told['threads_end']) == (4, changes[-1]))
        assert charged(told, p) == pytest.approx(want)

@pytest.mark.parametrize('at', [1, 3, 7, 8, 9, 11, 12, 13])
def test_threads_lowered_in_the_middle_lose_no_run(monkeypatch, at):
    """All of training is charged as by the fewest; the step that finds it so began when the loop
    was told less"""
    torch = Threads(2)
    monkeypatch.setitem(sys.modules, 'torch', torch)
    monkeypatch.setattr(c, 'usable_cpus', lambda: 8)
    p = limits()
    p.clock = 'cpu'
    b = c.Budget(p, now=(hand := Hand()), cpu=(cpu := Hand(0.)))
    while not b.done:
        hand.t,cpu.t = hand.t+1, cpu.t+2
        if b.num_steps+1 == at: torch.n = 1
        b.step()
    if at == 13: torch.n = 1
    b.close()
    told = c.clock_facts(b)
    assert ((bad_clock(told, p) or overtime(told, p)) == ''
        and told['threads'] == (2 if at > 13 else 1))

def test_threads_beyond_the_processors_do_not_count(monkeypatch):
    monkeypatch.setitem(sys.modules, 'torch', Threads(10**6))
    assert c.num_threads() == c.usable_cpus() <= os.cpu_count() and c.num_threads(2) == 2

BURN = 'import time\nwhile time.process_time() < {s}: pass\n'

def test_children_are_counted_waited_for_or_alive():
    clock = c.CpuClock()
    before = clock()
    subprocess.run([sys.executable, '-c', BURN.format(s=.4)], check=True)
    assert .35 <= clock()-before < 2, 'waited for'
    before,p = clock(), subprocess.Popen(
        [sys.executable, '-c', BURN.format(s=.4)+'print(flush=True); input()'],
        stdin=-1, stdout=-1)
    try:
        p.stdout.readline()
        alive = clock(sure=True)-before
        assert .35 <= alive < 2
    finally: p.communicate(b'\n')
    assert abs(clock()-before-alive) < .35, 'and not counted twice when it has gone'

def test_a_cpu_clock_never_runs_backward():
    clock = c.CpuClock()
    seen = [clock(sure=bool(i % 2)) for i in range(50)]
    assert seen == sorted(seen)

def test_seconds_left_are_the_walls(host):
    p = limits(free_steps=0)
    p.clock = 'cpu'
    b = c.Budget(p, now=(hand := Hand()), cpu=(cpu := Hand(0.)))
    assert b.seconds_left == 10
    hand.t,cpu.t = hand.t+6, 2.
    b.step()
    assert b.seconds == 2 and b.seconds_left == pytest.approx(24)

def test_a_quota_limits_what_may_be_used(monkeypatch):
    class Files:
        "Stands for pathlib's: the files of a container"
        said = {}
        def __init__(self, p): self.p = p
        def exists(self): return self.p in self.said
        def __truediv__(self, name): return Files(f'{self.p}/{name}')
        def read_text(self):
            if self.p not in self.said: raise FileNotFoundError(self.p)
            return self.said[self.p]
    free = c.usable_cpus()
    monkeypatch.setattr(c, 'Path', Files)
    v1 = '/sys/fs/cgroup/cpu/cpu.cfs_{}_us'.format
    monkeypatch.setattr(os, 'sched_getaffinity', lambda _: set(range(8)))
    for said,want in [({}, 8), ({'/sys/fs/cgroup/cpu.max': 'max 100000'}, 8),
            ({'/sys/fs/cgroup/cpu.max': '150000 100000'}, 2),
            ({v1('quota'): '-1', v1('period'): '100000'}, 8),
            ({v1('quota'): '300000', v1('period'): '100000'}, 3),
            ({'/sys/fs/cgroup/cpu.max': 'what'}, 8)]:
        Files.said = said
        assert c.usable_cpus() == want, said

def test_a_clock_that_nobody_asked(host):
    b = budget(hand := Hand())
    turn(b, hand, 1, 1, 1)
    assert c.clock_facts(b)['never_asked']
    b.progress
    assert not c.clock_facts(b)['never_asked'] and c.clock_facts(budget(Hand()))['never_asked'], (
        'nor one that saw no step')

def test_the_facts_of_a_clock(host):
    b = budget(hand := Hand())
    budget(Hand())
    b.progress
    turn(b, hand, 5, 5, 3)
    hand.t += 1
    b.close()
    facts = c.clock_facts(b)
    assert {k: facts[k] for k in ('training_seconds', 'wall_seconds', 'free_seconds', 'num_steps',
        'budget', 'budgets')} == dict(training_seconds=pytest.approx(6),
        wall_seconds=pytest.approx(14), free_seconds=pytest.approx(10),
        num_steps=3, budget=10., budgets=2)

def test_without_free_steps_every_second_is_charged(host):
    b = budget(hand := Hand(), free_steps=0)
    assert [turn(b, hand, 2) for _ in range(3)] == pytest.approx([2, 4, 6])

# final block and record

BLOCK = dict(val_bpb=.9979, training_seconds=300.1, total_seconds=325.9, peak_vram_mb=45060.2,
    mfu_percent=39.8, total_tokens_M=499.6, num_steps=953, num_params_M=50.3, depth=8)
TEXT = """---
val_bpb:          0.997900
training_seconds: 300.1
total_seconds:    325.9
peak_vram_mb:     45060.2
mfu_percent:      39.80
total_tokens_M:   499.6
num_steps:        953
num_params_M:     50.3
depth:            8"""

def test_the_final_block_is_the_designs(): assert c.final_block(BLOCK) == TEXT

def test_a_block_with_a_longer_key_stays_aligned():
    lines = c.final_block(
        dict(score=1., a_key_longer_than_any_other=2.5, training_seconds=3.)).splitlines()[1:]
    assert (len({len(l) - len(l.split(': ', 1)[1].lstrip()) for l in lines}) == 1
        and lines[0].endswith(' 1.000000') and lines[1].endswith(' 2.5'))

def one_step(p):
    b = c.Budget(p, steps=1)
    b.progress
    b.step()
    c.begin_evaluation()

FIGURES = dict(depth=2, num_params_M=.9, peak_vram_mb=0., mfu_percent=0., total_tokens_M=1.25)

def test_the_record_holds_what_is_printed(tmp_path, capsys):
    p = c.get_profile('tiny')
    one_step(p)
    c.end_evaluation('val_bpb', 1.6543219, p.evaluator, rows=768)
    res = c.report(p, tmp_path/'new'/'run', seed=7, info=dict(why='a test'), **FIGURES)
    block = capsys.readouterr().out
    record = json.loads((tmp_path/'new/run/record.json').read_text())
    assert (record == res and list(record['block']) == ['val_bpb', *KEYS]
        and c.final_block(record['block'])+'\n' == block)
    assert (record['block']['val_bpb'] == record['evaluation']['value'] == 1.6543219
        and record['evaluation']['details'] == dict(rows=768))
    assert (record['profile'], record['seed'], record['direction'], record['info']) == (
        'tiny', 7, 'lower', dict(why='a test'))
    assert record['settings'] == c.settings_of(p) and record['data'] is None
    assert (record['clock']['kind'] == 'steps' and record['block']['num_steps'] == 1
        and record['contract'] and record['host']['cpus'] == os.cpu_count())

def test_the_record_says_on_which_data(tmp_path, capsys):
    p,data = c.get_profile('tiny'), dict(val_rows='aa', train_shards={'a.parquet': 'bb'})
    one_step(p)
    c.end_evaluation('val_bpb', 1.5, p.evaluator, rows=7, data=data)
    record = c.report(p, tmp_path, **FIGURES)
    assert record['data'] == data and record['evaluation']['details'] == dict(rows=7)

def test_time_and_steps_are_the_clocks(capsys):
    p = c.get_profile('tiny')
    one_step(p)
    c.end_evaluation('val_bpb', 1.5, p.evaluator)
    block = c.report(p, training_seconds=1e6, num_steps=10**6, total_seconds=0.)['block']
    assert (block['training_seconds'] < 1e3 and block['num_steps'] == 1
        and block['total_seconds'] > 0)

def test_the_metric_is_the_evaluators(capsys):
    p = c.get_profile('tiny')
    one_step(p)
    c.end_evaluation('val_bpb', 1.5, p.evaluator)
    try: block = c.report(p, val_bpb=.1)['block']
    except (TypeError, ValueError, RuntimeError): return
    assert block['val_bpb'] == 1.5 and 'val_bpb:          1.500000' in capsys.readouterr().out

@pytest.mark.parametrize('metric', [None, 'loss'])
def test_no_report_without_the_evaluators_word(tmp_path, capsys, metric):
    p = c.get_profile('tiny')
    one_step(p)
    if metric: c.end_evaluation(metric, 1.5, p.evaluator)
    with pytest.raises(RuntimeError,
            match='autoresearch.prepare.evaluate_bpb handed in no val_bpb'):
        c.report(p, tmp_path, **FIGURES)
    assert not list(tmp_path.iterdir()) and not capsys.readouterr().out

def test_another_target_prints_its_own_metric_first(ini, tmp_path, capsys):
    p = c.get_profile('only', ini(TARGET.format(metric='accuracy', name='only')))
    one_step(p)
    c.end_evaluation('accuracy', .875, 'measure.score')
    record = c.report(p, tmp_path/'run', moves=12)
    lines = capsys.readouterr().out.splitlines()
    assert (lines[1] == 'accuracy:         0.875000' and lines[-1] == 'moves:            12'
        and not [l for l in lines if 'val_bpb' in l or 'depth' in l])
    assert (list(record['block'])
        == ['accuracy', 'training_seconds', 'total_seconds', 'num_steps', 'moves']
        and record['direction'] == 'higher')

# peak rates

NAMES = {'H100': ['NVIDIA H100 80GB HBM3'], 'H100 PCIe': ['NVIDIA H100 PCIe'],
    'H100 NVL': ['NVIDIA H100 NVL'], 'H200': ['NVIDIA H200'], 'B200': ['NVIDIA B200'],
    'A100': ['NVIDIA A100-SXM4-40GB', 'NVIDIA A100-SXM4-80GB', 'NVIDIA A100 80GB PCIe',
        'A100-PCIE-40GB'],
    'L4': ['NVIDIA L4'], 'L40': ['NVIDIA L40'], 'L40S': ['NVIDIA L40S'],
    'MI300X': ['AMD Instinct MI300X'], 'MI300A': ['AMD Instinct MI300A']}

@pytest.mark.parametrize('entry', list(c.PEAKS))
def test_every_peak_is_found_by_a_name_torch_gives(entry):
    for name in NAMES.get(entry) or [f'NVIDIA GeForce {entry}']:
        assert c.peak_flops(name) == c.PEAKS[entry][0]*1e12 > 1e13
    assert c.PEAKS[entry][1].startswith(('NVIDIA ', 'AMD ')), 'a source'

@pytest.mark.parametrize('name', ['NVIDIA GeForce RTX 4090 Laptop GPU',
    'NVIDIA GeForce RTX 3080 Ti', 'NVIDIA GeForce RTX 3080 Ti Laptop GPU',
    'NVIDIA GeForce RTX 4070 SUPER', 'NVIDIA GeForce RTX 4090 D', 'NVIDIA GeForce GTX 1080',
    'Tesla T4', 'NVIDIA L400', 'AMD EPYC 9354', 'x86_64', ''])
def test_what_is_not_in_the_table_has_no_peak(name): assert c.peak_flops(name) == 0

# while it runs, and where

def test_progress_prints_at_most_one_line_a_second(tmp_path, capsys):
    show,t0 = c.Progress(tmp_path), time.perf_counter()
    for i in range(300): show(step=i, seconds=.5, loss=2.5)
    took = time.perf_counter()-t0
    lines = capsys.readouterr().out.splitlines()
    assert 1 <= len(lines) <= math.floor(took)+1 and lines[0] == 'step 0 | seconds 0.5 | loss 2.5'
    show(last=True, step=300, seconds=.6, loss=1.)
    now = json.loads((tmp_path/'progress.json').read_text())
    assert (now['step'] == 300 and now['columns'] == c.COLUMNS and 'schedule' not in now
        and now['curve'][-1] == [300, .6, 1., None, None, None] and len(now['curve']) == c.FIRST + len(lines))

def test_a_curve_has_a_point_for_every_half_percent_and_stays_short(capsys):
    show = c.Progress(every=1e9)
    for i in range(3001): show(step=i, loss=2., percent=i/30, schedule=[.1/3, i])
    fractions = [o[3] for o in show.curve]
    assert fractions[:2] == [0., 0.] and show.curve[2][3] == 1/3000, 'as the step began'
    assert 190 <= len(fractions) <= 202 + c.FIRST and fractions == sorted(fractions)
    assert max(b-a for a,b in zip(fractions, fractions[1:])) < .006
    assert [o[0] for o in show.curve[:c.FIRST]] == list(range(c.FIRST))
    assert show.curve[0][4] == [.0333333, 0.] and len(capsys.readouterr().out.splitlines()) == 1
    show = c.Progress(every=0)
    for i in range(20 * c.POINTS): show(step=i, loss=2.)
    steps = [o[0] for o in show.curve]
    assert c.POINTS//2 <= len(steps) <= c.POINTS + 1 and steps[0] == 0 and steps == sorted(steps)

def test_the_norm_of_a_gradient_and_the_names_of_rates(tmp_path, capsys):
    show = c.Progress(tmp_path, every=0)
    def said(**more):
        show(step=1, loss=2., **more)
        now = json.loads((tmp_path/'progress.json').read_text())
        return dict(zip(now['columns'], now['curve'][-1]))['grad_norm'], now.get('schedule_names')
    names = ['head lr', 'momentum']
    whole = said(grad_norm=1/3, schedule=[.1, .9], schedule_names=names)
    assert whole == (.333333, names) and 'grad_norm 0.3333' in capsys.readouterr().out
    assert said() == (None, None) and 'grad_norm' not in capsys.readouterr().out
    for odd in (math.inf, -math.inf, math.nan): assert said(grad_norm=odd)[0] is None
    assert said(schedule=[.1], schedule_names=names)[1] is None, 'as many as there are rates'
    assert said(schedule_names=names)[1] is None

def test_a_link_in_the_place_of_a_file_is_replaced(tmp_path):
    "A run writes into its folder what it likes: nothing is written to where its links lead"
    target = tmp_path/'settings.ini'
    target.write_text('as it was')
    (tmp_path/'record.json').symlink_to(target)
    c.write_json(tmp_path/'record.json', dict(loss=1))
    assert target.read_text() == 'as it was' and not (tmp_path/'record.json').is_symlink()

@pytest.mark.parametrize('keep', [False, True])
def test_the_mode_of_what_is_replaced(tmp_path, keep):
    f = tmp_path/'a'
    f.write_text('old')
    f.chmod(0o604)
    with c.replacing(f, keep_mode=keep) as out: out.write(b'new')
    (tmp_path/'fresh').write_text('')
    wanted = 0o604 if keep else (tmp_path/'fresh').stat().st_mode & 0o777
    assert f.stat().st_mode & 0o777 == wanted and f.read_bytes() == b'new'

def test_a_lock_file_that_is_moved_while_it_is_opened(tmp_path, monkeypatch):
    "Nobody holds it: it is taken anew and not told to be somebody's"
    path = tmp_path/'lock'
    opened = []
    real = os.open
    def open_and_move(name, *args, **kwargs):
        fd = real(name, *args, **kwargs)
        opened.append(fd)
        if len(opened) < 3: os.rename(path, tmp_path/f'moved-{len(opened)}')
        return fd
    monkeypatch.setattr(os, 'open', open_and_move)
    def refuse(seconds): raise TimeoutError
    with c.file_lock(path, refuse) as fd: assert c.is_named(fd, path) and len(opened) == 3

def test_progress_does_not_wait_for_the_disk(tmp_path, capsys, monkeypatch):
    synced = []
    monkeypatch.setattr(os, 'fsync', synced.append)
    c.Progress(tmp_path)(step=1)
    assert not synced and json.loads((tmp_path/'progress.json').read_text())['step'] == 1
    c.write_json(tmp_path/'record.json', {})
    assert len(synced) == 2, 'the file and its folder'

def test_peak_memory_is_this_process_own():
    code = (
        'from autoresearch.contract import peak_memory_mb; a = peak_memory_mb(); '
        'b = bytearray(2**27); b[::4096] = b"x"*len(b[::4096]); print(a, peak_memory_mb())')
    a,b = map(float, subprocess.run([sys.executable, '-c', code], cwd=ROOT,
        capture_output=True, text=True, check=True).stdout.split())
    assert 10 < a < 500 and 100 < b-a < 160

def test_progress_without_a_folder_writes_nothing(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    c.Progress()(step=1)
    assert not list(tmp_path.iterdir()) and capsys.readouterr().out == 'step 1\n'

def test_progress_json_is_always_whole(tmp_path, capsys):
    show,path,stop,seen = (
        c.Progress(tmp_path, every=0), tmp_path/'progress.json', threading.Event(), [])
    many = {f'figure_{i}': i/7 for i in range(1500)}
    show(step=0, **many)
    def watch():
        while not stop.is_set():
            try: seen.append(json.loads(path.read_text())['step'])
            except Exception as e: seen.append(e)
    t = threading.Thread(target=watch)
    t.start()
    try:
        for i in range(1, 60): show(step=i, **many)
    finally:
        stop.set()
        t.join()
    assert (seen and not [e for e in seen if not isinstance(e, int)] and seen == sorted(seen)
        and [p.name for p in tmp_path.iterdir()] == ['progress.json'])

def test_a_failed_write_leaves_the_old_file(tmp_path):
    c.write_json(tmp_path/'a.json', dict(a=1))
    with pytest.raises(TypeError): c.write_json(tmp_path/'a.json', dict(a='x'*10_000, b=object()))
    assert json.loads((tmp_path/'a.json').read_text()) == dict(a=1)

def test_a_failed_write_leaves_no_litter(tmp_path):
    with pytest.raises(TypeError): c.write_json(tmp_path/'a.json', dict(b=object()))
    assert not list(tmp_path.iterdir())

def test_what_is_written_may_be_read_by_whom_the_umask_allows(tmp_path):
    before = os.umask(0o022)
    try: c.write_json(tmp_path/'a.json', {})
    finally: os.umask(before)
    assert (tmp_path/'a.json').stat().st_mode & 0o777 == 0o644

def test_host_facts(monkeypatch):
    monkeypatch.setitem(sys.modules, 'torch', Device().torch)
    facts = c.host_facts()
    assert (facts['device'] == 'NVIDIA H100 80GB HBM3' and facts['torch'] == '0'
        and facts['python'] == '.'.join(map(str, sys.version_info[:3])))
    monkeypatch.delitem(sys.modules, 'torch')
    facts = c.host_facts()
    assert facts['torch'] is None and facts['device'] and facts['host'] and json.dumps(facts)

def test_the_environment_of_a_run(monkeypatch, tmp_path):
    monkeypatch.setenv('PYTORCH_ALLOC_CONF', 'a'*300)
    monkeypatch.setenv('NCCL_AUTH_TOKEN', 'hidden')
    monkeypatch.setenv('AUTORESEARCH_ATTENTION', 'sdpa')
    monkeypatch.setenv('AUTORESEARCH_NONCE', 'secret word')
    monkeypatch.setenv('TRITON_CACHE_DIR', '/a/folder')
    facts = c.host_facts()
    assert facts['versions']['torch'] == version('torch') and facts['versions']['autoresearch']
    assert not {'pytest', 'ray', 'optuna'} & set(facts['versions']), 'what a run can do without'
    told = facts['variables']
    assert told['PYTORCH_ALLOC_CONF'] == 'a'*200 and told['AUTORESEARCH_ATTENTION'] == 'sdpa'
    assert not {'NCCL_AUTH_TOKEN', 'AUTORESEARCH_NONCE', 'TRITON_CACHE_DIR', 'PATH', 'HOME'} & set(told)
    # behind walls the checkout's metadata is a folder's name, and stands before the installed one
    (tmp_path/'autoresearch.egg-info').mkdir()
    monkeypatch.syspath_prepend(tmp_path)
    assert c.package_versions() == facts['versions']
    monkeypatch.setattr(c, 'distributions', lambda name: iter(()))
    assert c.package_versions() == {}

def test_the_contracts_hash_follows_the_settings(ini):
    path = ini(INI)
    first = c.contract_hash(c.get_profile('tiny', path))
    assert (re.fullmatch('[0-9a-f]{16}', first)
        and c.contract_hash(c.get_profile('tiny', path)) == first)
    path.write_text(INI + '# one more remark\n', encoding='utf8')
    assert c.contract_hash(c.get_profile('tiny', path)) != first

# commands

def test_ar_help_lists_every_command(capsys):
    c.ar_help()
    lines = capsys.readouterr().out.splitlines()
    scripts = re.findall(r'^(ar-[\w-]+) = "', (ROOT/'pyproject.toml').read_text(), re.M)
    listed = {l.split()[0]: l.split(None, 1)[1] for l in lines if l.startswith('ar-')}
    assert ({'ar-help', 'ar-prepare', 'ar-run', 'ar-frontier'} <= set(scripts) <= set(listed)
        and all(len(o) > 20 for o in listed.values()))
    assert set(scripts) <= {f'ar-{o}' for o in c.LOOP}
    known = [l for l in listed if l[3:] in c.LOOP]
    assert known == [f'ar-{o}' for o in c.LOOP if f'ar-{o}' in listed], 'as the loop goes'
    rest = [l for l in listed if l[3:] not in c.LOOP]
    assert rest == sorted(rest) and list(listed) == known+rest, 'what it does not know comes last'

@pytest.mark.parametrize('words,said', [(['disturbed'], 'Do not build'), (['ar-run'], 'ar-run -h'),
    (['run'], 'ar-run -h'), (['its logits depend on later tokens (row 3)'], 'a mean over positions')])
def test_ar_help_explains(capsys, words, said):
    c.ar_help(words)
    text = capsys.readouterr().out
    assert said in text
    c.ar_help(words, json=True)
    o = json.loads(capsys.readouterr().out)
    assert o['topics'] and all(v['name'] in text and v['text'] in text for v in o['topics'])

def test_ar_help_knows_nothing(capsys):
    with pytest.raises(SystemExit) as e: c.ar_help(['xyzzy'])
    assert str(e.value.code).startswith("ar-help: nothing is known of 'xyzzy'")
    with pytest.raises(SystemExit) as e: c.ar_help(['xyzzy'], json=True)
    said = capsys.readouterr()
    assert json.loads(said.out) == dict(error=said.err.strip(), code=1) and e.value.code == 1

def test_a_shape_takes_no_other_key():
    schema = c.shape('x', a=c.of_type('array', 'y', c.of_type(['string', 'null'], 'z')))
    import jsonschema
    jsonschema.validate(dict(a=['b', None]), schema)
    for wrong in ({}, dict(a=[1]), dict(a=[], b=1)):
        with pytest.raises(jsonschema.ValidationError): jsonschema.validate(wrong, schema)

def test_ar_help_into_a_pipe_that_closes():
    code = 'from autoresearch.contract import ar_help; import sys; sys.stdin.readline(); ar_help()'
    p = subprocess.Popen([sys.executable, '-c', code], cwd=ROOT, stdin=-1, stdout=-1, stderr=-1)
    p.stdout.close()
    err = p.stderr.read() if p.stdin.write(b'\n') and not p.stdin.close() else b''
    assert p.wait() == 0 and not err

# extras

def test_what_installs_an_extra(monkeypatch, tmp_path):
    """Names the packages of the extra; where nothing is known of them, the checkout by its path,
    whatever the working folder"""
    known = ['fastcore>=2', "optuna>=4; extra == 'search'",
        'quack==1; sys_platform == "linux" and extra == "hopper"', 'x; extra == "searchable"']
    monkeypatch.setattr(c, 'requires', lambda name: known)
    pip = f'{sys.executable} -m pip install '
    assert (c.install_line('search') == f"{pip}'optuna>=4'"
        and c.install_line('hopper') == f'{pip}quack==1')
    def missing(name): raise c.PackageNotFoundError(name)
    for requires in (missing, lambda name: None, lambda name: known[:1]):
        monkeypatch.setattr(c, 'requires', requires)
        assert c.install_line('search') == f"{pip}-e '{ROOT}[search]'"
