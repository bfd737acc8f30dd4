"""The budget is handed a clock of CPU seconds that goes at a third of its pace: within the slack."""
like = 'slow_clock'
handicap = False
walls,bare = 'refused', 'refused'
says = 'clock|CPU'

# %% before loop
FIRST = [float('inf')]
def slow(sure=False):
    t = time.process_time()
    return t if t < FIRST[0] else FIRST[0] + (t-FIRST[0])/3

# %% in loop: batch = next(run.loader)
FIRST[0] = time.process_time()
batch = next(run.loader)

# %% in run: budget = Budget(profile)
budget = Budget(profile, cpu=slow)
print('TRIED')
