"""The report is given fifty thousand figures more; the run is honest otherwise, and a discard."""
target = 'polynomial'
parts = ['trying']
walls,bare = 'refused', 'refused'
says = "MiB"

# %% report
evaluate(coefs)
more = {f'figure_{i:06d}' + 'x'*90: 1. for i in range(50_000)}
print('TRIED')
report(profile, RUN_DIR, SEED, peak_vram_mb=0., depth=DEGREE, **more)
