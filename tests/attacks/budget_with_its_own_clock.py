"""The clock that tests may hand to a budget is handed to it by a canvas."""
like = 'slow_clock'
target = 'polynomial'
parts = ['trying', 'work']
walls,bare = 'refused', 'refused'
says = 'clock|training took|seconds'

# %% in loop: budget = Budget(profile)
first = time.perf_counter()
budget = Budget(profile, now=lambda: first + (time.perf_counter()-first)/40)
print('TRIED')
