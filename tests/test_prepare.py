"""Data, tokenizer, token store, loader and evaluation under faults: what the lessons of
nbs/01_prepare.ipynb don't tell."""
import errno, gc, hashlib, itertools, json, math, os, random, re, signal, subprocess, sys
import threading, time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
import numpy as np, pyarrow as pa, pyarrow.parquet as pq, pytest, torch
from torch.nn import functional as F
from autoresearch import contract, prepare as P
from autoresearch.contract import get_profile

ROOT = Path(__file__).parent.parent
LAB = dict(source='hub', dataset='lab/text', last_shard=5, val_shard=5, train_shards=3,
    vocab_size=400, tokenizer_chars=10**9, max_seq_len=64, eval_tokens=64*130,
    cache='autoresearch-lab', doc_bytes=0)

def lab(folder, **changed):
    "The profile `lab`, of a settings.ini of its own"
    section = '\n'.join(f'{k} = {v}' for k,v in {**LAB, **changed}.items())
    folder.mkdir(parents=True, exist_ok=True)
    (folder/'settings.ini').write_text((ROOT/'settings.ini').read_text() + f'\n[lab]\n{section}\n')
    return get_profile('lab', folder/'settings.ini')

TEXT = pq.read_table(ROOT/'autoresearch/corpus/train.parquet')['text'].to_pylist()[:40]

def text_shard(path, seed, rows=300, group=100):
    "A shard of documents of 3 to 900 characters, some of them strange"
    rng,docs = random.Random(seed), []
    for _ in range(rows):
        t,n = rng.choice(TEXT), int(3*300**rng.random())
        a = rng.randrange(len(t)-n)
        docs.append(t[a:a+n])
    docs[7:11] = ['', '<|reserved_0|> <|reserved_3|>', 'naïve 🦋\0\ud7ff', ' '*300]
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table({'text': docs}), path, compression='zstd', row_group_size=group)

@pytest.fixture
def cache(tmp_path, monkeypatch):
    "An empty cache of this test's own; shards of `lab` on request"
    monkeypatch.setenv('AUTORESEARCH_CACHE', str(tmp_path/'autoresearch'))
    return tmp_path

def fill(profile, **kwargs):
    for i in [*range(3), 5]: text_shard(P.shard_path(profile, i), i, **kwargs)
    return profile

@pytest.fixture(scope='module')
def made(tmp_path_factory):
    "Profile `lab`, prepared once for the tests that only read it"
    folder = tmp_path_factory.mktemp('made')
    with pytest.MonkeyPatch.context() as m:
        m.setenv('AUTORESEARCH_CACHE', str(folder/'autoresearch'))
        p = fill(lab(folder))
        P.prepare(p)
        yield p

@pytest.fixture
def ready(made, monkeypatch):
    monkeypatch.setenv('AUTORESEARCH_CACHE', str(made.root/'autoresearch'))
    return made, P.get_tokenizer(made)

# ---- cache, corpus, documents

def test_cache_dir(monkeypatch, tmp_path):
    climbmix,tiny = get_profile('climbmix'), get_profile('tiny')
    monkeypatch.delenv('AUTORESEARCH_CACHE', raising=False)
    assert (P.cache_dir(climbmix) == Path.home()/'.cache/autoresearch'
        and P.cache_dir(tiny) == Path.home()/'.cache/autoresearch-tiny')
    monkeypatch.setenv('AUTORESEARCH_CACHE', str(tmp_path/'x'))
    assert P.cache_dir(climbmix) == tmp_path/'x' and P.cache_dir(tiny) == tmp_path/'x-tiny'
    monkeypatch.setenv('AUTORESEARCH_CACHE', '~/x/')
    assert P.cache_dir(tiny) == Path.home()/'x-tiny'

def test_import_is_light():
    code = (
        'import sys, autoresearch.prepare; print([m for m in '
        '("torch", "pyarrow", "huggingface_hub", "rustbpe") if m in sys.modules])')
    assert subprocess.run([sys.executable, '-c', code], capture_output=True, text=True,
        check=True).stdout.strip() == '[]'

def test_corpus_is_small_and_validation_unseen():
    folder = ROOT/'autoresearch/corpus'
    assert sum(f.stat().st_size for f in folder.iterdir()) < 6e6
    train,val = (pq.read_table(folder/f'{s}.parquet')['text'].to_pylist() for s in ('train', 'val'))
    assert len(val) == 54 and sum(map(len, val)) == 464_243 and not set(train) & set(val)
    whole = '\n'.join(train)
    names = ('Wentworth', 'Musgrove', 'Kellynch', 'Uppercross', 'Benwick')
    assert all(n in '\n'.join(val) for n in names) and not any(n in whole for n in names)

def test_held_out_text_is_nowhere_else():
    def grams(texts):
        words = [re.findall(r"[a-z0-9']+", t.lower()) for t in texts]
        return {hash(tuple(w[i:i+13])) for w in words for i in range(len(w)-12)}
    parts = {s: pq.read_table(ROOT/f'autoresearch/corpus/{s}.parquet')['text'].to_pylist()
        for s in ('train', 'val', 'audit', 'final')}
    assert {s: sum(map(len, t)) for s,t in parts.items() if s != 'train'} == dict(
        val=464_243, audit=468_172, final=469_861)
    own = {s: grams(t) for s,t in parts.items()}
    assert not any(own[a] & own[b] for a,b in itertools.combinations(own, 2) if b != 'val')

def test_cut_any_text():
    rng = random.Random(0)
    for _ in range(400):
        t = ''.join(rng.choice(
                ['a', 'bc ', '. ', '!” ', '\n\n', '\t', ' ', 'é', '🦋', '\u3000', '.'])
            for _ in range(rng.randrange(200)))
        limit = rng.choice([4, 7, 30, 100])
        pieces = P.cut(t, limit)
        assert all(0 < len(s.encode()) <= limit and s == s.strip() for s in pieces)
        assert ''.join(''.join(pieces).split()) == ''.join(t.split()), (
            'nothing but white space may be lost')
        assert P.cut(t, 0) == ([t.strip()] if t.strip() else [])

def test_cut_at_sentences():
    t = TEXT[0]
    pieces = P.cut(t, 400)
    ended = sum(s.rstrip('_)]"\'”’')[-1] in '.!?' for s in pieces)
    assert ended/len(pieces) > .85 and np.mean([len(s.encode()) for s in pieces]) > 200

def stamp(p):
    return {f: f.stat().st_mtime_ns for f in P.cache_dir(p).rglob('*')
        if f.is_file() and f.name != '.lock'}

def test_embedded_shards_are_the_same_everywhere(cache):
    p = lab(cache, source='embedded', doc_bytes=400, train_shards=2, vocab_size=300,
        tokenizer_chars=10**5)
    P.prepare(p)
    docs = [list(P.texts(P.shard_path(p, i))) for i in (0, 1, 5)]
    assert [d[0][:30] for d in docs] == FIRST, (
        'cut or shuffle changed: raise the number in `origin`')
    before = stamp(p)
    P.prepare(p)
    assert stamp(p) == before, 'a second prepare writes nothing'
    (P.cache_dir(p)/'data/embedded.json').write_text('{')
    P.prepare(p)
    assert P.is_prepared(p) == '' and stamp(p) != before
    other = lab(cache, source='embedded', doc_bytes=300, train_shards=2, vocab_size=300,
        tokenizer_chars=10**5)
    assert 'origin' in P.is_prepared(other)
    P.prepare(other)
    assert (P.is_prepared(other) == ''
        and max(len(d.encode()) for d in P.texts(P.shard_path(other, 0))) <= 300)
    for bad in (dict(num_shards=3), dict(workers=0)):
        with pytest.raises(P.DataError, match='--'): P.prepare(other, **bad)
    with pytest.raises(P.DataError, match='doc_bytes'): P.prepare(lab(cache, doc_bytes=400))

# documents of shards 0, 1 and of validation
FIRST = ['It is not for the "common bene', 'They were now on the second fl',
    'She cared not for Mrs Clay, an']

# ---- the hub

class Hub(BaseHTTPRequestHandler):
    "What a download needs of the hub; `faults` of files, once or (`!`) always; `refuse`: of all"
    protocol_version = 'HTTP/1.1'
    commits,refuse,files,faults,log,asked = {'main': 'a'*40}, None, {}, {}, [], []
    def log_message(self, *args): pass
    def do_HEAD(self): self.do_GET(body=False)
    def answer(self, code, headers):
        self.send_response(code)
        for k,v in {'Content-Length': '0', **headers}.items(): self.send_header(k, v)
        self.end_headers()
    def do_GET(self, body=True):
        name,revision = self.path.rpartition('/')[2], self.path.split('/')[-2]
        commit = self.commits.get(revision, revision if revision in self.commits.values() else '')
        if self.refuse: return self.answer(*self.refuse)
        if not commit: return self.answer(404, {'X-Error-Code': 'RevisionNotFound'})
        ok = self.path == f'/datasets/lab/text/resolve/{revision}/{name}' and name in self.files
        data,first = self.files.get(name, b''), int(
            (self.headers.get('Range') or 'bytes=0-')[6:].split('-')[0])
        fault = (self.faults.get(name) if '!' in self.faults.get(name, '')
            else self.faults.pop(name, '')) if body and ok else ''
        if body: self.log.append((name, first, fault))
        self.asked.append(revision)
        if 'garbage' in fault: data = data[:-100] + bytes(100)
        self.send_response(404 if not ok else 206 if first else 200)
        if not ok: self.send_header('X-Error-Code', 'EntryNotFound')
        headers = {'X-Repo-Commit': commit, 'ETag': f'"{name}-{len(data)}"',
            'Accept-Ranges': 'bytes'}
        headers['Content-Length'] = len(data)-first
        for k,v in headers.items(): self.send_header(k, str(v))
        if first: self.send_header('Content-Range', f'bytes {first}-{len(data)-1}/{len(data)}')
        self.end_headers()
        if body and 'stalled' in fault: time.sleep(90)
        elif body and 'broken' in fault:
            self.wfile.write(data[first:first+len(data)//2])
            self.wfile.flush()
            self.close_connection = True
        elif body: self.wfile.write(data[first:])

@pytest.fixture
def hub(cache, monkeypatch):
    "Profile `lab` with an empty cache and a hub on this machine that has its shards"
    source = lab(cache/'source')
    monkeypatch.setenv('AUTORESEARCH_CACHE', str(cache/'source/autoresearch'))
    files = {f.name: f.read_bytes() for i in range(6) for f in [P.shard_path(source, i)]
        if text_shard(f, i) is None}
    monkeypatch.setenv('AUTORESEARCH_CACHE', str(cache/'autoresearch'))
    fresh = dict(files=files, faults={}, log=[], asked=[], refuse=None, commits={'main': 'a'*40})
    for k,v in fresh.items(): monkeypatch.setattr(Hub, k, v)
    server = ThreadingHTTPServer(('127.0.0.1', 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv('HF_ENDPOINT', f'http://127.0.0.1:{server.server_address[1]}')
    monkeypatch.setenv('NO_PROXY', '127.0.0.1')
    yield lab(cache)
    server.shutdown()
    server.server_close()

def sound(p, shards):
    return all(P.shard_path(p, i).read_bytes() == Hub.files[P.shard_path(p, i).name]
        for i in shards)

def fetched(): # newer clients ask the hub other things too
    return sorted({name for name,_,_ in Hub.log if name.startswith('shard_')})

def test_fetch(hub):
    P.prepare(hub, workers=2)
    assert sound(hub, [0, 1, 2, 5]) and len(fetched()) == 4 and P.is_prepared(hub) == ''
    Hub.log.clear()
    P.prepare(hub)
    assert not fetched(), 'what is there needs no network'

def test_broken_shards_are_fetched_again(hub, capsys):
    whole = Hub.files['shard_00000.parquet']
    folder = P.shard_path(hub, 0).parent
    folder.mkdir(parents=True)
    for i,data in enumerate([whole[:-1000], b'', bytes(5000)]):
        P.shard_path(hub, i).write_bytes(data)
    pq.write_table(pa.table({'body': ['x']}), P.shard_path(hub, 5))
    P._fetch(hub, 4)
    assert sound(hub, [0, 1, 2, 5]) and capsys.readouterr().out.count('fetching it again') == 4
    # broken after a good download: the transfer's notes say that it is there
    P.shard_path(hub, 1).write_bytes(whole[:-9])
    pq.write_table(pa.table({'text': pa.array([], pa.string())}), P.shard_path(hub, 2))
    P._fetch(hub, 1)
    assert sound(hub, [0, 1, 2, 5])

def test_interrupted_transfer_goes_on(hub):
    # the client keeps pieces of 10 MB
    letters = np.random.default_rng(0).integers(
        97, 123, 24*2**20, dtype=np.uint8).tobytes().decode()
    path = P.shard_path(hub, 1)
    path.parent.mkdir(parents=True)
    pq.write_table(pa.table({'text': [letters]}), path, compression='none', use_dictionary=False,
        write_statistics=False)
    Hub.files[path.name] = path.read_bytes()
    path.unlink()
    Hub.faults = {path.name: 'broken', 'shard_00002.parquet': 'broken'}
    P._fetch(hub, 2)
    assert sound(hub, [0, 1, 2, 5])
    assert [f > 0 for n,f,_ in Hub.log if n == 'shard_00001.parquet'] == [False, True], (
        'taken up where it broke')

def test_garbage_from_the_hub(hub):
    Hub.faults = {'shard_00002.parquet': 'garbage'}
    P._fetch(hub, 1)
    assert sound(hub, [0, 1, 2, 5]), 'the second copy is good'
    P.shard_path(hub, 2).unlink()
    Hub.faults = {'shard_00002.parquet': 'garbage!'}
    with pytest.raises(P.DataError, match=(
            'shard_00002.parquet of lab/text, as the hub sends it, is no whole parquet file')):
        P._fetch(hub, 1)
    assert not P.shard_path(hub, 2).exists()

def test_network_failure_names_the_shard(hub):
    del Hub.files['shard_00002.parquet']
    cause = 'shard_00002.parquet of lab/text could not be fetched: it has no such file'
    with pytest.raises(P.DataError, match=f'{cause}.*ar-prepare --profile lab. goes on'):
        P.prepare(hub, workers=1)
    assert sound(hub, [0, 1]) and 'run ar-prepare' in P.is_prepared(hub)

def test_ctrl_c_does_not_wait_for_a_transfer(hub):
    Hub.faults = {f'shard_0000{i}.parquet': 'stalled!' for i in range(3)}
    proc = subprocess.Popen([Path(sys.executable).with_name('ar-prepare'), '--profile', 'lab'],
        cwd=hub.root, stderr=subprocess.PIPE, text=True)
    until = time.monotonic() + 120
    while len(fetched()) < 4 and time.monotonic() < until: time.sleep(.01)
    proc.send_signal(signal.SIGINT)
    t = time.monotonic()
    err = proc.communicate(timeout=120)[1]
    assert time.monotonic() - t < 60 and proc.returncode == 1
    assert 'interrupted; the next one goes on from here' in err and 'Traceback' not in err, err
    Hub.faults = {}
    P._fetch(hub, 2)
    assert sound(hub, [0, 1, 2, 5]) and not list(P.cache_dir(hub).rglob('*.incomplete'))

def test_num_shards_is_remembered(hub):
    P.prepare(hub, num_shards=1)
    assert (P.train_shards(hub) == [0] and P.is_prepared(hub) == ''
        and fetched() == ['shard_00000.parquet', 'shard_00005.parquet'])
    digest = P.get_tokenizer(hub).digest
    P.prepare(hub)
    assert P.train_shards(hub) == [0], 'the wish stands until another'
    assert (P.prepare(hub, num_shards=-1)['train_shards'] == 5
        and P.train_shards(hub) == [0, 1, 2, 3, 4])
    assert P.get_tokenizer(hub).digest == digest, 'more shards keep the tokenizer'
    (P.cache_dir(hub)/'shards.json').write_text('{')
    assert 'shards.json is damaged: say again' in P.is_prepared(hub)
    P.prepare(hub, num_shards=1)
    assert P.is_prepared(hub) == ''
    for n in (0, -2, 6):
        with pytest.raises(P.DataError, match=f'--num-shards {n}'): P.prepare(hub, num_shards=n)

HELD = dict(audit_shard=4, final_shard=3)

def test_held_out_shards_are_left_out(hub, cache):
    p = lab(cache, **HELD, train_shards=-1)
    made = P.prepare(p)
    assert P.train_shards(p) == [0, 1, 2] and made['audit_rows'] == made['final_rows'] == 130
    assert sound(p, range(6)) and all(not P.unscored(p, o) for o in ('audit', 'final'))
    rows = [P.val_rows(p, P.get_tokenizer(p), which=o)[0] for o in P.held_out(p)]
    assert not any(np.array_equal(a, b) for a,b in itertools.combinations(rows, 2))
    with pytest.raises(P.DataError, match='accepted|takes 1 to 3'): P.prepare(p, num_shards=4)
    unseen = [f for f in cache.rglob('*') if re.search('0000[34]|audit|final', f.name)]
    held = P.held_out_paths(p)
    assert len(unseen) > 8 and all(any(o in (f, *f.parents) for o in held) for f in unseen
        if 'source' not in f.parts)
    P.shard_path(hub, 4).parent.mkdir(exist_ok=True)
    P.shard_path(hub, 4).write_bytes(b'') # fetched to train on, by settings of before
    assert P.shard_path(hub, 4) in P.held_out_paths(p) and P.shard_path(hub, 4) not in held

def test_a_cache_of_before_has_no_audit_and_stays_what_it_is(hub, cache, capsys):
    P.prepare(hub)
    (P.cache_dir(hub)/'revision.json').unlink() # filled without asking
    p = lab(cache, **HELD)
    before = P.data_facts(p), P.validation_facts(p), stamp(p)
    said = 'no audit: shard_00004.parquet is not there: ar-prepare --profile lab'
    assert P.is_prepared(p) == '' and P.unscored(p) == said
    Hub.refuse = 503, {'Retry-After': '0'}
    made = P.prepare(p)
    out = capsys.readouterr().out
    assert re.search('no audit: shard_00004.*the hub does not serve', out), out
    assert 'no final: shard_00003' in out and made['audit_rows'] == said
    assert before == (P.data_facts(p), P.validation_facts(p), stamp(p))
    Hub.refuse = None
    assert P.prepare(p)['audit_rows'] == 130 and P.unscored(p) == ''
    assert before == (P.data_facts(p), P.validation_facts(p), stamp(p)), 'a session goes on'
    P.shard_path(p, 4).write_bytes(P.shard_path(p, 3).read_bytes())
    assert 'was made of another shard_00004.parquet' in P.unscored(p)
    P.prepare(p)
    assert P.unscored(p) == ''

def test_a_run_without_walls_that_trains_on_the_audit(hub, cache):
    p = lab(cache, **HELD)
    P.prepare(p)
    before = P.data_facts(p)
    assert 'shard_00004.parquet' not in before['train_shards']
    P.batches(p, [4])
    assert 'shard_00004.parquet' in P.data_facts(p)['train_shards'], 'what the runner compares'
    P._noted_shards.clear()

def test_no_shard_to_score(hub, cache):
    assert P.held_out(hub) == dict(val=5), 'the numbers of [DEFAULT] lie beyond its last'
    assert 'audit_shard = 6541 is none of the shards 0 to 5; name one' in P.unscored(hub)
    assert 'audit_shard = -1 is' in P.unscored(lab(cache, audit_shard=-1))

# ---- which revision it is

def test_main_is_looked_up_once(hub):
    P.prepare(hub)
    assert Hub.asked.count('main') == 1 and set(Hub.asked) == {'main', 'a'*40}
    assert P.revision(hub) == 'a'*40
    Hub.commits = {'main': 'b'*40, 'before': 'a'*40}
    P.shard_path(hub, 1).unlink()
    Hub.asked.clear()
    P.prepare(hub)
    assert set(Hub.asked) == {'a'*40}, 'main moved on, the cache did not'
    assert P.data_facts(hub)['revision'] == 'a'*40

def test_another_revision_is_fetched_whole(hub, cache, capsys):
    P.prepare(hub)
    before,want = P.shard_path(hub, 0).read_bytes(), lab(cache, revision='v2')
    said = 'data is of lab/text at main, profile lab wants lab/text at v2: run ar-prepare'
    assert said in P.is_prepared(want)
    with pytest.raises(P.DataError, match='has no revision v2: change the key'): P.prepare(want)
    assert P.shard_path(hub, 0).read_bytes() == before, 'what could not be replaced is still there'
    Hub.commits = {**Hub.commits, 'v2': 'c'*40}
    text_shard(other := cache/'other.parquet', 77)
    Hub.files = {**Hub.files, 'shard_00000.parquet': other.read_bytes()}
    P.prepare(want)
    assert P.is_prepared(want) == '' and P.revision(want) == 'c'*40 and sound(want, [0, 1, 2, 5])
    assert 'fetching it again' in capsys.readouterr().out
    assert P.shard_path(want, 0).read_bytes() != before
    assert 'wants lab/other at v2' in P.is_prepared(lab(cache, revision='v2', dataset='lab/other'))

def test_a_cache_without_the_hub_says_so(hub):
    P.shard_path(hub, 0).parent.mkdir(parents=True)
    for f in (P.shard_path(hub, 0), P.shard_path(hub, 5)): f.write_bytes(Hub.files[f.name])
    assert P.revision(hub) == 'unknown: the cache was filled without asking the hub'
    P.prepare(hub)
    older = 'shard_00000.parquet shard_00005.parquet'
    assert P.revision(hub) == f'{"a"*40}, but there before it was asked: {older}'
    (P.cache_dir(hub)/'revision.json').write_text('{}')
    assert P.revision(hub).startswith('unknown')
    (P.cache_dir(hub)/'revision.json').write_text('{"commit"')
    assert 'revision.json is damaged' in P.is_prepared(hub)
    (P.cache_dir(hub)/'revision.json').unlink() # as the message says
    assert P.is_prepared(hub) == '' and P.revision(hub).startswith('unknown')

# ---- why a fetch failed

REFUSED = [((429, {'Retry-After': '7'}), r'limits requests \(429\): wait 7 s'),
    ((503, {}), r'does not serve now \(503\): try again later'),
    ((500, {}), r'does not serve now \(500\)'),
    ((403, {'X-Error-Code': 'GatedRepo'}), 'lab/text is gated: accept its terms'),
    ((404, {'X-Error-Code': 'RepoNotFound'}), 'shows no data set lab/text: correct the key'),
    ((404, {'X-Error-Code': 'RevisionNotFound'}), 'has no revision main'),
    ((404, {}), r'no such file there \(404\)'),
    ((403, {}), r'refuses access \(403\): set HF_TOKEN'),
    ((407, {}), 'the proxy wants a name and a password'),
    ((200, {}), 'names no commit')]
IDS = [f'{code} {" ".join(h.values())}' for (code,h),_ in REFUSED]

@pytest.mark.parametrize('refuse, cause', REFUSED, ids=IDS)
def test_refusals_have_their_own_causes(hub, refuse, cause):
    Hub.refuse = refuse
    with pytest.raises(P.DataError, match=cause) as e: P.prepare(hub)
    assert 'connection' not in str(e.value) and not (P.cache_dir(hub)/'revision.json').exists()
    Hub.refuse = None
    P.prepare(hub)
    assert P.is_prepared(hub) == '', 'nothing is left of the refusal'

def test_a_shard_refused_after_others(hub):
    "Through the client's own retries, which end in its 'check your connection'"
    P._resolve(hub)
    Hub.refuse = (503, {'Retry-After': '0'})
    cause = r'shard_00001.parquet of lab/text could not be fetched: the hub does not serve now'
    with pytest.raises(P.DataError, match=cause): P.fetch_shard(hub, 1)

def commanded(hub, *args, **env):
    "What `ar-prepare` says in its own process, for settings that the client reads at its start"
    cmd = [Path(sys.executable).with_name('ar-prepare'), '--profile', 'lab', *args]
    env = {**os.environ, **env}
    res = subprocess.run(cmd, cwd=hub.root, env=env, capture_output=True, text=True, timeout=120)
    assert res.returncode == 1 and 'Traceback' not in res.stderr, res
    return res.stderr

class Gate(BaseHTTPRequestHandler):
    "A proxy that lets nobody through"
    def log_message(self, *args): pass
    def do_CONNECT(self): self.send_error(403)

def test_offline_mode_is_named(hub):
    said = commanded(hub, HF_HUB_OFFLINE='1')
    assert 'HF_HUB_OFFLINE keeps the client off the network: unset it' in said, said

def test_a_proxy_that_refuses_is_named(hub):
    gate = ThreadingHTTPServer(('127.0.0.1', 0), Gate)
    threading.Thread(target=gate.serve_forever, daemon=True).start()
    named = f'127.0.0.1:{gate.server_address[1]}'
    try: said = commanded(hub, HF_ENDPOINT='https://hub.invalid', NO_PROXY='', no_proxy='',
        HTTPS_PROXY=f'http://me:secret@{named}')
    finally:
        gate.shutdown()
        gate.server_close()
    assert f'the proxy {named} refuses or is not there: correct or unset' in said, said
    assert 'secret' not in said

def test_a_proxy_that_is_gone_is_named(hub):
    said = commanded(hub, HF_ENDPOINT='http://hub.invalid', HTTP_PROXY='http://127.0.0.1:1',
        NO_PROXY='', no_proxy='')
    assert 'the proxy 127.0.0.1:1 refuses or is not there' in said, said

def test_a_host_that_is_not_there(hub, monkeypatch):
    monkeypatch.setenv('HF_ENDPOINT', 'http://127.0.0.1:1')
    with pytest.raises(P.DataError, match='127.0.0.1:1 does not answer .*network'): P.prepare(hub)
    monkeypatch.setenv('HF_ENDPOINT', 'http://hub.invalid')
    with pytest.raises(P.DataError, match='the name hub.invalid is not found'): P.prepare(hub)

# ---- disk and rights

def exits(**kwargs):
    "The one line with which `ar-prepare` ends"
    with pytest.raises(SystemExit) as e: P.ar_prepare(profile='lab', **kwargs)
    return str(e.value)

@pytest.mark.skipif(not Path('/dev/full').exists(), reason='needs /dev/full')
def test_a_full_disk_is_named(hub, monkeypatch):
    "A file of the cache is written to a device that has no space left"
    monkeypatch.chdir(hub.root)
    P.prepare(hub)
    P.cache_dir(hub).joinpath(f'.shards.json.{os.getpid()}.tmp').symlink_to('/dev/full')
    said = exits(num_shards=2)
    assert 'No space left on device: make room there, empty' in said and '--clean-compiled' in said
    assert P.train_shards(hub) == [0, 1, 2] and P.is_prepared(hub) == ''

def test_a_disk_that_fills_during_a_transfer(hub, monkeypatch):
    monkeypatch.chdir(hub.root)
    folder = P.shard_path(hub, 0).parent
    folder.mkdir(parents=True)
    mount = ['mount', '-t', 'tmpfs', '-o', 'size=1m', 'none', folder]
    if subprocess.run(mount, capture_output=True).returncode: pytest.skip('may not mount')
    try:
        Hub.files = {**Hub.files, 'shard_00000.parquet': os.urandom(3_000_000)}
        said = exits(workers=1)
        assert 'shard_00000.parquet of lab/text could not be fetched: ' in said
        assert 'No space left on device: make room' in said
        tried = [name for name,*_ in Hub.log if name == 'shard_00000.parquet']
        assert len(tried) == 1, 'a full disk is not tried again'
    finally: subprocess.run(['umount', '-l', folder], check=True)

def test_another_users_cache(made, monkeypatch):
    "Rights are told as rights, and what can't be read is not taken for broken and deleted"
    monkeypatch.setenv('AUTORESEARCH_CACHE', str(made.root/'autoresearch'))
    monkeypatch.chdir(made.root)
    shard,(r,w) = P.shard_path(made, 0), os.pipe()
    before = shard.read_bytes()
    # pytest's own folders
    way = [d for d in (made.root, *made.root.parents) if not d.stat().st_mode & 0o001]
    modes = {f: f.stat().st_mode for f in [shard, P.cache_dir(made)/'.lock', *way]}
    for f in modes: f.chmod(0 if f == shard else 0o666 if f.name == '.lock' else 0o755)
    if not (pid := os.fork()):
        try:
            if not os.geteuid(): os.setuid(65534) # rights do not bind root
            os.write(w, json.dumps([P.is_prepared(made), exits()]).encode())
        finally: os._exit(0)
    os.waitpid(pid, 0)
    os.close(w) # or a child that failed would be waited for without end
    for f,mode in modes.items(): f.chmod(mode)
    for said in json.loads(os.read(r, 10**5)):
        assert 'shard_00000.parquet: Permission denied: give this user the right' in said
    assert shard.read_bytes() == before and P.is_prepared(made) == ''

def test_what_is_not_foreseen_keeps_its_traceback(ready, monkeypatch):
    monkeypatch.chdir(ready[0].root)
    for e in (ValueError('an axis too many'), OSError(errno.EIO, 'Input/output error')):
        def fail(*args, e=e): raise e
        monkeypatch.setattr(P, '_pack_val', fail)
        with pytest.raises(type(e)): P.ar_prepare(profile='lab')

# ---- which data it was

def test_facts_name_the_data(ready, capsys):
    p,tok = ready
    facts = P.data_facts(p)
    assert json.loads(json.dumps(facts)) == facts and facts['tokenizer'] == tok.digest
    files = [P.shard_path(p, i) for i in range(3)]
    assert facts['train_shards'] == {f.name: P.fingerprint(f) for f in files}
    assert facts['val_rows'] == hashlib.sha256(P.val_rows(p, tok)[0].tobytes()).hexdigest()

def test_facts_follow_the_number_of_shards(cache, capsys):
    p = fill(lab(cache))
    P.prepare(p)
    facts = P.data_facts(p)
    assert 'shards from here on' not in capsys.readouterr().out, 'nothing had begun'
    P.prepare(p, num_shards=2)
    said = capsys.readouterr().out
    changed = P.data_facts(p)
    assert list(changed['train_shards']) == ['shard_00000.parquet', 'shard_00001.parquet']
    assert {**changed, 'train_shards': 0} == {**facts, 'train_shards': 0}
    n = int(re.search('--num-shards ([0-9]+)', said)[1]) # the advice, typed
    P.prepare(p, num_shards=n)
    assert P.data_facts(p) == facts
    assert 'runs train on 3 shards from here on, on 2 before' in capsys.readouterr().out
    P.prepare(p, num_shards=n)
    assert 'from here on' not in capsys.readouterr().out
    text_shard(P.shard_path(p, 1), 55)
    P.prepare(p)
    assert P.data_facts(p)['train_shards'] != facts['train_shards'], 'other text, same file name'
    for bad in ('{"train_shards": 0}', '{"train_shards": -5}', '{"train_shards": 6}', '[]'):
        (P.cache_dir(p)/'shards.json').write_text(bad)
        with pytest.raises(P.DataError, match='shards.json is damaged: say again'): P.data_facts(p)

READ_AND_CHANGE = """
import json, sys, torch
from autoresearch import contract, prepare as P
from autoresearch.contract import get_profile
p = get_profile('lab', sys.argv[1])
tok = P.get_tokenizer(p)
before = P.data_facts(p)
loader = P.make_dataloader(tok, 2, 64, 'train', p, 'cpu')
next(loader)
P.prepare(p, num_shards=1) # somebody else, meanwhile
class Flat(torch.nn.Module):
    def forward(self, x, y=None, reduction='mean'):
        z = torch.zeros(*x.shape, tok.vocab_size)
        if y is None: return z
        return torch.nn.functional.cross_entropy(z.flatten(0, 1), y.flatten(), reduction=reduction)
P.evaluate_bpb(Flat(), tok, 64, p)
print(json.dumps([before, contract.RUN.result['details']]))"""

def test_the_record_says_what_the_run_read(cache):
    p = fill(lab(cache))
    P.prepare(p)
    cmd = [sys.executable, '-c', READ_AND_CHANGE, str(cache/'settings.ini')]
    res = subprocess.run(cmd, capture_output=True, text=True)
    assert res.returncode == 0, res.stderr
    before,details = json.loads(res.stdout.splitlines()[-1])
    assert details['data'] == before and details['train_shards'] == 3
    assert list(P.data_facts(p)['train_shards']) == ['shard_00000.parquet']

@pytest.mark.slow
def test_the_packing_thread_ends_before_its_process(cache):
    """Closed, dropped, or at exit in the middle of packing: a thread that exit cuts off within C++
    aborts the process"""
    p = fill(lab(cache))
    P.prepare(p)
    loader = P.make_dataloader(P.get_tokenizer(p), 2, p.max_seq_len, 'train', p, 'cpu')
    thread = loader.thread
    next(loader)
    loader.close()
    assert not thread.is_alive()
    loader = P.make_dataloader(P.get_tokenizer(p), 2, p.max_seq_len, 'train', p, 'cpu')
    thread = loader.thread
    del loader
    assert not thread.is_alive()
    code = f"""
import weakref
from autoresearch import prepare as P
from autoresearch.contract import get_profile
p = get_profile({p.name!r}, {str(cache/"settings.ini")!r})
def left(): print('alive' if loader.thread.is_alive() else 'ended')
last = weakref.finalize(P, left) # exit goes from the newest to the oldest
loader = P.make_dataloader(P.get_tokenizer(p), 64, p.max_seq_len, 'train', p, 'cpu')
next(loader)
"""
    res = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True)
    assert (res.returncode, res.stdout) == (0, 'ended\n'), res.stderr

# ---- what the compilers leave

def compiled(p, **days):
    "A megabyte of compiled code in each of some folders, last used so many days ago"
    for name,age in days.items():
        for kind in ('py', 'so'):
            f = P.cache_dir(p)/'compiled/inductor'/name/f'x.{kind}'
            f.parent.mkdir(parents=True, exist_ok=True)
            f.write_bytes(bytes(500_000))
            os.utime(f, (time.time() - age*86400,)*2) # a file's times are the wall clock's

def left(p): return sorted(f.name for f in (P.cache_dir(p)/'compiled/inductor').glob('*'))

def test_compiled_code_is_bounded(cache, monkeypatch):
    p = lab(cache)
    assert P.prune_compiled(p) == 0, 'there is none'
    compiled(p, month=31, week=7, yesterday=1, minute=1/1440)
    assert P.prune_compiled(p) == 1_000_000 and left(p) == ['minute', 'week', 'yesterday']
    assert P.prune_compiled(p) == 0
    assert P.prune_compiled(p, gigabytes=.002) == 1_000_000 and left(p) == ['minute', 'yesterday']
    assert P.prune_compiled(p, gigabytes=0) == 1_000_000
    assert left(p) == ['minute'], 'a run may be using it'
    compiled(p, read=40)
    f = P.cache_dir(p)/'compiled/inductor/read/x.py'
    os.utime(f, (time.time(), f.stat().st_mtime))
    assert P.prune_compiled(p) == 0, 'reading is use'
    fill(p)
    compiled(p, month=31)
    P.prepare(p)
    assert left(p) == ['minute', 'read']
    monkeypatch.chdir(cache)
    cmd = [Path(sys.executable).with_name('ar-prepare'), '--profile', 'lab', '--clean-compiled']
    run = subprocess.run(cmd, cwd=cache, capture_output=True, text=True)
    assert (run.returncode, run.stdout) == (0, '2.0 MB of compiled code removed\n'), run
    assert not (P.cache_dir(p)/'compiled').exists()
    assert P.is_prepared(p) == '', 'nothing else is touched'

def test_fewer_shards_than_the_profile_says_is_not_prepared(cache):
    p = fill(lab(cache))
    P.prepare(p)
    P.shard_path(p, 2).unlink()
    assert 'shard_00002.parquet is missing' in P.is_prepared(p)
    with pytest.raises(P.DataError, match='shard_00002.parquet is missing: run ar-prepare'):
        P.make_dataloader(P.get_tokenizer(p), 2, 8, 'train', p, 'cpu')

def test_damage_inside_a_shard_is_named(cache):
    p = fill(lab(cache))
    path = P.shard_path(p, 1)
    data = bytearray(path.read_bytes())
    data[40:len(data)//2] = bytes(len(data)//2 - 40) # the footer is sound
    path.write_bytes(data)
    with pytest.raises(P.DataError, match='shard_00001.parquet is damaged inside'): P.prepare(p)
    assert P.is_prepared(p)

# ---- tokenizer

def test_round_trips(ready):
    _,tok = ready
    rng = random.Random(1)
    hard = ['', ' ', '\n', '\r\n', '\0', '<|reserved_0|>', '<|reserved_0|><|reserved_3|>x',
        '<|endoftext|>', ' '*5000, '\n'*5000, ' \n'*3000 + 'x', 'a'*20000,
        "I'LL'ſ 'S", '🏴\U000E0067\U000E0062\U000E007F👩‍👩‍👧', 'e\u0301\u0327',
        '\u202e\u200b\ufeff\x85\u2028', '1234567', '١٢٣٤', '\uffff\U0010ffff',
        ' '*1_000_001, '\u3000'*400_000 + 'y']
    ranges = [(32, 127), (0, 32), (0xa0, 0x250), (0x600, 0x700), (0x4e00, 0x4f00),
        (0x1f300, 0x1f700), (0x2000, 0x2070), (0xe000, 0xffff), (0x10000, 0x110000)]
    for _ in range(500):
        hard.append(''.join(chr(rng.randrange(*rng.choice(ranges)))*rng.choice([1, 1, 1, 9])
            for _ in range(rng.randrange(40))))
    for s in hard:
        ids = tok.encode(s)
        assert tok.decode(ids) == s
        assert all(0 <= i < tok.bos_id for i in ids), 'no text makes a special token'
        assert tok.token_bytes[ids].sum() == len(s.encode())
        doc = tok.encode_document(s)
        assert doc.dtype == np.uint16 and doc[0] == tok.bos_id and doc[1:].tolist() == ids
    assert tok.encode_batch(hard) == [tok.encode(s) for s in hard]
    assert tok.encode_batch(hard[:18]) == [tok.encode(s) for s in hard[:18]]

def test_vocabulary(ready):
    p,tok = ready
    assert (tok.vocab_size == p.vocab_size == len(tok.token_bytes) == tok.bos_id + 4
        and tok.token_bytes.dtype == np.int32)
    assert (tok.token_bytes[-4:].tolist() == [0]*4 and tok.token_bytes[:-4].min() == 1
        and tok.token_bytes.max() > 3)
    assert tok.decode([tok.bos_id, *tok.encode('x')]) == '<|reserved_0|>x'
    for i in range(tok.bos_id):
        assert len(tok.enc.decode_single_token_bytes(i)) == tok.token_bytes[i]

def test_training_twice_gives_the_same(cache):
    p = fill(lab(cache, tokenizer_chars=20000, tokenizer_doc_chars=100))
    a,b = P.train_tokenizer(p), P.train_tokenizer(p)
    assert a.digest == b.digest == P.get_tokenizer(p).digest

def test_damaged_and_foreign_tokenizers_are_refused(cache):
    p = fill(lab(cache))
    folder = P.cache_dir(p)/'tokenizer'
    with pytest.raises(P.DataError, match='tokenizer.json is missing: run ar-prepare'):
        P.get_tokenizer(p)
    P.train_tokenizer(p)
    ranks,info = (folder/'tokenizer.tiktoken').read_bytes(), (folder/'tokenizer.json').read_text()
    for name,data,what in [
            ('tokenizer.tiktoken', ranks[:-7], 'tokenizer.tiktoken is damaged'),
            ('tokenizer.tiktoken', ranks.replace(b' 300', b' 301'),
                'tokenizer.tiktoken is damaged'),
            ('tokenizer.json', info[:99].encode(), 'tokenizer.json is damaged'),
            ('tokenizer.json', b'[]', 'tokenizer.json is damaged')]:
        keep = (folder/name).read_bytes()
        (folder/name).write_bytes(data)
        with pytest.raises(P.DataError, match=f'{what}.*run ar-prepare'): P.get_tokenizer(p)
        (folder/name).write_bytes(keep)
    for changed in (dict(vocab_size=420), dict(split_pattern=r'\S+|\s+'),
            dict(dataset='lab/other')):
        key = {'split_pattern': 'pattern', 'dataset': 'origin'}.get(k := next(iter(changed)), k)
        with pytest.raises(P.DataError, match=f'tokenizer.json is foreign: {key} is'):
            P.get_tokenizer(lab(cache, **changed))
    for size,what in [(259, 'vocab_size = 259; accepted: 260 to 65535'),
            (60000, 'fewer than vocab_size = 60000')]:
        with pytest.raises(P.DataError, match=what): P.train_tokenizer(lab(cache, vocab_size=size))
    assert P.get_tokenizer(lab(cache)).vocab_size == 400, 'what was refused has not replaced it'

# ---- token store

def stores(p): return {i: Path(f'{P._stem(p, i)}.json') for i in [*P.train_shards(p), p.val_shard]}

def test_store_holds_the_documents(ready):
    p,tok = ready
    for i in (0, 5):
        tokens,offsets,groups = P.open_store(p, i)
        assert groups == [100]*3
        assert (isinstance(tokens, np.memmap) and tokens.dtype == np.uint16
            and offsets.dtype == np.int64)
        docs = list(P.texts(P.shard_path(p, i)))
        assert len(offsets) == len(docs)+1 and offsets[0] == 0 and offsets[-1] == len(tokens)
        for d,a,b in zip(docs, offsets, offsets[1:]):
            assert tokens[a] == tok.bos_id and tok.decode(tokens[a+1:b]) == d

@pytest.mark.slow
def test_unsound_stores_are_rebuilt(cache):
    p = fill(lab(cache))
    P.prepare(p)
    def broken(what, match, i):
        what()
        assert match in P.is_prepared(p) and 'run ar-prepare --profile lab' in P.is_prepared(p)
        times = {k: f.stat().st_mtime_ns for k,f in stores(p).items() if f.exists()}
        P.prepare(p, workers=1)
        assert P.is_prepared(p) == ''
        assert {k for k,f in stores(p).items() if f.stat().st_mtime_ns != times.get(k)} == set(i), (
            'only what was unsound is made again')
    tokens,js = Path(f'{P._stem(p, 1)}.tokens'), stores(p)
    broken(lambda: os.truncate(tokens, tokens.stat().st_size-2),
        'shard_00001.tokens and its offsets', [1])
    broken(lambda: js[0].write_text('{"format": 1'), 'shard_00000.json is damaged', [0])
    older = {k: v for k,v in json.loads(js[2].read_text()).items() if k != 'row_groups'}
    old = json.dumps({**older, 'format': 1})
    broken(lambda: js[2].write_text(old), 'shard_00002.json has format 1 instead of 2', [2])
    broken(lambda: Path(f'{P._stem(p, 2)}.offsets.npy').unlink(),
        'shard_00002.offsets.npy is missing', [2])
    broken(lambda: text_shard(P.shard_path(p, 1), 99), 'made of another shard_00001.parquet', [1])
    broken(lambda: text_shard(P.shard_path(p, 5), 98), 'made of another shard_00005.parquet', [5])
    def other_tokenizer():
        P.train_tokenizer(lab(cache, tokenizer_doc_chars=50))
        (P.cache_dir(p)/'tokenizer/tokenizer.json').write_text(json.dumps(
            {**json.loads((P.cache_dir(p)/'tokenizer/tokenizer.json').read_text()),
                'tokenizer_doc_chars': p.tokenizer_doc_chars}))
    broken(other_tokenizer, 'made with another tokenizer', [0, 1, 2, 5])
    rows = next((P.cache_dir(p)/'tokens').glob('val_rows*.tokens'))
    broken(lambda: rows.write_bytes(rows.read_bytes()[:-2] + b'\1\0'),
        'is damaged (its checksum differs)', [])
    broken(lambda: os.truncate(rows, 1), 'val_rows', [])

PREPARE = (
    'import sys; from autoresearch.contract import get_profile; '
    'from autoresearch.prepare import prepare; prepare(get_profile("lab", sys.argv[1]))')

def children(pid):
    return [int(c) for c in Path(f'/proc/{pid}/task/{pid}/children').read_text().split()]

@pytest.mark.skipif(not Path('/proc').exists(), reason='looks at processes through /proc')
@pytest.mark.parametrize('kill', [signal.SIGKILL, signal.SIGINT], ids=['killed', 'interrupted'])
def test_interrupted_prepare_goes_on(cache, kill):
    p = fill(lab(cache, vocab_size=300, tokenizer_chars=10**5), rows=20_000)
    cmd = [sys.executable, '-c', PREPARE, str(cache/'settings.ini')]
    proc = subprocess.Popen(cmd, stderr=subprocess.PIPE)
    until = time.monotonic() + 180
    def begun(): return any(f.exists() for f in stores(p).values())
    while not begun() and time.monotonic() < until: time.sleep(.005)
    kids = children(proc.pid)
    proc.send_signal(kill)
    proc.communicate(timeout=180)
    done = {k: f.stat().st_mtime_ns for k,f in stores(p).items() if f.exists()}
    assert 0 < len(done) < 4 and proc.returncode != 0, 'interrupted in the middle'
    def alive(k):
        return Path(f'/proc/{k}/cmdline').exists() and Path(f'/proc/{k}/cmdline').read_bytes()
    while any(map(alive, kids)) and time.monotonic() < until: time.sleep(.05)
    assert time.monotonic() < until, 'its processes are gone too'
    assert P.is_prepared(p)
    P.prepare(p, workers=1)
    assert P.is_prepared(p) == '' and {k: stores(p)[k].stat().st_mtime_ns for k in done} == done
    assert not list(P.cache_dir(p).rglob('*.tmp'))

def test_a_dead_worker_is_named(cache, monkeypatch):
    p = fill(lab(cache, vocab_size=300, tokenizer_chars=10**5), rows=20_000)
    P.train_tokenizer(p)
    def kill_one():
        while not (kids := [k for k in children(os.getpid())
                if b'spawn_main' in Path(f'/proc/{k}/cmdline').read_bytes()]):
            time.sleep(.01)
        os.kill(kids[0], signal.SIGKILL)
    if not Path('/proc').exists(): pytest.skip('finds the process through /proc')
    threading.Thread(target=kill_one, daemon=True).start()
    died = 'ended by SIGKILL, which .*--workers 1. goes on'
    with pytest.raises(P.DataError, match=died): P.prepare(p, workers=2)
    P.prepare(p, workers=1)
    assert P.is_prepared(p) == ''

def test_a_worker_that_dies_at_once_is_named(cache, monkeypatch):
    "Before anybody asked which processes there are: it is reaped by then, and counted all the same"
    from multiprocessing.process import BaseProcess
    p = fill(lab(cache, vocab_size=300, tokenizer_chars=10**5), rows=20_000)
    P.train_tokenizer(p)
    start,killed = BaseProcess.start, []
    def start_and_kill(self):
        start(self)
        if killed: return
        killed.append(self.pid)
        os.kill(self.pid, signal.SIGKILL)
        os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOWAIT)
    monkeypatch.setattr(BaseProcess, 'start', start_and_kill)
    with pytest.raises(P.DataError, match='ended by SIGKILL, which .*--workers 1. goes on'):
        P.prepare(p, workers=2)

def test_two_at_once(cache):
    p = fill(lab(cache))
    procs = [subprocess.Popen([sys.executable, '-c', PREPARE, str(cache/'settings.ini')],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    outs = [q.communicate(timeout=180) for q in procs]
    assert [q.returncode for q in procs] == [0, 0] and P.is_prepared(p) == ''
    assert sum('another ar-prepare works in' in o for o,_ in outs) == 1, outs

def test_command(cache):
    run = lambda *a: subprocess.run([Path(sys.executable).with_name('ar-prepare'), *a],
        cwd=cache, capture_output=True, text=True)
    p = fill(lab(cache))
    res = run('--profile', 'lab')
    assert (res.returncode == 0 and 'train_shards     3\n' in res.stdout
        and 'vocab_size       400\n' in res.stdout), res
    for args,what in [(['--profile', 'nope'], "no profile 'nope'"),
            (['--profile', 'lab', '--num-shards', '0'], '--num-shards 0'),
            (['--profile', 'lab', '--workers', '0'], '--workers 0')]:
        res = run(*args)
        assert res.returncode == 1 and what in res.stderr and 'Traceback' not in res.stderr, res

# ---- loader

def drawn(shards):
    "The rule's batches: each shard's row groups, lists of documents, cut into 128s; and the epoch"
    for epoch in itertools.count(1):
        for groups in shards:
            for group in groups:
                for a in range(0, len(group), 128): yield group[a:a+128], epoch

def reference(batches, T, size=1000):
    "Best-fit by the rule's words, lists and linear scans: rows of T+1, the epoch of the last batch"
    waiting,epoch = [], 0
    while True:
        row = []
        while len(row) < T + 1:
            while len(waiting) < size:
                batch,epoch = next(batches)
                waiting += batch
            space,best = T + 1 - len(row), None
            for i,doc in enumerate(waiting): # the longest that fits, of equals the first to arrive
                if len(doc) <= space and (best is None or len(doc) > len(waiting[best])): best = i
            if best is None:
                best = 0
                for i,doc in enumerate(waiting): # the shortest, of equals the first to arrive
                    if len(doc) < len(waiting[best]): best = i
            row += waiting.pop(best)[:space]
        yield row, epoch

def stored(p, i):
    "A shard's row groups of documents as lists of ids: from its text, without the token store"
    tok = P.get_tokenizer(p)
    with pq.ParquetFile(P.shard_path(p, i)) as f:
        groups = [f.read_row_group(g)['text'].to_pylist() for g in range(f.num_row_groups)]
    return [[[tok.bos_id, *tok.encode(t)] for t in group] for group in groups]

@pytest.mark.parametrize('T', [1, 5, 64, 300])
@pytest.mark.parametrize('split', ['train', 'val'])
@torch.no_grad()
def test_packs_like_the_reference(ready, split, T):
    p,tok = ready
    shards = [stored(p, i) for i in ([0, 1, 2] if split == 'train' else [5])]
    loader,want = P.make_dataloader(tok, 7, T, split, p, 'cpu'), reference(drawn(shards), T)
    for x,y,epoch in itertools.islice(loader, 40):
        wanted = [next(want) for _ in range(7)]
        rows = torch.tensor([row for row,_ in wanted])
        assert (torch.equal(x, rows[:, :-1]) and torch.equal(y, rows[:, 1:])
            and (x[:, 0] == tok.bos_id).all())
        assert epoch == wanted[-1][1]
        assert x.dtype == y.dtype == torch.int64 and x.is_contiguous() and y.is_contiguous()
    loader.close()

def long_tailed(rng, n, T):
    "n documents of ids, a sixth of them longer than a row, some empty but for BOS"
    def size(): return rng.randrange(T+2, 4*T) if rng.random() < 1/6 else int(T**rng.random())
    sizes = [size() for _ in range(n)]
    return [[9999] + [rng.randrange(50000) for _ in range(size-1)] for size in sizes]

SHAPES = { # documents of each row group of each shard
    'several shards and row groups': [[300, 128, 1], [129, 500], [1000, 127]],
    'one small shard': [[70, 60]], 'one document': [[1]], 'a document a row group': [[1]*150, [3]],
    'fewer than wait': [[999]], 'exactly as many': [[1000]],
    'an empty group': [[200, 0, 200], [64]]}

@pytest.mark.parametrize('shape', SHAPES)
def test_rows_are_those_of_the_rule(cache, shape):
    """Training and validation rows from shards of every shape, a sixth of the documents longer than
    a row, over several epochs. The stores are written here, for lengths that the test chooses."""
    T,rng = 40, random.Random(shape)
    p = lab(cache, train_shards=len(SHAPES[shape]), max_seq_len=T, eval_tokens=T*600)
    shards = [[long_tailed(rng, n, T) for n in groups] for groups in SHAPES[shape]]
    if shape == 'one document': shards = [[[[9999] + [7]*12]]]
    else: assert .1 < np.mean([len(d) > T+1 for g in shards for docs in g for d in docs]) < .25
    for i,groups in [*enumerate(shards), (5, shards[0])]: write_store(p, i, groups)
    packer,want = P.Packer(P.batches(p, P.train_shards(p))), reference(drawn(shards), T)
    row = np.empty(T+1, dtype=np.uint16)
    for _ in range(1500):
        packer.pack(row)
        assert (row.tolist(), packer.epoch) == next(want)
    documents = sum(map(len, itertools.chain(*shards)))
    assert packer.latest//documents >= 2, 'several epochs were used'
    tok = Named('some tokenizer')
    P._pack_val(p, tok)
    rows,info = P.val_rows(p, tok)
    want = reference(drawn([shards[0]]), T)
    assert rows.tolist() == [next(want)[0] for _ in range(600)] and info['epochs'] > 2

class Named:
    "All that the packing of validation rows asks of a tokenizer"
    def __init__(self, digest): self.digest = digest

def write_store(p, i, groups):
    "A shard of as many rows in as many row groups, and a token store of the given ids"
    f,stem,docs = P.shard_path(p, i), P._stem(p, i), list(itertools.chain(*groups))
    f.parent.mkdir(parents=True, exist_ok=True)
    stem.parent.mkdir(parents=True, exist_ok=True)
    with pq.ParquetWriter(f, pa.schema([('text', pa.string())])) as w:
        for n,group in enumerate(groups):
            text = pa.array([f'{i} {n}']*len(group), pa.string())
            w.write_table(pa.table({'text': text}), row_group_size=2000)
    assert P._row_groups(f) == list(map(len, groups))
    np.array([t for d in docs for t in d], dtype=np.uint16).tofile(f'{stem}.tokens')
    np.save(f'{stem}.offsets.npy', np.cumsum([0, *map(len, docs)]).astype(np.int64))
    sizes = [Path(f'{stem}{o}').stat().st_size for o in ('.tokens', '.offsets.npy')]
    contract.write_json(f'{stem}.json', dict(format=P.STORE, tokenizer='some tokenizer',
        shard=P.fingerprint(f), documents=len(docs), sizes=sizes, row_groups=P._row_groups(f)))

@pytest.mark.parametrize('seed', range(6))
def test_packer_on_drawn_lengths(seed):
    rng,T = random.Random(seed), 40
    top = [3, 12, 41, 42, 60, 200][seed]
    docs = [[9999] + [rng.randrange(50000) for _ in range(rng.randrange(top))] for _ in range(4000)]
    arrays = ([np.array(d, dtype=np.uint16) for d in batch] for batch,_ in drawn([[docs]]))
    packer = P.Packer(((a, 1) for a in arrays), size=50)
    want = reference(drawn([[docs]]), T, size=50)
    row = np.empty(T+1, dtype=np.uint16)
    for _ in range(500):
        packer.pack(row)
        assert row.tolist() == next(want)[0]

def test_epochs(ready):
    p,tok = ready
    docs = sum(len(P.open_store(p, i)[1])-1 for i in P.train_shards(p))
    loader = P.make_dataloader(tok, 4, 64, 'train', p, 'cpu')
    seen = [epoch for _,_,epoch in itertools.islice(loader, 600)]
    loader.close()
    assert seen == sorted(seen) and seen[0] == (2 if docs < 1000 else 1) and seen[-1] > 3
    packer = P.Packer(P.batches(p, [0, 1, 2]))
    for _ in range(4): packer.pack(np.empty(65, dtype=np.uint16))
    assert seen[0] == packer.epoch == (packer.arrivals-1)//docs + 1

def test_ids_above_32767(cache):
    docs = (([np.array([65000, 40000, 5, 32768], dtype=np.uint16)], 1) for _ in itertools.count())
    x,y,_ = next(P.Loader(P.Packer(docs), 2, 7, 'cpu'))
    assert (x.tolist() == [[65000, 40000, 5, 32768, 65000, 40000, 5]]*2
        and y.tolist() == [[40000, 5, 32768, 65000, 40000, 5, 32768]]*2)

def test_batches_are_not_overwritten(ready):
    p,tok = ready
    kept = [(x, y, x.clone(), y.clone()) for x,y,_ in itertools.islice(
        P.make_dataloader(tok, 8, 64, 'train', p, 'cpu'), 50)]
    assert all(torch.equal(a, c) and torch.equal(b, d) for a,b,c,d in kept)

@pytest.mark.skipif(not torch.cuda.is_available(), reason='needs a GPU')
def test_batches_survive_a_busy_gpu(ready):
    """The GPU is kept busy, so that every buffer would be refilled long before its copy
    if nothing guarded it"""
    p,tok = ready
    want = [x for x,_,_ in itertools.islice(P.make_dataloader(tok, 64, 64, 'train', p, 'cpu'), 100)]
    loader,a,got = (P.make_dataloader(tok, 64, 64, 'train', p, 'cuda'),
        torch.randn(8192, 8192, device='cuda'), [])
    for x,_,_ in itertools.islice(loader, 100):
        got.append(x)
        a = a @ a*1e-2
    assert all(torch.equal(x.cpu(), w) for x,w in zip(got, want))

def packers(): return [t for t in threading.enumerate() if t.name == 'packer' and t.is_alive()]

def test_the_thread_ends(ready):
    p,tok = ready
    gc.collect()
    before = len(packers())
    loader = P.make_dataloader(tok, 2, 8, 'train', p, 'cpu')
    thread = loader.thread
    next(loader)
    loader.close()
    thread.join(60)
    assert not thread.is_alive()
    with pytest.raises(StopIteration): next(loader)
    loader = P.make_dataloader(tok, 2, 8, 'train', p, 'cpu')
    next(loader)
    thread = loader.thread
    del loader
    gc.collect()
    thread.join(60)
    assert not thread.is_alive() and len(packers()) <= before

def test_a_failing_thread_is_heard(ready):
    def docs():
        for _ in range(1200): yield [np.array([1, 2, 3], dtype=np.uint16)], 1
        raise OSError('the disk is gone')
    loader = P.Loader(P.Packer(docs()), 4, 8, 'cpu')
    with pytest.raises(RuntimeError, match='the loader stopped: OSError: the disk is gone'):
        for _ in range(1000): next(loader)
    with pytest.raises(RuntimeError, match='the disk is gone'): next(loader)

def test_only_training_batches_start_the_clock(ready, monkeypatch):
    p,tok = ready
    monkeypatch.setattr(contract.RUN, 't_batch', None)
    monkeypatch.setattr(contract.RUN, 'batches', 0)
    monkeypatch.setattr(contract.RUN, 'tokens', 0)
    with torch.no_grad(): next(P.make_dataloader(tok, 2, 8, 'val', p, 'cpu'))
    assert contract.RUN.batches == 0 and contract.RUN.t_batch is None
    loader = P.make_dataloader(tok, 2, 8, 'train', p, 'cpu')
    time.sleep(.1)
    assert contract.RUN.batches == 0, 'what waits in the thread has not been handed out'
    next(loader), next(loader)
    assert (contract.RUN.batches == 2 and contract.RUN.tokens == 2*2*8
        and contract.RUN.t_batch is not None)
    with pytest.raises(ValueError, match="split = 'test'; accepted: train, val"):
        P.make_dataloader(tok, 2, 8, 'test', p)

def test_nobody_trains_on_validation_rows_by_a_typo(ready):
    p,tok = ready
    loader = P.make_dataloader(tok, 2, 8, 'val', p, 'cpu')
    with pytest.raises(RuntimeError, match=(
            'validation rows are for looking, not for training: draw them under torch.no_grad')):
        next(loader)
    with torch.no_grad(): x,_,_ = next(loader)
    with torch.inference_mode(): y,_,_ = next(loader)
    assert x.shape == y.shape == (2, 8)

# ---- evaluation

class Bigram(torch.nn.Module):
    "Logits from a table of the previous token; `report` changes what it says of itself"
    def __init__(self, V, report=lambda m, nats, x, y: nats):
        super().__init__()
        self.table,self.report,self.calls = torch.nn.Embedding(V, V), report, []
        torch.nn.init.normal_(self.table.weight, std=2, generator=torch.Generator().manual_seed(0))
    def logits(self, x): return self.table(x)
    def forward(self, x, y=None, reduction='mean'):
        self.calls.append((tuple(x.shape), self.training, torch.is_grad_enabled()))
        logits = self.logits(x)
        if y is None: return logits
        return self.report(self, F.cross_entropy(
            logits.flatten(0, 1), y.flatten(), reduction=reduction), x, y)

def slow_bpb(model, p, tok):
    "The definition, a token at a time"
    rows,_ = P.val_rows(p, tok)
    table,nats,size = torch.log_softmax(model.table.weight.double(), -1), 0., 0
    for row in rows.tolist():
        for a,b in zip(row, row[1:]):
            if b >= tok.bos_id: continue
            nats -= table[a, b].item()
            size += len(tok.enc.decode_single_token_bytes(b))
    return nats/math.log(2)/size

def test_bpb_is_the_definition_at_any_batch_size(ready, monkeypatch):
    p,tok = ready
    model = Bigram(tok.vocab_size)
    want = slow_bpb(model, p, tok)
    for B in (1, 8, 128, 10**6):
        for training in (True, False):
            assert (abs(P.evaluate_bpb(model.train(training), tok, B, p) - want) < 1e-5
                and model.training == training)
    assert not any(t or g for _,t,g in model.calls), 'evaluated in eval mode without gradients'
    r = contract.RUN.result
    assert ((r['metric'], r['evaluator']) == ('val_bpb', 'autoresearch.prepare.evaluate_bpb')
        and abs(r['value'] - want) < 1e-5 and r['details']['rows'] == 130)
    model.calls.clear()
    P.evaluate_bpb(model, tok, 128, p)
    assert [s for s,_,_ in model.calls[:2]] == [(128, 64)]*2, (
        'the remainder comes in a batch of the same shape')
    monkeypatch.setattr(contract.RUN, 'result', None)

def lacking(at_most, error):
    "What a model with memory for so many rows at once says: logits and losses"
    class Lacking(Bigram):
        def forward(self, x, y=None, reduction='mean'):
            if len(x) > at_most: raise error
            return super().forward(x, y, reduction)
    return Lacking

SHORT_OF_MEMORY = [torch.OutOfMemoryError('CUDA out of memory. Tried to allocate 2.00 GiB'),
    MemoryError(),
    RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate"),
    RuntimeError('MPS backend out of memory'),
    RuntimeError('CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling cublasCreate')]

CASES = [*((e, 20) for e in SHORT_OF_MEMORY), (SHORT_OF_MEMORY[0], 100), (SHORT_OF_MEMORY[0], 1)]

# of the errors that differ by their words alone one; the others in make test-all
WORDS = [pytest.param(*c, id=str(i), marks=[pytest.mark.slow]*(i in (2, 3, 4)))
    for i,c in enumerate(CASES)]

@pytest.mark.parametrize('error, fits', WORDS)
def test_an_evaluation_out_of_memory_takes_fewer_rows(ready, error, fits, capsys):
    p,tok = ready
    model = lacking(fits, error)(tok.vocab_size)
    assert abs(P.evaluate_bpb(model, tok, 128, p) - slow_bpb(model, p, tok)) < 1e-5
    B = contract.RUN.result['details']['batch_size']
    assert B == {100: 64, 20: 16, 1: 1}[fits]
    assert f'out of memory: {B} rows at once' in capsys.readouterr().out

def test_an_evaluation_that_never_fits_is_out_of_memory(ready, monkeypatch):
    p,tok = ready
    monkeypatch.setattr(contract.RUN, 'result', None)
    for error in (torch.OutOfMemoryError('CUDA out of memory'), RuntimeError('shapes do not fit')):
        model = lacking(0, error)(tok.vocab_size)
        with pytest.raises(type(error), match=str(error)): P.evaluate_bpb(model, tok, 128, p)
    assert contract.RUN.result is None and len(model.calls) == 0

def test_each_rows_nats_are_kept(ready, monkeypatch, tmp_path):
    p,tok = ready
    model,(rows,_) = Bigram(tok.vocab_size), P.val_rows(p, tok)
    P.evaluate_bpb(model, tok, 128, p)
    assert not list(tmp_path.iterdir()), 'there is no folder of the run'
    monkeypatch.setattr(contract.RUN, 'run_dir', str(tmp_path))
    value = P.evaluate_bpb(model, tok, 128, p)
    kept = np.load(tmp_path/'row_nats.npy')
    assert kept.dtype == np.float32 and kept.shape == (130, 2)
    assert contract.RUN.result['details']['row_nats'] == ''
    assert kept[:, 1].tolist() == [tok.token_bytes[r[1:]].sum() for r in rows]
    assert abs(kept[:, 0].sum(dtype=np.float64)/kept[:, 1].sum()/math.log(2) - value) < 1e-6
    table = torch.log_softmax(model.table.weight.double(), -1)
    pairs = zip(rows[7].tolist(), rows[7, 1:].tolist())
    nats = -sum(table[a, b].item() for a,b in pairs if b < tok.bos_id)
    assert abs(kept[7, 0] - nats) < 1e-3
    (tmp_path/'file').write_text('')
    monkeypatch.setattr(contract.RUN, 'run_dir', str(tmp_path/'file'))
    assert P.evaluate_bpb(model, tok, 128, p) == value
    said = contract.RUN.result['details']['row_nats']
    assert 'row_nats.npy could not be written' in said, 'the value stands'

def test_val_rows_go_round(ready, tmp_path):
    tok = ready[1]
    p = lab(tmp_path, eval_tokens=64*1300)
    P._pack_val(p, tok)
    rows,info = P.val_rows(p, tok)
    assert rows.shape == (1300, 65) and info['epochs'] > 1 and (rows[:, 0] == tok.bos_id).all()
    want = reference(drawn([stored(p, 5)]), 64)
    assert rows.tolist() == [next(want)[0] for _ in range(1300)]

def lies(m, nats, x, y): return nats*.99
def lies_later(m, nats, x, y): return nats - .02*(torch.arange(len(nats)) % 64 > 32)
def lies_to_large_batches(m, nats, x, y): return nats*(.97 if len(x) > 1 else 1)
def lies_both_ways(m, nats, x, y):
    return nats + .3*torch.where(torch.arange(len(x)) % 2 == 0, 1., -1.).repeat_interleave(64)

@pytest.mark.parametrize('report', [lies, lies_later, lies_to_large_batches, lies_both_ways])
def test_a_liar_is_refused(ready, report, monkeypatch):
    p,tok = ready
    monkeypatch.setattr(contract.RUN, 'result', None)
    model = Bigram(tok.vocab_size, report).train()
    with pytest.raises(RuntimeError, match=(
            'its loss differs from its logits by .* nats per token')):
        P.evaluate_bpb(model, tok, 32, p)
    assert contract.RUN.result is None and model.training

class Peeking(Bigram):
    "Its logits know the next token, for it stands in `x`"
    def logits(self, x):
        return self.table(x) + .5*F.one_hot(x.roll(-1, 1), self.table.num_embeddings)

def test_a_seer_is_refused(ready):
    p,tok = ready
    with pytest.raises(RuntimeError, match='its logits depend on later tokens'):
        P.evaluate_bpb(Peeking(tok.vocab_size), tok, 32, p)

def test_bf16_is_admitted(ready):
    "A model that computes its loss in bf16 and its logits in float32"
    p,tok = ready
    class Half(Bigram):
        def forward(self, x, y=None, reduction='mean'):
            logits = self.logits(x) if y is None else self.logits(x).bfloat16().float()
            return logits if y is None else F.cross_entropy(
                logits.flatten(0, 1), y.flatten(), reduction=reduction)
    P.evaluate_bpb(Half(tok.vocab_size), tok, 32, p)
    assert contract.RUN.result['details']['probe_difference'] < 5e-3

@pytest.mark.parametrize('bad', [float('nan'), float('inf')])
def test_not_finite(ready, bad):
    p,tok = ready
    def report(m, nats, x, y): return torch.where(torch.arange(len(nats)) == 5, bad, nats)
    with pytest.raises(RuntimeError, match='not finite'):
        P.evaluate_bpb(Bigram(tok.vocab_size, report), tok, 32, p)

def test_mean_instead_of_each(ready):
    p,tok = ready
    with pytest.raises(RuntimeError, match=(
            r"model\(x, y, reduction='none'\) gave \(\); accepted")):
        P.evaluate_bpb(Bigram(tok.vocab_size, lambda m, n, x, y: n.mean()), tok, 32, p)

def test_only_the_own_tokenizer(ready):
    p,tok = ready
    other = P.Tokenizer({bytes([i]): i for i in range(256)}, p.split_pattern)
    with pytest.raises(P.DataError, match='takes the tokenizer of profile lab'):
        P.evaluate_bpb(Bigram(260), other, 8, p)
    with pytest.raises(P.DataError, match='made with another tokenizer'):
        P.make_dataloader(other, 2, 8, 'train', p, 'cpu')
    tampered = P.get_tokenizer(p)
    tampered.token_bytes = tampered.token_bytes*2
    model = Bigram(tok.vocab_size)
    assert abs(P.evaluate_bpb(model, tampered, 64, p) - slow_bpb(model, p, tok)) < 1e-5, (
        'the lengths come from the files')

def test_tiny_uses_its_text():
    "The demo's profile: an epoch uses at least 60 % of the tokens"
    p = get_profile('tiny')
    figures = P.prepare(p)
    loader = P.make_dataloader(P.get_tokenizer(p), 128, p.max_seq_len, 'train', p, 'cpu')
    used = sum(x.numel() + len(x) for x,_,_ in itertools.takewhile(lambda o: o[2] == 1, loader))
    loader.close()
    print(f'{used/figures["tokens"]:.1%} of {figures["tokens"]:,} tokens')
    assert .6 <= used/figures['tokens'] <= 1

class Learner(Bigram):
    "Moves a weight whenever it is asked for a loss"
    def forward(self, x, y=None, reduction='mean'):
        if y is not None: self.table.weight.data[0, 0] += 1e-3
        return super().forward(x, y, reduction)

def test_a_learner_is_refused(ready, monkeypatch):
    p,tok = ready
    monkeypatch.setattr(contract.RUN, 'result', None)
    with pytest.raises(RuntimeError, match=(
            'parameters or buffers changed while it was evaluated')):
        P.evaluate_bpb(Learner(tok.vocab_size), tok, 32, p)
    assert contract.RUN.result is None

@pytest.mark.parametrize('where, name', [(P, '_nats'), (P, 'widen'), (P, 'end_evaluation'),
    (torch.nn.functional, 'cross_entropy'), (torch, 'where')])
def test_a_replaced_function_is_noticed(ready, monkeypatch, where, name):
    "By another function, as a canvas might, or by other code in the same function"
    p,tok = ready
    P._intact()
    monkeypatch.setattr(contract.RUN, 'result', None)
    real = getattr(where, name)
    monkeypatch.setattr(where, name, lambda *a, **kw: real(*a, **kw))
    with pytest.raises(RuntimeError, match=f'{name} was replaced since it was loaded'):
        P.evaluate_bpb(Bigram(tok.vocab_size), tok, 32, p)
    assert contract.RUN.result is None
    monkeypatch.undo()
    if hasattr(real, '__code__'):
        code = real.__code__
        try:
            real.__code__ = code.replace(co_name='mine')
            with pytest.raises(RuntimeError, match=f'{name} was replaced'): P._intact()
        finally: real.__code__ = code

def test_functions_are_remembered_at_import():
    """In a canvas torch is loaded first: torch's functions are remembered before any of its cells
    can touch them"""
    code = (
        'import torch, autoresearch.prepare as P; '
        'assert "torch.nn.functional.cross_entropy" in P._remembered and "_nats" in P._remembered')
    subprocess.run([sys.executable, '-c', code], check=True)

# ---- which rows belong together, and what a run left of them

def test_documents_of_rows(ready):
    p,tok = ready
    rows,info = P.val_rows(p, tok)
    documents = P.row_documents(p)
    tokens,offsets,_ = P.open_store(p, p.val_shard)
    assert len(documents) == len(rows) and info['epochs'] > 1
    for row,held in zip(rows[:40], documents):
        starts = np.flatnonzero(row == tok.bos_id)
        pieces = [bytes(o.data) for o in np.split(row, starts[1:])]
        whole = [bytes(tokens[offsets[d]:offsets[d+1]].data) for d in held]
        assert all(any(w.startswith(o) for w in whole) for o in pieces), 'each piece is of one'
        assert len(held) <= len(pieces)

def test_documents_of_rows_packed_before(ready, monkeypatch):
    p,_ = ready
    file = Path(f'{P._val_stem(p)}.documents.json')
    want = P.row_documents(p)
    file.unlink() # as an ar-prepare of an earlier version leaves it
    assert P.row_documents(p) == want and file.exists()
    file.write_text('{"rows": "of others", "documents": []}')
    assert P.row_documents(p) == want
    file.unlink()
    monkeypatch.setattr(P, '_packed', lambda *_: (np.zeros((2, 3), dtype=np.uint16), [], 1))
    with pytest.raises(P.DataError, match='packed from another shard'): P.row_documents(p)
    monkeypatch.undo()
    monkeypatch.setenv('AUTORESEARCH_CACHE', str(p.root/'autoresearch'))
    assert P.row_documents(p) == want

def test_rows_that_a_run_made_up(tmp_path):
    rows = np.array([[300, 100], [200, 80]], dtype=np.float32)
    value = 500/180/math.log(2)
    with pytest.raises(P.DataError, match='No such file'): P.read_rows(tmp_path)
    np.save(tmp_path/'row_nats.npy', rows)
    assert np.array_equal(P.read_rows(tmp_path, value), rows)
    planted = tmp_path/'examined_nats.npy'
    for other in (rows.astype(float), rows[:, :1], np.zeros((0, 2), 'f4'), rows*math.nan, rows*0):
        np.save(planted, other)
        assert np.array_equal(P.read_rows(tmp_path), rows), other
    planted.write_bytes(b'\x93NUMPY\1\0')
    assert np.array_equal(P.read_rows(tmp_path), rows)
    np.save(planted, rows/2)
    assert np.array_equal(P.read_rows(tmp_path), rows/2), 'without a value there is none to tell'
    np.save(planted, rows*np.array([.5, 1], 'f4'))
    assert np.array_equal(P.read_rows(tmp_path, value), rows), 'better rows than the run had'
    planted.unlink()
    os.mkfifo(planted) # nobody waits for it
    assert np.array_equal(P.read_rows(tmp_path, value), rows)
    planted.unlink()
    planted.symlink_to(tmp_path/'row_nats.npy')
    (tmp_path/'row_nats.npy').rename(tmp_path/'other')
    with pytest.raises(P.DataError, match='row_nats.npy'): P.read_rows(tmp_path)
