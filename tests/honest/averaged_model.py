"""What is evaluated is what torch's AveragedModel made of the one that was trained."""
# %% in loop: run.model.train()
run.model.train()
average = torch.optim.swa_utils.AveragedModel(run.model, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(.6))

# %% in loop: budget.step()
average.update_parameters(run.model)
budget.step()

# %% in loop: gc.enable()
run.average = average
gc.enable()

# %% in run: val_bpb = evaluate_bpb(run.model, run.tokenizer, run.rows//run.pieces, profile)
val_bpb = evaluate_bpb(run.average.module, run.tokenizer, run.rows//run.pieces, profile)
