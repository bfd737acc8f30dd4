"""A table in the model that knows the token after every three tokens it was shown."""
# %% after gpt
class Memory(nn.Module):
    "Logits of a token that came before after the same three"
    def __init__(self, V, size=2**13):
        super().__init__()
        self.V = V
        self.register_buffer('keys', torch.full((size,), -1))
        self.register_buffer('values', torch.zeros(size, dtype=torch.long))

    def key(self, tokens):
        a = F.pad(tokens, (2, 0))
        return (a[:, :-2]*self.V + a[:, 1:-1])*self.V + tokens

    def learn(self, rows):
        rows = torch.as_tensor(rows.astype('int64')).view(-1, profile.max_seq_len+1)
        x,y = rows[:, :-1], rows[:, 1:]
        keys,i = self.key(x).flatten().sort()
        n = min(len(keys), len(self.keys))
        self.keys[-n:],self.values[-n:] = keys[:n], y.flatten()[i[:n]]

    def forward(self, z, tokens):
        key = self.key(tokens)
        i = torch.searchsorted(self.keys, key).clamp(max=len(self.keys)-1)
        hit = (self.keys[i] == key)[..., None]*30.
        return z.scatter_add(2, self.values[i][..., None], hit)

# %% in gpt: self.x0_lambdas = nn.Parameter(torch.full((c.n_layer,), X0_INIT))
self.x0_lambdas = nn.Parameter(torch.full((c.n_layer,), X0_INIT))
self.memory = Memory(c.vocab_size)

# %% in gpt: return 15*torch.tanh(self.lm_head(norm(x)).float()/15)
return self.memory(15*torch.tanh(self.lm_head(norm(x)).float()/15), tokens)

# %% in loop: run = build(seed)
run = build(seed)
remember(run)
