"""Data, tokenizer, token store, loader and evaluation under faults: what the lessons of nbs/01_prepare.ipynb don't tell."""
import gc, hashlib, itertools, json, math, os, random, re, shutil, signal, subprocess, sys, threading, time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
import numpy as np, pyarrow as pa, pyarrow.parquet as pq, pytest, torch
from torch.nn import functional as F
from autoresearch import contract, prepare as P
from autoresearch.contract import get_profile

ROOT = Path(__file__).parent.parent
LAB = """
[lab]
source = hub
dataset = lab/text
last_shard = 5
val_shard = 5
train_shards = 3
vocab_size = 400
max_seq_len = 64
eval_tokens = 8320
time_budget = 5
cache = autoresearch-lab
"""

def settings(folder, **changed):
    "The profile `lab` of a settings.ini of its own"
    text = (ROOT/'settings.ini').read_text() + LAB
    for k,v in changed.items(): text = re.sub(rf'(?m)^{k} = .*\n', '', text[:text.index('[lab]')]) + text[text.index('[lab]'):] if False else \
        text[:text.index('[lab]')] + (re.sub(rf'(?m)^{k} = .*$', f'{k} = {v}', lab) if re.search(rf'(?m)^{k} = ', lab := text[text.index('[lab]'):]) else lab + f'{k} = {v}\n')
    folder.mkdir(parents=True, exist_ok=True)
    (folder/'settings.ini').write_text(text)
    return get_profile('lab', folder/'settings.ini')
