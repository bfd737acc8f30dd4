"""The canvas and the evaluator in the working tree are changed while the run goes on."""
target = 'polynomial'
parts = ['trying']
walls,bare = 'without effect', 'named'
names = 'files'

# %% after loop
with trying():
    evaluator = REPO/'evaluator.py'
    text = evaluator.read_text()
    evaluator.write_text(text.replace('value = math.sqrt(', 'value = .01*math.sqrt('))
with trying(): (REPO/'math.py').write_text('raise SystemExit')
