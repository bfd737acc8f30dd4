"""The products of `nbs/03_kernels.ipynb` with their epilogues: do they compile, are they right, how
long do they take with which tile?

    python bench/products.py compile    # for sm_90a, seconds each; needs quack-kernels, no GPU
    python bench/products.py            # on a Hopper GPU: values, and milliseconds by tile beside
                                        # cuBLAS and the plain form compiled

`python bench/h100.py --parts steps --against FOLDER` has the whole step beside another commit's.
"""
import os, subprocess, sys, time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
import torch
from autoresearch import kernels as k
import h100

M,D = 2**18, 512 # tokens of a pass, width
# As in `kernels.TILES`
WIDTHS = [(128, 128, 2, 1, 128), (128, 128, 1, 2, 64), (128, 192, 2, 1, 32), (192, 128, 1, 2, 32),
    (192, 128, 1, 2, 64)]

def operands(m=M):
    """Arguments of every product as the starting line has them, by a title: name of the epilogue,
    left, right, its operands"""
    found = {name: (name, *k.example(name, m)) for name in k.TILES}
    # A piece of the logits
    found['bare'] = ('bare', *(torch.randn(n, D, device='cuda', dtype=torch.bfloat16)
        for n in (min(m, 2**15), 8192)), {})
    _,inner,down,_ = found['mix']
    left,right = (torch.randn(*s, device='cuda', dtype=torch.bfloat16)
        for s in ((m, 3*D+64), (3*D+64, D)))
    return {**found, 'add, MLP': ('add', inner, down, found['add'][3]),
        'norm_grad, with gate': ('norm_grad', left, (.05*right).T, found['norm_grad'][3])}

def compile_one(title, tile=None):
    """Seconds to compile, without a GPU: tensors are fake and nothing is launched.

    What QuACK keeps in QUACK_CACHE_DIR a GPU finds again."""
    import quack.epilogue.frontend as frontend, quack.gemm_runtime.host as host
    from torch._subclasses.fake_tensor import FakeTensorMode
    host.get_max_active_clusters,frontend.run_gemm_epi_plan,k._row_sums = (
        (lambda size, *_: 132//size), lambda *_, **__: None, lambda *_: None)
    with FakeTensorMode():
        name,left,right,args = operands(256)[title]
        t0 = time.perf_counter()
        k.product(name, left, right, tile, **args)
    return time.perf_counter()-t0

def compile_all(tiles):
    "Compile every product with every tile, each in a process, as many at once as there are cores"
    titles = list(k.TILES)
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
    h100.table(['product', *(str(t or 'its own tile') for t in tiles)],
        [[title, *(s for (o,_),s in zip(jobs, took) if o == title)] for title in titles])

def milliseconds(f, n=20):
    for _ in range(3): f()
    start,end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    start.record()
    for _ in range(n): f()
    end.record()
    torch.cuda.synchronize()
    return start.elapsed_time(end)/n

def measure():
    "Values against float32 on a few rows, then times"
    compile_all(WIDTHS)
    rows = []
    for title,(name,left,right,args) in operands().items():
        few = {n: o[:4096] if o.ndim else o for n,o in args.items()}
        want = k.plain_epilogue(name, left[:4096].float() @ right.T.float(),
            **{n: o.float() for n,o in few.items()})
        got = k.product(name, left[:4096], right, **few)
        off = [f'{((g.float()-w).norm()/w.norm()).item():.1e}'
            for g,w in zip(got, want) if w is not None]
        plain = torch.compile(lambda: k.plain_epilogue(name, left @ right.T, **args), dynamic=False)
        times = []
        for tile in WIDTHS:
            try:
                times.append(
                    f'{milliseconds(lambda: k.product(name, left, right, tile, **args)):.3f}')
            except Exception as e: times.append(type(e).__name__)
        rows.append([title, ' '.join(off), f'{milliseconds(lambda: left @ right.T):.3f}',
            f'{milliseconds(plain):.3f}', *times])
        print(*rows[-1], flush=True)
        torch.compiler.reset()
    h100.table(['product', 'off by', 'cuBLAS alone', 'plain, compiled', *map(str, WIDTHS)], rows)

if __name__ == '__main__': compile_all([None]) if sys.argv[1:] == ['compile'] else measure()
