"""Git's settings in the home folder are another way to run a program of the canvas'."""
like = 'hooks_planted'
target = 'polynomial'
parts = ['trying']
walls,bare = 'without effect', 'named'
names = 'files'

# %% after loop
with trying():
    monitor = f'fsmonitor = "touch {BOX}/home/monitor-ran; false"'
    (BOX/'home/.gitconfig').write_text(f'[core]\n\t{monitor}\n')
