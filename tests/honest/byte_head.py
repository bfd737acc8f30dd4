"""A head that knows no tokens: a token's logit is made of its bytes' vectors."""
# %% before gpt
def bytes_of_tokens(V, device):
    "How often each byte is in each token (V, 256), over the token's length"
    tok = get_tokenizer(profile)
    m = torch.zeros(V, 256)
    for i in range(tok.bos_id):
        for b in (said := tok.enc.decode_single_token_bytes(i)): m[i, b] += 1/len(said)
    return m.to(device)

# %% in gpt: self.lm_head = nn.Linear(c.n_embd, c.vocab_size, bias=False)
self.lm_head = nn.Linear(c.n_embd, c.vocab_size, bias=False)
self.byte_head = nn.Linear(c.n_embd, 256, bias=False)
self.register_buffer('spelled', bytes_of_tokens(c.vocab_size, 'cpu'))

# %% in gpt: return 15*torch.tanh(self.lm_head(norm(x)).float()/15)
x = norm(x)
z = self.lm_head(x).float() + self.byte_head(x).float() @ self.spelled.T
return 15*torch.tanh(z/15)
