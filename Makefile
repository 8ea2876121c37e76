# The whole project by its verbs. `make demo` is the place to start.
PYTHON ?= python3
VENV := .venv
ifeq ($(OS),Windows_NT)
BIN := $(VENV)/Scripts
else
BIN := $(VENV)/bin
endif
STAMP := $(VENV)/.made-from-requirements

# Every command and worker of the tests would compile the code again.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help setup demo up test chaos bench bench-batches bench-saturation replay check format schemas lock clean

help: ## what can be made
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "make %-16s %s\n", $$1, $$2}'

setup: $(STAMP) ## the environment in .venv, from pinned and hashed versions

$(STAMP): requirements/dev.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed, this is %s. Try: make $(MAKECMDGOALS) PYTHON=python3.12" % sys.version.split()[0])'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "Setting up .venv (half a minute, once) ..."
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/dev.txt
	@touch $@

demo: setup ## three pictures and their bills, offline, in a minute
	@$(BIN)/python starter.py demo

up: setup ## the embedded stack, until Ctrl-C
	@$(BIN)/python starter.py up

test: setup ## every test
	@$(BIN)/python -m pytest -n 4 --dist worksteal

RUNS ?= 300
SEED ?= 1
SECONDS ?= 900
LEDGER ?= postgresql
chaos: setup ## hundreds of runs while everything dies: RUNS=300 SEED=1 SECONDS=900 LEDGER=postgresql|sqlite
	@$(BIN)/python -m tests.chaos --runs $(RUNS) --seed $(SEED) --seconds $(SECONDS) --ledger $(LEDGER)

ROUNDS ?= 5
bench: setup ## our runs beside a bare workflow, the plain SDK and DBOS: ROUNDS=5
	@$(BIN)/python -m benchmarks --rounds $(ROUNDS)

LINES ?= 1000 3000 10000
bench-batches: setup ## what a line of a batch costs, by the batch's length: LINES="1000 3000 10000"
	@$(BIN)/python -m benchmarks.batches --lines $(LINES)

LIMIT ?= 250 1500
STRETCH ?= 120
bench-saturation: setup ## how much of the provider's limit is reached: LIMIT="250 1500" STRETCH=120 (seconds measured for each)
	@$(BIN)/python -m benchmarks.saturation --limit $(LIMIT) --seconds $(STRETCH)

HISTORIES ?= tests/e2e/histories
replay: setup ## saved histories on the workflows of this code: HISTORIES=FOLDER (see docs/how-to/change.md)
	@$(BIN)/python starter.py replay $(HISTORIES)

check: setup ## format, lint, strict types, tests
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy .
	@$(MAKE) --no-print-directory test

format: setup ## put the code in order
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

schemas: setup ## the JSON Schemas in gpt_image_runs/contracts/schemas, from the contracts
	@$(BIN)/python -m gpt_image_runs.contracts.schemas

lock: ## pin every dependency again, with hashes (needs uv)
	uv pip compile --quiet --universal --generate-hashes --no-header pyproject.toml --extra app -o requirements/runtime.txt
	uv pip compile --quiet --universal --generate-hashes --no-header pyproject.toml --extra app --group dev -c requirements/runtime.txt -o requirements/dev.txt

clean: ## forget the environment and all local data
	rm -rf $(VENV) .data .mypy_cache .ruff_cache .pytest_cache
