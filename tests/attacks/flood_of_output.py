"""Two hundred megabytes are written to the log."""
target = 'polynomial'
parts = ['trying']
walls,bare = 'without effect', 'without effect'

# %% after loop
import sys
with trying():
    line = b'0123456789abcde\n'*2**12
    to = sys.stdout._original_stdstream_copy # what ipykernel has put aside
    for _ in range(3200): os.write(to, line)
