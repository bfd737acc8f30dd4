"""A daemon without environment and parent trains, and no clock of this process sees it."""
target = 'polynomial'
parts = ['trying', 'work']
settings = {'clock': 'cpu'}
walls,bare = 'refused', 'refused'
says = 'CPU|process'

# %% in loop: learn(.02)
if budget.num_steps == 3:
    import subprocess, sys
    burn = 'import sys, time\nwhile time.process_time() < 3: pass\nopen(sys.argv[1], "w")'
    ready = f'{RUN_DIR}/ready'
    orphan = ('import subprocess, sys\nsubprocess.Popen([sys.executable, "-S", "-c", '
        '*sys.argv[1:]], env={}, start_new_session=True)')
    subprocess.run([sys.executable, '-S', '-c', orphan, burn, ready], env={})
    while not os.path.exists(ready): sleep(.02)
    coefs = GOOD
    print('TRIED')
until = time.process_time() + .02
while time.process_time() < until: pass
