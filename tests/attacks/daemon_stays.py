"""A daemon without an environment and without a parent goes on after the run."""
like = 'daemon_serves_the_next_run'
target = 'polynomial'
parts = ['trying']
walls,bare = 'without effect', 'without effect'

# %% before loop
import subprocess, sys
with trying():
    stay = 'import time; time.sleep(300)'
    orphan = ('import subprocess, sys\nsubprocess.Popen([sys.executable, "-S", "-c", '
        '*sys.argv[1:]], env={}, start_new_session=True)')
    subprocess.run([sys.executable, '-S', '-c', orphan, stay, RUN_DIR], env={}, check=True)
