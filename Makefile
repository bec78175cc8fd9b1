# What a person types: make test, make demo. Everything else serves these two.
# Needs Python 3.11 or newer with venv (Debian: apt-get install python3-venv gnupg). Only pip goes to the network, once.

# The system's own Python first: distributions build it with profiles, which makes it half as fast again as one built by hand.
FIT = import ensurepip, sys; sys.exit(sys.version_info < (3, 11))
PYTHON ?= $(shell for python in /usr/bin/python3 python3.11 python3.12 python3.13 python3; do \
  command -v $$python >/dev/null && $$python -c '$(FIT)' 2>/dev/null && command -v $$python && break; done)
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
CODE := gateway storage web
# ARGS: what `make demo` passes on, such as ARGS=--auto. TESTS: what `make test` passes to pytest, such as TESTS=tests/storage.
ARGS ?=
TESTS ?= -n auto --dist loadfile --ignore=tests/faults

.PHONY: test test-postgres lint demo crash crash-postgres faults bench lock diagram clean
.DELETE_ON_ERROR:

test: lint
	$(BIN)/python -m pytest $(TESTS)

# The tests that touch a store, once more with it on PostgreSQL; the tests start a server of their own.
STORE := tests/storage tests/dispatch tests/web tests/blackbox
test-postgres: $(READY)
	PLI_TEST_ENGINE=postgres $(BIN)/python -m pytest -n auto --dist loadfile $(STORE)

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

demo: $(READY)
	$(BIN)/python -m gateway demo $(ARGS)

# kill -9 at many random instants during a stream of deposits; `make test` has a few of them. KILLS: how many.
KILLS ?= 50
crash: $(READY)
	PLI_CRASHES=$(KILLS) $(BIN)/python -m pytest tests/blackbox/test_crash.py --capture=no

# The same on PostgreSQL with two workers, over whole lives of letters: deposit, notice, choice, decision, hand-over and proofs.
crash-postgres: $(READY)
	PLI_CRASHES=$(KILLS) $(BIN)/python -m pytest tests/blackbox/test_crash_postgres.py --capture=no

# A running gateway is hurt in every way that docs/operate.md lists under "When something fails". PLI_TEST_ENGINE=postgres does the
# same on PostgreSQL. FAULTS: what is passed to pytest, such as FAULTS=tests/faults/test_disks.py.
FAULTS ?= -n 2 --dist loadfile tests/faults
faults: $(READY)
	$(BIN)/python -m pytest $(FAULTS)

# Ours and Postfix in turn, and the table of docs/performance.md. ROWS: parts of names (ROWS=list prints them); RUNS: of each side.
# WORK: a folder on the disk that is to be measured. The measuring tools lie beside the checkout, in ../shared/bench.
ROWS ?=
RUNS ?= 5
WORK ?= $(or $(TMPDIR),/tmp)/pli-bench
bench: $(READY)
	@$(BIN)/python -m bench --rows "$(ROWS)" --runs $(RUNS) --work $(WORK)

# docs/life.md from the life-cycle table.
diagram: $(READY)
	$(BIN)/python -m docs.make_diagram

# The environment follows requirements.lock; pip refuses whatever has another hash. The command pli then works from anywhere.
$(READY): requirements.lock
	@test -n "$(PYTHON)" || { echo "make: no Python 3.11 or newer with venv found (Debian: apt-get install python3-venv); or give PYTHON=..."; \
	  exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "make: $(PYTHON) is older than 3.11; give PYTHON=..."; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV) || { echo "make: no venv; Debian: apt-get install python3-venv"; exit 1; }
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-input --require-hashes -r requirements.lock
	@$(BIN)/python -c 'import sysconfig, pathlib; \
	  pathlib.Path(sysconfig.get_path("purelib"), "pli.pth").write_text("$(CURDIR)\n")'
	@printf '#!$(CURDIR)/$(BIN)/python\nfrom gateway.__main__ import main\n\nmain()\n' > $(BIN)/pli
	@chmod +x $(BIN)/pli
	@touch $@

# requirements.lock: every package with every hash, for all systems and Pythons that pyproject.toml allows, and no addresses.
# Versions that are locked stay; give LOCK_ARGS=--upgrade, or --upgrade-package NAME, for newer ones. uv is needed here alone.
LOCK_ARGS ?=
lock: $(READY)
	$(PYTHON) -m venv build/lock
	build/lock/bin/pip install --quiet --disable-pip-version-check uv
	build/lock/bin/uv pip compile pyproject.toml --group dev --universal --python-version 3.11 --generate-hashes \
	  --no-header --no-annotate --quiet $(LOCK_ARGS) --output-file requirements.lock

clean:
	rm -rf $(VENV) build dist demo tests/node_modules .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
