"""What edits of the model cost on a CUDA GPU: tokens per second, what is still fused, and the loss
beside the same edit compiled plain.

    python bench/edits.py                             # all, 60 steps fused and 20 plain each
    python bench/edits.py --edits 'GELU,stream gain'  # some of them
    python bench/edits.py --compile 3                 # first compile all, three at a time, so that
                                                      # measuring finds it
    python bench/edits.py --calm                      # x0 scalars at a hundredth of their rate,
                                                      # whose first steps are else decided by
                                                      # rounding

Needs a prepared profile climbmix60. Each edit is a copy of the package with a text of the canvas
replaced, trained from one seed on real data in a process of its own. The rate is the mean after the
first ten steps.
"""
import json, os, shutil, subprocess, sys, tempfile, time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from fastcore.script import call_parse

ROOT = Path(__file__).resolve().parent.parent
PROFILE = os.environ.get('AUTORESEARCH_PROFILE', 'climbmix60')
MLP = 'return self.c_proj(F.relu(self.c_fc(x)).square())'
MLP_INIT = 'self.c_proj = nn.Linear(4*c.n_embd, c.n_embd, bias=False)\n'
BLOCK = 'self.attn,self.mlp = Attention(c, c.has_ve(i)), MLP(c)'
ATTENTION = 'x = x + self.attn(norm(x), *args)'
LAST = 'return x + self.mlp(norm(x))'
NORM = 'def norm(x): return F.rms_norm(x, (x.size(-1),)).to(x.dtype)'
Q_AND_K = 'q,k = norm(rope(q, *angles)), norm(rope(k, *angles))'
HEAD_DIM = 'self.head_dim = c.n_embd//c.n_head\n'
X0_RATE = "'x0_lambdas': adamw(SCALAR_LR, (0.96, 0.95))"
GAINS = '\n        self.a,self.b = (nn.Parameter(torch.ones(c.n_embd)) for _ in range(2))'
def as_gated(act): # two products of two thirds the width: as many parameters
    narrow = 'round(8*c.n_embd/3/64)*64'
    return [('self.c_fc = nn.Linear(c.n_embd, 4*c.n_embd, bias=False)', 'self.c_fc,self.c_gate = '
            f'(nn.Linear(c.n_embd, {narrow}, bias=False) for _ in range(2))'),
        (MLP_INIT, MLP_INIT.replace('4*c.n_embd', narrow)),
        (MLP, f'return self.c_proj({act}(self.c_gate(x))*self.c_fc(x))')]

EDITS = {
    'starting line': [],
    'GELU': [(MLP, MLP.replace('F.relu(self.c_fc(x)).square()', 'F.gelu(self.c_fc(x))'))],
    'SwiGLU': as_gated('F.silu'),
    'stream gain': [(BLOCK, BLOCK + '\n        self.a = nn.Parameter(torch.ones(c.n_embd))'),
        (ATTENTION, f'x = x*self.a.to(x.dtype)\n        {ATTENTION}')],
    'weighted norms': [(BLOCK, BLOCK + GAINS),
        (ATTENTION, 'x = x + self.attn(norm(x)*self.a.to(x.dtype), *args)'),
        (LAST, 'return x + self.mlp(norm(x)*self.b.to(x.dtype))')],
    'q and k gain': [(HEAD_DIM, HEAD_DIM + '        self.a,self.b = '
            '(nn.Parameter(torch.ones(self.head_dim)) for _ in range(2))\n'),
        (Q_AND_K, Q_AND_K + '\n        q,k = q*self.a.to(q.dtype), k*self.b.to(k.dtype)')],
    'scaled branches': [(ATTENTION, 'x = x + 0.7*self.attn(norm(x), *args)'),
        (LAST, 'return x + 0.7*self.mlp(norm(x))')],
    'no value embeddings': [('def has_ve(self, i): return i % 2 == (self.n_layer-1) % 2',
        'def has_ve(self, i): return False')],
    'value embeddings everywhere': [('def has_ve(self, i): return i % 2 == (self.n_layer-1) % 2',
        'def has_ve(self, i): return True')],
    'value embeddings of pairs of tokens': [('self.value_embeds[str(i)](tokens)',
        'self.value_embeds[str(i)]'
        '((tokens*31 + F.pad(tokens, (1, 0))[:, :-1]*17) % self.config.vocab_size)')],
    'no softcap': [('return 15*torch.tanh(self.lm_head(norm(x)).float()/15)',
        'return self.lm_head(norm(x)).float()')],
    'shared layers': [
        ('[Block(c, i) for i in range(c.n_layer)]',
            '[Block(c, i | 1) for i in range(c.n_layer//2)]'),
        ('for i,block in enumerate(self.blocks):', 'for i in range(self.config.n_layer):'),
        ('x = block(x, ve,', 'x = self.blocks[i//2](x, ve,')],
    'no QK norm': [(Q_AND_K, 'q,k = rope(q, *angles), rope(k, *angles)')],
}

def measure(steps):
    "Train in this process; the last line it prints is JSON"
    import statistics, torch
    from autoresearch import kernels, train as t
    from autoresearch.contract import Budget
    run = t.train(Budget(t.profile, steps=steps))
    rates = [r for *_,r in run.history]
    rate = statistics.harmonic_mean(rates[10:] or rates)
    print(json.dumps(dict(rate=rate, loss=run.history[min(19, len(run.history)-1)][1],
        fused=kernels.found(), gb=torch.cuda.max_memory_allocated()/2**30)))

def copied(folder, changes):
    "The package with texts of the canvas' module replaced"
    shutil.copytree(ROOT/'autoresearch', folder/'autoresearch')
    shutil.copy(ROOT/'settings.ini', folder)
    file = folder/'autoresearch/train.py'
    text = file.read_text()
    for old,new in changes:
        if text.count(old) != 1:
            raise SystemExit(f'{file.name} has {text.count(old)} times {old!r}')
        text = text.replace(old, new)
    file.write_text(text)

def train(changes, steps, fuse=True):
    "What `measure` says of an edit; {} and the end of its output if it failed"
    with tempfile.TemporaryDirectory() as folder:
        copied(Path(folder), changes)
        env = {**os.environ,
            'PYTHONPATH': os.pathsep.join(
                [folder, str(ROOT/'bench'), os.environ.get('PYTHONPATH', '')]),
            'AUTORESEARCH_PROFILE': PROFILE, 'AUTORESEARCH_FUSE': '1' if fuse else '0'}
        r = subprocess.run([sys.executable, '-c', f'import edits; edits.measure({steps})'],
            cwd=folder, env=env, capture_output=True, text=True)
    if r.returncode: return dict(error=(r.stderr.strip() or r.stdout.strip()).splitlines()[-1])
    return json.loads(r.stdout.strip().splitlines()[-1])

@call_parse
def main(
    edits:str='', # Comma-separated names; empty: all
    steps:int=60, # Fused
    plain:int=21, # And plain, the losses of whose 20th steps are compared; 0: none
    compile:int=0, # Compile all first, so many at once, and measure with what that kept
    calm:bool=False # Train the x0 scalars slowly, so that losses compare
):
    "Train each edit, fused and plain, and print a table"
    import torch
    chosen = {n: EDITS[n] for n in (edits.split(',') if edits else EDITS)}
    slowly = X0_RATE.replace('SCALAR_LR', 'SCALAR_LR*0.01')
    if calm: chosen = {n: [*changes, (X0_RATE, slowly)] for n,changes in chosen.items()}
    print(f'{time.strftime("%Y-%m-%d")}, {torch.cuda.get_device_name()}, '
        f'torch {torch.__version__}', flush=True)
    if compile:
        with ThreadPoolExecutor(compile) as pool:
            list(pool.map(lambda o: train(o[0], 2, o[1]), [(c, f) for c in chosen.values()
                for f in ([True, False] if plain else [True])]))
    rows = []
    for name,changes in chosen.items():
        fused,whole = train(changes, steps), train(changes, plain, False) if plain else {}
        failed = [o['error'] for o in (fused, whole) if 'error' in o]
        if failed: rows.append([name, *failed])
        else:
            rows.append([name, f'{fused["rate"]/1e6:.3f}', f'{whole.get("rate", 0)/1e6:.3f}',
                f'{fused["gb"]:.1f}', f'{fused["loss"]:.4f}', f'{whole.get("loss", 0):.4f}',
                fused['fused']])
        print(' | '.join(rows[-1]), flush=True)
    print('\n| edit | M tokens/s | plain | GB | loss, step 20 | plain | |\n'
        '| --- | --- | --- | --- | --- | --- | --- |')
    for r in rows: print('| ' + ' | '.join(r) + ' |')
