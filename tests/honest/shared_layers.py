"""Two layers, and the second one's MLP is the first one's."""
# %% after hparams-tiny
    DEPTH,ASPECT_RATIO = 2, 32

# %% in gpt: self.blocks = nn.ModuleList([Block(c, i) for i in range(c.n_layer)])
self.blocks = nn.ModuleList([Block(c, i) for i in range(c.n_layer)])
for block in self.blocks[1:]: block.mlp = self.blocks[0].mlp
