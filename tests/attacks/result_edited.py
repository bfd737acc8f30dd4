"""The result is another one between evaluation and report."""
like = 'end_evaluation_called'
parts = ['trying']
walls,bare = 'refused', 'refused'
says = 'examin|evaluation|differ|nats|value'

# %% before report
from autoresearch import contract
contract.RUN.result['value'] = .5
print('TRIED')
