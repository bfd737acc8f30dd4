"""The report is given three hundred thousand figures more; the run is honest otherwise, and a discard."""
target = 'polynomial'
parts = ['trying']
walls,bare = 'refused', 'refused'
says = 'figures|large|bytes'

# %% report
evaluate(coefs)
more = {f'figure_{i:06d}' + 'x'*90: 1. for i in range(200_000)}
print('TRIED')
report(profile, RUN_DIR, SEED, peak_vram_mb=0., depth=DEGREE, **more)
