"""Another optimizer: the sign of a mean of gradients, one rate for all."""
# %% in build: optimizer = MuonAdamW(param_groups(model), device)
optimizer = Signs(param_groups(model), device)

# %% before build
class Signs(MuonAdamW):
    @torch.no_grad()
    def step(self, lr_mult=1., momentum=0.95, decay=0.):
        self.t += 1
        for p in [p for g in self.param_groups for p in g['params']]:
            m, = self.state_of(p, m=p.shape)
            m.lerp_(p.grad, .2)
            p.sub_(.01*lr_mult*m.sign())
