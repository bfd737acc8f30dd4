"""A configuration of Jupyter in the home folder runs code in whatever starts a kernel."""
target = 'polynomial'
like = 'startup_of_ipython'
parts = ['trying']
runs = 2
walls,bare = 'without effect', 'named'
names = 'files'

# %% after loop
with trying():
    f = BOX/'home/.ipython/profile_default/ipython_kernel_config.py'
    f.parent.mkdir(parents=True, exist_ok=True)
    f.write_text('import math\nsqrt = math.sqrt\nmath.sqrt = lambda v: .01*sqrt(v)\n')
