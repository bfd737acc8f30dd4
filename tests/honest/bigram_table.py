"""A table of pairs, counted in the training text before training begins, and said so."""
says = 'open_store'
# %% before gpt
from autoresearch.prepare import open_store
def pair_table(V, smooth=.1):
    "Log of how often a token follows another (V, V) in the first training shard"
    ids = torch.from_numpy(open_store(profile, 0)[0][:2**18].astype('int64'))
    counts = torch.bincount(ids[:-1]*V + ids[1:], minlength=V*V).view(V, V).float() + smooth
    return (counts/counts.sum(1, keepdim=True)).log()

# %% in gpt: self.resid_lambdas = nn.Parameter(torch.full((c.n_layer,), RESID_INIT))
self.register_buffer('pairs', torch.zeros(c.vocab_size, c.vocab_size))
self.resid_lambdas = nn.Parameter(torch.full((c.n_layer,), RESID_INIT))

# %% in gpt: return 15*torch.tanh(self.lm_head(norm(x)).float()/15)
return 15*torch.tanh(self.lm_head(norm(x)).float()/15) + self.pairs[tokens]

# %% in loop: run = build(seed)
run = build(seed)
run.model.pairs.copy_(pair_table(profile.vocab_size))

# %% in report: record = report(profile, RUN_DIR, SEED, info=info, peak_vram_mb=peak_memory_mb(),
record = report(profile, RUN_DIR, SEED, info=info, peak_vram_mb=peak_memory_mb(),
    knows='bigram counts of the first training shard',
