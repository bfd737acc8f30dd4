# make demo: a baseline and a few trials of the search on this machine. make test: everything that must hold.
# Both set up .venv by themselves; nothing needs to be done before them.
PYTHON ?= python3
comma := ,
BIN := .venv/bin
# an H100 or H200 gets the kernels made for it
EXTRAS = dev,search,dashboard$(if $(filter 9.0,$(shell nvidia-smi --query-gpu=compute_cap --format=csv,noheader 2>/dev/null)),$(comma)hopper)
.PHONY: demo test install readme clean

install: .venv/.installed

# a new stamp is made only when packaging changed, so a second call costs nothing
.venv/.installed: pyproject.toml
	test -x $(BIN)/pip || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[$(EXTRAS)]'
	touch $@

demo: install
	$(BIN)/python bench/demo.py

test: install
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python tests/notebooks.py
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

readme: install
	$(BIN)/python tests/readme.py

clean:
	rm -rf .venv runs/demo
