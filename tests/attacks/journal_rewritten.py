"""The journal of the experiment under way says another parent and a better best."""
target = 'polynomial'
parts = ['trying']
walls,bare = 'without effect', 'without effect'

# %% after loop
import json
with trying():
    f = SESSION/'journal.json'
    j = json.loads(f.read_text())
    f.write_text(json.dumps({**j, 'parent': j['commit'], 'head': j['commit'], 'best': 9.}))
