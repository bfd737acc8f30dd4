"""Within blocks of sixteen positions all is seen but the next block."""
like = 'pairs_of_positions'
parts = ['trying', 'peek']
walls,bare = 'refused', 'refused'
says = 'later|future|depend|cut'

# %% after gpt
def peek(self, tokens):
    sure = torch.ones(tokens.shape)
    sure[:, 15::16] = 0
    return tokens.roll(-1, 1), sure
GPT.peek = peek
