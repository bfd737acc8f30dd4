"""A gated recurrent unit in the place of attention."""
# %% in block: self.attn,self.mlp = Attention(c, c.has_ve(i)), MLP(c)
self.attn,self.mlp = nn.GRU(c.n_embd, c.n_embd, batch_first=True), MLP(c)

# %% in block: x = x + self.attn(norm(x), *args)
x = x + self.attn(norm(x))[0]

# %% in gpt: for i in range(c.n_layer) if c.has_ve(i)})
for i in range(0)})

# %% in gpt: ve = self.value_embeds[str(i)](tokens) if self.config.has_ve(i) else None
ve = None
