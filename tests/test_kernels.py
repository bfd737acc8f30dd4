"""The fused operators against the plain ones: the whole model in float64 on a CPU, each kernel in bf16 on a Hopper GPU."""
import pytest, torch, torch.nn.functional as F
from autoresearch import kernels as k, train as t

hopper = pytest.mark.skipif(not torch.cuda.is_available() or torch.cuda.get_device_capability()[0] != 9, reason='needs a Hopper GPU')
CPU = torch.device('cpu')

def test_the_model_is_the_same():
    "Loss, each token's loss and every gradient, with shared keys and values too"
    for n_kv_head in (4, 2):
        c,got = t.GPTConfig(32, 64, 3, 4, n_kv_head, 64), []
        x,y = torch.randint(64, (2, 4, 32))
        for ops in (t.PLAIN, t.FUSED):
            torch.manual_seed(1)
            m = t.GPT(c, t.choose_attention(CPU), ops).init_weights(CPU).double()
            for p in m.parameters(): torch.nn.init.normal_(p, std=.2)
            m.cos,m.sin,m.dtype = m.cos.double(), m.sin.double(), torch.float32
            loss = m(x, y)
            loss.backward()
            got.append([loss, m(x, y, reduction='none'), m(x), *(p.grad for p in m.parameters())])
        for a,b in zip(*got): assert torch.allclose(a.double(), b.double(), rtol=1e-4, atol=1e-6), (a-b).abs().max()

def test_refuses_what_it_cannot():
    with pytest.raises(ValueError, match='B\\*T = 15 is no multiple of 16'):
        k.heads(torch.zeros(3, 5, 8), torch.zeros(24, 8), None, None, 1, 1, None, (None, None))
    assert 'no CUDA' in k.supported(CPU, 128, 512)

@hopper
def test_supported_there(): 
    assert k.supported(torch.device('cuda'), 128, 512) == '' and 'power of two' in k.supported(torch.device('cuda'), 96, 512)

def near(fused, plain, *args):
    "Values and gradients in bf16 against float32 of the same numbers"
    out = []
    for f,dtype in ((fused, torch.bfloat16), (plain, torch.float32)):
        ins = [o.bfloat16().to(dtype).detach().requires_grad_() for o in args]
        r = f(*ins)
        r = [r] if torch.is_tensor(r) else list(r)
        torch.manual_seed(1)
        torch.autograd.backward(r, [torch.randn(o.shape, device='cuda').to(o.dtype) for o in r])
        out.append([*r, *(i.grad for i in ins)])
    for i,(a,b) in enumerate(zip(*out)): assert (a.float()-b.float()).norm() < .01*b.float().norm(), i

def norm(x): return F.rms_norm(x, x.shape[-1:])
def normal(*shape, std=1.): return torch.randn(*shape, device='cuda')*std

@hopper
@pytest.mark.parametrize('rows', [(4, 512), (3, 80)])
def test_relu2_mlp(rows):
    near(k.relu2_mlp, lambda x, a, b: F.linear(F.relu(F.linear(norm(x), a)).square(), b), normal(*rows, 512, std=3), normal(2048, 512, std=.05), normal(512, 2048, std=.05))

@hopper
@pytest.mark.parametrize('vocab', [8192, 1000])
def test_softcap_loss(vocab):
    y = torch.randint(vocab, (4, 100), device='cuda')
    near(lambda x, w: k.softcap_loss(x, w, y, piece=96)[0], lambda x, w: F.cross_entropy(15*torch.tanh(F.linear(x, w)/15).flatten(0, 1), y.flatten()), normal(4, 100, 512), normal(vocab, 512, std=.2))

@hopper
@pytest.mark.parametrize('n_kv_head, D, ve', [(4, 128, True), (4, 128, False), (2, 64, True), (2, 128, True)])
def test_heads(n_kv_head, D, ve):
    T,tokens = 256, torch.randint(500, (4, 256), device='cuda')
    angles,by_token = normal(T, 1, D//2), k.sort_tokens(tokens)
    cos,sin = angles.cos().bfloat16(), angles.sin().bfloat16()
    def plain(x, w, w_gate=None, table=None):
        q,kk,v = F.linear(norm(x), w).unflatten(-1, (-1, D)).split([4, n_kv_head, n_kv_head], 2)
        if ve: v = v + 2*torch.sigmoid(F.linear(norm(x)[..., :32], w_gate))[..., None]*F.embedding(tokens, table).view(v.shape)
        return norm(t.rope(q, cos.float(), sin.float())), norm(t.rope(kk, cos.float(), sin.float())), v
    args = [normal(4, T, 512, std=2), normal((4+2*n_kv_head)*D, 512, std=.05)] + ([normal(n_kv_head, 32), normal(500, n_kv_head*D)] if ve else [])
    near(lambda x, w, g=None, e=None: k.heads(x, w, cos, sin, 4, n_kv_head, tokens, by_token, e, g), plain, *args)

@hopper
def test_embedding():
    tokens = torch.randint(300, (3, 333), device='cuda')
    near(lambda w: k.embedding(tokens, w, k.sort_tokens(tokens)), lambda w: F.embedding(tokens, w), normal(500, 512))
