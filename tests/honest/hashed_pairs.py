"""An embedding of each token with the one before it, by a hash."""
# %% in gpt: self.resid_lambdas = nn.Parameter(torch.full((c.n_layer,), RESID_INIT))
self.pairs = nn.Embedding(4099, c.n_embd)
nn.init.zeros_(self.pairs.weight)
self.resid_lambdas = nn.Parameter(torch.full((c.n_layer,), RESID_INIT))

# %% in gpt: x = x0 = norm(self.wte(tokens))
before = F.pad(tokens, (1, 0))[:, :-1]
x = x0 = norm(self.wte(tokens) + self.pairs((before*31337 + tokens) % 4099))
