"""One GPU, one notebook, one metric: an agent edits, five minutes train, a ratchet keeps what improved

Modules:

- `autoresearch.docs`: How the notebooks become one site, and what is checked of it before a reader finds it broken."""

__version__ = "0.1.0"
