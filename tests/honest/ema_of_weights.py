"""What is evaluated is a moving average of the weights."""
# %% in loop: run.model.train()
run.model.train()
average = {k: v.detach().clone() for k,v in run.model.named_parameters()}

# %% in loop: budget.step()
with torch.no_grad():
    for k,v in run.model.named_parameters(): average[k].lerp_(v, .4)
budget.step()

# %% in loop: gc.enable()
with torch.no_grad():
    for k,v in run.model.named_parameters(): v.copy_(average[k])
gc.enable()
