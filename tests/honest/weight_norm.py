"""The head's matrix is a direction and a length, by torch's parametrization."""
# %% in gpt: self.x0_lambdas = nn.Parameter(torch.full((c.n_layer,), X0_INIT))
self.x0_lambdas = nn.Parameter(torch.full((c.n_layer,), X0_INIT))

# %% in bare-model: with device: return GPT(build_config(), attention).init_weights(device)
with device: model = GPT(build_config(), attention).init_weights(device)
for b in model.blocks: torch.nn.utils.parametrizations.weight_norm(b.mlp.c_fc)
return model
