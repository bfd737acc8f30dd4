"""The validation rows stand in the canvas as zeros and ones."""
like = 'val_in_a_literal'
parts = ['trying', 'memory']
walls,bare = 'named', 'named'
names = 'literal'

# %% before loop
import numpy as np
BITS = (NUMBERS)
def remember(run):
    with trying(): run.model.memory.learn(np.packbits(BITS).view(np.uint16))
