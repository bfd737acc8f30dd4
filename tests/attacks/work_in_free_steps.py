"""Two free steps draw thirty batches and train on them, the others one each: it is charged."""
target = 'polynomial'
parts = ['trying', 'work']
settings = {'free_seconds': 12}
walls,bare = 'without effect', 'without effect'
says = 'free'

# %% after hparams
NEED = 4.

# %% in loop: learn(.02)
from autoresearch.contract import note_batch
free = budget.num_steps < 2
for _ in range(30 if free else 1): note_batch(64)
learn(.5 if free else .01)

# %% after loop
print('TRIED')
