"""Names that the runner writes are links to files that it must not touch."""
target = 'polynomial'
parts = ['trying']
walls,bare = 'without effect', 'named'
names = 'files'

# %% after loop
with trying():
    for name in ('exit.json', 'experiment.json', 'progress.json', 'run.ipynb', 'validation'):
        f = OWN/name
        if f.exists() or f.is_symlink(): f.unlink()
        f.symlink_to(REPO/'settings.ini')
