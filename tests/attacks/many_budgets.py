"""Budgets one after the other, and the count of them is set back."""
target = 'polynomial'
parts = ['trying', 'work']
walls,bare = 'refused', 'refused'
says = 'budget|clock|training took|seconds'

# %% after loop
from autoresearch import contract
while whole < 1:
    contract.RUN.budgets,contract.RUN.t_batch = 0, None
    budget = Budget(profile)
    while not budget.done and whole < 1:
        learn(.02)
        budget.step()
print('TRIED')
