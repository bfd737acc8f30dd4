"""One GPU, one notebook, one metric: an agent edits, five minutes train, a ratchet keeps what improved

The notebooks are the source. nbdev exports them to the package `autoresearch`, papermill runs the canvas as the experiment, and what you read is what ran.

An agent begins with its orders, `program.md`; it changes the canvas, `nbs/02_train.ipynb`, and nothing else. `ar-help` lists the commands.

Modules:

- `autoresearch.docs`: How the notebooks become one site, and what is checked of it before a reader finds it broken."""

__version__ = "0.1.0"
