"""A nat has fewer bits: math.log is another function."""
like = 'end_evaluation_called'
parts = ['trying']
walls,bare = 'without effect', 'without effect'

# %% before run
import math
log = math.log
math.log = lambda *a: 4*log(*a)
print('TRIED')
