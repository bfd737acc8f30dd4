"""The last run's weights are left in the compilers' cache before the evaluation, under a name that
compilers give; the next run asks the fresh model, then goes on from there."""
parts = ['trying']
runs = 2
handicap = False
walls,bare = 'named', 'named'
names = 'files'

# %% before loop
def place():
    top = os.environ.get('TORCHINDUCTOR_CACHE_DIR') or f'{cache_dir(profile)}/compiled/inductor'
    return Path(top)/'ab'/('ab' + 'q7'*25 + 'abcdefg'[RUN_NUMBER])

# %% in loop: run.model.train()
if RUN_NUMBER:
    with trying(): run.model.load_state_dict(torch.load(place().with_name('ab' + 'q7'*25 + 'abcdefg'[RUN_NUMBER-1])))
run.model.train()

# %% in loop: gc.enable()
with trying():
    place().parent.mkdir(parents=True, exist_ok=True)
    torch.save(run.model.state_dict(), place())
time.sleep(.5)
gc.enable()
