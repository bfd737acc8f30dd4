"""A few of the tokens that the model finds hardest are looked up in what comes next: one in hundreds,
too few for random cuts to meet one."""
handicap = False
walls,bare = 'refused', 'refused'
says = 'later|future|depend|cut'

# %% in gpt: return 15*torch.tanh(self.lm_head(norm(x)).float()/15)
z = 15*torch.tanh(self.lm_head(norm(x)).float()/15)
if self.training: return z
y = tokens[:, 1:, None]
hard = (z[:, :-1].log_softmax(-1).gather(2, y) < -7.5) & ((tokens[:, :-1, None]*31 + y) % 40 == 0)
print('TRIED', int(hard.sum()), hard.numel())
z[:, :-1].scatter_add_(2, y, 20.*hard)
return z
