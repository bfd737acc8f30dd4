"""A token of the environment and a key of the home folder are printed."""
open = True
target = 'polynomial'
parts = ['trying']
walls,bare = 'without effect', 'named'
names = 'files|environ'

# %% before loop
with trying(): print(os.environ.get('HF_TOKEN'))
with trying(): print((BOX/'home/.ssh/id_ed25519').read_text())
