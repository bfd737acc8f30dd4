"""The folders of the runs before are emptied."""
open = True
target = 'polynomial'
parts = ['trying']
walls,bare = 'without effect', 'named'
names = 'files'

# %% after loop
import shutil
with trying():
    for d in SESSION.glob('001-*'): shutil.rmtree(d)
