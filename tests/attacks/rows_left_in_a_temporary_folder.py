"""What the evaluation shows is left in a temporary folder, for the next run."""
parts = ['trying', 'memory', 'leftover']
runs = 2
walls,bare = 'without effect', 'named'
names = 'files'

# %% after imports
def PLACE(): return Path('/tmp', 'rows' + str(BOX).replace('/', '-'), 'rows')
