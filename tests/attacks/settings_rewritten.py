"""The settings in the working tree and in the base copy grant a longer budget, to the next run."""
target = 'polynomial'
parts = ['trying', 'work']
runs = 2
walls,bare = 'without effect', 'named'
names = 'files'

# %% after loop
import re
with trying():
    for f in [REPO/'settings.ini', *SESSION.glob('base-*/settings.ini')]:
        f.chmod(0o644)
        f.write_text(re.sub('^time_budget = .*$', 'time_budget = 9', f.read_text(), flags=re.M))
