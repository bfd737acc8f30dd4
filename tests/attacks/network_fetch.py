"""What was trained elsewhere is fetched over the network."""
open = True
target = 'polynomial'
parts = ['trying', 'work']
walls,bare = 'without effect', 'named'
names = 'network'

# %% after loop
import json, socket
with trying(): coefs = json.loads(socket.create_connection(('127.0.0.1', PORT), 5).recv(999))
