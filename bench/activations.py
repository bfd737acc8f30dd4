"""What an MLP costs by its activation on a CUDA GPU: fused and compiled plain, forward and backward,
and how exact each is.

    python bench/activations.py                          # all, 2**18 rows of width 512, under a
                                                         # minute
    python bench/activations.py --kinds silu,silu_gated

A process for each kind compiles beside the others; then one after another is timed with the GPU to
itself. Errors are of the output and of the worst gradient, relative to float32, over 8192 rows;
ReLU squared is what the starting line has.
"""
import json, os, subprocess, sys, time
from pathlib import Path
import torch, torch.nn.functional as F
from fastcore.script import call_parse

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
from autoresearch import kernels as k
from products import columns, milliseconds

ACTIVATIONS = dict(relu2=lambda h: F.relu(h).square(), relu=F.relu, gelu=F.gelu,
    gelu_tanh=lambda h: F.gelu(h, approximate='tanh'), silu=F.silu)
KINDS = [*ACTIVATIONS, *(f'{o}_gated' for o in ACTIVATIONS if o != 'relu2')]
COLUMNS = ['kind', 'columns inside', 'fused ms', 'plain ms', 'error fused', 'plain, eager',
    'worst gradient fused', 'plain, eager']

def random(*shape, std=1.): return torch.randn(*shape, device='cuda')*std

def weights(kind, d):
    "Of the first product and the last, and of what a gate multiplies"
    torch.manual_seed(0)
    h = columns(kind, d)
    shapes = [(h, d), (d, h)] + ([(h, d)] if kind.endswith('_gated') else [])
    return [random(*s, std=.05) for s in shapes]

def forms(kind):
    "The MLP fused and plain, functions of the stream, x0, their numbers and the weights"
    name = kind.removesuffix('_gated')
    f = ACTIVATIONS[name]
    def plain(x, x0, a, b, w_fc, w_proj, *up):
        n = F.rms_norm(x, x.shape[-1:])
        p = f(F.linear(n, w_fc))
        if up: p = p*F.linear(n, *up)
        return a*(x + F.linear(p, w_proj)) + b*x0
    def fused(x, x0, a, b, w_fc, w_proj, *up):
        mix = (a, b, x0, k.links(x0, b[None])[0])
        return k.mlp(x, k.row_scale(x).detach(), w_fc, w_proj, mix, name, *up)[0]
    return fused, plain

def leaves(given, n, dtype):
    "Arguments of both forms for n rows: numbers at least in float32, the rest rounded to bf16"
    torch.manual_seed(1)
    d = given[0].shape[1]
    wide = torch.promote_types(dtype, torch.float32)
    numbers = [torch.tensor(o, device='cuda', dtype=wide) for o in (.9, .2)]
    x,x0 = random(n, d, std=3), random(n, d)
    x,x0,*rounded = (o.bfloat16().to(dtype) for o in (x, x0, *given))
    return [o.detach().requires_grad_() for o in (x, x0, *numbers, *rounded)]

def results(f, ins):
    "The output and every gradient"
    y = f(*ins)
    (y.float().square().sum()/2).backward()
    return [y.detach(), *(o.grad for o in ins)]

def errors(got, want):
    "Of the output and of the worst gradient"
    off = [float((a.float()-b).norm()/b.norm()) for a,b in zip(got, want)]
    return off[0], max(off[1:])

def compiled_pass(f, ins):
    "Forward and backward as one call, made once"
    def call():
        for o in ins: o.grad = None
        y = f(*ins)
        y.backward(y.detach())
    call()
    torch.cuda.empty_cache() # the other kinds are on this GPU too
    return call

def child(kind, rows, d):
    "Compile and check, say so, wait for the turn, time"
    fused,plain = forms(kind)
    given = weights(kind, d)
    want = results(plain, leaves(given, 8192, torch.float32))
    off = [errors(results(f, leaves(given, 8192, torch.bfloat16)), want) for f in (fused, plain)]
    passes = [compiled_pass(f, leaves(given, rows, torch.bfloat16))
        for f in (fused, torch.compile(plain, dynamic=False))]
    torch.cuda.synchronize()
    print('ready', flush=True)
    sys.stdin.readline()
    print(json.dumps(dict(ms=[milliseconds(o) for o in passes], errors=off)), flush=True)

def start(kind, rows, d):
    "A process that does this for one kind"
    code = f'import activations; activations.child{(kind, rows, d)}'
    return subprocess.Popen([sys.executable, '-c', code], cwd=ROOT/'bench', text=True,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        env={**os.environ, 'PYTHONUNBUFFERED': '1'})

def line(*cells): print(f'| {" | ".join(cells)} |', flush=True)

@call_parse
def main(
    kinds:str=','.join(KINDS), # Comma-separated
    rows:int=2**18, # Of the timed calls
    d:int=512 # Width of the stream
):
    "Print a table, a line for each kind"
    t = time.time()
    running = {o: start(o, rows, d) for o in kinds.split(',')}
    # Reads up to that line, or to the end
    failed = [o for o,p in running.items() if 'ready\n' not in iter(p.stdout.readline, '')]
    print(f'ready after {time.time()-t:.0f} s')
    line(*COLUMNS)
    line(*(['---']*len(COLUMNS)))
    for o,p in running.items():
        said,wrong = p.communicate(None if o in failed else '\n')
        if p.returncode:
            line(o, str(wrong.strip().splitlines()[-1:]))
            continue
        r = json.loads(said.strip().splitlines()[-1])
        (e,g),(pe,pg) = r['errors']
        line(o, str(columns(o, d)), *(f'{ms:.2f}' for ms in r['ms']),
            *(f'{off:.1e}' for off in (e, pe, g, pg)))
    print(f'{time.time()-t:.0f} s')
