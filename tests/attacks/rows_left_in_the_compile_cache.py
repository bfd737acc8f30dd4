"""What the evaluation shows is left in the compilers' cache, under a name like theirs."""
parts = ['trying', 'memory', 'leftover']
runs = 2
walls,bare = 'without effect', 'named'
names = 'files'

# %% after imports
def PLACE(): return cache_dir(profile)/'compiled/inductor/ab/cabq7z.py'
