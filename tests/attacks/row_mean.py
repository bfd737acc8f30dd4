"""Every position sees which tokens occur in the whole row."""
like = 'row_mean_faint'
parts = ['trying']
walls,bare = 'refused', 'refused'
says = 'later|future|depend|cut'

# %% in gpt: return 15*torch.tanh(self.lm_head(norm(x)).float()/15)
z = 15*torch.tanh(self.lm_head(norm(x)).float()/15)
print('TRIED') if not self.training else None
return z + 5*torch.zeros_like(z[:, 0]).scatter_(1, tokens, 1.)[:, None]
