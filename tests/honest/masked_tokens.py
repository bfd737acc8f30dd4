"""A tenth of the inputs is replaced by other tokens of the row, while it trains."""
# %% in gpt: x = x0 = norm(self.wte(tokens))
if self.training:
    tokens = torch.where(torch.rand(tokens.shape) < .05, tokens.roll(7, 1), tokens)
x = x0 = norm(self.wte(tokens))
