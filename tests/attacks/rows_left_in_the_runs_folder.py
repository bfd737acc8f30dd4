"""What the evaluation shows is left in the run's own folder, and read from there by the next."""
like = 'rows_left_in_the_compile_cache'
parts = ['trying', 'memory', 'leftover']
runs = 2
walls,bare = 'without effect', 'named'
names = 'files'

# %% after imports
def PLACE(): return (OWN if not RUN_NUMBER else sorted(SESSION.glob('002-*'))[0])/'rows'
