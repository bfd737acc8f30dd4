"""Two free steps go over their one batch again and again, the others once: it is charged."""
target = 'polynomial'
parts = ['trying', 'work']
settings = {'free_seconds': 12}
walls,bare = 'without effect', 'without effect'
says = 'free'

# %% after hparams
NEED = 4.

# %% in loop: learn(.02)
from autoresearch.contract import note_batch
note_batch(64)
learn(.5 if budget.num_steps < 2 else .01)

# %% after loop
print('TRIED')
