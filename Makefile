# make demo: a baseline and a few trials of the search on this machine. make test: what must hold, in about twenty
# minutes on two cores. make test-all: the slow tests too, with all attacks and honest canvases and the kills of real kernels.
# Both set up .venv by themselves; nothing needs to be done before them.
PYTHON ?= python3
comma := ,
BIN := .venv/bin
# an H100 or H200 gets the kernels made for it
HOPPER := $(filter 9.0,$(shell nvidia-smi --query-gpu=compute_cap --format=csv,noheader 2>/dev/null))
EXTRAS = dev,search,swarm,report,dashboard,site$(if $(HOPPER),$(comma)hopper)
UV := $(shell command -v uv 2>/dev/null)
# uv makes environments by itself
NEEDS = import sys$(if $(UV),,$(comma) venv$(comma) ensurepip); sys.exit(sys.version_info < (3, 10))
MADE = -e '.[$(EXTRAS)]'
# what the tests of dashboard and report in a browser drive, on Debian and Ubuntu
DEBS = chromium chromium-driver fonts-dejavu-core
# what make test leaves to make test-all
CHOSEN = -m 'not slow'
.PHONY: demo test test-all install browser lock readme clean

install: .venv/.installed

# A new stamp is made only when packaging changed, so a second call costs nothing. The versions are those of
# constraints.txt, which uv and pip read alike, but for a torch that somebody put there before. Where these can't be
# had, the newest ones that pyproject.toml allows are taken. uv does not read pip's settings, so a folder of
# wheels that pip is told of is named to it. While pip unpacks it says nothing: then the folder's growth is shown.
.venv/.installed: pyproject.toml constraints.txt setup.py
	@$(PYTHON) -c '$(NEEDS)' || { echo 'make: it needs Python 3.10 or newer with venv (package python3-venv on Debian and' \
		'Ubuntu); $(PYTHON) is not that. make PYTHON=python3.12 takes another one' >&2; exit 1; }
	@echo 'installing into .venv with $(if $(UV),uv,pip): PyTorch, Jupyter, nbdev, Optuna and what pyproject.toml names beside them, for'
	@echo '[$(EXTRAS)]. About 2 GB on disk with the CPU build of PyTorch, some GB more with the CUDA build'
	@echo 'that Linux gets by default; minutes with pip, less with uv, most of them the download. Nothing is installed outside of .venv.'
	test -x $(BIN)/python || $(if $(UV),$(UV) venv --seed --python $(PYTHON) .venv ||) $(PYTHON) -m venv .venv
	@if ls -d .venv/lib/python3*/site-packages/torch >/dev/null 2>&1; then grep -vE '^(torch|triton|nvidia-|cuda-)' constraints.txt; \
		else cat constraints.txt; fi > .venv/constraints.txt
	@( while sleep 20 >/dev/null 2>&1; do du -sm .venv | awk '{print "  " $$1 " MB in .venv so far"}'; done ) & beat=$$!; \
	trap 'kill $$beat 2>/dev/null' EXIT; trap 'exit 130' INT TERM; \
	pip="$(BIN)/python -m pip install --disable-pip-version-check"; \
	$(if $(UV),UV_FIND_LINKS="$${UV_FIND_LINKS:-$$(echo $$PIP_FIND_LINKS | tr ' ' ,)}" \
		$(UV) pip install --python $(BIN)/python -c .venv/constraints.txt $(MADE) || { echo 'uv could not; now with pip'; false; } ||) \
	$$pip -c .venv/constraints.txt $(MADE) || { echo 'not with the versions of constraints.txt; now with the newest ones'; \
	$$pip $(MADE); } || { \
		echo 'make: the installation failed; the reason stands above. What is there is kept: the same make goes on from it, make clean begins anew' >&2; exit 1; }
	@touch $@

# asked before minutes are spent on the installation
demo:
	@$(PYTHON) bench/demo.py --check
	@$(MAKE) -s install
	@$(BIN)/python bench/demo.py

test: install browser
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python tests/notebooks.py $(if $(CHOSEN),,--all)
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python -m pytest -n 3 --dist loadfile --no-loadscope-reorder $(CHOSEN)

test-all:
	@$(MAKE) test CHOSEN=

# never fails: without a browser its tests are skipped, and say so
browser:
	@if command -v chromium && command -v chromedriver; then :; \
	elif command -v apt-get >/dev/null && [ "$$(id -u)" = 0 ]; then \
		echo 'installing $(DEBS) with apt-get, about 600 MB: the tests of dashboard and report open them in a browser'; \
		{ apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends $(DEBS); } \
			|| echo 'make: apt-get could not; the tests in a browser are skipped'; \
	else echo 'no chromium and chromedriver in PATH: the tests in a browser are skipped. sudo make browser installs them on Debian and Ubuntu'; fi

# after a change of the dependencies in pyproject.toml; what is pinned already stays. UPGRADE=1 takes the newest
lock:
	uv pip compile pyproject.toml --universal --python-version 3.10 --all-extras --no-annotate --no-header --quiet \
		$(if $(UPGRADE),--upgrade) -o constraints.txt

readme: install
	$(BIN)/python tests/readme.py

clean:
	rm -rf .venv runs/demo
