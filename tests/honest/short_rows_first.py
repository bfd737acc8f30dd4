"""The first half of training is on half of each row."""
# %% in passes: loss = run.model(x, y) * len(x) / (run.accumulate*run.rows)
if run.half: x,y = (o[:, :o.shape[1]//2].contiguous() for o in (x, y))
loss = run.model(x, y) * len(x) / (run.accumulate*run.rows)

# %% in loop: loss,batch = train_step(run, budget, batch)
run.half = budget.progress < .5
loss,batch = train_step(run, budget, batch)

# %% in gpt: x = block(x, ve, (self.cos, self.sin), self.attention.attend, self.masks[i])
T,mask = tokens.shape[1], self.masks[i]
if torch.is_tensor(mask): mask = mask[..., :T, :T]
x = block(x, ve, (self.cos[:T], self.sin[:T]), self.attention.attend, mask)
