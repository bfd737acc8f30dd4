"Activations other than the starting line's: alone, in a graph, and on a Hopper GPU"
import itertools, random
import pytest, torch, torch.nn as nn, torch.nn.functional as F
from autoresearch import kernels as k
import test_fuse as tf
from test_kernels import hopper, norm, normal

WRITTEN = dict(relu2=lambda h: F.relu(h).square(), relu=F.relu, gelu=F.gelu,
    gelu_tanh=lambda h: F.gelu(h, approximate='tanh'), silu=F.silu)
MLPS = list(itertools.product(k.ACTIVATIONS, [False, True], [False, True])) # kind, gate, mixed

@pytest.mark.parametrize('kind', k.ACTIVATIONS)
def test_activation(kind):
    h = torch.linspace(-12, 12, 4001, dtype=torch.float64, requires_grad=True)
    f,slope = k.activation(kind, h.detach())
    want = WRITTEN[kind](h)
    want.sum().backward()
    assert torch.allclose(f, want.detach(), rtol=1e-12, atol=1e-12)
    assert torch.allclose(slope, h.grad, rtol=1e-12, atol=1e-12)

def plain(kind, gate, mixed):
    f = WRITTEN[kind]
    def call(x, w_fc, w_proj, x0, a, b, *up):
        n = norm(x)
        h = f(F.linear(n, w_fc))
        if gate: h = h*F.linear(n, *up)
        y = x + F.linear(h, w_proj)
        return a*y + b*x0 if mixed else y + 0*(x0.sum() + a + b)
    return call

def fused(kind, gate, mixed):
    def call(x, w_fc, w_proj, x0, a, b, *up):
        mix = (a, b, x0, k.links(x0, b[None])[0]) if mixed else None
        y,scale = k.mlp(x, k.row_scale(x).detach(), w_fc, w_proj, mix, kind, *up)
        if not mixed: y = y + 0*(x0.sum() + a + b)
        return y, scale
    return call

def mlp_operands(gate, dtype):
    "As `plain` and `fused` take them; numbers at least in float32"
    new = lambda *s, std=1.: (torch.randn(*s, dtype=torch.float64)*std).to(dtype)
    number = lambda v: torch.tensor(v, dtype=torch.promote_types(dtype, torch.float32))
    given = [new(2, 40, 64, std=3), new(192, 64, std=.2), new(64, 192, std=.1), new(2, 40, 64),
        number(.9), number(.2)]
    return given + ([new(192, 64, std=.2)] if gate else [])

def off(p, q): return float((p.double()-q).norm()/(q.norm() + 1e-30))

@pytest.mark.parametrize('kind, gate, mixed', MLPS)
@pytest.mark.parametrize('dtype', [torch.float64, torch.bfloat16])
def test_mlp(kind, gate, mixed, dtype):
    torch.manual_seed(0)
    given = mlp_operands(gate, dtype)
    g = torch.randn(2, 40, 64, dtype=torch.float64).to(dtype)
    def run(f, to=None):
        leaves = [o.detach().to(to or o.dtype).requires_grad_() for o in given]
        out = f(*leaves)
        out,scale = out if isinstance(out, tuple) else (out, None)
        (out.to(torch.float64)*g).sum().backward()
        return out.detach(), scale, [o.grad for o in leaves]
    exact,_,want = run(plain(kind, gate, mixed), torch.float64)
    out,scale,got = run(fused(kind, gate, mixed))
    whole = dtype == torch.float64
    assert off(out, exact) < (1e-12 if whole else 1e-2)
    assert off(scale, k.row_scale(exact)) < (1e-12 if whole else 1e-2)
    if whole: most = [1e-12]*len(want)
    else: # no worse than what eager bf16 does, and a little
        _,_,eager = run(plain(kind, gate, mixed))
        # Numbers: plain forms sum rows in bf16, kernels in float32
        most = [1.5*off(p, q) + (.08 if q.ndim == 0 else 2e-3) for p,q in zip(eager, want)]
    for i,(p,q) in enumerate(zip(got, want)):
        assert off(p, q) <= most[i] or q.norm() == 0 == p.norm(), (i, off(p, q), most[i])

@pytest.mark.parametrize('kind', ['relu2', 'relu', 'silu', 'gelu_gated', 'relu_gated'])
def test_shapes(kind):
    "What the compiler is told is what the operators give"
    from torch.library import opcheck
    new = lambda *s: torch.randn(*s, requires_grad=True)
    columns = 2*128 if kind.endswith('gated') else 128
    a,b = torch.tensor(.9, requires_grad=True), torch.tensor(.3)
    x = new(32, 64)
    args = (x, k.row_scale(x).detach(), new(columns, 64), new(64, 128))
    tests = 'test_schema', 'test_faketensor', 'test_autograd_registration'
    opcheck(k._mlp, (*args, a, b, torch.randn(32, 64), None, kind), test_utils=tests)
    args = [o.detach() for o in (*args, a)]
    _,_,act,h = k._mlp(*args, None, None, None, kind)
    opcheck(k._mlp_grad, (torch.randn(32, 64), *args, act, h, kind), test_utils=tests)

# In a graph

HALVES = 'w = torch.cat([self.c_gate.weight, self.c_fc.weight])\n        '
ACTIVATIONS = { # what the MLP is: 1 if it stays plain
    "return self.c_proj(F.gelu(self.c_fc(x), approximate='tanh'))": 0,
    'return self.c_proj(nn.GELU()(self.c_fc(x)))': 0,
    "return self.c_proj(nn.GELU('tanh')(self.c_fc(x)))": 0,
    'return self.c_proj(nn.SiLU()(self.c_fc(x)))': 0,
    'return self.c_proj(nn.ReLU()(self.c_fc(x)))': 0,
    'return self.c_proj(torch.relu(self.c_fc(x)))': 0,
    'return self.c_proj(self.c_fc(x).relu())': 0,
    'h = self.c_fc(x)\n        return self.c_proj(h*torch.sigmoid(h))': 0,
    'h = self.c_fc(x)\n        return self.c_proj(h.sigmoid()*h)': 0,
    'h = self.c_fc(x)\n        return self.c_proj(h*F.relu(h))': 0,
    'h = self.c_fc(x)\n        return self.c_proj(F.sigmoid(1.702*h)*h)': 1,
    'h = self.c_fc(x)\n        return self.c_proj(torch.sigmoid(h)*self.c_gate(x))': 1,
    'return self.c_proj(torch.sigmoid(self.c_fc(x)))': 1,
    'h = self.c_fc(x)\n        return self.c_proj(F.gelu(h)*h)': 1,
    'return self.c_proj(torch.tanh(self.c_fc(x)))': 1,
    'return self.c_proj(F.elu(self.c_fc(x)))': 1,
    'return self.c_proj(F.mish(self.c_fc(x)))': 1,
    'return self.c_proj(F.gelu(2*self.c_fc(x)))': 1,
    'return self.c_proj(2*F.gelu(self.c_fc(x)))': 1,
    'return self.c_proj(F.gelu(F.gelu(self.c_fc(x))))': 1,
    'return self.c_proj(self.c_fc(x))': 1,
    'h = F.silu(self.c_fc(x))\n        return self.c_proj(h) + 0.01*h.mean()': 1,
    'h = self.c_fc(x)\n        return self.c_proj(F.silu(h)) + 0.01*h.mean()': 1}
GATES = {
    'return self.c_proj(self.c_gate(x)*F.silu(self.c_fc(x)))': 0,
    'return self.c_proj(F.relu(self.c_gate(x))*self.c_fc(x))': 0,
    'return self.c_proj(torch.mul(F.relu(self.c_gate(x)).square(), self.c_fc(x)))': 0,
    "return self.c_proj(F.gelu(self.c_gate(x), approximate='tanh').mul(self.c_fc(x)))": 0,
    'g = self.c_gate(x)\n        return self.c_proj(g*torch.sigmoid(g)*self.c_fc(x))': 0,
    'g = self.c_gate(x)\n        return self.c_proj(self.c_fc(x)*(g*torch.sigmoid(g)))': 0,
    'return self.c_proj(F.silu(self.c_gate(x))*F.silu(self.c_fc(x)))': 1,
    'return self.c_proj(F.silu(self.c_gate(x))*self.c_fc(x)*self.wide)': 1,
    'return self.c_proj(F.silu(self.c_gate(x))*(self.c_fc(x) + self.wide))': 1,
    'return self.c_proj(F.silu(self.c_gate(x))*self.c_fc(2*x))': 1,
    'return self.c_proj(F.silu(self.c_gate(x))*self.wide)': 1,
    'return self.c_proj(F.silu(self.c_gate(x))*self.c_fc(x)[..., :1])': 1,
    'return self.c_proj(F.silu(self.c_gate(x))*self.c_fc(x)[:, :1])': 1,
    'return self.c_proj(F.silu(self.c_gate(x))*self.c_fc(x).roll(1, 1))': 1,
    'g = self.c_gate(x)\n        return self.c_proj(F.silu(g)*self.c_fc(x)) + 0.01*g.mean()': 1}
IN_ONE_PRODUCT = { # the gate and what it is for
    f'{HALVES}a,b = F.linear(x, w).chunk(2, -1)\n        return self.c_proj(F.silu(a)*b)': 0,
    f'{HALVES}a,b = F.linear(x, w).split(512, -1)\n        return self.c_proj(a*F.gelu(b))': 0,
    f'{HALVES}h = F.linear(x, w)\n        return self.c_proj(F.relu(h[..., 512:])*h[..., :512])': 0,
    f'{HALVES}a,b = F.linear(x, w).unflatten(-1, (2, -1)).unbind(-2)\n'
        '        return self.c_proj(F.silu(a)*b)': 0,
    f'{HALVES}a,b = F.linear(x, w).chunk(2, -1)\n        return self.c_proj(F.silu(a)*b + a)': 1,
    f'{HALVES}h = F.linear(x, w)\n        return self.c_proj(F.silu(h[..., ::2])*h[..., 1::2])': 1,
    f'{HALVES}a,b,c,d = F.linear(x, w).chunk(4, -1)\n'
        '        return self.c_proj(torch.cat([F.silu(a)*b, F.silu(c)*d], -1))': 1,
    f'{HALVES}h = F.linear(x, w)\n'
        '        return self.c_proj(F.silu(h[..., 100:612])*h[..., 512:])': 0,
    'return self.c_proj(F.glu(torch.cat([self.c_fc(x), self.c_gate(x)], -1)))': 1}
NEW = [('MLP', tf.MLP_NOW, new, ('MLP',) if costs else ())
    for new,costs in (ACTIVATIONS | GATES | IN_ONE_PRODUCT).items()]
LAYERS = 8

@pytest.mark.parametrize('i', range(-(-len(NEW)//LAYERS)))
def test_alone(i):
    "Each once, a layer each"
    sets = NEW[i*LAYERS:(i+1)*LAYERS]
    sites = tf.compare(tf.model([{(kind, old): new} for kind,old,new,_ in sets]))
    want = {kind: {at for at,e in enumerate(sets) if kind in e[3]} for kind in sites}
    assert tf.plain(sites, *sites) == want, (str(sites), [e[2] for e in sets])

@pytest.mark.parametrize('i', tf.some(8, 3))
def test_among_others(i):
    "New and old edits in pairs, layers edited otherwise around them"
    rng = random.Random(i)
    others = [o for o in tf.EDITS if o[0] != 'MLP']
    sets = [[rng.choice(NEW), rng.choice(others)] for _ in range(5)]
    changes = [{(kind, old): new for kind,old,new,_ in o} for o in sets]
    sites = tf.compare(tf.model(changes))
    want = {kind: {at for at,o in enumerate(sets) if any(kind in costs for *_,costs in o)}
        for kind in (tf.HEADS_, tf.OUT, tf.MLP)}
    assert tf.plain(sites, *want) == want, (str(sites), sets)

def changed(inside): return {('MLP', tf.MLP_NOW): f'return self.c_proj({inside})'}

def test_line():
    """The log says the activation where it is not ReLU squared, so that `fewer_kernels` still reads
    it"""
    from autoresearch.run import fewer_kernels
    gelu,none = changed('F.gelu(self.c_fc(x))'), changed('torch.tanh(self.c_fc(x))')
    glu = changed('F.silu(self.c_gate(x))*self.c_fc(x)')
    line = lambda *o: str(tf.compare(tf.model(o))).split(', MLP ')[1].split(', loss')[0]
    assert line({}, {}) == '2/2' and line(gelu, gelu) == '2/2 (with GELU)'
    assert line(gelu, {}, glu, gelu) == '4/4 (layers 0, 3 with GELU; layer 2 with SwiGLU)'
    fewer = '2/3 (layer 0 with GELU; layer 1: tanh between its products)'
    assert line(gelu, none, {}) == fewer
    assert line(glu) == '1/1 (with SwiGLU)' and line(none) == '0/1 (tanh between its products)'
    best = 'fused: MLP 3/3 (with GELU), loss 1/1'
    said = fewer_kernels(dict(fused=f'fused: MLP {fewer}, loss 1/1'), dict(fused=best))
    assert said == f'MLP {fewer}, best 3/3'

def test_compiled_ahead(monkeypatch):
    """What the starting line has not is compiled in processes of its own while PyTorch compiles;
    the rest waits for nobody"""
    import torch._inductor.compile_fx as inductor
    started = []
    monkeypatch.setattr(inductor, 'compile_fx', lambda gm, inputs: gm)
    monkeypatch.setattr(k, 'supported', lambda device: '')
    monkeypatch.setattr(k, 'compile_ahead',
        lambda device, *sizes, parts: started.append((*parts, *sizes)))
    glu = changed('F.silu(self.c_gate(x))*self.c_fc(x)')
    x = torch.randint(64, (2, tf.T))
    for layers in ([{}], [{}, glu, glu]):
        torch._dynamo.reset()
        torch.compile(tf.model(layers).losses, backend=k.backend, dynamic=False)(x, x)
    assert started == [('silu_gated', 128, 128, 1, 64), ('silu_gated_grad', 128, 128, 1, 64)]
    assert not {o[0] for o in started} & set(k.PARTS)
    for part in set(k.TILES) - set(k.PARTS): k.compile_part(part, 128, 64, 1, 64, 64, 'cpu')

# On the GPU

PARTS = [o for o in k.TILES if o not in k.STARTING_LINE]

def close(a, b, by=.01):
    if a is None or b is None: return a is b
    return (a.float()-b.float()).norm() <= by*b.float().norm()

@hopper
@pytest.mark.parametrize('name', PARTS)
@pytest.mark.parametrize('rows, d, h', [
    (2048, 512, 1344), (240, 512, 2048), (2048, 320, 1280), (77, 192, 448)])
def test_product(name, rows, d, h):
    """Every new epilogue alone: its sums and what it stores besides; odd numbers of tiles, tiles
    that are not full"""
    left,right,args = k.example(name, rows, d, h)
    got = k.product(name, left, right, **args)
    want = k.plain_epilogue(
        name, left.float() @ right.float().T, **{o: v.float() for o,v in args.items()})
    assert len(got) == len(want)
    for i,(a,b) in enumerate(zip(got, want)): assert close(a, b), i

@hopper
@pytest.mark.parametrize('kind', k.ACTIVATIONS)
def test_far_out(kind):
    """No NaN and the right limits where exponentials overflow: h from -300 to 300, one column
    each"""
    h = torch.linspace(-300, 300, 1024, device='cuda').bfloat16()
    left = torch.zeros(128, 64, device='cuda').bfloat16()
    left[:,0] = 1
    right = torch.zeros(1024, 64, device='cuda').bfloat16()
    right[:,0] = h
    scale = torch.ones(128, device='cuda')
    act = k.product(kind, left, right, scale=scale)[-1 if k.keeps_h(kind) else 0]
    exact = h.float().requires_grad_()
    want = WRITTEN[kind](exact)
    want.sum().backward()
    assert act[0].isfinite().all()
    assert ((act[0]-want.detach()).abs() <= .01*want.detach().abs() + 1e-3).all()
    # ReLU squared goes back from what it gave and leaves a factor of 2 to `scale`
    squared = kind == 'relu2'
    kept = dict(scale=2*scale, act=act) if squared else dict(scale=scale, h=h.repeat(128, 1))
    slope = k.product(f'{kind}_grad', left, torch.ones_like(right), **kept)[0][0]
    by = .01 if squared else 0 # up to 600, the others' at most a little over 1
    assert slope.isfinite().all()
    assert ((slope-exact.grad).abs() <= by*exact.grad.abs() + 5e-3).all()

@hopper
@pytest.mark.parametrize('rows, d, h', [
    ((4, 512), 512, 2048), ((3, 80), 512, 1344), ((1, 130), 320, 832)])
@pytest.mark.parametrize('kind, gate, mixed', MLPS)
def test_mlp_there(rows, d, h, kind, gate, mixed):
    torch.manual_seed(0)
    number = lambda v: torch.tensor(v, device='cuda')
    args = [normal(*rows, d, std=3), normal(h, d, std=.05), normal(d, h, std=.05),
        normal(*rows, d), number(.9), number(.2)]
    args += [normal(h, d, std=.05)] if gate else []
    def kernels(x, w_fc, w_proj, x0, a, b, *up):
        return fused(kind, gate, mixed)(x, w_fc, w_proj, x0, a.float(), b.float(), *up)[0]
    out = []
    for f,dtype in ((kernels, torch.bfloat16), (plain(kind, gate, mixed), torch.float32)):
        ins = [o.bfloat16().to(dtype).detach().requires_grad_() for o in args]
        y = f(*ins)
        (y.float().square().sum()/2).backward() # numbers get a gradient far from zero
        out.append([y, *(o.grad for o in ins)])
    for i,(a,b) in enumerate(zip(*out)):
        assert close(a, b), (i, (a.float()-b.float()).norm()/b.float().norm())
