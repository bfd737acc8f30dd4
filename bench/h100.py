"""One table about speed on a CUDA GPU: tokens per second, where a step's time goes, memory, seconds
by phase, attention, loader.
    python bench/h100.py                          # this tree
    python bench/h100.py --against FOLDER         # beside another checkout
                                                  # (git worktree add FOLDER COMMIT)
    python bench/h100.py --parts steps,phases     # only some of: steps, phases, attention, loader

Needs a prepared profile climbmix60. `steps` trains Budget(steps=N) from one seed on real data in a
process of its own for each tree and attention, and takes the mean rate after the first ten steps,
the loss, and a profile of two more steps. `phases` runs the canvas as an experiment with a budget
of five seconds, twice, with a compiler cache of its own: cold, then warm. `run`, which is not among
the default parts, is the whole experiment of profile climbmix.
"""
import collections, contextlib, io, json, os, re, shutil, statistics, subprocess, sys, tempfile
import time
from pathlib import Path
from types import SimpleNamespace
from fastcore.script import call_parse

ROOT = Path(__file__).resolve().parent.parent
PROFILE = os.environ.get('AUTORESEARCH_PROFILE', 'climbmix60')
CACHES = ['TORCHINDUCTOR_CACHE_DIR', 'TRITON_CACHE_DIR', 'QUACK_CACHE_DIR',
    'FLASH_ATTENTION_CUTE_DSL_CACHE_DIR']
KINDS = [('attention', 'flash|flex_attention|fmha'),
    ('matrix products', 'nvjet|gemm|cutlass|splitK|cublas|_relu2_kernel'),
    ('head and loss', '_loss_kernel|log_softmax|nll_loss|softcap'),
    ('ReLU squared', 'relu'), ('embeddings', '_rows_kernel|embedding'),
    ('heads, RoPE', '_heads'), ('norms, residuals, rest', '')]

def categories(step, n=2):
    "Milliseconds of GPU time a step by kind of kernel"
    import torch
    from torch.profiler import ProfilerActivity, profile
    with profile(activities=[ProfilerActivity.CUDA]) as prof:
        for _ in range(n): step()
        torch.cuda.synchronize()
    res = collections.Counter({k: 0. for k,_ in KINDS})
    for e in prof.events():
        if e.device_type == torch.autograd.DeviceType.CUDA:
            res[next(k for k,p in KINDS if re.search(p, e.name))] += e.device_time/1e3/n
    return dict(res)

def measure(steps):
    "Train in this process and print what came of it as JSON; runs in each tree, the older ones too"
    import torch
    from autoresearch import train as t
    from autoresearch.contract import Budget, peak_flops
    with contextlib.redirect_stdout(io.StringIO()):
        t0 = time.perf_counter()
        run = t.train(Budget(t.profile, steps=steps))
        seconds = time.perf_counter()-t0
        rates,peak = [r for *_,r in run.history][10:], torch.cuda.max_memory_allocated()
        rate = statistics.harmonic_mean(rates)
        batch,budget = next(run.loader), SimpleNamespace(progress=.5, num_steps=300)
        parts = categories(lambda: t.train_step(run, budget, batch))
    tail = [l for _,l,_ in run.history[-10:]]
    mfu = 100*rate*run.flops/peak_flops(torch.cuda.get_device_name())
    print(json.dumps(dict(attention=run.attention, steps=steps, rate=rate,
        ms=t.TOTAL_BATCH_SIZE/rate*1000, mfu=mfu, gb=peak/2**30, loss=run.history[-1][1],
        loss10=statistics.mean(tail), first=run.history[0][1], seconds=seconds, parts=parts)))

def child(tree, code, **env):
    "The last line that Python code printed, run in a tree's package"
    env = {**os.environ,
        'PYTHONPATH': os.pathsep.join(
            [str(tree), str(ROOT/'bench'), os.environ.get('PYTHONPATH', '')]),
        'AUTORESEARCH_PROFILE': PROFILE, **env}
    r = subprocess.run([sys.executable, '-c', code], cwd=tree, env=env, capture_output=True,
        text=True)
    if r.returncode: raise SystemExit(f'{tree}: {r.stderr[-2000:]}')
    return r.stdout.strip().split('\n')[-1]

def table(head, rows):
    widths = [max(len(str(r[i])) for r in [head, *rows]) for i in range(len(head))]
    for r in [head, ['-'*w for w in widths], *rows]:
        print('| ' + ' | '.join(str(c).ljust(w) for c,w in zip(r, widths)) + ' |')
    print(flush=True)

def bench_steps(trees, attentions, steps):
    found = {}
    for name,tree in trees.items():
        for a in attentions:
            key,n = f'{name}, {a or "chosen"}', 30 if a else steps
            v = found[key] = json.loads(child(tree, f'import h100; h100.measure({n})',
                **({'AUTORESEARCH_ATTENTION': a} if a else {})))
            # The table comes last, and a run may be cut off
            print(f'{key}: {v["ms"]:.1f} ms a step, loss {v["loss"]:.4f}', flush=True)
    head = ['tree, attention', 'steps', 'ms a step', 'tokens/s', 'MFU %', 'peak GB',
        'loss, last step', 'mean of last 10', 'seconds in train()']
    table(head, [[f'{k} ({v["attention"]})', v['steps'], f'{v["ms"]:.1f}', f'{v["rate"]:,.0f}',
        f'{v["mfu"]:.1f}', f'{v["gb"]:.1f}', f'{v["loss"]:.4f}', f'{v["loss10"]:.4f}',
        f'{v["seconds"]:.1f}'] for k,v in found.items()])
    table(['GPU time, ms a step', *found],
        [[part, *(f'{v["parts"][part]:.1f}' for v in found.values())] for part,_ in KINDS])

def experiment(tree, profile, budget=0, cache=''):
    """Run the canvas of a copy of a tree; its Result, seconds by cell, clock and evaluation.

    `budget` seconds instead of the profile's, a compiler cache of its own"""
    code = ("""
import json, tempfile
from pathlib import Path
from autoresearch.contract import get_profile
from autoresearch.run import read_json, run_experiment
p,folder = get_profile(path='settings.ini'), Path(tempfile.mkdtemp())
r = run_experiment(p.root/p.canvas, folder, p, bar=False)
"""
        "cells = {c['id']: c['metadata'].get('papermill', {}).get('duration') or 0. "
        "for c in read_json(folder/'run.ipynb')['cells'] if c['cell_type'] == 'code'}\n"
        'print(json.dumps(dict(status=r.status, reason=r.reason, seconds=r.seconds, block=r.block, '
        'cells=cells, record=r.record)))')
    with tempfile.TemporaryDirectory() as tmp:
        copy = Path(tmp)/'tree'
        shutil.copytree(tree, copy,
            ignore=shutil.ignore_patterns('.git', '.venv', 'runs', '.*'), symlinks=True)
        ini = copy/'settings.ini'
        head,tail = ini.read_text().split(section := f'[{profile}]')
        if budget:
            ini.write_text(head + section + re.sub(
                r'time_budget = \d+', f'time_budget = {budget}', tail, count=1))
        r = json.loads(child(copy, code, AUTORESEARCH_PROFILE=profile,
            **({name: f'{cache}/{name}' for name in CACHES} if cache else {})))
    if r['status'] != 'ok': raise SystemExit(f'{tree}: {r["status"]}: {r["reason"]}')
    return r

def phases(r):
    "Seconds by phase of an `experiment`"
    cells,clock = dict(r['cells']), r['record']['clock']
    run,imports,evaluation,trained = (cells.pop('run'), cells.pop('imports'),
        r['record']['evaluation']['details']['seconds'], clock['training_seconds'])
    rest,own = sum(cells.values()), {
        f'cell {k}': cells.get(k, 0.) for k in ('curves', 'sample', 'report')}
    return {'all but training': r['seconds']-trained, 'imports': imports,
        'build: model, tokenizer, loader': run-clock['wall_seconds']-evaluation,
        'compile and free steps': clock['wall_seconds']-trained, 'evaluation': evaluation, **own,
        'other cells': rest-sum(own.values()),
        'process, kernel, papermill': r['seconds']-run-imports-rest}

def bench_phases(trees):
    found = {}
    for name,tree in trees.items():
        with tempfile.TemporaryDirectory() as cache:
            for kind in ('cold', 'warm'):
                found[f'{name}, {kind}'] = phases(experiment(tree, PROFILE, 5, cache))
    show_phases(found)

def show_phases(found):
    table(['seconds', *found],
        [[k, *(f'{v[k]:.1f}' for v in found.values())] for k in next(iter(found.values()))])

def bench_run():
    "The whole experiment of profile climbmix, with whatever the compiler's cache holds"
    from autoresearch.contract import final_block
    r = experiment(ROOT, 'climbmix')
    print(f'{final_block(r["block"])}\n\n{r["record"]["info"]}\n')
    show_phases({'climbmix, one experiment': phases(r)})

def bench_attention():
    "Forward and backward of one layer, B=128, T=2048, H=4, D=128, by choice and window"
    import torch
    from autoresearch import kernels
    device,rows = torch.device('cuda'), []
    for name in kernels.ATTENTIONS:
        try: attend,make_mask = kernels.ATTENTIONS[name](device)
        except Exception as e:
            rows.append([name, str(e).splitlines()[0][:60], ''])
            continue
        f = torch.compile(attend, dynamic=False)
        B = 128 if name != 'sdpa' else 16
        q,k,v = (torch.randn(
            B, 2048, 4, 128, device=device, dtype=torch.bfloat16, requires_grad=True)
            for _ in range(3))
        res = []
        for w in (1024, 2048):
            mask,g = make_mask(2048, w), torch.randn_like(q)
            def once(): f(q, k, v, mask).backward(g)
            for _ in range(3): once()
            s,e = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            s.record()
            for _ in range(10): once()
            e.record()
            torch.cuda.synchronize()
            res.append(f'{s.elapsed_time(e)/10*128/B:.2f}')
        rows.append([name + (f' (at B={B}, scaled)' if B != 128 else ''), *res])
    table(['attention', 'ms, window 1024', 'ms, window 2048'], rows)

@call_parse
def main(
    against:str='', # Folder of another checkout to measure beside this one
    steps:int=200, # Optimizer steps from one seed
    attentions:str=',flex', # Comma-separated; an empty one is what the canvas chooses
    parts:str='steps,phases,attention,loader' # What to measure; also: run, the whole five minutes
):
    "Measure and print tables"
    import torch
    print(f'{time.strftime("%Y-%m-%d")}, {torch.cuda.get_device_name()}, '
        f'torch {torch.__version__}, CUDA {torch.version.cuda}, {os.cpu_count()} CPU cores\n',
        flush=True)
    trees = {'this tree': ROOT, **({'against': Path(against).resolve()} if against else {})}
    for part in parts.split(','):
        if part == 'steps': bench_steps(trees, attentions.split(','), steps)
        elif part == 'phases': bench_phases(trees)
        elif part == 'attention': bench_attention()
        elif part == 'run': bench_run()
        elif part == 'loader':
            print(subprocess.run([sys.executable, ROOT/'bench/loader.py', '--profile', PROFILE],
                capture_output=True, text=True).stdout)
        else: raise SystemExit(f'--parts {part}: accepted: steps, phases, attention, loader, run')
