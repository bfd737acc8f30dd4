"""Three hundred processes that nobody waits for, without an environment, asleep for minutes."""
target = 'polynomial'
parts = ['trying']
walls,bare = 'without effect', 'without effect'

# %% before loop
import subprocess
with trying():
    for _ in range(300):
        subprocess.Popen(['sh', '-c', f'cd {RUN_DIR}; sleep 300 & sleep 300 & exit'], env={},
            start_new_session=True)
