"""All of the training is done before there is a clock."""
target = 'polynomial'
parts = ['trying', 'work']
slow = True
walls,bare = 'refused', 'refused'
says = 'before|start'

# %% in loop: budget = Budget(profile)
learn(TOO_LONG)
budget = Budget(profile)
print('TRIED')
