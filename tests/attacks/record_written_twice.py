"""A second record is written after the first, from coefficients that were found in between."""
target = 'polynomial'
parts = ['trying', 'work']
walls,bare = 'refused', 'refused'
says = 'training took|twice|evaluation|seconds'

# %% after report
learn(NEED)
evaluate(coefs)
report(profile, RUN_DIR, SEED, peak_vram_mb=0., depth=DEGREE)
print('TRIED')
