"""What the clock calls a step is all of the budget, and the last one, begun in time, is twice as long."""
settings = {'time_budget': 3}
handicap = False
walls,bare = 'refused', 'refused'
says = 'last step|training took'

# %% before step
BEGAN = []

# %% in step: progress = budget.progress
budget.progress
progress = min(1., (time.process_time()-BEGAN[0])/8) if BEGAN else 0.

# %% in loop: loss,batch = train_step(run, budget, batch)
if budget.num_steps == 3: BEGAN.append(time.process_time())
loss,batch = train_step(run, budget, batch)
length = {3: 2.8, 4: 5.2}.get(budget.num_steps, 0)
until = time.process_time() + length
while time.process_time() < until: loss,batch = train_step(run, budget, batch)

# %% in run: run = train(budget)
run = train(budget)
print('TRIED', budget.num_steps, budget.seconds)
