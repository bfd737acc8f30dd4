# make demo: a baseline and a few trials of the search on this machine. make test: everything that must hold.
# Both set up .venv by themselves; nothing needs to be done before them.
PYTHON ?= python3
comma := ,
BIN := .venv/bin
# an H100 or H200 gets the kernels made for it
HOPPER := $(filter 9.0,$(shell nvidia-smi --query-gpu=compute_cap --format=csv,noheader 2>/dev/null))
EXTRAS = dev,search,dashboard$(if $(HOPPER),$(comma)hopper)
NEEDS = import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 10))
.PHONY: demo test install readme clean

install: .venv/.installed

# a new stamp is made only when packaging changed, so a second call costs nothing
.venv/.installed: pyproject.toml
	@$(PYTHON) -c '$(NEEDS)' || { echo 'make: it needs Python 3.10 or newer with venv (package python3-venv on Debian and' \
		'Ubuntu); $(PYTHON) is not that. make PYTHON=python3.12 takes another one' >&2; exit 1; }
	@echo 'installing into .venv: PyTorch, Jupyter, nbdev, Optuna and what pyproject.toml names beside them, for'
	@echo '[$(EXTRAS)]. About 2 GB on disk with the CPU build of PyTorch, some GB more with the CUDA build that'
	@echo 'Linux gets by default; a few minutes, most of them the download. Nothing is installed outside of .venv.'
	test -x $(BIN)/pip || $(PYTHON) -m venv .venv
	@$(BIN)/python -m pip install --disable-pip-version-check -e '.[$(EXTRAS)]' || { echo 'make: the installation failed;' \
		'the reason stands above. What is there is kept: the same make goes on from it, make clean begins anew' >&2; exit 1; }
	@touch $@

# asked before minutes are spent on the installation
demo:
	@$(PYTHON) bench/demo.py --check
	@$(MAKE) -s install
	@$(BIN)/python bench/demo.py

test: install
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python tests/notebooks.py
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python -m pytest -n 3 --dist loadfile --no-loadscope-reorder

readme: install
	$(BIN)/python tests/readme.py

clean:
	rm -rf .venv runs/demo
