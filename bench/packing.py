"""What the size of the waiting room does: to the rows, and to the value of training at equal steps.

    python bench/packing.py                        # on the CPU: counts of the rule and larger rooms
    python bench/packing.py --train                # on a GPU: val_bpb, plain and fused operators
    python bench/packing.py --train --rooms 10000  # the same beside a larger room

Needs a prepared profile. Rows of training are packed from a room of the given size, rows of
validation always by the rule, a room of 1,000. A document longer than a row is used only when
nothing shorter waits, so a larger room also means that fewer of them are read at all: it changes
which text a model sees, not only how much of it is cropped. Each training run is a process of its
own; one that fails is reported, the others go on, and the table comes last.
"""
import itertools, json, os, subprocess, sys, time
from pathlib import Path
import numpy as np
from fastcore.script import call_parse
from autoresearch.contract import get_profile
from autoresearch.prepare import Packer, batches, is_prepared, train_shards

ROOT = Path(__file__).resolve().parent.parent

def table(head, rows):
    "Print rows of text as a Markdown table"
    widths = [max(len(r[i]) for r in [head, *rows]) for i in range(len(head))]
    for r in [head, ['-'*w for w in widths], *rows]:
        print('| ' + ' | '.join(c.ljust(w) for c,w in zip(r, widths)) + ' |')

class Counting:
    "Batches of documents; counts their tokens, and those longer than `limit` tokens"
    def __init__(self, batches, limit):
        self.batches,self.limit = batches, limit
        self.tokens = self.long = 0
    def __iter__(self): return self
    def __next__(self):
        docs,epoch = next(self.batches)
        sizes = [len(d) for d in docs]
        self.tokens += sum(sizes)
        self.long += sum(n > self.limit for n in sizes)
        return docs, epoch

def count(profile, room, rows):
    "Pack `rows` training rows from a room of `room` documents; a line of the table"
    row = np.empty(profile.max_seq_len + 1, dtype=np.uint16)
    drawn = Counting(batches(profile, train_shards(profile)), len(row))
    packer,t0 = Packer(drawn, room), time.perf_counter()
    for _ in range(rows): packer.pack(row)
    seconds,waiting = time.perf_counter() - t0, [len(d) for d in packer.waiting.values()]
    used,long = packer.arrivals - len(waiting), drawn.long - sum(n > len(row) for n in waiting)
    cropped = (drawn.tokens - sum(waiting))/rows - len(row)
    rate = rows*len(row)/seconds/1e6
    return [f'{n:,}' for n in (room, packer.arrivals, used, round(cropped, 1), long, round(rate))]

def train(operators, room, seed, steps):
    "Train the canvas in this process and print what came of it as JSON"
    from autoresearch import kernels, train as t
    from autoresearch.contract import Budget, note_batch
    from autoresearch.prepare import Loader, evaluate_bpb
    if operators == 'fused' and (why := kernels.supported(t.pick_device())):
        raise SystemExit(f'no fused operators here: {why}')
    os.environ['AUTORESEARCH_FUSE'] = str(int(operators == 'fused'))
    def loader(tokenizer, B, T, split, profile, device):
        packer = Packer(batches(profile, train_shards(profile)), room)
        return Loader(packer, B, T, device, note_batch)
    if room != 1000: t.make_dataloader = loader
    run = t.train(Budget(t.profile, steps=steps), seed=seed)
    bpb = evaluate_bpb(run.model, run.tokenizer, run.rows, t.profile)
    _,losses,rates = zip(*run.history)
    loss,rate = float(np.mean(losses[-10:])), float(np.median(rates))
    print(json.dumps(dict(val_bpb=bpb, loss=loss, rate=rate)))

def trained(profile, *job):
    "The figures of one training run in a process of its own; None if it failed, which is said"
    path = os.pathsep.join([str(ROOT), str(ROOT/'bench')])
    env = {**os.environ, 'AUTORESEARCH_PROFILE': profile.name, 'PYTHONPATH': path}
    cmd = [sys.executable, '-c', f'import packing; packing.train(*{job!r})']
    res = subprocess.run(cmd, cwd=ROOT, env=env, capture_output=True, text=True)
    name = '{} operators, room {:,}, seed {}, {} steps'.format(*job)
    if res.returncode:
        said = (res.stderr or res.stdout)[-1500:].strip()
        print(f'{name}: failed with exit code {res.returncode}: {said}', flush=True)
        return None
    found = json.loads(res.stdout.strip().splitlines()[-1])
    print(f'{name}: val_bpb {found["val_bpb"]:.6f}', flush=True)
    return found

def compare(profile, operators, rooms, seeds, steps):
    "Train every combination; print the table; how many failed"
    rows,failed = [], 0
    for room,ops,seed in itertools.product(rooms, operators, seeds):
        found = trained(profile, ops, room, seed, steps)
        failed += found is None
        f = found or dict(val_bpb=np.nan, loss=np.nan, rate=np.nan)
        figures = [f'{f["val_bpb"]:.6f}', f'{f["loss"]:.4f}', f'{f["rate"]/1e6:.3f}']
        rows.append([f'{room:,}', ops, str(seed), str(steps), *figures])
    print(f'\nprofile {profile.name}, {len(train_shards(profile))} training shards')
    head = ['room', 'operators', 'seed', 'steps', 'val_bpb', 'loss, last 10 steps', 'M tokens/s']
    table(head, rows)
    return failed

@call_parse
def main(
    profile:str='climbmix60', # Section of settings.ini, prepared
    train:bool=False, # Train the canvas instead of counting
    rooms:str='', # Beside the rule's 1,000, with commas; when empty 2000,10000,100000 to count
    rows:int=3000, # Rows to count in
    steps:int=198, # Optimizer steps of a training run
    operators:str='plain,fused', # Of the canvas, comma-separated
    seeds:str='42,43' # Of the initial weights, comma-separated
):
    "Count, or train, and print a table"
    p = get_profile(profile)
    if fault := is_prepared(p): raise SystemExit(f'bench/packing.py: {fault}')
    more = [int(r) for r in (rooms or ('' if train else '2000,10000,100000')).split(',') if r]
    every = list(dict.fromkeys([1000, *more]))
    if train:
        numbers = [int(s) for s in seeds.split(',')]
        sys.exit(min(1, compare(p, operators.split(','), every, numbers, steps)))
    print(f'profile {p.name}, {rows:,} rows of {p.max_seq_len+1:,} tokens')
    head = ['room', 'drawn', 'used', 'cropped tokens a row', 'used beyond a row', 'M tokens/s']
    table(head, [count(p, room, rows) for room in every])
