"""The model is asked what it knows, then trained for eight seconds, then the first batch is drawn."""
parts = ['uncounted']
handicap = False
walls,bare = 'refused', 'refused'
says = 'knew|before'

# %% in loop: show = Progress(run_dir)
learn(run, 8)
print('TRIED')
show = Progress(run_dir)
