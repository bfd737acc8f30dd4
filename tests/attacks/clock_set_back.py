"""The beginning of training is moved on with every step."""
target = 'polynomial'
parts = ['trying', 'work']
walls,bare = 'refused', 'refused'
says = 'clock|training took|seconds'

# %% in loop: learn(.02)
learn(.02)
budget.t0 = time.perf_counter() - .01, budget.t0[1]

# %% after loop
print('TRIED')
