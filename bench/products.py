"""The products of `nbs/03_kernels.ipynb` with their epilogues: do they compile, are they right, how
long do they take with which tile?

    python bench/products.py compile    # for sm_90a, seconds each; needs quack-kernels, no GPU
    python bench/products.py            # on a Hopper GPU: values, and milliseconds by tile beside
                                        # cuBLAS and the plain form compiled
    python bench/products.py compile gelu gelu_grad    # some of them
    python bench/products.py silu_gated 'add, MLP'

`python bench/h100.py --parts steps --against FOLDER` has the whole step beside another commit's.
"""
import os, subprocess, sys, time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Annotated
import torch
from fastcore.script import call_parse
from autoresearch import kernels as k
import h100

M,D = 2**18, 512 # tokens of a pass, width
# As in `kernels.TILES`; None: the product's own there
WIDTHS = [(128, 128, 2, 1, 128), (128, 128, 1, 2, 64), (128, 192, 2, 1, 32), (192, 128, 1, 2, 32),
    (192, 128, 1, 2, 64)]
TILES = [None, *WIDTHS]
TITLES = [*k.TILES, 'add, MLP', 'norm_grad, with gate']

def epilogue_of(title): return title.split(',')[0]

def columns(kind, d=D):
    "Inside an MLP; with a gate there are as many parameters"
    return round(8*d/3/64)*64 if '_gated' in kind else 4*d

def operands(title, m=M, device='cuda'):
    "Of one product as the model has it: name of the epilogue, left, right, the epilogue's operands"
    new = lambda *s: torch.randn(*s, device=device, dtype=torch.bfloat16)
    if title == 'bare': return 'bare', new(min(m, 2**15), D), new(8192, D), {} # a piece of logits
    name = epilogue_of(title)
    left,right,args = k.example(name, m, D, columns(name), device)
    if title == 'add, MLP': left,right = new(m, 4*D), .05*new(D, 4*D)
    if title == 'norm_grad, with gate': left,right = new(m, 3*D+64), .05*new(3*D+64, D).T
    return name, left, right, args

def compile_one(title, tile=None):
    """Seconds to compile, without a GPU: tensors are fake and nothing is launched.

    What QuACK keeps in QUACK_CACHE_DIR a GPU finds again."""
    import quack.epilogue.frontend as frontend, quack.gemm_runtime.host as host
    from torch._subclasses.fake_tensor import FakeTensorMode
    host.get_max_active_clusters,frontend.run_gemm_epi_plan,k._row_sums = (
        (lambda size, *_: 132//size), lambda *_, **__: None, lambda *_: None)
    with FakeTensorMode():
        name,left,right,args = operands(title, 256)
        t0 = time.perf_counter()
        k.product(name, left, right, tile, **args)
    return time.perf_counter()-t0

def headings(tiles): return [str(t or 'its own tile') for t in tiles]

def compile_all(titles, tiles):
    "Compile each product with every tile, each in a process, as many at once as there are cores"
    jobs = [(title, tile) for title in titles for tile in tiles]
    env = {**os.environ, 'QUACK_ARCH': '90', 'CUTE_DSL_ARCH': 'sm_90a'}
    code = (f'import sys; sys.path.insert(0, {str(Path(__file__).parent)!r}); import products; '
        f'print(products.compile_one({{!r}}, {{!r}}))')
    def one(job):
        r = subprocess.run([sys.executable, '-c', code.format(*job)], capture_output=True,
            text=True, env=env)
        return (f'{float(r.stdout.split()[-1]):.1f}' if r.returncode == 0
            else r.stderr.strip().splitlines()[-1][:100])
    with ThreadPoolExecutor(os.cpu_count()) as pool: took = list(pool.map(one, jobs))
    h100.table(['product', *headings(tiles)],
        [[title, *(s for (o,_),s in zip(jobs, took) if o == title)] for title in titles])

def milliseconds(f, n=20):
    for _ in range(3): f()
    start,end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    start.record()
    for _ in range(n): f()
    end.record()
    torch.cuda.synchronize()
    return start.elapsed_time(end)/n

def errors(name, left, right, args):
    "How far the product is from float32, on a few rows"
    few = {n: o[:4096] if o.ndim else o for n,o in args.items()}
    want = k.plain_epilogue(name, left[:4096].float() @ right.T.float(),
        **{n: o.float() for n,o in few.items()})
    got = k.product(name, left[:4096], right, **few)
    return ' '.join(f'{((g.float()-w).norm()/w.norm()).item():.1e}'
        for g,w in zip(got, want) if w is not None)

def timed(name, left, right, args, tile):
    "Milliseconds with a tile, or what went wrong"
    try: return f'{milliseconds(lambda: k.product(name, left, right, tile, **args)):.3f}'
    except Exception as e: return type(e).__name__

def measure_one(title):
    "A row of the table; what it needed on the GPU is free after it"
    name,left,right,args = operands(title)
    off = errors(name, left, right, args)
    plain = torch.compile(lambda: k.plain_epilogue(name, left @ right.T, **args), dynamic=False)
    times = [timed(name, left, right, args, tile) for tile in TILES]
    row = [title, off, f'{milliseconds(lambda: left @ right.T):.3f}',
        f'{milliseconds(plain):.3f}', *times]
    print(*row, flush=True)
    torch.compiler.reset()
    return row

def measure(titles):
    "Values against float32 on a few rows, then times"
    compile_all(list(dict.fromkeys(map(epilogue_of, titles))), TILES)
    h100.table(['product', 'off by', 'cuBLAS alone', 'plain, compiled', *headings(TILES)],
        [measure_one(title) for title in titles])

@call_parse
def main(
    names:Annotated[str, '`compile`, then products; none: all', dict(nargs='*', opt=False)]=()
):
    "Compile products for a Hopper GPU, or measure them on one"
    only_compile = names[:1] == ['compile']
    titles = names[1:] if only_compile else names
    if wrong := [o for o in titles if o not in TITLES]:
        raise SystemExit(f'bench/products.py: no product {", ".join(wrong)}; one of {TITLES}')
    if only_compile: compile_all(titles or list(k.TILES), [None])
    else: measure(titles or TITLES)
