"""Embeddings and matrix products in bfloat16 on a CPU too."""
# %% after device
def compute_dtype(device): return torch.bfloat16
