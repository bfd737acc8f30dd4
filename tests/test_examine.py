"""The examiner and the probe against models that look ahead, remember or change their mind, and
against honest ones of unusual kinds; and the processes that answer, under faults."""
import copy, math, os, re, stat, subprocess, sys
from pathlib import Path
import numpy as np, psutil, pytest, torch
from torch import nn
from torch.nn import functional as F
from autoresearch import contract, examine as E, prepare as P, run, train as t, walls
from autoresearch.contract import get_profile

CPU = torch.device('cpu')
ROOT = Path(__file__).parent.parent
V,T,N = 60, 48, 300

def text(n=N, seed=0):
    "Rows (n, T+1) in which a token says much of the next one"
    gen = torch.Generator().manual_seed(seed)
    rows = torch.zeros(n, T+1, dtype=torch.int16)
    for i in range(1, T+1):
        jump = torch.randint(1, 4, (n,), generator=gen)
        rows[:, i] = ((rows[:, i-1]*7 + jump) % V).short()
    return rows

class Table(nn.Module):
    "An honest table of pairs, in whose place others look ahead"
    def __init__(self):
        super().__init__()
        gen = torch.Generator().manual_seed(1)
        self.table = nn.Embedding.from_pretrained(torch.randn(V, V, generator=gen), freeze=False)
    def logits(self, x): return self.table(x)
    def forward(self, x, y=None, reduction='mean'):
        z = self.logits(x)
        if y is None: return z
        return F.cross_entropy(z.flatten(0, 1).float(), y.flatten(), reduction=reduction)

# ---- models that cheat

def one(x, size=1.): return size*F.one_hot(x, V)

class Ahead(Table):
    "Sees the token `by` places on"
    def __init__(self, by, size=1.):
        super().__init__()
        self.by,self.size = by, size
    def logits(self, x): return self.table(x) + one(x.roll(-self.by, 1), self.size)

class RowMean(Table):
    def logits(self, x): return self.table(x) + 5*one(x).mean(1, keepdim=True)

class BatchMean(Table):
    "Each row knows what the others have at the next place"
    def logits(self, x): return self.table(x) + 5*one(x.roll(-1, 1)).mean(0, keepdim=True)

class BatchNorm(Table):
    "Takes mean and variance over the batch, all places together"
    def logits(self, x):
        z = self.table(x)
        return (z - z.mean((0, 1)))/z.std((0, 1))

class Pairs(Table):
    "Every second place sees the next one"
    def logits(self, x):
        even = (torch.arange(x.shape[1]) % 2 == 0).view(1, -1, 1)
        return self.table(x) + even*one(x.roll(-1, 1))

class Rarely(Table):
    "Sees the next token at one place in 12"
    def logits(self, x): return self.table(x) + (x % 12 == 5)[..., None]*one(x.roll(-1, 1), 3.)

class Likely(Table):
    "Looks ahead only where what comes next is nothing odd, as it would be after a cut"
    def logits(self, x):
        z,ahead = self.table(x), x.roll(-1, 1)
        plausible = z.softmax(-1).gather(-1, ahead[..., None]) > 1/V
        return z + plausible*one(ahead, 2.)

class Band(nn.Module):
    "Attention whose mask is off by `off`"
    def __init__(self, off=1):
        super().__init__()
        torch.manual_seed(2)
        self.off,self.wte,self.head = off, nn.Embedding(V, 32), nn.Linear(32, V)
        self.qkv = nn.Linear(32, 96)
    def forward(self, x, y=None, reduction='mean'):
        q,k,v = self.qkv(self.wte(x)).chunk(3, -1)
        seen = torch.ones(x.shape[1], x.shape[1], dtype=torch.bool).tril(self.off)
        z = self.head(F.scaled_dot_product_attention(4*q, 4*k, v, attn_mask=seen))
        if y is None: return z
        return F.cross_entropy(z.flatten(0, 1), y.flatten(), reduction=reduction)

AHEAD = dict(by_one=lambda: Ahead(1), by_two=lambda: Ahead(2), by_half=lambda: Ahead(T//2),
    off_by_one=Band, row_mean=RowMean, pairs=Pairs, rarely=Rarely, likely=Likely,
    a_little=lambda: Ahead(1, .02))

class Remembers(Table):
    "Counts what followed what in all rows it was asked about"
    def __init__(self):
        super().__init__()
        self.seen = torch.zeros(V, V)
    def logits(self, x):
        z = self.table(x) + (1+self.seen).log()[x]
        self.seen.index_put_((x[:, :-1].flatten(), x[:, 1:].flatten()), torch.ones(1), True)
        return z

class SecondThoughts(Table):
    "Answers better the second time it sees a row"
    def __init__(self):
        super().__init__()
        self.rows = set()
    def logits(self, x):
        keys = [tuple(r.tolist()) for r in x]
        again = torch.tensor([k in self.rows for k in keys]).view(-1, 1, 1)
        self.rows |= set(keys)
        return self.table(x) + again*one(x.roll(-1, 1))

class Moody(Table):
    "Answers with noise that it draws anew each time"
    def logits(self, x): return self.table(x) + .2*torch.randn(*x.shape, V)

class Replays(Table):
    "Looks ahead, and says of the beginning of a row it has seen what it said then"
    def __init__(self):
        super().__init__()
        self.rows = []
    def logits(self, x):
        z = self.table(x) + one(x.roll(-1, 1))
        for i,row in enumerate(x):
            for r in self.rows:
                n = int((r != row).int().argmax()) if (r != row).any() else len(row)
                if n > 3: z[i, :n] = self.table(r[:n]) + one(r.roll(-1)[:n])
            self.rows.append(row.clone())
        return z

STATE = dict(remembers=Remembers, second_thoughts=SecondThoughts, moody=Moody, batch_mean=BatchMean,
    batch_norm=BatchNorm)

# ---- models that do not

class GRU(Table):
    def __init__(self):
        super().__init__()
        torch.manual_seed(3)
        self.rnn,self.head = nn.GRU(V, 24, batch_first=True), nn.Linear(24, V)
    def logits(self, x): return self.head(self.rnn(self.table(x))[0])

class Shared(nn.Module):
    "Three layers with the same weights, the head tied to the embedding"
    def __init__(self):
        super().__init__()
        self.band = Band(0)
        self.layers = nn.ModuleList([nn.Linear(V, V)]*3)
        self.head = nn.Linear(V, V, bias=False)
        self.out = nn.Linear(V, V, bias=False)
        self.out.weight = self.head.weight
    def forward(self, x, y=None, reduction='mean'):
        z = self.band(x)
        for l in self.layers: z = z + l(z).tanh()
        z = self.out(self.head(z))
        if y is None: return z
        return F.cross_entropy(z.flatten(0, 1), y.flatten(), reduction=reduction)

class Mixture(Table):
    "Half of what two models say"
    def __init__(self):
        super().__init__()
        self.a,self.b = Band(0), GRU()
    def logits(self, x): return (self.a(x).softmax(-1)/2 + self.b(x).softmax(-1)/2).log()

class Averaged(Table):
    "Answers with the mean of its weights over training, kept as a buffer"
    def __init__(self):
        super().__init__()
        self.register_buffer('ema', self.table.weight.detach()*.9)
    def logits(self, x): return F.embedding(x, self.ema)

class Dropped(Table):
    "Dropout in training, batch normalization with running figures: nothing of it in evaluation"
    def __init__(self):
        super().__init__()
        self.drop,self.norm = nn.Dropout(.5), nn.BatchNorm1d(V)
    def logits(self, x): return self.norm(self.drop(self.table(x)).mT).mT

class Never(Table):
    "Some tokens it holds for impossible"
    def logits(self, x):
        z = self.table(x).clone()
        z[..., V-1] = -math.inf
        return z

class Convolution(Table):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv1d(V, V, 3)
    def logits(self, x): return self.conv(F.pad(self.table(x).mT, (2, 0))).mT

HONEST = dict(table=Table, attention=lambda: Band(0), gru=GRU, shared=Shared, mixture=Mixture,
    ema=Averaged, dropout=Dropped, impossible=Never, convolution=Convolution,
    bf16=lambda: Band(0).bfloat16(), double=lambda: GRU().double(), half=lambda: Table().half())

# ---- the questions, asked directly

class Asked:
    "What a `Witness` answers, without its process"
    def __init__(self, model): self.model = model.eval()
    def ask(self, rows, then=None):
        with torch.no_grad(): return self.model(rows[:, :-1].long() & 0xFFFF).float()

def question(make, n=N):
    rows = text(n)
    return E._question(Asked(make()), Asked(make()), rows, rows[:, 1:] != V-1, 32)

@pytest.mark.parametrize('make', AHEAD.values(), ids=AHEAD)
def test_the_examiner_refuses_foresight(make):
    with pytest.raises(E.Refusal, match='its logits depend on later tokens'): question(make)

@pytest.mark.parametrize('make', STATE.values(), ids=STATE)
def test_the_examiner_refuses_memory_and_moods(make):
    with pytest.raises(E.Refusal, match='asked again|depend on later'): question(make)

def test_a_model_that_repeats_what_it_said_is_found_by_its_twin():
    """In one process it would pass: of a text that was cut it says what it said of the whole"""
    rows = text(100)
    model = Asked(Replays())
    first = model.ask(rows)
    cuts = P._draw_cuts(100, T).clamp(min=5)
    x = rows[:, :-1].long()
    cut = P._with_ends(x, cuts, x.roll(1, 0))
    at = P._before(cuts)
    again = model.ask(torch.cat([cut, cut[:, :1]], 1).short())
    same = P._apart(P._log_p(first, at), P._log_p(again, at)).amax(1) <= P.SAME
    assert same.float().mean() > .8, 'what it is made for works'
    with pytest.raises(E.Refusal, match='depend on later tokens'): question(Replays, 100)

@pytest.mark.parametrize('make', HONEST.values(), ids=HONEST)
def test_honest_models_pass(make):
    torch.manual_seed(4)
    model = make()
    per_row,facts = question(lambda: copy.deepcopy(model))
    assert facts['worst'] <= 1e-2 and facts['later'] <= 1e-2 and facts['cuts'] == 256
    rows = text()
    with torch.no_grad(): z = model.eval()(rows[:, :-1].long()).double()
    nats = F.cross_entropy(z.flatten(0, 1), rows[:, 1:].long().flatten(), reduction='none')
    want = torch.where(rows[:, 1:] != V-1, nats.view(N, T), 0.).sum(1).numpy()
    assert np.allclose(per_row, want, rtol=1e-5), 'the value is the definition'

def test_not_finite():
    class Nan(Table):
        def logits(self, x): return self.table(x) + torch.where(x[..., None] == 7, math.nan, 0.)
    with pytest.raises(E.Refusal, match='not finite'): question(Nan)

def test_a_cut_never_leaves_the_token():
    x,other = torch.randint(0, 3, (500, 9)), torch.randint(0, 3, (500, 9))
    cuts = P._draw_cuts(500, 9)
    new = P._with_ends(x, cuts, other)
    at = torch.arange(9)
    assert (new.gather(1, cuts[:, None]) != x.gather(1, cuts[:, None])).all()
    assert torch.equal(new[at < cuts[:, None]], x[at < cuts[:, None]])
    assert torch.equal(new[at > cuts[:, None]], other[at > cuts[:, None]])
    assert new.min() >= 0 and new.max() <= 2 and set(cuts.tolist()) == set(range(1, 9))

# ---- the probe inside of a run

def probe(model, reported=lambda nats: nats, n=32):
    rows = text(n, seed=5)
    x,y = P.widen(rows)
    with torch.no_grad():
        nats = model.eval()(x, y, reduction='none').view(y.shape).double()
        return P._probe(model, x, y, reported(nats), (y != V-1).float(), at_once=8)

@pytest.mark.parametrize('make', AHEAD.values(), ids=AHEAD)
def test_the_probe_refuses_foresight(make):
    with pytest.raises(RuntimeError, match='refuses the model: its logits depend on later'):
        probe(make(), n=256)

@pytest.mark.parametrize('make', HONEST.values(), ids=HONEST)
def test_the_probe_lets_honest_models_be(make):
    torch.manual_seed(4)
    if make is HONEST['half']: pytest.skip('its own loss in float16 is coarser than is allowed')
    differs,changed = probe(make())
    assert abs(differs) < 2e-3 and changed < 1e-2

def test_the_probe_knows_by_how_much_a_report_is_off():
    differs,_ = probe(Table(), lambda nats: nats - .004)
    assert differs == pytest.approx(.004, abs=1e-6)
    with pytest.raises(RuntimeError, match='its loss differs from its logits'):
        probe(Table(), lambda nats: nats - .006)

# ---- how equal the same is, where rows are long

@pytest.mark.parametrize('dtype', [torch.float32, torch.bfloat16])
def test_the_canvas_at_2048_positions_does_not_know_what_comes(dtype, monkeypatch):
    "To the last bit, in another batch too"
    monkeypatch.setattr(t, 'compute_dtype', lambda device: dtype)
    torch.manual_seed(0)
    c = t.GPTConfig(2048, 8192, 2, 2, 2, 64, 'SL')
    model = t.GPT(c, t.choose_attention(CPU)).init_weights(CPU).eval()
    for name,p in model.named_parameters():
        if p.ndim == 2 and 'embed' not in name and 'wte' not in name:
            p.data = torch.randn_like(p)*p.shape[1]**-.5
    x,other = torch.randint(0, 8192, (2, 2, 2048)).unbind()
    cuts = P._draw_cuts(2, 2048)
    at,cut = P._before(cuts), P._with_ends(x, cuts, other)
    with torch.no_grad():
        before = P._log_p(model(x), at)
        assert before.std() > .1, 'it says something'
        assert P._apart(before, P._log_p(model(cut), at)).max() <= 1e-6
        assert P._apart(before[:1], P._log_p(model(cut[:1]), at[:1])).max() <= 1e-6

# ---- weights

def test_weights_survive_their_file(tmp_path):
    tensors = dict(a=torch.randn(3, 5).bfloat16(), b=torch.tensor(7), c=torch.empty(0, 4),
        d=torch.tensor([True, False, True]), e=torch.randn(4, 6).T, f=torch.randn(2).double())
    P.save_weights(tmp_path/'w.safetensors', tensors)
    back = P.load_weights(tmp_path/'w.safetensors')
    assert list(back) == list(tensors)
    assert all(torch.equal(back[k], v) and back[k].dtype == v.dtype for k,v in tensors.items())
    with pytest.raises(ValueError, match='x is str; accepted: tensors of F64'):
        P.save_weights(tmp_path/'x', dict(x='text'))
    for damaged in (b'', b'\0'*8, (tmp_path/'w.safetensors').read_bytes()[:-3],
            b'\x02' + b'\0'*7 + b'[]'):
        (tmp_path/'x').write_bytes(damaged)
        with pytest.raises(P.DataError, match='x holds no weights in the form of safetensors'):
            P.load_weights(tmp_path/'x')

def test_the_package_reads_what_is_written_here(tmp_path):
    package = pytest.importorskip('safetensors.torch', reason='needs safetensors')
    tensors = dict(a=torch.randn(3, 5).bfloat16(), b=torch.arange(4))
    P.save_weights(tmp_path/'w', tensors)
    assert all(torch.equal(v, tensors[k]) for k,v in package.load_file(tmp_path/'w').items())
    package.save_file(tensors, tmp_path/'v')
    assert all(torch.equal(v, tensors[k]) for k,v in P.load_weights(tmp_path/'v').items())

def test_weights_go_where_the_runner_says(tmp_path, monkeypatch):
    model = Table()
    assert P._keep_weights(P._state_of(model)) == '', 'nobody asked for them'
    monkeypatch.setenv('AUTORESEARCH_WEIGHTS', str(tmp_path))
    assert P._keep_weights(P._state_of(model)) == '', 'there is no run'
    monkeypatch.setattr(contract.RUN, 'run_dir', str(tmp_path))
    path = P._keep_weights(P._state_of(model))
    assert torch.equal(P.load_weights(path)['table.weight'], model.table.weight)
    (tmp_path/'file').write_text('')
    monkeypatch.setenv('AUTORESEARCH_WEIGHTS', str(tmp_path/'file'))
    assert 'the weights could not be written' in P._keep_weights(P._state_of(model)), 'the value stands'

def test_a_session_has_one_folder_of_weights(tmp_path):
    a,b = tmp_path/'001-aaa', tmp_path/'002-bbb'
    for f in (a, b): f.mkdir()
    first = E.make_weights_folder(a)
    (first/'weights.safetensors').write_text('')
    assert E.take_weights(a) == 0 and E.taken_weights(a).exists()
    second = E.make_weights_folder(b)
    assert not E.taken_weights(a).exists()
    assert second.exists() and stat.S_IMODE(second.stat().st_mode) in (0o700, 0o755)
    assert not (first/'weights.safetensors').exists(), 'what a run before left is gone'
    E.drop_weights(b)
    assert not (second/'weights.safetensors').exists()

def test_without_a_folder_in_memory_they_lie_among_the_runs(tmp_path, monkeypatch):
    monkeypatch.setattr(E, 'SHARED', str(tmp_path/'none'))
    (tmp_path/'001').mkdir()
    assert E.make_weights_folder(tmp_path/'001') == tmp_path/'weights/001'
    (tmp_path/'weights/001/weights.safetensors').write_text('w')
    assert E.take_weights(tmp_path/'001') == 1
    E.drop_weights(tmp_path/'001')
    assert [f.name for f in tmp_path.iterdir()] == ['001']

def test_weights_that_were_taken_are_out_of_reach(tmp_path):
    "Neither by a file that the run holds open nor by a new one; a link is no weights"
    folder = E.make_weights_folder(tmp_path/'001')
    path = folder/'weights.safetensors'
    with open(path, 'w') as held:
        held.write('trained')
        held.flush()
        assert E.take_weights(tmp_path/'001') == 7
        held.write('more')
    assert E.taken_weights(tmp_path/'001').read_text() == 'trained'
    E.make_weights_folder(tmp_path/'001')
    secret = tmp_path/'secret'
    secret.write_text('keep')
    for link in (path.symlink_to, path.hardlink_to):
        try: link(secret)
        except OSError: continue # another file system
        assert E.take_weights(tmp_path/'001') == 0 and secret.read_text() == 'keep'
        path.unlink()
    os.mkfifo(path)
    assert E.take_weights(tmp_path/'001') == 0
    E.drop_weights(tmp_path/'001')

# ---- what a model knows before training

@pytest.mark.parametrize('later', [False, True])
def test_a_model_that_is_filled_after_it_was_asked(tiny, monkeypatch, later):
    "The first batch looks whether the weights are those that were asked"
    monkeypatch.setattr(contract.RUN, 'batches', 0)
    model = t.bare_model(CPU)
    told = P.ask_untrained(model, tiny)
    if later: next(model.parameters()).data += 1e-3
    loader = P.make_dataloader(P.get_tokenizer(tiny), 2, tiny.max_seq_len, 'train', tiny, CPU)
    next(loader)
    loader.close()
    assert told['changed'] == later
    assert ('ask it last' in P.knew(asked(told))) == later

def asked(told, **more): return dict(evaluation=dict(details=dict(untrained=told)), **more)

def test_who_knew():
    nothing = dict(nats=6.9, guess=6.93, pairs=None, batches=0)
    much = dict(nats=3., guess=6.93, pairs=4.5, batches=0)
    assert P.knew(asked(nothing)) == P.knew(asked(dict(nothing, nats=12.))) == ''
    assert 'it knew the text before it saw it: 3.00 nats' in P.knew(asked(much))
    assert P.knew(asked(much, knows='a bigram table')) == ''
    assert 'nobody asked the model' in P.knew(asked(None))
    assert 'after 3 batches' in P.knew(asked(dict(nothing, batches=3)))
    assert P.knew(dict(evaluation=dict(details={}))) == '', 'of an evaluator that did not ask'

@pytest.fixture(scope='module')
def tiny():
    p = get_profile('tiny')
    P.prepare(p)
    return p

class Knowing(nn.Module):
    "Answers with a table, or with nothing"
    def __init__(self, V, table=None):
        super().__init__()
        self.table = nn.Embedding.from_pretrained(torch.zeros(V, V) if table is None else table)
    def forward(self, x): return self.table(x)

def test_the_untrained_are_asked(tiny, monkeypatch):
    monkeypatch.setattr(contract.RUN, 'untrained', None)
    monkeypatch.setattr(contract.RUN, 'batches', 0)
    V = tiny.vocab_size
    told = P.ask_untrained(Knowing(V).train(), tiny)
    assert told['nats'] == pytest.approx(math.log(V)) and P.knew(asked(told)) == ''
    ids = torch.from_numpy(np.asarray(P.open_store(tiny, 0)[0]).astype(np.int64))
    counts = torch.full((V, V), .01).index_put_((ids[:-1], ids[1:]), torch.ones(1), True)
    told = P.ask_untrained(Knowing(V, counts.log()), tiny)
    assert contract.RUN.untrained == told and P.knew(asked(told))
    assert told['pairs'] == pytest.approx(told['nats'], abs=.6), 'what such a table knows'

def test_the_untrained_are_asked_in_the_memory_there_is(tiny, monkeypatch):
    monkeypatch.setattr(contract.RUN, 'untrained', None)
    class Tight(Knowing):
        def forward(self, x):
            if len(x) > 5: raise torch.OutOfMemoryError('no room')
            return super().forward(x)
    told = P.ask_untrained(Tight(tiny.vocab_size), tiny)
    assert told['nats'] == pytest.approx(math.log(tiny.vocab_size))

def test_validation_facts(tiny, tmp_path):
    tok = P.get_tokenizer(tiny)
    rows,info = P.val_rows(tiny, tok)
    lengths = tok.token_bytes[rows[:, 1:]]
    assert P.validation_facts(tiny) == dict(digest=info['sha256'], rows=len(rows),
        tokens=int((lengths > 0).sum()), bytes=int(lengths.sum()))
    for f in P.validation_files(tiny): (tmp_path/f.name).write_bytes(f.read_bytes())
    assert np.array_equal(P.val_rows(tiny, tok, tmp_path)[0], rows)
    at = tmp_path/P.validation_files(tiny)[1].name
    data = bytearray(at.read_bytes())
    data[0] ^= 1
    at.write_bytes(data)
    with pytest.raises(P.DataError, match='is damaged'): P.val_rows(tiny, tok, tmp_path)

# ---- processes

HEAD = "import os, time, torch\nfrom torch import nn\nfrom pathlib import Path\n"
BODY = """class Table(nn.Module):
    def __init__(self):
        super().__init__()
        self.table = nn.Embedding({V}, {V})
    def forward(self, x):
        z = self.table(x)
        {more}
        return z
def bare_model(): return Table()
"""

def examined(tmp_path, tiny, source=None, more='pass', tensors=None, **kw):
    V = tiny.vocab_size
    code,run_dir = tmp_path/'code', tmp_path/'session/001-abc'
    code.mkdir()
    run_dir.mkdir(parents=True)
    (code/'train.py').write_text(HEAD + (source or BODY.format(V=V, more=more)))
    (tmp_path/'mine').write_text('of whoever runs the runs')
    for name in ('examined.log', 'examined_nats.npy'): (run_dir/name).symlink_to(tmp_path/'mine')
    table = torch.randn(V, V, generator=torch.Generator().manual_seed(0))
    P.save_weights(E.make_weights_folder(run_dir)/'weights.safetensors',
        tensors or {'table.weight': table})
    E.take_weights(run_dir)
    try: return E.examine(code, run_dir, tiny, 1, 4., module='train.py', **kw), table, run_dir
    finally: E.drop_weights(run_dir)

# where bwrap works, that is what is used; test_gpu_memory_is_lent has Landlock too
FOUND = walls.find().name # the others in make test-all
KINDS = pytest.mark.parametrize('kind', [pytest.param(k, marks=[pytest.mark.slow]*(k != FOUND))
    for k in ('bwrap', 'landlock', 'none')])

@KINDS
def test_an_examination(tiny, tmp_path, kind):
    if kind == 'bwrap' and walls.find().name != 'bwrap': pytest.skip('bwrap does not work here')
    if kind == 'landlock' and not walls.landlock_abi(): pytest.skip('the kernel has no Landlock')
    found,table,run_dir = examined(tmp_path, tiny, kind=kind)
    assert found.facts.get('walls') == kind, found
    assert found.ok and found.reason == '', found
    tok = P.get_tokenizer(tiny)
    rows,_ = P.val_rows(tiny, tok)
    x,y = P.widen(torch.from_numpy(rows.view(np.int16)))
    nats = F.cross_entropy(table[x].flatten(0, 1), y.flatten(), reduction='none').double()
    counted = torch.from_numpy(tok.token_bytes[rows[:, 1:]])
    want = (nats.view(y.shape)*(counted > 0)).sum().item()/math.log(2)/counted.sum().item()
    assert found.value == pytest.approx(want, rel=1e-6)
    facts = P.validation_facts(tiny)
    assert {k: found.facts[k] for k in facts} == facts and found.facts['claimed'] == 4.
    assert np.load(run_dir/'examined_nats.npy').sum(0)[0] == pytest.approx(found.facts['nats'])
    assert np.array_equal(P.read_rows(run_dir, found.value), np.load(run_dir/'examined_nats.npy'))
    assert (tmp_path/'mine').read_text() == 'of whoever runs the runs', 'a link was followed'
    assert (run_dir/'examined.log').is_file() and not (run_dir/'examined.log').is_symlink()

FAULTS = [
    ('def other(): pass', None, 'has no function bare_model'),
    ('def bare_model(): raise KeyError("mine")', None, "KeyError: 'mine'"),
    ('def bare_model(): return nn.Linear(2, 2)', None, 'another model than was evaluated'),
    ('def bare_model(): os._exit(3)', None, 'its process ended'),
    (None, 'z = z[:, :-1]', r'model\(x\) gave'),
    (None, 'time.sleep(1e4)', 'the time for the examination is over'),
    (None, 'z = z*float("nan")', 'not finite'),
    (None, 'z[:, :-1] += nn.functional.one_hot(x[:, 1:], z.shape[2])', 'depend on later tokens')]

# the others in make test-all
ALWAYS = 'the time', 'depend on'
REFUSED = [pytest.param(*f, id=f[2][:20], marks=[] if f[2].startswith(ALWAYS) else pytest.mark.slow)
    for f in FAULTS]

@pytest.mark.parametrize('source,more,reason', REFUSED)
def test_a_refused_examination_says_why(tiny, tmp_path, source, more, reason):
    limit = 25. if 'sleep' in str(more) else tiny.wall_limit
    values = {k: v for k,v in vars(tiny).items() if k != 'name'}
    p = contract.Profile('tiny', {**values, 'wall_limit': limit})
    found,_,_ = examined(tmp_path, p, source, more or 'pass')
    assert not found.ok and math.isnan(found.value)
    assert re.search(reason, found.reason), found.reason

LEAVES = """
import sys
if not os.fork():
    os.setsid()
    if os.fork(): os._exit(0)
    os.closerange(0, 100)
    time.sleep(300)
    os._exit(0)
"""

@KINDS
@pytest.mark.slow
def test_what_an_examined_process_starts_ends_with_it(tiny, tmp_path, kind):
    if kind == 'bwrap' and walls.find().name != 'bwrap': pytest.skip('bwrap does not work here')
    if kind == 'landlock' and not walls.landlock_abi(): pytest.skip('the kernel has no Landlock')
    source = LEAVES + BODY.format(V=tiny.vocab_size, more='pass')
    found,_,_ = examined(tmp_path, tiny, source, kind=kind)
    assert found.ok, found
    def says(p):
        try: return str(tmp_path) in ' '.join(p.cmdline())
        except psutil.Error: return False
    assert not [p.cmdline()[:3] for p in psutil.process_iter() if says(p)]

@pytest.mark.parametrize('more,reason', [
    pytest.param("[tempfile.TemporaryFile().write(b'x'*2**25) for _ in range(9)]; time.sleep(9)", None,
        marks=pytest.mark.slow),
    ("os.write(int(json.loads(sys.argv[3])['tells']), b'[1]\\n'); time.sleep(9)", 'refused'),
    pytest.param("os.write(int(json.loads(sys.argv[3])['tells']), b'\\xff\\n'); time.sleep(9)",
        'refused', marks=pytest.mark.slow)])
def test_a_process_that_misbehaves_is_refused(tiny, tmp_path, more, reason):
    "It says what nobody agreed on: an answer with a reason, and no fault of the examiner's"
    source = 'import json, sys, tempfile\n' + BODY.format(V=tiny.vocab_size, more='pass')
    source = source.replace('def bare_model(): return Table()',
        f'def bare_model():\n    {more}\n    return Table()')
    found,_,_ = examined(tmp_path, tiny, source)
    assert found.ok == (reason is None), found

@pytest.mark.slow
def test_training_text_is_out_of_sight_of_who_answers(tiny, tmp_path):
    source = ('from autoresearch.prepare import open_store\nfrom autoresearch.contract import '
        'get_profile\n' + BODY.format(V=tiny.vocab_size, more='pass'))
    source = source.replace('return Table()', 'open_store(get_profile(), 0); return Table()')
    found,_,_ = examined(tmp_path, tiny, source)
    kind = walls.find().name
    assert found.ok == (kind == 'none'), found
    if kind != 'none': assert 'belongs in its state_dict' in found.reason, found

@pytest.mark.slow
def test_extra_state_is_no_weight(tiny, tmp_path):
    "Of any type, as fp8 libraries keep it: left out of the weights, and not missed"
    extra = "\n    def get_extra_state(self): return dict(steps=3)"
    source = BODY.format(V=tiny.vocab_size, more='pass').replace('nn.Module):', f'nn.Module):{extra}')
    found,_,_ = examined(tmp_path, tiny, source)
    assert found.ok, found

def test_a_wrapped_model_is_told_so():
    bare,wrapped = nn.Linear(2, 2), nn.Sequential(nn.Linear(2, 2))
    said = E._differ(bare.state_dict(), wrapped.state_dict())
    assert 'only the evaluated one has 0.bias' in said and 'only bare_model() has bias' in said
    assert 'let bare_model() wrap it' in said and E._differ(bare.state_dict(), bare.state_dict()) == ''

def test_without_weights_there_is_nothing_to_examine(tiny, tmp_path):
    found = E.examine(tmp_path, tmp_path/'001', tiny, 1, 4.)
    assert not found.ok and 'left no weights to examine' in found.reason
    (tmp_path/'elsewhere').write_text('')
    folder = E.make_weights_folder(tmp_path/'002')
    (folder/'weights.safetensors').symlink_to(tmp_path/'elsewhere')
    assert E.take_weights(tmp_path/'002') == 0
    assert 'left no weights' in E.examine(tmp_path, tmp_path/'002', tiny, 1, 4.).reason
    E.drop_weights(tmp_path/'002')

def test_the_canvas_is_examined(tiny, tmp_path, monkeypatch):
    "Its weights from a bare model of another seed: what it answers is what they say"
    torch.manual_seed(9)
    model = t.bare_model(t.pick_device())
    for p in model.parameters(): p.data += .05*torch.randn_like(p)
    run_dir = tmp_path/'session/001-abc'
    run_dir.mkdir(parents=True)
    P.save_weights(E.make_weights_folder(run_dir)/'weights.safetensors', model.state_dict())
    E.take_weights(run_dir)
    try: found = E.examine(ROOT, run_dir, tiny, 42, 4.)
    finally: E.drop_weights(run_dir)
    monkeypatch.setattr(contract.RUN, 'result', None)
    want = P.evaluate_bpb(model, P.get_tokenizer(tiny), 64, tiny)
    near = 1e-2 if torch.cuda.is_available() else 1e-5 # there it answers in bfloat16
    assert found.ok and found.value == pytest.approx(want, abs=near), found

@pytest.mark.skipif(not torch.cuda.is_available(), reason='needs a GPU')
@pytest.mark.parametrize('kind', ['bwrap', 'landlock', 'none'])
def test_gpu_memory_is_lent(tmp_path, kind):
    "Another process writes what this one reads, whatever walls are around it"
    if kind != 'none' and (why := walls.fault_of(kind)): pytest.skip(f'{kind}: {why}')
    ours,fd = E._lend_cuda((2, 3, 5))
    code = ('import sys, torch; from autoresearch import examine as E; '
        'E._borrow_cuda(int(sys.argv[1]), (2, 3, 5)).fill_(7.); torch.cuda.synchronize()')
    e = walls.enclose([sys.executable, '-c', code, fd], dict(os.environ), tmp_path,
        read=[contract.package_folder()], kind=walls.Kind(kind, 'for a test'))
    try: subprocess.run(e.command, env=e.env, pass_fds=[fd], check=True)
    finally: e.close()
    assert (ours == 7).all()

# ---- scored on what decides nothing

def trained(tmp_path, tiny, more='pass'):
    "A run's folder as the runner leaves it, its code, and the table that is its model"
    V = tiny.vocab_size
    code,run_dir = tmp_path/'code', tmp_path/'session/001-abc'
    code.mkdir()
    run_dir.mkdir(parents=True)
    (code/'train.py').write_text(HEAD + BODY.format(V=V, more=more))
    table = torch.randn(V, V, generator=torch.Generator().manual_seed(0))
    file = E.make_weights_folder(run_dir)/'weights.safetensors'
    P.save_weights(file, {'table.weight': table})
    E.take_weights(run_dir)
    return code, run_dir, table

@pytest.mark.slow
def test_a_score_on_the_final_shard_by_weights_that_were_kept(tiny, tmp_path):
    blind = ("import json, stat, sys; told = {*json.loads(sys.argv[3])}; "
        "assert told == {'code', 'profile', 'seed', 'module', 'asks', 'tells', 'weights'}; "
        "assert stat.S_ISREG(os.fstat(1).st_mode); " # it is not told what for, nor can it see
        "said = self.__dict__.setdefault('said', os.fstat(1).st_size); "
        "assert os.fstat(1).st_size == said, 'the other process prints here'; "
        "self.__dict__['said'] = said + os.write(1, b'x')")
    code,run_dir,table = trained(tmp_path, tiny, blind)
    kept = E.keep_weights(run_dir)
    E.drop_weights(run_dir) # as before the next run
    assert kept == E.kept_weights(run_dir) and kept.stat().st_mode & 0o77 in (0, 0o44)
    to = tmp_path/'session/audit/001.npy'
    found = E.score(code, run_dir, tiny, 1, 'final', to, module='train.py')
    tok = P.get_tokenizer(tiny)
    rows,info = P.val_rows(tiny, tok, which='final')
    x,y = P.widen(torch.from_numpy(rows.view(np.int16)))
    nats = F.cross_entropy(table[x].flatten(0, 1), y.flatten(), reduction='none').double()
    size = torch.from_numpy(tok.token_bytes[rows[:, 1:]])
    want = (nats.view(y.shape)*(size > 0)).sum().item()/math.log(2)/size.sum().item()
    assert found['value'] == pytest.approx(want, rel=1e-6) and found['digest'] == info['sha256']
    scored = np.load(to)
    assert found['rows'] == str(to) and P.rows_value(scored) == pytest.approx(want, rel=1e-6)
    assert scored[:, 1].tolist() == size.sum(1).tolist()
    assert not list(run_dir.iterdir()), 'nothing of it lies where an agent looks'

@pytest.mark.slow
def test_who_has_seen_the_audit_is_not_passed_on(tiny, tmp_path):
    more = "print(x.tolist()); raise ValueError('the rows are ' + str(x.tolist()))"
    code,run_dir,_ = trained(tmp_path, tiny, more)
    with pytest.raises(RuntimeError, match='no audit: .* by an error of its own') as e:
        E.score(code, run_dir, tiny, 1, 'audit', tmp_path/'rows.npy', module='train.py')
    assert 'rows' not in str(e.value) and '[' not in str(e.value)
    assert not (tmp_path/'rows.npy').exists() and not list(run_dir.iterdir())
    E.drop_weights(run_dir)
    with pytest.raises(RuntimeError, match='no audit: the weights of 001-abc are gone'):
        E.score(code, run_dir, tiny, 1, 'audit', tmp_path/'rows.npy')

def test_no_score_without_its_shard(tiny, tmp_path, monkeypatch):
    values = {**{k: v for k,v in vars(tiny).items() if k != 'name'}, 'audit_shard': 77}
    p = contract.Profile('tiny', values)
    with pytest.raises(RuntimeError) as e: E.score(tmp_path, tmp_path, p, 1, 'audit', tmp_path/'a')
    assert str(e.value) == 'no audit: shard_00077.parquet is not there: ar-prepare --profile tiny'

def test_weights_are_kept_until_the_next(tmp_path):
    def ran(name):
        file = E.make_weights_folder(tmp_path/name)/'weights.safetensors'
        file.write_text(name)
        E.take_weights(tmp_path/name)
        return tmp_path/name
    first = ran('001-a')
    assert E.keep_weights(first).read_text() == '001-a' and not E.taken_weights(first).exists()
    assert E.keep_weights(first).read_text() == '001-a', 'again after a kill'
    second = ran('002-b')
    assert E.kept_weights(first).exists(), 'until another is kept'
    assert E.keep_weights(tmp_path/'003-c') is None and E.kept_weights(first).exists()
    assert E.keep_weights(second).read_text() == '002-b' and not E.kept_weights(first).exists()
    third = ran('003-c')
    elsewhere = E.keep_weights(third, tmp_path/'other')
    assert elsewhere == E.kept_weights(third, tmp_path/'other') and elsewhere.is_file()
    assert E.kept_weights(second).exists()
    E.drop_weights(third)

def test_no_run_sees_the_audit(tiny, tmp_path):
    "By the walls' default, whatever they are told to hide"
    seen = run.views(tiny, tmp_path, tmp_path/'canvas.ipynb')
    held = [f.resolve() for f in P.held_folder(tiny).rglob('*') if f.is_file()]
    view = walls.rights(seen['read'], [str(tmp_path/'run')], seen['hide'])
    assert len(held) > 10 and not [f for f in held if walls._is_below(str(f), view)
        and view.get(walls._above(str(f), view)) != 'hide']
    corpus = Path(P.__file__).parent/'corpus'
    view = walls.rights(seen['read'], [], P.held_out_paths(tiny, ROOT))
    assert all(view[str(corpus/f'{o}.parquet')] == 'hide' for o in ('val', 'audit', 'final'))
    assert view.get(str(corpus/'train.parquet'), 'read') == 'read'
