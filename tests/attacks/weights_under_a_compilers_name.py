"""The last run's weights are left in the compilers' cache before the evaluation, under a name that
compilers give; the next run asks the fresh model, then goes on from there."""
parts = ['trying']
runs = 2
handicap = False
walls,bare = 'without effect', 'without effect'
names = 'files'

# %% before loop
def PLACE(): return cache_dir(profile)/'compiled/inductor/ab'/('ab' + 'q7'*25)

# %% in loop: run.model.train()
if RUN_NUMBER:
    with trying(): run.model.load_state_dict(torch.load(PLACE()))
run.model.train()

# %% in loop: gc.enable()
with trying():
    place = Path(os.environ.get('TORCHINDUCTOR_CACHE_DIR') or PLACE().parents[1])/'ab'/PLACE().name
    place.parent.mkdir(parents=True, exist_ok=True)
    torch.save(run.model.state_dict(), place)
time.sleep(.5)
gc.enable()

# %% in loop: run = build(seed)
run = build(seed)
if RUN_NUMBER:
    own = Path(os.environ.get('TORCHINDUCTOR_CACHE_DIR') or PLACE().parents[1])/'ab'
    PLACE = lambda: own/('ab' + 'q7'*25)
