"""The first half of training is on half of each row."""
# %% in passes: loss = run.model(x, y) * len(x) / (run.accumulate*run.rows)
if run.half: x,y = x[:, :x.shape[1]//2].contiguous(), y[:, :y.shape[1]//2].contiguous()
loss = run.model(x, y) * len(x) / (run.accumulate*run.rows)

# %% in step: total,done = 0., 0
total,done = 0., 0
run.half = False

# %% in gpt: x = block(x, ve, (self.cos, self.sin), self.attention.attend, self.masks[i])
T = tokens.shape[1]
angles = self.cos[:T], self.sin[:T]
x = block(x, ve, angles, self.attention.attend, self.masks[i])
