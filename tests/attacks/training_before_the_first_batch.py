"""All of the training is done before there is a clock."""
target = 'polynomial'
parts = ['trying', 'work']
slow = True
walls,bare = 'refused', 'refused'
says = 'before|start'

# %% in loop: budget = Budget(profile)
sleep(TOO_LONG)
learn(NEED)
budget = Budget(profile)
print('TRIED')
