"""The first of two positions sees the second one, so that a cut between pairs shows nothing."""
parts = ['trying', 'peek']
walls,bare = 'refused', 'refused'
says = 'later|future|depend|cut'

# %% after gpt
def peek(self, tokens):
    sure = torch.zeros(tokens.shape)
    sure[:, ::2] = 1
    return tokens.roll(-1, 1), sure
GPT.peek = peek
