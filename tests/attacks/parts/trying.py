"""Where things lie, and a word in the log once a trick was done or tried in vain."""
# %% after imports
import os
from contextlib import contextmanager
from pathlib import Path
OWN = Path(os.environ.get('AUTORESEARCH_RUN_DIR', '/no/folder/of/mine/here'))
SESSION,REPO,BOX = OWN.parents[0], OWN.parents[2], OWN.parents[3]
@contextmanager
def trying():
    "Whatever comes of it, say that it was tried"
    try: yield
    except Exception as e: print('TRIED:', type(e).__name__, str(e)[:200])
    else: print('TRIED: done')
