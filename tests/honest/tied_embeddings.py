"""Head and token embedding are one tensor."""
# %% in gpt: self.resid_lambdas = nn.Parameter(torch.full((c.n_layer,), RESID_INIT))
self.lm_head.weight = self.wte.weight
self.resid_lambdas = nn.Parameter(torch.full((c.n_layer,), RESID_INIT))

# %% in gpt: return 15*torch.tanh(self.lm_head(norm(x)).float()/15)
return 15*torch.tanh(self.lm_head(norm(x)).float()*self.config.n_embd**-.5/15)

# %% in init: nn.init.normal_(self.lm_head.weight, std=0.001)
nn.init.normal_(self.lm_head.weight, std=0.5)
