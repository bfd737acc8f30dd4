"""A slice of training text is put aside; the average of weights is taken where it is better there."""
# %% in loop: batch = next(run.loader)
held = [next(run.loader)[:2] for _ in range(2)]
batch = next(run.loader)
average = {k: v.detach().clone() for k,v in run.model.named_parameters()}

# %% in loop: budget.step()
with torch.no_grad():
    for k,v in run.model.named_parameters(): average[k].lerp_(v, .4)
budget.step()

# %% in loop: gc.enable()
import copy
other = copy.deepcopy(run.model)
with torch.no_grad():
    for k,v in other.named_parameters(): v.copy_(average[k])
    loss_of = lambda m: sum(m(x, y).item() for x,y in held)
    if loss_of(other) < loss_of(run.model): run.model.load_state_dict(other.state_dict())
gc.enable()
