"""The operators and their kernels against plain mathematics, in bf16 on a Hopper GPU.

How they get into a model: test_fuse."""
from types import SimpleNamespace
import pytest, torch, torch.nn.functional as F
from autoresearch import kernels as k, train as t

hopper = pytest.mark.skipif(
    not torch.cuda.is_available() or torch.cuda.get_device_capability()[0] != 9,
    reason='needs a Hopper GPU')
CPU = torch.device('cpu')

def test_refuses_what_it_cannot():
    with pytest.raises(ValueError, match='B\\*T = 15 is no multiple of 16'):
        k.heads(torch.zeros(3, 5, 8), None, torch.zeros(24, 8), None, None, 1, 1, None,
            (None, None))
    assert 'no CUDA' in k.supported(CPU)

def test_compile_ahead(tmp_path, monkeypatch):
    """Not where the main process needs the cores, and not again once done; a part that fails says
    so in its log"""
    monkeypatch.setattr(k, 'PARTS', ['rest'])
    monkeypatch.chdir(tmp_path)
    start = lambda cores: (monkeypatch.setattr(
            k.os, 'sched_getaffinity', lambda _: range(cores), raising=False)
        or k.compile_ahead(CPU, 512, 128, 8, 8192, folder=tmp_path/'a'))
    assert not start(4) and not (tmp_path/'a').exists()
    p, = start(8)
    log, = tmp_path.glob('a/*/rest.log')
    if torch.cuda.is_available(): assert p.wait(120) == 0, log.read_text()
    else:
        assert (p.wait(120) == 1 and ('CUDA' in log.read_text() or 'NVIDIA' in log.read_text())
            and not log.with_suffix('.done').exists())
    log.with_suffix('.done').touch()
    assert not start(8)
    monkeypatch.setattr(k.importlib.metadata, 'distributions',
        lambda name: [SimpleNamespace(version='another')])
    assert len(started := start(8)) == 1, 'other packages compile other code'
    started[0].kill(), started[0].wait()

@pytest.mark.parametrize('layers', [1, 8])
def test_parts_are_called_as_the_model_calls_them(layers):
    "On a CPU, attention left out, which has no form for it"
    for part in set(k.PARTS) - {'full', 'window'}:
        k.compile_part(part, 128, 64, layers, 256, 64, 'cpu')

def test_the_stream_stays_in_the_compute_type(monkeypatch):
    """Autocast makes `rms_norm` float32 on CUDA from PyTorch 2.12 on: FlashAttention refuses that,
    and all the rest would be slower"""
    wide,seen = F.rms_norm, []
    monkeypatch.setattr(t.F, 'rms_norm', lambda x, *args: wide(x.float(), *args))
    attention = t.choose_attention(CPU)
    attend = attention.attend
    def spy(q, k, v, mask):
        seen.extend([q.dtype, k.dtype, v.dtype])
        return attend(q, k, v, mask)
    attention.attend = spy
    m = t.GPT(t.GPTConfig(32, 64, 2, 4, 4, 64), attention).init_weights(CPU)
    m.dtype,m.cos,m.sin = torch.bfloat16, m.cos.bfloat16(), m.sin.bfloat16()
    for e in [m.wte, *m.value_embeds.values()]: e.bfloat16()
    x = torch.randint(64, (2, 32))
    m.lm_head.register_forward_pre_hook(lambda _, args: seen.append(args[0].dtype))
    m(x)
    assert len(seen) == 7 and set(seen) == {torch.bfloat16}

@hopper
@pytest.mark.parametrize('part', k.PARTS)
def test_compile_part(part): k.compile_part(part, 512, 128, 8, 8192)

@hopper
def test_supported_there():
    assert k.supported(torch.device('cuda')) == ''

def agrees_with_float32(fused, plain, *args):
    "Values and gradients in bf16 against float32 of the same numbers"
    out = []
    for f,dtype in ((fused, torch.bfloat16), (plain, torch.float32)):
        ins = [o.bfloat16().to(dtype).detach().requires_grad_() for o in args]
        r = f(*ins)
        r = [r] if torch.is_tensor(r) else list(r)
        torch.manual_seed(1)
        torch.autograd.backward(r, [torch.randn(o.shape, device='cuda').to(o.dtype) for o in r])
        out.append([*r, *(i.grad for i in ins)])
    for i,(a,b) in enumerate(zip(*out)):
        assert (a.float()-b.float()).norm() <= .01*b.float().norm(), i

def norm(x): return F.rms_norm(x, x.shape[-1:])
def normal(*shape, std=1.): return torch.randn(*shape, device='cuda')*std

def number(v): return torch.tensor(v, device='cuda')

@hopper
@pytest.mark.parametrize('T,kv,window', [(512, 4, None), (512, 2, 100), (300, 4, 256)])
def test_flash(T, kv, window):
    attend,make_mask = k.sdpa(torch.device('cuda'))
    mask = make_mask(T, T if window is None else window)
    agrees_with_float32(lambda *o: k.flash(*o, window), lambda *o: attend(*o, mask),
        normal(2, T, 4, 128), normal(2, T, kv, 128), normal(2, T, kv, 128))

@hopper
@pytest.mark.parametrize('name', k.TILES)
@pytest.mark.parametrize('rows, d', [(2048, 512), (240, 512), (2048, 320)])
def test_product(name, rows, d):
    "Every epilogue alone, its sums too; a width of 320 takes an odd number of tiles"
    left,right,args = k.example(name, rows, d, 4*d)
    got = k.product(name, left, right, **args)
    want = k.plain_epilogue(
        name, left.float() @ right.float().T, **{o: v.float() for o,v in args.items()})
    for a,b in zip(got, want):
        assert (a is None) == (b is None) and (b is None or (a.float()-b).norm() < .01*b.norm())

@hopper
@pytest.mark.parametrize('rows', [(4, 512), (3, 80)])
@pytest.mark.parametrize('mixed', [True, False])
def test_mlp(rows, mixed):
    a,b = number(.9), number(.2)
    def fused(x, w_fc, w_proj, x0):
        return k.mlp(x, k.row_scale(x).detach(), w_fc, w_proj,
            (a, b, x0, k.links(x0, b[None])[0]) if mixed else None)[0]
    def plain(x, w_fc, w_proj, x0):
        y = x + F.linear(F.relu(F.linear(norm(x), w_fc)).square(), w_proj)
        return a*y + b*x0 if mixed else y + 0*x0
    args = [normal(*rows, 512, std=3), normal(2048, 512, std=.05), normal(512, 2048, std=.05),
        normal(*rows, 512)]
    agrees_with_float32(
        fused if mixed else lambda x, f, p, x0: fused(x, f, p, None) + 0*x0, plain, *args)

@hopper
@pytest.mark.parametrize('layers', [1, 7])
def test_links(layers):
    b,gs = normal(layers), [normal(3, 333, 512).bfloat16() for _ in range(layers)]
    x0 = normal(3, 333, 512).bfloat16()
    dx0,db = torch.ops.autoresearch.links_grad(gs, x0, b)
    want = sum(c*g.float() for c,g in zip(b, gs))
    assert (dx0.float()-want).norm() < .01*want.norm()
    assert torch.allclose(
        db, torch.stack([(g.float()*x0.float()).sum() for g in gs]), rtol=1e-3, atol=1.)

@hopper
@pytest.mark.parametrize('vocab', [8192, 1000, 1001])
def test_softcap_loss(vocab):
    y = torch.randint(vocab, (4, 100), device='cuda')
    agrees_with_float32(lambda x, w: k.softcap_loss(x, w, y, piece=96)[0],
        lambda x, w: F.cross_entropy(
            15*torch.tanh(F.linear(x, w)/15).flatten(0, 1), y.flatten()),
        normal(4, 100, 512), normal(vocab, 512, std=.2))

@hopper
@pytest.mark.parametrize('n_kv_head, D, ve', [
    (4, 128, True), (4, 128, False), (2, 64, True), (2, 128, True)])
def test_heads(n_kv_head, D, ve):
    T,tokens = 256, torch.randint(500, (4, 256), device='cuda')
    angles,sorted_tokens = normal(T, 1, D//2), k.sort_tokens(tokens)
    cos,sin = angles.cos().bfloat16(), angles.sin().bfloat16()
    def plain(x, w, w_o, w_gate=None, table=None):
        q,kk,v = F.linear(norm(x), w).unflatten(-1, (-1, D)).split([4, n_kv_head, n_kv_head], 2)
        if ve:
            v = v + (2*torch.sigmoid(F.linear(norm(x)[..., :32], w_gate))[..., None]
                *F.embedding(tokens, table).view(v.shape))
        q,kk = (norm(t.rope(o, cos.float(), sin.float())) for o in (q, kk))
        return q, kk, v, x + F.linear(q.flatten(2), w_o)
    args = [normal(4, T, 512, std=2), normal((4+2*n_kv_head)*D, 512, std=.05),
        normal(512, 4*D, std=.05)] + (
        [normal(n_kv_head, 32), normal(500, n_kv_head*D)] if ve else [])
    def fused(x, w, w_o, g=None, e=None):
        q,kk,v,link = k.heads(x, k.row_scale(x).detach(), w, cos, sin, 4, n_kv_head, tokens,
            sorted_tokens, e, g)
        return q, kk, v, k.residual(x, q.flatten(2), w_o, link)[0]
    agrees_with_float32(fused, plain, *args)

@hopper
def test_embedding():
    tokens = torch.randint(300, (3, 333), device='cuda')
    agrees_with_float32(lambda w: k.embedding(tokens, w, k.sort_tokens(tokens)),
        lambda w: F.embedding(tokens, w), normal(500, 512))
