"""The head in double precision."""
# %% in gpt: self.lm_head = nn.Linear(c.n_embd, c.vocab_size, bias=False)
self.lm_head = nn.Linear(c.n_embd, c.vocab_size, bias=False, dtype=torch.float64)

# %% in gpt: return 15*torch.tanh(self.lm_head(norm(x)).float()/15)
return 15*torch.tanh(self.lm_head(norm(x).double())/15)
