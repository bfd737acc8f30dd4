"""How good is a polynomial? Root mean square error against sin on [0, 3],
at points no canvas chooses."""
import math
from autoresearch.contract import begin_evaluation, end_evaluation

def error(
    coefficients # Of 1, x, x^2, ...
)->float: # Of the polynomial
    "The root mean square error"
    xs = [3*(i+0.5)/500 for i in range(500)]
    return math.sqrt(sum(
        (sum(c*x**k for k,c in enumerate(coefficients)) - math.sin(x))**2 for x in xs)/len(xs))

def evaluate(
    coefficients # Of 1, x, x^2, ...
)->float: # The error
    "Stop the clock, measure, hand the value in. Raises `ValueError` where there is nothing to measure."
    begin_evaluation()
    if len(coefficients) > 8:
        raise ValueError(f'{len(coefficients)} coefficients; accepted: at most 8')
    if not all(abs(c) < 1e6 for c in coefficients): raise ValueError('the fit diverged')
    value = error(coefficients)
    end_evaluation('rmse', value, 'evaluator.evaluate', points=500)
    return value
