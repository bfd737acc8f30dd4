"""Fifteen megabytes are printed in a cell."""
target = 'polynomial'
like = 'flood_of_output'
parts = ['trying']
walls,bare = 'without effect', 'without effect'

# %% after loop
with trying():
    for _ in range(15): print('0123456789abcde\n'*2**16)
