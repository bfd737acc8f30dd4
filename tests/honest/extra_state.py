"""A module keeps how many steps it has seen as torch's extra state, which is no tensor."""
# %% in gpt: self.x0_lambdas = nn.Parameter(torch.full((c.n_layer,), X0_INIT))
self.x0_lambdas = nn.Parameter(torch.full((c.n_layer,), X0_INIT))
self.steps = 0

# %% after gpt
def get_extra_state(self): return dict(steps=self.steps)
def set_extra_state(self, state): self.steps = state['steps']
GPT.get_extra_state,GPT.set_extra_state = get_extra_state, set_extra_state
