"""No evaluation at all: a record from the environment's word and the settings."""
parts = ['trying']
walls,bare = 'refused', 'refused'
says = 'examin|evaluat|record|differ|weights|nats|marks'

# %% report
from autoresearch import contract, prepare
with trying():
    facts = prepare.data_facts(profile)
    contract.end_evaluation('val_bpb', .5, 'autoresearch.prepare.evaluate_bpb', data=facts)
    record = report(profile, RUN_DIR, SEED, peak_vram_mb=1., depth=1)

# %% in run: val_bpb = evaluate_bpb(run.model, run.tokenizer, run.rows//run.pieces, profile)
budget.close()
