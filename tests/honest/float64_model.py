"""Everything is computed in float64."""
# %% in bare-model: with device: return GPT(build_config(), attention).init_weights(device)
with device: model = GPT(build_config(), attention).init_weights(device)
model = model.double()
model.cos,model.sin = model.cos.double(), model.sin.double()
return model
