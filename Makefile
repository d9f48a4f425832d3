# Two commands for a new machine: `make demo` and `make test`. They need Python 3.11 or newer, nothing else.

PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin

.DEFAULT_GOAL := help

help:  ## List the commands.
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

$(VENV)/.installed: pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed; this is " + sys.version)'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --upgrade "pip>=25.1"
	PYTHONWARNINGS=ignore $(BIN)/python -m pip install --quiet --disable-pip-version-check --group test --editable .
	@touch $@

demo: $(VENV)/.installed  ## Follow one real job from start to end (DATABASE_URL chooses the database).
	$(BIN)/python -m example.demo

# What does not ask which database is the default, or tries each kind itself, runs once.
ONCE = engine upgrade test_demo.py test_docs.py test_migrations.py test_packaging.py

test: $(VENV)/.installed  ## Run every test that needs no system package.
	$(BIN)/python -m pytest -q
	DATABASE_URL=sqlite:///.cache/test.sqlite3 $(BIN)/python -m pytest -q -m "not postgresql" \
		$(addprefix --ignore=tests/,$(ONCE))

SCRATCH = sqlite:///.cache/check.sqlite3

check: $(VENV)/.installed  ## Lint, types, layers, migrations.
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --group lint
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	DATABASE_URL=$(SCRATCH) $(BIN)/mypy  # Which reads the settings, and ends without stopping a server.
	$(BIN)/lint-imports
	DATABASE_URL=$(SCRATCH) $(BIN)/python manage.py makemigrations --check --dry-run

SEED ?= 1

chaos: $(VENV)/.installed  ## Kill workers, networks and PostgreSQL, and soak (SEED=1; about ten minutes).
	CHAOS=all SEED=$(SEED) $(BIN)/python -m pytest -q tests/chaos

browser: $(VENV)/.installed  ## Test the admin in Debian's chromium (apt-get install chromium).
	$(BIN)/python -m pip install --quiet --disable-pip-version-check playwright
	BROWSER=1 $(BIN)/python -m pytest -q tests/browser

SCENARIO ?=
CONTENDERS ?=
ROUNDS ?= 3

bench: $(VENV)/.installed  ## Measure beside the peers (SCENARIO=drain CONTENDERS=ours,procrastinate ROUNDS=3).
	$(BIN)/python -m benchmarks --scenario "$(SCENARIO)" --contenders "$(CONTENDERS)" --rounds $(ROUNDS)

.PHONY: help demo test check chaos browser bench
