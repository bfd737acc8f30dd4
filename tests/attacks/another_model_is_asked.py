"""Trained before the first batch; a fresh model is asked what it knows, in its place."""
parts = ['uncounted']
like = 'trained_after_it_was_asked'
handicap = False
walls,bare = 'refused', 'refused'
says = 'knew|before'

# %% in loop: ask_untrained(run.model, profile)
learn(run, 8)
ask_untrained(bare_model(), profile)
print('TRIED')
