"""The clock is stopped, training goes on, and the evaluation finds no clock to stop."""
target = 'polynomial'
parts = ['trying', 'work']
walls,bare = 'refused', 'refused'
says = 'clock|training took|seconds|evaluation'

# %% after loop
from autoresearch import contract
contract.begin_evaluation()
contract.RUN.budget = None
learn(NEED)

# %% report
evaluate(coefs)
contract.RUN.budget = budget
print('TRIED')
report(profile, RUN_DIR, SEED, peak_vram_mb=0., depth=DEGREE)
