"""Every position sees the token after it."""
parts = ['trying', 'peek']
walls,bare = 'refused', 'refused'
says = 'later|future|depend|cut'

# %% after gpt
def peek(self, tokens):
    sure = torch.ones(tokens.shape)
    sure[:, -1] = 0
    return tokens.roll(-1, 1), sure
GPT.peek = peek
