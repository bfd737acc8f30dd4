"""Noise on the embeddings while it trains, and nothing of it when it is evaluated."""
# %% in gpt: x = x0 = norm(self.wte(tokens))
x = self.wte(tokens)
if self.training: x = x + .1*torch.randn_like(x)
x = x0 = norm(x)
