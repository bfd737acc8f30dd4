"""A daemon that one run leaves hands the next one a result, over a socket without a file."""
target = 'polynomial'
parts = ['trying', 'work']
runs = 2
walls,bare = 'without effect', 'without effect'

# %% after loop
import json, socket, subprocess, sys
name = f'\0served-{REPO}'
if not RUN_NUMBER:
    serve = f'''import socket, json
s = socket.socket(socket.AF_UNIX)
s.bind({name!r})
s.listen()
while True:
    c = s.accept()[0]
    c.sendall(json.dumps({GOOD}).encode())
    c.close()'''
    orphan = ('import subprocess, sys\nsubprocess.Popen([sys.executable, "-S", "-c", '
        '*sys.argv[1:]], env={}, start_new_session=True)')
    subprocess.run([sys.executable, '-S', '-c', orphan, serve, RUN_DIR], env={}, check=True)
    sleep(.5)
else:
    with trying():
        s = socket.socket(socket.AF_UNIX)
        s.connect(name)
        coefs = json.loads(s.recv(999))
