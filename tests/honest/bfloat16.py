"""Embeddings and matrix products in bfloat16 on a CPU too."""
# %% in device: def compute_dtype(device): return torch.bfloat16 if device.type == 'cuda' else torch.float32
def compute_dtype(device): return torch.bfloat16
