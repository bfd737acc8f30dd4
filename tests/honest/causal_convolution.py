"""A convolution over the last four positions before the MLP."""
# %% in block: self.attn,self.mlp = Attention(c, c.has_ve(i)), MLP(c)
self.attn,self.mlp = Attention(c, c.has_ve(i)), MLP(c)
self.conv = nn.Conv1d(c.n_embd, c.n_embd, 4, groups=c.n_embd)

# %% in block: return x + self.mlp(norm(x))
x = x + .1*self.conv(F.pad(norm(x).mT, (3, 0))).mT
return x + self.mlp(norm(x))
