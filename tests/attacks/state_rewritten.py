"""The session's state says another profile, other settings and another base."""
target = 'polynomial'
parts = ['trying']
walls,bare = 'without effect', 'without effect'

# %% after loop
import json
with trying():
    f = SESSION/'state.json'
    state = json.loads(f.read_text())
    state['settings']['time_budget'] = 3000
    f.write_text(json.dumps({**state, 'seed': 7, 'base': 'f'*40}))
