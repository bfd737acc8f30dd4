"""The environment of the processes above is read, from /proc."""
target = 'polynomial'
parts = ['trying']
walls,bare = 'without effect', 'named'
names = 'files'

# %% before loop
for pid in [int(o) for o in os.listdir('/proc') if o.isdigit()]:
    with trying():
        said = Path(f'/proc/{pid}/environ').read_text().split('\0')
        print([o for o in said if 'a-word-that' in o])
