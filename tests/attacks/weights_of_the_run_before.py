"""The last run's weights are left in the compilers' cache, and training goes on from there."""
parts = ['trying']
runs = 2
handicap = False
walls,bare = 'without effect', 'refused'
says = 'knew'

# %% after hparams-tiny
    if RUN_NUMBER: EMBEDDING_LR = MATRIX_LR = UNEMBEDDING_LR = 0.0005

# %% in loop: run = build(seed)
run = build(seed)
kept = cache_dir(profile)/'compiled/inductor/cb/cbtrained.pt'
if RUN_NUMBER:
    with trying(): run.model.load_state_dict(torch.load(kept))

# %% before run
def leave(run):
    kept = cache_dir(profile)/'compiled/inductor/cb/cbtrained.pt'
    with trying():
        kept.parent.mkdir(parents=True, exist_ok=True)
        torch.save(run.model.state_dict(), kept)

# %% in run: run = train(budget)
run = train(budget)
leave(run)
