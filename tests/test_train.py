"""The canvas' starting line against references: attention, optimizer, positions, determinism."""
import copy, json, math, os, shutil, subprocess, sys
from pathlib import Path
from types import SimpleNamespace
import pytest, torch
import torch.nn.functional as F
from autoresearch.contract import Budget, get_profile
from autoresearch.prepare import prepare
from autoresearch import kernels, train as t

CPU = torch.device('cpu')
ROOT = Path(__file__).parent.parent

@pytest.fixture(scope='session')
def data(): prepare(get_profile('tiny'))

def small(**kw):
    "A model with every part in use, none of it zero: GQA, S and L layers, both value embeddings"
    c = t.GPTConfig(**{**dict(sequence_len=32, vocab_size=64, n_layer=4, n_head=4, n_kv_head=2,
        n_embd=64, window_pattern='SSL'), **kw})
    torch.manual_seed(1)
    m = t.GPT(c, t.choose_attention(CPU)).init_weights(CPU)
    for p in m.parameters(): p.data += 0.1*torch.randn_like(p)
    return m

def test_counts():
    with torch.device('meta'): m = t.GPT(t.GPTConfig(), None)
    assert t.count_params(m) == dict(wte=4_194_304, value_embeds=16_777_216, head=4_194_304,
        matrices=25_166_336, scalars=16, total=50_332_176)
    assert t.flops_per_token(m) == 2.390784e8
    assert (t.GPTConfig().windows() == [1024, 1024, 1024, 2048]*2
        and t.GPTConfig(n_layer=3).windows() == [1024, 1024, 2048])

def test_hparams_of_climbmix_are_the_starting_line():
    code = ('from autoresearch import train as t; c = t.build_config(); '
        'assert c == t.GPTConfig(), c; print(t.TOTAL_BATCH_SIZE, t.DEVICE_BATCH_SIZE, '
        't.EMBEDDING_LR, t.UNEMBEDDING_LR, t.MATRIX_LR, t.SCALAR_LR, t.WEIGHT_DECAY, t.ADAM_BETAS, '
        't.WARMUP_RATIO, t.WARMDOWN_RATIO, t.FINAL_LR_FRAC)')
    out = subprocess.run([sys.executable, '-c', code],
        env={**os.environ, 'AUTORESEARCH_PROFILE': 'climbmix'}, capture_output=True, text=True,
        check=True)
    assert out.stdout.strip() == '524288 128 0.6 0.004 0.04 0.5 0.2 (0.8, 0.95) 0.0 0.5 0.0'

def test_causal():
    m,x = small(), torch.randint(0, 64, (2, 32))
    y = torch.randint(0, 64, (2, 32))
    before = m(x, y, reduction='none').view(2, 32)
    for at in (1, 16, 31):
        z = x.clone()
        z[:, at] = (z[:, at]+1) % 64
        after = m(z, y, reduction='none').view(2, 32)
        assert (torch.equal(before[:, :at], after[:, :at])
            and (before[:, at:] != after[:, at:]).any())

@pytest.mark.parametrize('said', ['', '\n', '  \nafter'])
def test_a_choice_that_fails_without_text_gives_way_to_the_next(monkeypatch, said):
    def broken(device): raise NotImplementedError(said)
    monkeypatch.setattr(kernels, 'ATTENTIONS', dict(odd=broken, sdpa=kernels.sdpa))
    chosen = t.choose_attention(CPU)
    assert (chosen.name == 'sdpa'
        and chosen.passed == [f'odd: {said.strip() or "NotImplementedError"}'])
    with pytest.raises(RuntimeError, match='AUTORESEARCH_ATTENTION=odd does not work here: '
            f'{said.strip() or "NotImplementedError"}'):
        t.choose_attention(CPU, 'odd')

@pytest.mark.parametrize('window', [1, 7, 16, 31, 32])
@pytest.mark.parametrize('name', list(kernels.ATTENTIONS))
def test_band_exact(name, window):
    "Each choice sees the keys i-w..i and no others: equal to a softmax written out in float64"
    if name == 'flex' and not torch.cuda.is_available():
        device,attend,make_mask = CPU, *flex_on_cpu()
    else:
        device = t.pick_device()
        try: attend,make_mask = kernels.ATTENTIONS[name](device)
        except Exception as e: pytest.skip(f'{name} does not run here: {e}')
        if name == 'flex': attend = torch.compile(attend)
    dtype = t.compute_dtype(device)
    torch.manual_seed(window)
    q,k,v = (torch.randn(2, 32, h, 16, device=device, dtype=dtype) for h in (4, 2, 2))
    out = attend(q, k, v, make_mask(32, window))
    K,V = (o.double().repeat_interleave(2, dim=2) for o in (k, v))
    scores = torch.einsum('bihd,bjhd->bhij', q.double(), K)/4
    i,j = torch.arange(32, device=device)[:,None], torch.arange(32, device=device)[None,:]
    scores.masked_fill_((j > i) | (j < i-window), -math.inf)
    want = torch.einsum('bhij,bjhd->bihd', scores.softmax(-1), V)
    assert (out.double()-want).abs().max() < (2e-2 if dtype == torch.bfloat16 else 1e-5)

def flex_on_cpu():
    "FlexAttention's own mask on the CPU's reference path: the same block mask that CUDA compiles"
    from torch.nn.attention.flex_attention import create_block_mask, flex_attention
    def attend(q, k, v, mask):
        return flex_attention(*(o.transpose(1, 2) for o in (q, k, v)), block_mask=mask,
            enable_gqa=True).transpose(1, 2)
    return attend, lambda T, w: create_block_mask(
        lambda b, h, i, j: kernels.band(i, j, w), None, None, T, T, device='cpu')

def test_gqa_equals_repeated_heads():
    g,m = small(n_kv_head=2), small(n_kv_head=4)
    m.load_state_dict({k: v for k,v in g.state_dict().items()
        if m.state_dict()[k].shape == v.shape}, strict=False)
    rep = lambda w: w.view(2, -1, *w.shape[1:]).repeat_interleave(2, 0).flatten(0, 1)
    for a,b in zip(g.blocks, m.blocks):
        for n in ('c_k', 'c_v'):
            getattr(b.attn, n).weight.data = rep(getattr(a.attn, n).weight.data)
        if a.attn.ve_gate is not None: b.attn.ve_gate.weight.data = rep(a.attn.ve_gate.weight.data)
    for i in g.value_embeds:
        m.value_embeds[i].weight.data = rep(g.value_embeds[i].weight.data.T).T.contiguous()
    x = torch.randint(0, 64, (2, 32))
    assert torch.allclose(g(x), m(x), atol=1e-5)

def test_rope_is_complex_rotation():
    T,D = 64, 16
    cos,sin = t.rope_tables(T, D, CPU, torch.float32)
    x = torch.randn(2, T, 3, D)
    turn = torch.polar(torch.ones(T, D//2),
        -torch.outer(torch.arange(T).float(), 10000. ** (-torch.arange(0, D, 2)/D)))
    z = torch.complex(x[..., :D//2], x[..., D//2:]) * turn[:,None]
    assert torch.allclose(t.rope(x, cos, sin), torch.cat([z.real, z.imag], -1), atol=1e-6)

def test_value_embedding_gate_starts_at_one():
    m = t.GPT(t.GPTConfig(32, 64, 2, 2, 2, 64), t.choose_attention(CPU)).init_weights(CPU)
    a,x,ve,seen = m.blocks[1].attn, torch.randn(1, 32, 64), torch.randn(1, 32, 64), []
    def attend(q, k, v, mask):
        seen.append(v)
        return v
    a(x, ve, (m.cos, m.sin), attend, None)
    assert (torch.allclose(seen[0].flatten(2), a.c_v(x) + ve, atol=1e-6)
        and m.blocks[0].attn.ve_gate is None)

def test_adamw_against_torch():
    torch.manual_seed(0)
    p = torch.randn(5, 7)
    q = torch.nn.Parameter(p.clone())
    ref,m,v = (torch.optim.AdamW([q], lr=.01, betas=(.8, .95), eps=1e-10, weight_decay=0),
        torch.zeros_like(p), torch.zeros_like(p))
    for step in range(1, 20):
        g = torch.randn(5, 7)
        q.grad = g.clone()
        ref.step()
        t.adamw_step(p, g, m, v, torch.tensor(float(step)), torch.tensor(.01), .8, .95, 1e-10)
    assert torch.allclose(p, q, atol=1e-6)

@pytest.mark.parametrize('shape', [(3, 8, 5), (2, 5, 8), (1, 6, 6)])
def test_muon_against_float64(shape):
    torch.manual_seed(0)
    p,g,buf = (torch.randn(shape) for _ in range(3))
    second = torch.rand(shape[0], *((shape[1], 1) if shape[1] >= shape[2] else (1, shape[2])))
    lr,mom,wd,beta2 = .04, .9, .2, .95
    P,G,M,S = (o.double() for o in (p, g, buf, second))
    M = mom*M + (1-mom)*G
    N = (1-mom)*G + mom*M
    # matrix by matrix, by singular values: the polynomial acts on them alone
    for n in range(shape[0]):
        U,sv,Vh = torch.linalg.svd(N[n], full_matrices=False)
        s = sv/(1.02*sv.norm()+1e-6)
        for a,b,c in t.POLAR_EXPRESS: s = a*s + b*s**3 + c*s**5
        O = U @ torch.diag(s) @ Vh
        dim = 1 if shape[1] >= shape[2] else 0
        mean = O.square().mean(dim, keepdim=True)
        S[n] = beta2*S[n] + (1-beta2)*mean
        R = O/S[n].sqrt()
        R *= O.norm()/R.norm()
        P[n] -= lr*R + lr*wd*P[n]*(R*P[n] >= 0)
    t.muon_step(p, g, buf, second, torch.tensor(lr), torch.tensor(mom), torch.tensor(wd), beta2)
    assert (torch.allclose(p.double(), P, atol=2e-4)
        and torch.allclose(buf.double(), M, atol=1e-6)
        and torch.allclose(second.double(), S, atol=1e-4))

def test_every_group_takes_its_own_step():
    "Each group's parameters, rates, betas and state against the functions; on from a saved state"
    m = small()
    groups = t.param_groups(m)
    opt = t.MuonAdamW(groups, CPU)
    want,state = {p: p.detach().clone() for p in m.parameters()}, {}
    for step in range(1, 4):
        for p in m.parameters(): p.grad = torch.randn_like(p)
        for g in groups:
            ps,lr = g['params'], torch.tensor(g['peak_lr']*.7)
            if g['kind'] == 'adamw':
                for p in ps:
                    t.adamw_step(want[p], p.grad,
                        *state.setdefault(p, [torch.zeros_like(p), torch.zeros_like(p)]),
                        torch.tensor(float(step)), lr, *g['betas'], 1e-10, g['decay'])
                continue
            all_of,(rows,cols) = torch.stack([want[p] for p in ps]), ps[0].shape
            kept = state.setdefault(ps[0], [torch.zeros_like(all_of),
                torch.zeros(len(ps), *((rows, 1) if rows >= cols else (1, cols)))])
            t.muon_step(all_of, torch.stack([p.grad for p in ps]), *kept, lr,
                torch.tensor(.9), torch.tensor(.1), .95)
            want.update(zip(ps, all_of))
        opt.step(.7, .9, .1)
        assert opt.schedule() == [*(g['peak_lr']*.7 for g in groups), .9, .1]
        for p in m.parameters(): assert torch.allclose(p, want[p], rtol=1e-4, atol=1e-6)
        saved,done = opt.state_dict(), opt.t
        opt = t.MuonAdamW(groups, CPU)
        opt.load_state_dict(saved)
        opt.t = done

def group_of(m, groups, name):
    "The only group that a parameter stands in"
    p = dict(m.named_parameters())[name]
    g, = (g for g in groups if any(p is o for o in g['params']))
    return g

def test_optimizer_groups_of_the_starting_line():
    m = small()
    groups = t.param_groups(m)
    assert (sorted(id(p) for g in groups for p in g['params'])
        == sorted(id(p) for p in m.parameters()))
    scale,g = (64/768)**-.5, lambda name: group_of(m, groups, name)
    assert (g('lm_head.weight')['peak_lr'], g('wte.weight')['peak_lr']) == (
        t.UNEMBEDDING_LR*scale, t.EMBEDDING_LR*scale)
    assert {g(f'value_embeds.{i}.weight')['peak_lr'] for i in (1, 3)} == {t.EMBEDDING_LR*scale}
    assert (g('x0_lambdas')['peak_lr'], g('x0_lambdas')['betas']) == (t.SCALAR_LR, (0.96, 0.95))
    assert (g('resid_lambdas')['peak_lr'], g('resid_lambdas')['betas']) == (
        t.SCALAR_LR*.01, t.ADAM_BETAS)
    adam = [o for o in groups if o['kind'] == 'adamw']
    assert (len(adam) == 4
        and all(o['betas'] == t.ADAM_BETAS for o in adam if o is not g('x0_lambdas'))
        and not any(o['decay'] for o in adam))
    muon = {tuple(o['shape']): o for o in groups if o['kind'] == 'muon'}
    assert sum(len(o['params']) for o in muon.values()) == sum(1 for _ in m.blocks.parameters())
    # square and wide 1, c_fc (4d, d) sqrt(4)
    assert {round(o['peak_lr']/t.MATRIX_LR, 6) for o in muon.values()} == {1.0, 2.0}

class More(torch.nn.Module):
    "What an experiment may add, used by a hook on every block's input"
    def __init__(self, d):
        super().__init__()
        self.gain,self.bias,self.number = (torch.nn.Parameter(o) for o in (
            torch.full((d,), 1.25), torch.zeros(d), torch.tensor(0.75)))
        self.several = torch.nn.ParameterList([torch.full((d,), 0.5)])
        self.matrix,self.table,self.rms = (torch.nn.Linear(d, d, bias=False),
            torch.nn.Embedding(64, d), torch.nn.RMSNorm(d))
        self.conv = torch.nn.Conv1d(d, d, 2, groups=d, bias=False)
        self.at = None

    def forward(self, x):
        y = self.conv(F.pad(self.matrix(self.rms(x)).mT, (1, 0))).mT + self.table(self.at)
        return (x*self.gain + self.bias)*self.number + 0.1*y*self.several[0]

def with_more(inside=True):
    "A model with all of `More` in its first block, or outside of the blocks"
    m = small()
    more = More(64)
    was = {name: p.detach().clone() for name,p in more.named_parameters()}
    if inside: m.blocks[0].more = more
    else: m.more = more
    t.init_weights(m, CPU)
    assert all(torch.equal(p, was[name]) for name,p in more.named_parameters()), (
        'the author\'s initial values are kept')
    m.blocks[0].register_forward_pre_hook(lambda _, args: (more(args[0]), *args[1:]))
    for p in m.parameters():
        if p.ndim > 1: p.data += 0.1*torch.randn_like(p)
    more.at = torch.randint(0, 64, (2, 32))
    return m, more.at

def first_step(m, x):
    groups,before = t.param_groups(m), {name: p.detach().clone() for name,p in m.named_parameters()}
    opt = t.MuonAdamW(groups, CPU)
    run,budget = (SimpleNamespace(model=m, optimizer=opt, pieces=1, rows=2, accumulate=1,
        loader=iter([None])), SimpleNamespace(progress=0., num_steps=0))
    t.train_step(run, budget, (x, x.roll(1, 1)))
    return groups, [name for name,p in m.named_parameters() if torch.equal(p, before[name])]

@pytest.mark.parametrize('inside', [True, False])
def test_every_parameter_that_is_added_is_trained(inside):
    m,x = with_more(inside)
    groups,still = first_step(m, x)
    assert not still, still
    at = lambda name: group_of(m, groups, f'{"blocks.0." if inside else ""}more.{name}')
    for name in ('gain', 'bias', 'number', 'several.0', 'rms.weight', 'conv.weight'):
        assert at(name)['kind'] == 'adamw' and at(name)['peak_lr'] == t.SCALAR_LR*.01
    assert (at('matrix.weight')['kind'] == 'muon'
        and at('table.weight')['peak_lr'] == t.EMBEDDING_LR*(64/768)**-.5)

def test_a_rate_of_its_own_is_one_line(monkeypatch):
    m,_ = with_more()
    rates = t.named_rates
    monkeypatch.setattr(t, 'named_rates',
        lambda scale: {'blocks.*.gain': t.adamw(0.003), **rates(scale)})
    groups = t.param_groups(m)
    assert (group_of(m, groups, 'blocks.0.more.gain')['peak_lr'] == 0.003
        and group_of(m, groups, 'blocks.0.more.bias')['peak_lr'] == t.SCALAR_LR*.01)

def test_a_tied_head_is_trained_once():
    m = small()
    m.lm_head.weight = m.wte.weight
    groups,still = first_step(m, torch.randint(0, 64, (2, 32)))
    assert (not still
        and group_of(m, groups, 'wte.weight')['peak_lr'] == t.EMBEDDING_LR*(64/768)**-.5
        and t.count_params(m)['head'] == 0)

def refused(m, match, monkeypatch, groups=None):
    if groups is not None: monkeypatch.setattr(t, 'param_groups', lambda model: groups)
    with pytest.raises(ValueError, match=match): first_step(m, torch.randint(0, 64, (2, 32)))

def test_a_parameter_that_nothing_reads_is_named(monkeypatch):
    m = small()
    m.blocks[1].unused = torch.nn.Parameter(torch.ones(3))
    refused(m, r'^blocks\.1\.unused has no gradient.*blocks\.1\.unused\.requires_grad_\(False\)',
        monkeypatch)
    m = small()
    m.blocks[1].unused = torch.nn.Parameter(torch.ones(3)).requires_grad_(False)
    assert first_step(m, torch.randint(0, 64, (2, 32)))[1] == ['blocks.1.unused']

@pytest.mark.parametrize('hold', [lambda p: [p], lambda p: dict(a=p), lambda p: (p,)])
def test_a_parameter_that_is_none_of_the_models_is_refused(monkeypatch, hold):
    "In a plain list it would be used and never trained"
    m = small()
    m.hidden = hold(torch.nn.Parameter(torch.ones(64)))
    held = m.hidden['a'] if isinstance(m.hidden, dict) else m.hidden[0]
    m.blocks[0].register_forward_pre_hook(lambda _, args: (args[0]*held, *args[1:]))
    refused(m, r'shape \(64,\) wants a gradient and is no parameter of the model.*nn\.Parameter',
        monkeypatch)

def test_a_parameter_in_two_groups_or_none_is_refused(monkeypatch):
    m = small()
    groups = t.param_groups(m)
    refused(m, r'^x0_lambdas stands in 0 groups', monkeypatch,
        [g for g in groups if not any(p is m.x0_lambdas for p in g['params'])])
    refused(m, r'appear in more than one parameter group|^x0_lambdas stands in 2 groups',
        monkeypatch, groups + [{**groups[0], 'params': [m.x0_lambdas]}])

def test_schedules():
    assert [t.lr_multiplier(p) for p in (0, .25, .5, .75, 1)] == [1, 1, 1, .5, 0]
    assert (t.muon_momentum(0) == .85 and math.isclose(t.muon_momentum(300), .95)
        == math.isclose(t.muon_momentum(9999), .95) == True)
    assert (t.weight_decay(0), t.weight_decay(1)) == (.2, 0)

def test_unknown_attention_is_refused():
    with pytest.raises(ValueError,
            match="AUTORESEARCH_ATTENTION='magic'; accepted: fa4, fa3_hub, fa3, flex, sdpa"):
        t.choose_attention(CPU, 'magic')
    with pytest.raises(RuntimeError,
            match='AUTORESEARCH_ATTENTION=flex does not work here: needs CUDA'):
        t.choose_attention(CPU, 'flex')

def test_loss_falls_and_a_seed_repeats(data, tmp_path):
    first,second = (t.train(Budget(get_profile('tiny'), steps=50), run_dir=d)
        for d in ('', tmp_path))
    a,b = ([l for _,l,_ in r.history] for r in (first, second))
    assert len(a) == 49 and max(abs(x-y) for x,y in zip(a, b)) < 1e-4
    assert a[0] > 6.5 and a[-1] < 5.2
    now = json.loads((tmp_path/'progress.json').read_text())
    points = [dict(zip(now['columns'], o)) for o in now['curve']]
    assert len(first.grad_norms) == len(a) and points[0]['grad_norm'] == pytest.approx(
        second.grad_norms[0], rel=1e-5)
    assert all(len(o['schedule']) == len(now['schedule_names']) for o in points)
    rates = dict(zip(now['schedule_names'], points[0]['schedule']))
    assert rates['head lr'] == pytest.approx(t.UNEMBEDDING_LR*(128/768)**-.5, rel=1e-5)
    assert rates['tokens a step'] == t.TOTAL_BATCH_SIZE and .85 < rates['momentum'] < .851

@pytest.fixture
def one_thread():
    "Sums in one order"
    n = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(n)

def test_the_norm_is_only_looked_at(data, monkeypatch, one_thread):
    "Bit for bit the same weights without it; of passes that add up it is the norm of the sum"
    def trained():
        run = t.train(Budget(get_profile('tiny'), steps=6))
        return run.grad_norms, [p.detach().clone() for p in run.model.parameters()]
    norms,weights = trained()
    build = t.build
    def halved(seed):
        run = build(seed)
        t.halve(run)
        return run
    monkeypatch.setattr(t, 'build', halved)
    assert trained()[0][0] == pytest.approx(norms[0], rel=1e-5)
    monkeypatch.setattr(t, 'build', build)
    monkeypatch.setattr(t, 'grad_norm', lambda optimizer: torch.zeros(()))
    without = trained()
    assert without[0] == [0.]*5 and all(map(torch.equal, weights, without[1]))

def test_the_norm_is_that_of_all_gradients(monkeypatch):
    m,_ = with_more()
    ps = list(m.parameters())
    for p in ps: p.grad = torch.randn_like(p)
    m.wte.to(torch.bfloat16)
    groups = t.param_groups(m)
    whole = torch.cat([p.grad.flatten().float() for p in m.parameters()]).norm()
    assert t.grad_norm(SimpleNamespace(param_groups=groups)).item() == pytest.approx(
        whole.item(), rel=4e-3)

def test_every_rate_has_a_name(monkeypatch):
    m,_ = with_more()
    groups = t.param_groups(m)
    names = t.schedule_names(m, groups)
    assert len(names) == len(groups) + 3 and len(set(names)) == len(names)
    assert {'head lr', 'x0 scalars lr', '64x256 matrices lr', 'momentum', 'weight decay'} <= set(names)
    assert 'residual scalars and 6 more lr' in names, names
    monkeypatch.setattr(t, 'VALUE_DECAY', .01)
    plain = small()
    apart = t.schedule_names(plain, t.param_groups(plain))
    assert {'embedding lr', 'value embeddings lr', 'residual scalars lr'} <= set(apart)

def test_another_seed_differs_and_divergence_fails(data, monkeypatch, capsys):
    same,other = (t.train(Budget(get_profile('tiny'), steps=5), seed=s).history for s in (42, 43))
    assert abs(same[-1][1] - other[-1][1]) > 1e-4
    monkeypatch.setattr(t, 'param_groups', lambda m: [dict(kind='adamw',
        params=list(m.parameters()), peak_lr=math.nan, betas=(.8, .95), decay=0.)])
    with pytest.raises(FloatingPointError, match='loss nan at step 2'):
        t.train(Budget(get_profile('tiny'), steps=9))
    assert '\nFAIL\n' in capsys.readouterr().out

def test_accumulation_is_the_same_step(data, monkeypatch):
    "Half the device batch, twice: the same gradient up to rounding"
    whole = t.build()
    batch = next(whole.loader)
    whole.model(batch[0], batch[1]).backward()
    half = t.build()
    for s in (slice(0, 8), slice(8, 16)): (half.model(batch[0][s], batch[1][s])/2).backward()
    for p,q in zip(whole.model.parameters(), half.model.parameters()):
        assert torch.allclose(p.grad, q.grad, atol=1e-6)

def test_out_of_memory_halves_the_rows_and_keeps_the_batch(data, monkeypatch, capsys):
    "The same losses as with room, up to rounding; and never below one row"
    def losses(): return [l for _,l,_ in t.train(Budget(get_profile('tiny'), steps=4)).history]
    whole = losses()
    forward = t.GPT.forward
    def tight(self, x, *args, **kwargs):
        if len(x) > limit: raise torch.OutOfMemoryError('no room')
        return forward(self, x, *args, **kwargs)
    monkeypatch.setattr(t.GPT, 'forward', tight)
    limit = 4
    assert losses() == pytest.approx(whole, abs=2e-3)
    out = capsys.readouterr().out
    assert ('out of memory: 8 rows' in out and 'out of memory: 4 rows at once from here on, '
        'TOTAL_BATCH_SIZE stays 2048' in out)
    limit = 0
    with pytest.raises(torch.OutOfMemoryError): t.train(Budget(get_profile('tiny'), steps=4))

def test_after_halving_no_batch_is_learned_twice(data, monkeypatch):
    "Out of memory in the second pass of a step: the step begins anew with the batch at hand"
    monkeypatch.setattr(t, 'TOTAL_BATCH_SIZE', 2*t.TOTAL_BATCH_SIZE)
    seen,forward = [], t.GPT.forward
    def tight(self, x, *args, **kwargs):
        if not args: return forward(self, x) # what it knew before training
        if len(seen) == 1 and len(x) == t.DEVICE_BATCH_SIZE: raise torch.OutOfMemoryError('no room')
        seen.append(x.clone())
        return forward(self, x, *args, **kwargs)
    monkeypatch.setattr(t.GPT, 'forward', tight)
    t.train(Budget(get_profile('tiny'), steps=2))
    sizes,rows = [len(x) for x in seen], torch.cat(seen)
    half = t.DEVICE_BATCH_SIZE//2
    assert sizes == [2*half] + 8*[half] and len(rows.unique(dim=0)) == len(rows)

@pytest.fixture
def keep(monkeypatch, tmp_path):
    "Calls `begin`; settings and environment are put back"
    for name in ('TORCHINDUCTOR_CACHE_DIR', 'TRITON_CACHE_DIR', 'QUACK_CACHE_DIR',
            'FLASH_ATTENTION_CUTE_DSL_CACHE_DIR', 'FLASH_ATTENTION_CUTE_DSL_CACHE_ENABLED',
            'TORCH_COMPILE_CACHE_KEY_TAG'):
        monkeypatch.setenv(name, 'so that it is put back')
        monkeypatch.delenv(name)
    with (torch.compiler.config.patch(cache_key_tag=''),
            kernels.functorch.patch(enable_autograd_cache=False)):
        yield lambda: (kernels.begin(tmp_path), kernels.set_cache())

def test_compiled_code_is_kept_in_the_cache(keep, monkeypatch, tmp_path):
    monkeypatch.setenv('TRITON_CACHE_DIR', 'mine')
    keep()
    assert (os.environ['TORCHINDUCTOR_CACHE_DIR'] == f'{tmp_path}/inductor'
        and os.environ['TRITON_CACHE_DIR'] == 'mine')
    assert (os.environ['QUACK_CACHE_DIR'] == f'{tmp_path}/quack'
        and os.environ['FLASH_ATTENTION_CUTE_DSL_CACHE_DIR'] == f'{tmp_path}/flash')
    assert (torch.compiler.config.cache_key_tag.startswith('torch.float32 ')
        and len(torch.compiler.config.cache_key_tag) == 14+64)
    # or the compiler's processes do not find what they noted
    assert os.environ['TORCH_COMPILE_CACHE_KEY_TAG'] == torch.compiler.config.cache_key_tag

def test_the_folder_is_named_before_the_compiler_is_imported():
    "Cell by cell in a process of its own: with no folder named, the compiler's import names one"
    cells = [''.join(c['source'])
        for c in json.loads((ROOT/'nbs/02_train.ipynb').read_text())['cells']
        if c['cell_type'] == 'code']
    upto = next(i for i,c in enumerate(cells) if 'def build(' in c)
    code = '\n'.join(cells[:upto]) + ("\nimport torch._inductor.compile_fx\n"
        "assert os.environ['TORCHINDUCTOR_CACHE_DIR'] == "
        "str(cache_dir(profile)/'compiled/inductor')")
    env = {k: v for k,v in os.environ.items()
        if k not in ('TORCHINDUCTOR_CACHE_DIR', 'TRITON_CACHE_DIR')}
    r = subprocess.run([sys.executable, '-c', code], cwd=ROOT,
        env={**env, 'PYTHONPATH': str(ROOT)}, capture_output=True, text=True)
    assert r.returncode == 0, r.stderr

def test_operators_of_the_canvas_are_compiled_anew(keep):
    "The cache does not see what the gradient of an operator does"
    keep()
    assert kernels.functorch.enable_autograd_cache
    def twice(x: torch.Tensor) -> torch.Tensor: return 2*x
    twice.__module__ = t.__name__
    own = torch.library.custom_op('autoresearch_test::twice', twice, mutates_args=())
    keep()
    assert not kernels.functorch.enable_autograd_cache
    del kernels.OPDEFS[own._qualname]

@pytest.mark.slow
@pytest.mark.skipif(not shutil.which('g++'), reason='the compiler for CPUs needs g++')
def test_the_second_compilation_finds_the_first(keep, monkeypatch):
    "Forward and backward come out of the cache, which can hold all of the compiled function"
    from torch._dynamo.utils import counters
    keep()
    # the operators' plain forms, compiled for a CPU
    monkeypatch.setattr(kernels, 'supported', lambda device: '')
    c,x,grads = t.GPTConfig(64, 256, 1, 2, 2, 128, 'L'), torch.arange(128).view(2, 64), []
    for _ in range(2):
        torch._dynamo.reset()
        counters.clear()
        torch.manual_seed(0)
        model = t.GPT(c, t.choose_attention(CPU)).init_weights(CPU)
        model.losses = torch.compile(model.losses, dynamic=False, backend=kernels.backend)
        model(x, x).backward()
        grads.append(model.blocks[0].attn.c_v.weight.grad)
        seen = {k: v for k,v in counters['aot_autograd'].items() if k.startswith('autograd_cache')}
        assert not seen.get('autograd_cache_bypass'), seen
    assert seen == dict(autograd_cache_hit=1) and torch.equal(*grads), seen
    assert kernels.found() == (
        'fused: heads 1/1, attention output 1/1, MLP 1/1, loss 1/1, embeddings 2/2')
