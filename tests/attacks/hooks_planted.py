"""Git is told to run a program of the canvas', in hooks and in its settings."""
target = 'polynomial'
parts = ['trying']
walls,bare = 'without effect', 'named'
names = 'files'

# %% after loop
with trying():
    hook = REPO/'.git/hooks/reference-transaction'
    hook.parent.mkdir(exist_ok=True)
    hook.write_text(f'#!/bin/sh\ntouch {BOX}/home/hook-ran\n')
    hook.chmod(0o755)
with trying():
    with open(REPO/'.git/config', 'a') as f:
        f.write(f'[core]\n\tfsmonitor = "touch {BOX}/home/monitor-ran; false"\n')
