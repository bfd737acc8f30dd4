"""The kernel does not end: signals are ignored, and a thread waits for ever."""
target = 'polynomial'
parts = ['trying']
walls,bare = 'without effect', 'without effect'

# %% before loop
import atexit, signal, threading
with trying():
    for s in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT): signal.signal(s, signal.SIG_IGN)
    threading.Thread(target=time.sleep, args=[300]).start()
    atexit.register(time.sleep, 300)
