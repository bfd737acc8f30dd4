"""Files of a hundred megabytes are left in the temporary folder."""
target = 'polynomial'
parts = ['trying']
walls,bare = 'without effect', 'without effect'

# %% after loop
import tempfile
with trying():
    for i in range(3): Path(tempfile.gettempdir(), f'left-{i}').write_bytes(bytes(2**25))
