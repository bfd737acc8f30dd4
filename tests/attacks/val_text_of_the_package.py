"""The validation text that ships with the package is tokenized and remembered."""
like = 'val_rows_read'
parts = ['trying', 'memory']
walls,bare = 'without effect', 'named'
names = 'contract'

# %% before loop
import hashlib
import numpy as np
from autoresearch import prepare
def remember(run):
    with trying():
        import pyarrow.parquet as pq
        texts = pq.read_table(prepare._corpus('val'))['text'].to_pylist()
        docs = [d for t in texts for d in prepare.cut(t, profile.doc_bytes)]
        order = sorted(range(len(docs)), key=lambda i: hashlib.sha256(b'%d' % i).digest())
        ids = [run.tokenizer.encode_document(docs[i]) for i in order]
        packer = prepare.Packer((ids[i:i+128], 1) for i in range(0, len(ids), 128))
        rows = np.empty((64, profile.max_seq_len+1), dtype=np.uint16)
        for row in rows: packer.pack(row)
        run.model.memory.learn(rows)
