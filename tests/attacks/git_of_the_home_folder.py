"""Git's settings in the home folder are another way to run a program of the canvas'."""
target = 'polynomial'
parts = ['trying']
walls,bare = 'without effect', 'named'

# %% after loop
with trying():
    (BOX/'home/.gitconfig').write_text(f'[core]\n\tfsmonitor = "touch {BOX}/home/monitor-ran; false"\n')
