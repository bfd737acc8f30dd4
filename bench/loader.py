"""How fast are rows packed? Our packer beside the obvious one, in one run.

    python bench/loader.py --profile climbmix
    python bench/loader.py --profile tiny --doc-bytes 3400

`packer` fills rows from the token store in one thread; `loader` is `make_dataloader`'s class around
it, batches on the device; `naive` does what training scripts usually do: reads text, tokenizes it
on the fly and looks through a list of lists for each pick. All three pack the same documents: the
profile's text, joined and cut again to lengths like climbmix's (log-normal, --doc-bytes on
average), so that any prepared profile serves; --doc-bytes 0 takes its documents as they are.
"""
import itertools, os, platform, time
import numpy as np
from fastcore.script import call_parse
from autoresearch.contract import get_profile
from autoresearch.prepare import (Loader, Packer, default_device, get_tokenizer, is_prepared,
    shard_path, texts, train_shards)

def documents_like(profile, doc_bytes, limit, seed=0):
    "About `limit` characters of the profile's text as documents, `doc_bytes` long on average"
    docs,size = [], 0
    for i in train_shards(profile):
        for t in texts(shard_path(profile, i)):
            if size >= limit: break
            docs.append(t)
            size += len(t)
    if not doc_bytes: return docs
    text,rng,res,pos = '\n'.join(docs), np.random.default_rng(seed), [], 0
    while pos < len(text):
        # Sigma 1: the mean is exp(.5) times the median
        n = max(20, int(rng.lognormal(np.log(doc_bytes) - .5, 1.)))
        res.append(text[pos:pos+n])
        pos += n
    return res

class Naive:
    "Best-fit by a linear scan over Python lists, tokenizing on the fly, 128 documents at a time"
    def __init__(self, tok, docs, size=1000, threads=os.cpu_count()):
        self.tok,self.docs,self.size,self.threads,self.buffer,self.i = (
            tok, docs, size, threads, [], 0)
    def refill(self):
        while len(self.buffer) < self.size:
            batch = [self.docs[(self.i+k) % len(self.docs)] for k in range(128)]
            self.i += 128
            self.buffer += [
                [self.tok.bos_id] + ids for ids in self.tok.encode_batch(batch, self.threads)]
    def row(self, T):
        row = []
        while (space := T + 1 - len(row)) > 0:
            self.refill()
            best = -1
            for i,d in enumerate(self.buffer):
                if len(d) <= space and (best < 0 or len(d) > len(self.buffer[best])): best = i
            if best < 0: best = min(range(len(self.buffer)), key=lambda i: len(self.buffer[i]))
            row += self.buffer.pop(best)[:space]
        return row

def rate(step, tokens, seconds):
    "Tokens a second of `step`, called for at least `seconds`, after one call that does not count"
    step()
    t0,n = time.perf_counter(), 0
    while (t := time.perf_counter() - t0) < seconds:
        step()
        n += tokens
    return n/t

@call_parse
def main(
    profile:str='', # Section of settings.ini, prepared
    batch:int=128, # Rows of a batch
    seq:int=0, # Tokens of a row; the profile's when 0
    doc_bytes:int=3400, # Mean length of a document; 0 takes the profile's documents as they are
    seconds:float=5., # Time for each measurement
    device:str='' # Where the loader's batches go; CUDA, MPS or CPU when empty
):
    "Print tokens a second of packer, loader and naive packer"
    p,tok = get_profile(profile), None
    if fault := is_prepared(p): raise SystemExit(f'bench/loader.py: {fault}')
    tok,T,device = get_tokenizer(p), seq or p.max_seq_len, device or default_device()
    docs = documents_like(p, doc_bytes, 60_000_000)
    ids = [tok.encode_document(t) for t in docs]
    flat,ends = np.concatenate(ids), np.cumsum([len(i) for i in ids]).tolist()
    def stream():
        for epoch in itertools.count(1):
            for i in range(0, len(ends), 128):
                cuts = [ends[i-1] if i else 0, *ends[i:i+128]]
                yield [flat[a:b] for a,b in zip(cuts, cuts[1:])], epoch
    print(f'{platform.processor() or platform.machine()}, {os.cpu_count()} CPUs, device {device}; '
        f'profile {p.name}, {batch} rows of {T} tokens; '
        f'{len(docs):,} documents of {len(flat)/len(docs):,.0f} tokens on average')
    packer,rows = Packer(stream()), np.empty((batch, T+1), dtype=np.uint16)
    def pack():
        for row in rows: packer.pack(row)
    fast = rate(pack, batch*T, seconds)
    loader = Loader(Packer(stream()), batch, T, device)
    ahead = rate(lambda: next(loader)[0], batch*T, seconds)
    loader.close()
    naive = Naive(tok, docs)
    slow = rate(lambda: naive.row(T), T, seconds)
    for name,v,what in [('packer', fast, 'one thread, from the token store'),
            ('loader', ahead, f'its thread and batches on {device}'),
            ('naive', slow, f'linear scan, tokenizing on the fly in {os.cpu_count()} threads')]:
        print(f'{name:<8} {v/1e6:8.2f} M tokens/s   {v/slow:6.1f}x   {what}')
