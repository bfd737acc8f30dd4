"""A step with fewer trips to memory: residuals, the mixing with x0, norms and their gradients inside the products before them.

    python bench/epilogues.py check       # the gradients below against autograd, float64, any machine
    python bench/epilogues.py compile     # every epilogue compiled for sm_90a, seconds each; no GPU needed, quack-kernels is
    python bench/epilogues.py products    # a Hopper GPU: each product beside what the package does today, values and milliseconds
    python bench/epilogues.py steps       # a Hopper GPU: the whole model beside the package's, losses, milliseconds, gigabytes

An experiment on the way to `nbs/10_kernels.ipynb`, and not yet measured. An epilogue is a function of one element of a product, which
QuACK (https://github.com/Dao-AILab/quack, the package quack-kernels) builds into a GEMM for Hopper. What the model does between two
products then costs the reading of its operands and nothing else:

- `residual` adds the stream to a product and leaves each row's sum of squares, from which the next norm's factor r is made;
- `mlp` does so too and mixes x0 in: out = a (x + y) + b x0, y = p w_proj', p = max(0, r x w_fc')^2;
- the gradient of a norm, dx = t - s x with t = r dn and s = r^2 mean(t x), needs a sum over the row before its first element is
  known. With t = dh w, sum(t x) = sum(dh (w x)) is a sum over what the product reads, not over what it makes, so the kernel that
  makes dh finds it on the way, and the product's epilogue finishes: dx = t + a g - s x.
"""
import contextlib, json, os, subprocess, sys, time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
import torch, torch.nn.functional as F
from torch import Tensor
from autoresearch import kernels as k, train as t
from autoresearch.kernels import jit, op, tl, triton
import h100
try:
    import cutlass.cute as cute
    from quack.epilogue.frontend import gemm_epilogue
    from quack.epilogue.ops import ColVecLoad, ColVecReduce, Scalar, TileLoad
except ImportError: gemm_epilogue = None

EPS = torch.finfo(torch.float32).eps

# --- epilogues: acc is an element of the product; row factors r, s; tiles x, x0, g, p; scalars a, b

def epilogue(tiles='', rows='', scalars='', sums=''):
    "Build `f` into products; names of operands, and of sums over rows, in a word each"
    if gemm_epilogue is None: return lambda f: f
    ops = {n: kind(n) for names,kind in ((tiles, TileLoad), (rows, ColVecLoad), (scalars, Scalar)) for n in names.split()}
    return gemm_epilogue(ops=ops, reduces={n: ColVecReduce(n, scaled=True) for n in sums.split()})

@epilogue(rows='r')
def relu2(acc, r):
    h = cute.arch.fmax(acc*r, 0.)
    return {'D': h*h}

@epilogue(tiles='p', rows='r', scalars='a', sums='dot')
def relu2_grad(acc, r, p, a):
    h = cute.math.sqrt(p, fastmath=True)
    g = acc*r*2*h
    return {'D': g*a, 'dot': (g, h)}

@epilogue(tiles='x', sums='square')
def add(acc, x):
    y = acc + x
    return {'D': y, 'square': (y, y)}

@epilogue(tiles='x x0', scalars='a b', sums='square')
def mix(acc, x, x0, a, b):
    y = (acc + x)*a + x0*b
    return {'D': y, 'square': (y, y)}

@epilogue(tiles='x g', rows='s', scalars='a', sums='dot')
def norm_grad(acc, x, g, s, a): return {'D': acc + g*a - x*s, 'dot': (g, x)}

def plain(name, acc, r=None, p=None, x=None, x0=None, g=None, s=None, a=None, b=None):
    "The same on whole matrices: (D, the sum over each row or None)"
    col = lambda o: o[:,None].to(acc.dtype)
    if name == 'relu2': return F.relu(acc*col(r)).square(), None
    if name == 'relu2_grad':
        h = p.sqrt()
        d = acc*col(r)*2*h
        return d*a.to(acc.dtype), (d*h).sum(1)
    if name == 'norm_grad': return acc + g*a.to(acc.dtype) - x*col(s), (g*x).sum(1)
    y = acc + x if name == 'add' else (acc + x)*a.to(acc.dtype) + x0*b.to(acc.dtype)
    return y, y.square().sum(1)

TILES = dict(relu2=(128, 256, False), relu2_grad=(128, 128, True), add=(128, 128, True), mix=(128, 128, True), norm_grad=(128, 128, True))
WIDTHS = [(128, 128, True), (128, 192, True), (192, 128, True), (128, 256, False), (256, 128, False)] # rows, columns, ping-pong

def product(name, left, right, launch=True, tile=None, **operands):
    "left (M,K) times right (N,K) transposed through an epilogue: (M,N) in their dtype, and the sum over each row, float32, or None"
    if launch and not left.is_cuda: return plain(name, left @ right.T, **operands)
    (M,_),N,epi,(BM,BN,pingpong) = left.shape, right.shape[0], globals()[name], tile or TILES[name]
    out = torch.empty(M, N, dtype=left.dtype, device=left.device)
    sums = {n: torch.empty(o.sink_alloc_shape((1, M), N, BM, BN), device=left.device) for n,o in epi.sinks.items()}
    args = {n: o if o.ndim == 0 or o.numel() == 1 else o[None] for n,o in operands.items()} | sums
    epi.gemm(left[None], right[None], out[None], epi_args=args, tile_M=BM, tile_N=BN, cluster_M=2, pingpong=pingpong, _launch=launch)
    return out, next((s[0].sum(1) for s in sums.values()), None)

def factor(square, d): return torch.rsqrt(square/d + EPS)

# --- operators. A link is a tensor of no size that carries a gradient to the operator that can add it in passing

def no_size(x): return x.new_zeros(1).expand(x.shape)

@op('epi_residual')
def _residual(x: Tensor, y: Tensor, w: Tensor, link: Tensor) -> tuple[Tensor, Tensor]:
    out,square = product('add', y, w, x=x)
    return out, factor(square, out.shape[1])

@_residual.register_fake
def _(x, y, w, link): return torch.empty_like(x), x.new_empty(x.shape[0], dtype=torch.promote_types(x.dtype, torch.float32))

def _residual_backward(ctx, g, _):
    y,w = ctx.saved_tensors
    g = g.contiguous()
    return None, g @ w, g.T @ y, g

_residual.register_autograd(_residual_backward, setup_context=lambda ctx, inputs, output: ctx.save_for_backward(*inputs[1:3]))

def residual(x, y, w, link):
    "x (M,d), y (M,e), w (d,e): x + y w', and each row's norm factor. x has its gradient through `link`."
    return torch.ops.autoresearch.epi_residual(x.detach(), y, w.to(x.dtype), link)

@op('epi_mlp')
def _mlp(x: Tensor, r: Tensor, w_fc: Tensor, w_proj: Tensor, x0: Tensor|None, a: Tensor, b: Tensor|None, link: Tensor|None) -> tuple[Tensor, Tensor, Tensor]:
    p,_ = product('relu2', x, w_fc, r=r)
    out,square = product('add', p, w_proj, x=x) if x0 is None else product('mix', p, w_proj, x=x, x0=x0, a=a, b=b)
    return out, factor(square, out.shape[1]), p

@_mlp.register_fake
def _(x, r, w_fc, w_proj, x0, a, b, link): return torch.empty_like(x), torch.empty_like(r), x.new_empty(x.shape[0], w_fc.shape[0])

@op('epi_mlp_grad')
def _mlp_grad(g: Tensor, x: Tensor, r: Tensor, w_fc: Tensor, w_proj: Tensor, a: Tensor, p: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    dh,dot = product('relu2_grad', g, w_proj.T, r=r, p=p, a=a)
    dx,along = product('norm_grad', dh, w_fc.T, x=x, g=g, s=r*dot*a/x.shape[1], a=a)
    return dx, dh.T @ x, (g.T @ p)*a.to(g.dtype), ((dot/(2*r)).sum() + along.sum()).view(a.shape)

@_mlp_grad.register_fake
def _(g, x, r, w_fc, w_proj, a, p): return torch.empty_like(x), torch.empty_like(w_fc), torch.empty_like(w_proj), torch.empty_like(a)

def _mlp_backward(ctx, g, *_):
    x,r,w_fc,w_proj,a,p = ctx.saved_tensors
    g = g.contiguous()
    dx,dfc,dproj,da = torch.ops.autoresearch.epi_mlp_grad(g, x, r, w_fc, w_proj, a, p)
    return dx, None, dfc, dproj, None, da if ctx.mixed else None, None, g if ctx.mixed else None

def _mlp_context(ctx, inputs, output):
    x,r,w_fc,w_proj,x0,a,*_ = inputs
    ctx.save_for_backward(x, r, w_fc, w_proj, a, output[2])
    ctx.mixed = x0 is not None

_mlp.register_autograd(_mlp_backward, setup_context=_mlp_context)

def mlp(x, r, w_fc, w_proj, x0=None, a=None, b=None, link=None):
    "a (x + mlp(norm(x))) + b x0, or without x0 the bracket alone; and each row's norm factor. x0 and b have their gradients through `link`."
    if x0 is None: a = torch.ones((), device=x.device, dtype=r.dtype)
    else: x0,b = x0.detach(), b.detach()
    return torch.ops.autoresearch.epi_mlp(x, r, w_fc.to(x.dtype), w_proj.to(x.dtype), x0, a, b, link)[:2]

@op('epi_links')
def _links(x0: Tensor, b: Tensor) -> list[Tensor]: return [no_size(x0) for _ in b]

@_links.register_fake
def _(x0, b): return [x0.new_empty(1).expand(x0.shape) for _ in b]

@jit
def _links_kernel(gs, x0, b, dx0, db, N, LAYERS: tl.constexpr, BLOCK: tl.constexpr, PROGRAMS: tl.constexpr):
    for i in tl.static_range(LAYERS): tl.store(db + tl.program_id(0)*LAYERS + i, 0.)
    for start in range(tl.program_id(0)*BLOCK, N, PROGRAMS*BLOCK):
        at = start + tl.arange(0, BLOCK).to(tl.int64)
        x,acc = tl.load(x0 + at, mask=at < N, other=0.).to(tl.float32), tl.zeros((BLOCK,), tl.float32)
        for i in tl.static_range(LAYERS):
            g = tl.load(gs[i] + at, mask=at < N, other=0.).to(tl.float32)
            acc += tl.load(b + i)*g
            here = db + tl.program_id(0)*LAYERS + i
            tl.store(here, tl.load(here) + tl.sum(g*x, 0))
        tl.store(dx0 + at, acc.to(dx0.dtype.element_ty), mask=at < N)

@op('epi_links_grad')
def _links_grad(gs: list[Tensor], x0: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    if not (x0.is_cuda and triton): return sum(c.to(g.dtype)*g for c,g in zip(b, gs)), torch.stack([(g*x0).sum().to(b.dtype) for g in gs])
    n = 4*torch.cuda.get_device_properties(x0.device).multi_processor_count
    dx0,db = torch.empty_like(x0), torch.empty(n, len(gs), device=x0.device)
    _links_kernel[(n,)](tuple(gs), x0, b, dx0, db, x0.numel(), len(gs), 2048, n, num_warps=8)
    return dx0, db.sum(0)

@_links_grad.register_fake
def _(gs, x0, b): return torch.empty_like(x0), torch.empty_like(b)

def _links_backward(ctx, gs): return torch.ops.autoresearch.epi_links_grad([g.contiguous() for g in gs], *ctx.saved_tensors)

_links.register_autograd(_links_backward, setup_context=lambda ctx, inputs, output: ctx.save_for_backward(*inputs))

# --- queries, keys and values: today's forward, and a gradient that finds the sum over the row for the norm on its way

@op('epi_heads')
def _heads(x: Tensor, scale: Tensor, w: Tensor, z: Tensor|None, w_gate: Tensor|None, cos: Tensor, sin: Tensor, ve: Tensor|None, tokens: Tensor,
           order: Tensor, sorted: Tensor, n_head: int, n_kv_head: int) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    gate = 2*torch.sigmoid(z) if z is not None else None
    return *torch.ops.autoresearch.heads(x, scale, w, cos, sin, ve, gate, tokens, order, sorted, n_head, n_kv_head), no_size(x)

@_heads.register_fake
def _(x, scale, w, z, w_gate, cos, sin, ve, tokens, order, sorted, n_head, n_kv_head):
    (B,T,_),D = x.shape, w.shape[0]//(n_head+2*n_kv_head)
    r = x.new_empty(B, T, n_head+n_kv_head, dtype=torch.promote_types(x.dtype, torch.float32))
    return *(x.new_empty(B, T, h, D) for h in (n_head, n_kv_head, n_kv_head)), r, x.new_empty(1).expand(x.shape)

@jit
def _heads_grad_kernel(dq, dk, dv, q, k, v, r, scale, cos, sin, ve, z, tokens, dqkv, dgate, dots, T, eps, W, HQ: tl.constexpr, HK: tl.constexpr,
                       D: tl.constexpr, VE: tl.constexpr, ROWS: tl.constexpr):
    rows,h,half = tl.program_id(0).to(tl.int64)*ROWS + tl.arange(0, ROWS)[:,None], tl.program_id(1), tl.arange(0, D//2)[None,:]
    n = tl.load(scale + rows)
    if h < HQ+HK:
        if h < HQ: y,dy,i = q, dq, rows*(HQ*D) + h*D + half
        else: y,dy,i = k, dk, rows*(HK*D) + (h-HQ)*D + half
        a,b = tl.load(y + i).to(tl.float32), tl.load(y + i + D//2).to(tl.float32)
        da,db = tl.load(dy + i).to(tl.float32), tl.load(dy + i + D//2).to(tl.float32)
        along,root = tl.sum(da*a + db*b, 1, keep_dims=True)/D, tl.load(r + rows*(HQ+HK) + h)
        dot = D*along*eps*root*root # what is left of a direction that the norm takes out
        da,db = root*(da - a*along), root*(db - b*along)
        at = (rows % T)*(D//2) + half
        c,s = tl.load(cos + at).to(tl.float32), tl.load(sin + at).to(tl.float32)
        da,db = da*c - db*s, da*s + db*c
    else:
        j = h-HQ-HK
        i = rows*(HK*D) + j*D + half
        da,db = tl.load(dv + i).to(tl.float32), tl.load(dv + i + D//2).to(tl.float32)
        dot = tl.sum(da*tl.load(v + i).to(tl.float32) + db*tl.load(v + i + D//2).to(tl.float32), 1, keep_dims=True)
        if VE:
            e = ve + tl.load(tokens + rows)*(HK*D) + j*D + half
            dg = tl.sum(da*tl.load(e).to(tl.float32) + db*tl.load(e + D//2).to(tl.float32), 1, keep_dims=True)
            tl.store(dgate + rows*HK + j, dg.to(dgate.dtype.element_ty))
            zj = tl.load(z + rows*HK + j).to(tl.float32)
            gate = 2*tl.sigmoid(zj)
            dz = dg*gate*(1 - gate/2)
            dot += dz*zj - gate*dg
            tl.store(dqkv + rows*W + (HQ+2*HK)*D + j, (n*dz).to(dqkv.dtype.element_ty))
    tl.store(dots + rows*(HQ+2*HK) + h, dot)
    dst = dqkv + rows*W + h*D + half
    tl.store(dst, (n*da).to(dqkv.dtype.element_ty))
    tl.store(dst + D//2, (n*db).to(dqkv.dtype.element_ty))

def _plain_heads_grad(dq, dk, dv, q, k, v, r, scale, cos, sin, ve, z, tokens, pad):
    y,dy = torch.cat([q, k], 2), torch.cat([dq, dk], 2)
    along = (dy*y).mean(-1)
    do = r[..., None].to(q.dtype)*(dy - y*along[..., None])
    a,b = do.chunk(2, dim=-1)
    parts = [torch.cat([torch.cat([a*cos - b*sin, a*sin + b*cos], -1), dv], 2).flatten(2)]
    dots = (q.shape[-1]*along*EPS*r.square()).sum(-1) + (dv*v).sum((-2, -1))
    if ve is not None:
        dg,gate = (dv*ve[tokens].view_as(dv)).sum(-1), 2*torch.sigmoid(z)
        dz = dg*gate*(1 - gate/2)
        dots = dots + (dz*z - gate*dg).sum(-1)
        parts += [dz, dz.new_zeros(*dz.shape[:2], pad)]
    return torch.cat(parts, -1)*scale[..., None].to(q.dtype), dots

@op('epi_heads_grad')
def _heads_grad(dq: Tensor, dk: Tensor, dv: Tensor, g: Tensor, x: Tensor, scale: Tensor, w: Tensor, z: Tensor|None, w_gate: Tensor|None, cos: Tensor,
                sin: Tensor, ve: Tensor|None, tokens: Tensor, order: Tensor, sorted: Tensor, q: Tensor, k_: Tensor, v: Tensor, r: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    "dx, dw, dw_gate, dve; the last two empty without a table of values"
    (B,T,HQ,D),HK,M,d,N = q.shape, k_.shape[2], q.shape[0]*q.shape[1], x.shape[2], w.shape[0]
    pad = -HK % 8
    if not (x.is_cuda and triton): dqkv,dots = _plain_heads_grad(dq, dk, dv, q, k_, v, r, scale, cos, sin, ve, z, tokens, pad)
    else:
        W = N + HK + pad if ve is not None else N
        dqkv,dots = x.new_empty(B, T, W), torch.empty(B, T, HQ+2*HK, device=x.device)
        if ve is not None: dqkv[..., N+HK:].zero_()
        dgate = x.new_empty((B, T, HK) if ve is not None else 0)
        dq,dk,dv = (o.contiguous() for o in (dq, dk, dv))
        _heads_grad_kernel[(M//16, HQ+2*HK)](dq, dk, dv, q, k_, v, r, scale, cos, sin, q if ve is None else ve, q if ve is None else z, tokens, dqkv, dgate, dots,
            T, EPS, W, HQ, HK, D, ve is not None, 16, num_warps=4)
        dots = dots.sum(-1)
    dqkv,x = dqkv.view(M, -1), x.view(M, d)
    if ve is not None: w = torch.cat([w, F.pad(w_gate, (0, d-w_gate.shape[1], 0, pad))])
    one = torch.ones((), device=x.device, dtype=scale.dtype)
    dx,_ = product('norm_grad', dqkv, w.T, x=x, g=g.contiguous().view(M, d), s=scale.view(M)*scale.view(M)*dots.view(M)/d, a=one)

    if ve is None: return dx.view(B, T, d), dqkv.T @ x, x.new_empty(0), x.new_empty(0)
    dve = torch.ops.autoresearch.sum_rows(dv.flatten(2).flatten(0, 1), (2*torch.sigmoid(z)).flatten(0, 1), order, sorted, ve.shape[0])
    return dx.view(B, T, d), dqkv[:, :N].T @ x, dqkv[:, N:N+HK].T @ x[:, :w_gate.shape[1]], dve

@_heads_grad.register_fake
def _(dq, dk, dv, g, x, scale, w, z, w_gate, cos, sin, ve, tokens, order, sorted, q, k_, v, r):

    return torch.empty_like(x), torch.empty_like(w), *(x.new_empty(0) if ve is None else torch.empty_like(o) for o in (w_gate, ve))

def _heads_backward(ctx, dq, dk, dv, _, g):
    x,scale,w,z,w_gate,cos,sin,ve,tokens,order,sorted,q,k_,v,r = ctx.saved_tensors
    dx,dw,dw_gate,dve = torch.ops.autoresearch.epi_heads_grad(dq, dk, dv, g, x, scale, w, z, w_gate, cos, sin, ve, tokens, order, sorted, q, k_, v, r)
    return dx, None, dw, None, dw_gate if ve is not None else None, None, None, dve if ve is not None else None, *[None]*5

_heads.register_autograd(_heads_backward, setup_context=lambda ctx, inputs, output: ctx.save_for_backward(*inputs[:11], *output[:4]))

def heads(x, r, w, cos, sin, n_head, n_kv_head, tokens, by_token, ve=None, w_gate=None):
    "As `kernels.heads`, given the norm's factor r (B,T); and a link to add x's other gradient by"
    w,z = w.to(x.dtype), None
    if ve is not None:
        w_gate = w_gate.to(x.dtype)
        z = F.linear((x[..., :w_gate.shape[1]]*r[..., None]).to(x.dtype), w_gate).detach()
    q,k_,v,_,link = torch.ops.autoresearch.epi_heads(x, r, w, z, w_gate, cos, sin, ve, tokens, *by_token, n_head, n_kv_head)
    return q, k_, v, link

# --- the model with them

def stream(self, tokens):
    "In place of `GPT.stream`"
    by_token,n = self.ops.sort_tokens(tokens), len(self.blocks)
    x0 = t.norm(self.ops.embedding(tokens, self.wte.weight, by_token))
    links = torch.ops.autoresearch.epi_links(x0, self.x0_lambdas[1:]) if n > 1 else []
    x = (self.resid_lambdas[0] + self.x0_lambdas[0]).to(x0.dtype)*x0
    r = k.row_scale(x).detach()
    for i,block in enumerate(self.blocks):
        at,ve = block.attn, self.value_embeds[str(i)].weight if self.config.has_ve(i) else None
        w = torch.cat([at.c_q.weight, at.c_k.weight, at.c_v.weight])
        q,k_,v,link = heads(x, r, w, self.cos, self.sin, *at.heads, tokens, by_token, ve, at.ve_gate.weight if ve is not None else None)
        y = self.attention.attend(q, k_, v, self.masks[i]).flatten(2).flatten(0, 1)
        x,r = residual(x.flatten(0, 1), y, at.c_proj.weight, link.flatten(0, 1))
        mixing = (x0.flatten(0, 1), self.resid_lambdas[i+1], self.x0_lambdas[i+1], links[i].flatten(0, 1)) if i+1 < n else ()
        x,r = mlp(x, r.detach(), block.mlp.c_fc.weight, block.mlp.c_proj.weight, *mixing)
        x,r = x.view(*tokens.shape, -1), r.detach().view(tokens.shape)
    return t.norm(x)

@contextlib.contextmanager
def with_epilogues():
    was,t.GPT.stream = t.GPT.stream, stream
    try: yield
    finally: t.GPT.stream = was

def check():
    "Loss and every gradient against the plain model, float64 on a CPU"
    worst = 0.
    for n_kv_head,depth in ((4, 3), (2, 1)):
        c,got = t.GPTConfig(32, 64, depth, 4, n_kv_head, 64), []
        x,y = torch.randint(64, (2, 4, 32))
        for ops,how in ((t.PLAIN, contextlib.nullcontext), (t.FUSED, with_epilogues)):
            torch.manual_seed(1)
            with how():
                m = t.GPT(c, t.choose_attention(torch.device('cpu')), ops).init_weights(torch.device('cpu')).double()
                for p in m.parameters(): torch.nn.init.normal_(p, std=.2)
                m.cos,m.sin,m.dtype = m.cos.double(), m.sin.double(), torch.float32
                loss = m(x, y)
                loss.backward()
            got.append(dict(loss=loss, **{n: p.grad for n,p in m.named_parameters()}))
        for n in got[0]:
            a,b = got[0][n], got[1][n]
            off = ((a-b).norm()/a.norm()).item()
            worst = max(worst, off)
            if off > 1e-6: print(f'{n}: off by {off:.1e}')
    print(f'largest relative difference: {worst:.1e}')

# --- on a Hopper GPU, or compiled for one

M,D,H = 2**18, 512, 2048 # tokens of a pass, width, hidden width

def operands(device, m=M):
    "Arguments of every product as the starting line has them: name of the epilogue, left, right, operands; by a title"
    wide = lambda *s, std=1.: torch.randn(*s, device=device, dtype=torch.bfloat16)*std if device != 'meta' else torch.empty(*s, device=device, dtype=torch.bfloat16)
    col = lambda: torch.rand(m, device=device)+.5
    one = lambda v: torch.full((), v, device=device)
    x,g,h = wide(m, D), wide(m, D), wide(m, H)
    return {'relu2': ('relu2', x, wide(H, D, std=.05), dict(r=col())),
        'relu2_grad': ('relu2_grad', g, wide(D, H, std=.05).T, dict(r=col(), p=h.square(), a=one(.9))),
        'add': ('add', x, wide(D, D, std=.05), dict(x=g)),
        'add, MLP': ('add', h, wide(D, H, std=.05), dict(x=g)),
        'mix': ('mix', h, wide(D, H, std=.05), dict(x=g, x0=x, a=one(.9), b=one(.1))),
        'norm_grad, MLP': ('norm_grad', h, wide(H, D, std=.05).T, dict(x=x, g=g, s=col(), a=one(.9))),
        'norm_grad, heads': ('norm_grad', wide(m, 3*D), wide(3*D, D, std=.05).T, dict(x=x, g=g, s=col(), a=one(1.))),
        'norm_grad, heads with gate': ('norm_grad', wide(m, 3*D+8), wide(3*D+8, D, std=.05).T, dict(x=x, g=g, s=col(), a=one(1.)))}

def compile_one(title, tile=None):
    "Compile without a GPU; what QuACK keeps in QUACK_CACHE_DIR a GPU finds again"
    import quack.epilogue.ops, quack.gemm_runtime.host
    quack.gemm_runtime.host.get_max_active_clusters = lambda size, *_: 132//size
    quack.epilogue.ops.Scalar._validate_pointer_value = lambda *_: None
    name,left,right,args = operands('meta')[title]
    t0 = time.perf_counter()
    product(name, left, right, launch=False, tile=tile, **args)
    return time.perf_counter()-t0

def compile_all(tiles=False, jobs=0):
    "Compile every product, with every tile if asked; in as many processes as there are cores"
    todo = [(title, tile) for title in operands('meta') for tile in (WIDTHS if tiles else [None])]
    env = {**os.environ, 'QUACK_ARCH': '90', 'CUTE_DSL_ARCH': 'sm_90a', 'CUDA_VISIBLE_DEVICES': ''}
    code = f'import sys; sys.path.insert(0, {str(Path(__file__).parent)!r}); import epilogues; print(epilogues.compile_one({{!r}}, {{!r}}))'
    def one(job):
        r = subprocess.run([sys.executable, '-c', code.format(*job)], capture_output=True, text=True, env=env)
        return f'{float(r.stdout.split()[-1]):.1f}' if r.returncode == 0 else r.stderr.strip().splitlines()[-1][:100]
    with ThreadPoolExecutor(jobs or os.cpu_count()) as pool: took = list(pool.map(one, todo))
    h100.table(['product', 'tile: rows, columns, ping-pong', 'seconds to compile'], [[title, tile or TILES[title.split(',')[0]], o] for (title,tile),o in zip(todo, took)])

def milliseconds(f, n=20):
    for _ in range(3): f()
    start,end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    start.record()
    for _ in range(n): f()
    end.record()
    torch.cuda.synchronize()
    return start.elapsed_time(end)/n

def products():
    "Each product with each tile beside the package's kernel, or the plain form compiled; and how far its values are from float32's"
    compile_all(True)
    rows = []
    for title,(name,left,right,args) in operands('cuda').items():
        few = {n: o[:4096] if o.ndim else o for n,o in args.items()}
        want = plain(name, left[:4096].float() @ right.T.float(), **{n: o.float() for n,o in few.items()})
        got = product(name, left[:4096], right, **few)
        off = [f'{((g.float()-w).norm()/w.norm()).item():.1e}' for g,w in zip(got, want) if w is not None]
        rival = torch.compile(lambda: plain(name, left @ right.T, **args), dynamic=False)
        if name == 'relu2': rival = lambda: k.relu2_product(left, right, args['r'][:])
        if name == 'relu2_grad': rival = lambda: k.relu2_product(left, right.contiguous(), args['r'], args['p'])
        times = []
        for tile in WIDTHS:
            try: times.append(f'{milliseconds(lambda: product(name, left, right, tile=tile, **args)):.3f}')
            except Exception as e: times.append(type(e).__name__)
        rows.append([title, ' '.join(off), f'{milliseconds(lambda: left @ right.T):.3f}', f'{milliseconds(rival):.3f}', *times])
        print(*rows[-1], flush=True)
        torch.compiler.reset()
    h100.table(['product', 'off by', 'cuBLAS alone', 'today', *map(str, WIDTHS)], rows)

def steps(n=60):
    "The whole model as it is and with epilogues, FA3 and FlexAttention, one seed, real data"
    found = {}
    for attention in ('', 'flex'):
        for how in ('nullcontext', 'with_epilogues'):
            code = f'import contextlib, epilogues, h100\nwith getattr(epilogues, {how!r}, contextlib.nullcontext)(): h100.measure({n})'
            found[f'{attention or "chosen"}, {how}'] = v = json.loads(h100.child(h100.ROOT, code, **({'AUTORESEARCH_ATTENTION': attention} if attention else {})))
            print(attention, how, f'{v["ms"]:.1f} ms, loss {v["loss"]:.4f}, {v["gb"]:.1f} GB', flush=True)
    h100.table(['attention, how', 'ms a step', 'tokens/s', 'peak GB', 'first loss', 'last', 'mean of last 10'], [[f'{o} ({v["attention"]})', f'{v["ms"]:.1f}',
        f'{v["rate"]:,.0f}', f'{v["gb"]:.1f}', f'{v["first"]:.4f}', f'{v["loss"]:.4f}', f'{v["loss10"]:.4f}'] for o,v in found.items()])
    h100.table(['GPU time, ms a step', *found], [[part, *(f'{v["parts"][part]:.1f}' for v in found.values())] for part,_ in h100.KINDS])

if __name__ == '__main__':
    import epilogues # under its own name, which QuACK's cache knows its functions by
    for o in sys.argv[1:] or ['check']: getattr(epilogues, dict(compile='compile_all').get(o, o))()
