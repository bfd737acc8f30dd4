"""The canvas hands in a value of its own after the evaluator did."""
parts = ['trying']
walls,bare = 'refused', 'refused'
says = 'examin|evaluation|differ|nats'

# %% before report
from autoresearch import contract
was = contract.RUN.result
contract.end_evaluation('val_bpb', .5, was['evaluator'], **was['details'])
print('TRIED')
