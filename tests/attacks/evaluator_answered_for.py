"""A target's own evaluator is not asked: the canvas hands in a value in its name."""
target = 'polynomial'
parts = ['trying']
walls,bare = 'named', 'named'
names = 'contract'

# %% before report
from autoresearch.contract import begin_evaluation, end_evaluation
def evaluate(coefs):
    begin_evaluation()
    end_evaluation('rmse', .0001, 'evaluator.evaluate', points=500)
print('TRIED')
