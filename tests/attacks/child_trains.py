"""A process of its own trains while this one sleeps, on a clock that counts the CPU's seconds."""
target = 'polynomial'
parts = ['trying', 'work']
settings = {'clock': 'cpu'}
walls,bare = 'refused', 'refused'
says = 'CPU|seconds|training took|last step'

# %% in loop: learn(.02)
if budget.num_steps == 3:
    import subprocess, sys
    burn = 'import time\nwhile time.process_time() < 3: pass'
    subprocess.run([sys.executable, '-S', '-c', burn])
    coefs = GOOD
    print('TRIED')
until = time.process_time() + .02
while time.process_time() < until: pass
