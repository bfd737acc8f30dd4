"""The validation rows stand in the canvas, as a text of some kilobytes."""
parts = ['trying', 'memory']
walls,bare = 'named', 'named'
names = 'literal'

# %% before loop
import base64, zlib
import numpy as np
def remember(run):
    with trying():
        rows = zlib.decompress(base64.b85decode(LITERAL))
        run.model.memory.learn(np.frombuffer(rows, dtype=np.uint16))
