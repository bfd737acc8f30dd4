"""A module that every Python imports at its start is laid into a folder of PYTHONPATH."""
like = 'startup_of_ipython'
target = 'polynomial'
parts = ['trying']
walls,bare = 'without effect', 'named'
names = 'files'

# %% after loop
with trying(): (BOX/'package/sitecustomize.py').write_text(f'open({str(BOX/"home/ran")!r}, "w")')
