# Needs git, make, Python 3.11 or newer with pip; everything else goes into .venv.
#
#   make demo    three real nodes, 36,273 films, a killed leader: everything held, or exit 1
#   make test    the test suite            make sim    the simulator over many more seeds
#   make lint    format, lint, types       make chaos  real processes under kill -9, slow tests
#   make bench   figures                   make setup / make clean
#   make mutants known bugs, put back one at a time: each must be found
#   make bench-peers    installs the engines that bench/ann.py compares with

PYTHON ?= $(shell for p in python3 python3.14 python3.13 python3.12 python3.11; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
PYTEST_ARGS ?=
WORKERS ?= 2
SEEDS ?= 2000
START ?= 1000
SIM_SEEDS ?= $(SEEDS)
SIM_START ?= $(START)

VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: setup demo test lint format sim mutants chaos bench bench-peers clean

setup: $(STAMP)

$(STAMP): constraints.txt pyproject.toml
	@test -n "$(PYTHON)" || { echo "No Python 3.11 or newer found; set PYTHON=/path/to/python3" >&2; exit 1; }
	@echo "installing the pinned dependencies into $(VENV)"
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r constraints.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

demo: $(STAMP)
	$(BIN)/balsadb demo $(DEMO_ARGS)

test: $(STAMP)
	$(BIN)/python -m pytest -m "not slow and not chaos" -n $(WORKERS) --dist loadgroup $(PYTEST_ARGS)

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/basedpyright
	$(BIN)/lint-imports --config pyproject.toml

format: $(STAMP)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

sim: $(STAMP)
	$(BIN)/python -m tests.raft.run --start $(SIM_START) --seeds $(SIM_SEEDS)
	$(BIN)/python -m tests.raft.run --elections --start $(SIM_START) --seeds $(SIM_SEEDS)
	$(BIN)/python -m tests.simulation.run --start $(SIM_START) --seeds $(SIM_SEEDS)
	$(BIN)/python -m tests.simulation.run --changing --start $(SIM_START) --seeds $(SIM_SEEDS)
	$(BIN)/python -m tests.simulation.run --full --start $(SIM_START) --seeds $(SIM_SEEDS)

mutants: $(STAMP)
	$(BIN)/python -m tests.mutants.run

chaos: $(STAMP)
	$(BIN)/python -m pytest -m "chaos or slow" --timeout 1200 $(PYTEST_ARGS)

bench: $(STAMP)
	@status=0; for file in bench/*.py; do \
		echo "== $$file"; $(BIN)/python $$file || status=1; done; exit $$status

bench-peers: $(STAMP)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r bench/peers.txt

clean:
	rm -rf $(VENV) .pytest_cache .ruff_cache .hypothesis .import_linter_cache dist
