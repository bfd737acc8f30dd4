"""How long a refresh of the dashboard takes when the ledger has changed, at 100, 1,000 and 10,000
experiments, and what an open page costs beside a run: CPU seconds of its kernel in a minute."""
import json, random, shutil, statistics, sys, tempfile, time
from contextlib import contextmanager
from pathlib import Path
import comm
from comm.base_comm import BaseComm
from jupyter_client.session import Session
from autoresearch.contract import get_profile, write_json
from autoresearch.dashboard import Dashboard
from autoresearch.ledger import Ledger, Row
from autoresearch.repo import locked

ROOT = Path(__file__).resolve().parent.parent
SENT = dict(bytes=0)
WIRE = Session(key=b'bench')

class Wire(BaseComm):
    "Does to a widget's messages what a kernel does, all but the socket: pack, sign, count"
    def publish_msg(self, msg_type, data=None, metadata=None, buffers=None, **keys):
        content = dict(data=data or {}, comm_id=self.comm_id, **keys)
        parts = WIRE.serialize(WIRE.msg(msg_type, content=content, metadata=metadata))
        SENT['bytes'] += sum(len(memoryview(b).cast('B')) for b in [*parts, *(buffers or [])])

WORDS = ['rate', 'width', 'Muon', 'window', 'halve', '<b>', 'decay']

def experiment(rng, n, best):
    "Row and notes of an invented experiment"
    value = best + rng.gauss(.0015, .001)
    status = 'keep' if n == 1 or value < best else 'crash' if rng.random() < 1/12 else 'discard'
    text = f'idea {n}: ' + ' '.join(rng.choices(WORDS, k=8))
    row = Row(f'{rng.getrandbits(28):07x}', value if n > 1 else best, 44., status, text)
    notes = dict(dir=f'{n:03d}-{row.commit}', commit=row.commit*5+'aaaaa', parent='b'*40,
        status=status, value=row.value, description=row.description, started=1.7e9+400*n,
        time=1.7e9+400*n+340, seconds=340., block=dict(val_bpb=value, training_seconds=300.),
        reason='invented', seed=42, **{'class': 'ok' if status != 'crash' else 'error'})
    return row, notes

def add(runs, rng, n, best):
    "A run's folder; its row, and the best value after it"
    row,notes = experiment(rng, n, best)
    folder = runs/notes['dir']
    folder.mkdir(parents=True)
    (folder/'experiment.json').write_text(json.dumps(notes))
    curve = [[i, i, 3+9/(i+1)] for i in range(300)]
    progress = dict(percent=100, columns=['step', 'seconds', 'loss'], curve=curve)
    (folder/'progress.json').write_text(json.dumps(progress))
    return row, min(best, row.value) if row.status == 'keep' else best

@contextmanager
def session(n, folder):
    "A made-up session of `n` experiments"
    shutil.copy(ROOT/'settings.ini', folder)
    p = get_profile('tiny', folder/'settings.ini')
    (folder/p.canvas).parent.mkdir()
    shutil.copy(ROOT/p.canvas, folder/p.canvas)
    led = Ledger(folder/p.ledger, p.metric, p.direction)
    runs = folder/p.runs/'bench'
    runs.mkdir(parents=True)
    (folder/p.runs/'current.json').write_text('{"tag": "bench"}')
    (runs/'state.json').write_text(json.dumps(dict(tag='bench', base='b'*40, profile='tiny')))
    rng,rows,best = random.Random(0), [], 1.
    for i in range(1, n+1):
        row,best = add(runs, rng, i, best)
        rows.append(row)
    # one write: ten thousand appends would sync ten thousand times
    led.path.write_text(led.header + '\n' + ''.join(r.line()+'\n' for r in rows))
    def one_more(i):
        row,_ = add(runs, rng, i, best)
        led.append(row)
    yield p, one_more

@contextmanager
def under_way(p):
    "A run under way: the lock is held, the journal names the folder, progress is written"
    runs = p.root/p.runs/'bench'
    folder = runs/'999999-abcdef0'
    folder.mkdir()
    journal = dict(run_dir=folder.name, description='under way', started=time.time())
    write_json(runs/'journal.json', journal)
    def progress(i):
        curve = [[k, k, 3+9/(k+1)] for k in range(i)]
        now = dict(percent=i/3, loss=3., time=time.time(), curve=curve)
        write_json(folder/'progress.json', now)
    with locked(p, what='the bench', token='bench'): yield progress

BEAT = dict(first=False, drawn=5, dark=False, width=1280)

def minute(d, p):
    "CPU seconds of a page's kernel in a minute beside a run: 20 beats, progress each time anew"
    spent = 0.
    with under_way(p) as progress:
        for i in range(20):
            progress(15*i+1)
            t0 = time.process_time()
            d.beat(BEAT)
            spent += time.process_time()-t0
        assert 'under way' in d.now.value, d.now.value
    return spent

def beat(d, **more):
    "Seconds of a refresh by the clock, and of the CPU"
    t0,c0 = time.perf_counter(), time.process_time()
    d.beat({**BEAT, **more})
    assert 'ar-error' not in d.error.value, d.error.value
    return time.perf_counter()-t0, time.process_time()-c0

def refreshes(d, n, one_more, rounds):
    "Of a refresh after a row was appended: seconds, CPU seconds, bytes"
    for i in range(1, rounds+1):
        one_more(n+i)
        SENT['bytes'] = 0
        took = beat(d)
        assert len(d.feed.rows) == n+i and d.fig.data[0].x is not None
        yield *took, SENT['bytes']

def measure(n, rounds=7):
    "A row of the table"
    median = statistics.median
    with tempfile.TemporaryDirectory() as tmp, session(n, Path(tmp)) as (p, one_more):
        t0 = time.perf_counter()
        d = Dashboard(p)
        beat(d, first=True)
        opened = time.perf_counter()-t0
        changed,cpu,sent = zip(*refreshes(d, n, one_more, rounds))
        idle = median(beat(d)[0] for _ in range(rounds))
        return (opened, median(changed), max(changed), median(cpu), idle, median(sent)/1024,
            minute(d, p))

HEAD = ('experiments', 'opening, s', 'refresh after a new row, s: median', 'longest', 'CPU',
    'refresh, nothing new, s', 'sent with a new row, KiB', 'CPU s a minute beside a run')
FORMATS = ('{:.2f}', '{:.3f}', '{:.3f}', '{:.3f}', '{:.4f}', '{:,.0f}', '{:.2f}')

def main():
    comm.create_comm = Wire
    print(f'| {" | ".join(HEAD)} |\n|' + ' ---: |'*len(HEAD))
    for n in map(int, sys.argv[1:] or (100, 1000, 10000)):
        cells = [f.format(v) for f,v in zip(FORMATS, measure(n))]
        print(f'| {n:,} | {" | ".join(cells)} |', flush=True)

if __name__ == '__main__': main()
