"""A head of two thin matrices."""
# %% in gpt: self.lm_head = nn.Linear(c.n_embd, c.vocab_size, bias=False)
self.thin = nn.Linear(c.n_embd, 16, bias=False)
self.lm_head = nn.Linear(16, c.vocab_size, bias=False)

# %% in gpt: return 15*torch.tanh(self.lm_head(norm(x)).float()/15)
return 15*torch.tanh(self.lm_head(norm(self.thin(norm(x)))).float()/15)
