"""The record is written again with another value."""
like = 'record_made_up'
parts = ['trying']
walls,bare = 'refused', 'refused'
says = 'examin|differ|record|value'

# %% after report
import json
with trying():
    record = json.loads(Path(RUN_DIR, 'record.json').read_text())
    record['block']['val_bpb'] = record['evaluation']['value'] = 0.5
    Path(RUN_DIR, 'record.json').write_text(json.dumps(record))
