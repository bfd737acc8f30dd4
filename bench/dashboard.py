"""How long a refresh of the dashboard takes when the ledger has changed, at 100, 1,000 and 10,000 experiments."""
import json, random, shutil, statistics, sys, tempfile, time
from contextlib import contextmanager
from pathlib import Path
import comm
from comm.base_comm import BaseComm
from jupyter_client.session import Session
from autoresearch.contract import get_profile
from autoresearch.dashboard import Dashboard
from autoresearch.ledger import Ledger, Row, one_line

ROOT = Path(__file__).resolve().parent.parent
SENT = dict(bytes=0)
WIRE = Session(key=b'bench')

class Wire(BaseComm):
    "Does to a widget's messages what a kernel does, all but the socket: pack, sign, count"
    def publish_msg(self, msg_type, data=None, metadata=None, buffers=None, **keys):
        msg = WIRE.msg(msg_type, content=dict(data=data or {}, comm_id=self.comm_id, **keys), metadata=metadata)
        SENT['bytes'] += sum(len(memoryview(b).cast('B')) for b in [*WIRE.serialize(msg), *(buffers or [])])

def experiment(rng, n, best):
    "Row and notes of an invented experiment"
    value = best + rng.gauss(.0015, .001)
    status = 'keep' if n == 1 or value < best else 'crash' if rng.random() < 1/12 else 'discard'
    row = Row(f'{rng.getrandbits(28):07x}', value if n > 1 else best, 44., status, f'idea {n}: ' + ' '.join(rng.choices(['rate', 'width', 'Muon', 'window', 'halve', '<b>', 'decay'], k=8)))
    return row, dict(dir=f'{n:03d}-{row.commit}', commit=row.commit*5+'aaaaa', parent='b'*40, status=status, description=row.description, started=1.7e9+400*n,
        time=1.7e9+400*n+340, seconds=340., block=dict(val_bpb=value, training_seconds=300.), reason='invented', seed=42, **{'class': 'ok' if status != 'crash' else 'error'})

def add(led, runs, rng, n, best):
    row,notes = experiment(rng, n, best)
    folder = runs/notes['dir']
    folder.mkdir(parents=True)
    (folder/'experiment.json').write_text(json.dumps(notes))
    (folder/'progress.json').write_text(json.dumps(dict(percent=100, columns=['step', 'seconds', 'loss'], curve=[[i, i, 3+9/(i+1)] for i in range(300)])))
    return row, min(best, row.value) if row.status == 'keep' else best

@contextmanager
def session(n, folder):
    "A made-up session of `n` experiments"
    shutil.copy(ROOT/'settings.ini', folder)
    p = get_profile('tiny', folder/'settings.ini')
    (folder/p.canvas).parent.mkdir()
    shutil.copy(ROOT/p.canvas, folder/p.canvas)
    runs,rng,best,led = folder/p.runs/'bench', random.Random(0), 1., Ledger(folder/p.ledger, p.metric, p.direction)
    runs.mkdir(parents=True)
    (folder/p.runs/'current.json').write_text('{"tag": "bench"}')
    rows = []
    for i in range(1, n+1):
        row,best = add(led, runs, rng, i, best)
        rows.append(row)
    led.path.write_text(led.header + '\n' + ''.join(r.line()+'\n' for r in rows)) # one write: ten thousand appends would sync ten thousand times
    def one_more(i):
        row,_ = add(led, runs, rng, i, best)
        led.append(row)
    yield p, one_more

def measure(n, rounds=7):
    "Seconds to open; of a beat after a row was appended median, longest, and median of the CPU's; of one where nothing changed; kilobytes sent"
    with tempfile.TemporaryDirectory() as tmp, session(n, Path(tmp)) as (p, one_more):
        def beat(first=False):
            t0,c0 = time.perf_counter(), time.process_time()
            d.beat(dict(first=first, drawn=4, dark=False, width=1280))
            assert 'ar-error' not in d.error.value, d.error.value
            cpu.append(time.process_time()-c0)
            return time.perf_counter()-t0
        cpu = []
        t0 = time.perf_counter()
        d = Dashboard(p)
        beat(first=True)
        opened,changed,sent,cpu = time.perf_counter()-t0, [], [], []
        for i in range(1, rounds+1):
            one_more(n+i)
            SENT['bytes'] = 0
            changed.append(beat())
            sent.append(SENT['bytes'])
            assert len(d.feed.rows) == n+i and d.fig.data[0].x is not None
        return opened, statistics.median(changed), max(changed), statistics.median(cpu), statistics.median(beat() for _ in range(rounds)), statistics.median(sent)/1024

def main():
    comm.create_comm = Wire
    print('| experiments | opening, s | refresh after a new row, s: median | longest | CPU | refresh, nothing new, s | sent with a new row, KiB |\n| ---: | ---: | ---: | ---: | ---: | ---: | ---: |')
    for n in map(int, sys.argv[1:] or (100, 1000, 10000)):
        o,c,worst,cpu,idle,kb = measure(n)
        print(f'| {n:,} | {o:.2f} | {c:.3f} | {worst:.3f} | {cpu:.3f} | {idle:.4f} | {kb:,.0f} |', flush=True)

if __name__ == '__main__': main()
