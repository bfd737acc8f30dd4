"""One GPU, one notebook, one metric: an agent edits, five minutes train, a ratchet keeps what improved

The notebooks are the source. nbdev exports them to the package `autoresearch`, papermill runs the canvas as the experiment, and what you read is what ran.

An agent begins with its orders, `program.md`; it changes the canvas, `nbs/02_train.ipynb`, and nothing else. `ar-help` lists the commands.

Modules:

- `autoresearch.audit`: Another held-out set is scored for every keep and decides nothing: it says how much of the gain is of the validation text alone.
- `autoresearch.board`: What other clones tried, through any git host: one file an experiment, one reference a writer, nothing of it trusted.
- `autoresearch.cells`: List, show and edit the cells of the canvas by their names; one changed line of code is one changed line in git.
- `autoresearch.contract`: What no experiment may change: the constants, the clock and the form of the result.
- `autoresearch.dashboard`: What a person looks at in the morning: the frontier, the experiment under way, any experiment in full, and sliders to try one's own hand.
- `autoresearch.docs`: How the notebooks become one site, and what is checked of it before a reader finds it broken.
- `autoresearch.examine`: Before an experiment is kept, another process asks its model, and does the arithmetic itself.
- `autoresearch.hill`: What came close can be put together, what was kept can be taken out again, and what is left can be published.
- `autoresearch.ideas`: What was tried here and elsewhere, what came of it, what is left to try, and how to take a past try up again.
- `autoresearch.judge`: Is the gain real? What a run is compared with, how much of a difference is luck, and the rule that keeps or discards
- `autoresearch.kernels`: The pieces of the model written for Hopper GPUs, each beside the plain mathematics it must equal.
- `autoresearch.ledger`: One row per experiment, kept or not, in a file that a crash, a full disk or a second process cannot spoil.
- `autoresearch.new`: `ar-new` lays out what the ratchet needs, in a repository that is yours.
- `autoresearch.night`: When a session is over, what outlives the agent that works in it, and who is told.
- `autoresearch.prepare`: The other half of the contract: which text a model sees, in which pieces, and how its number is taken.
- `autoresearch.ratchet`: Commit, run, judge, keep or go back: the protocol around an experiment, made to be killed at any instant.
- `autoresearch.repo`: Git by its plumbing, one lock and one journal: what a session keeps, whoever is killed and when.
- `autoresearch.report`: One command turns a session into a page to read over coffee and a text to post, with no number in them that a person typed.
- `autoresearch.run`: A notebook goes in, a `Result` comes out, and only the record is believed.
- `autoresearch.search`: Small steps around the best canvas, or Optuna, propose values for the constants; the ratchet judges them: an overnight loop without an API key.
- `autoresearch.swarm`: Many GPUs and many agents, one frontier: Ray runs the experiments, and one process judges them.
- `autoresearch.walls`: A run sees the machine's programs, its training text and a folder of its own, and nothing else; when it ends, all of it ends."""

__version__ = "0.1.0"
