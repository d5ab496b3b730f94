# Needs Python ≥ 3.11 and a package index the first time; nothing after that.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

export BIGS_CACHE := $(CURDIR)/.cache

.PHONY: demo test lint install clean

install: $(STAMP)

# Installed again only when what is to be installed changes, so that later calls need no network.
$(STAMP): pyproject.toml setup.py
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "bigs needs Python 3.11 or newer: make PYTHON=python3.12 …")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	@touch $@

demo: install
	$(BIN)/bigs demo --output demo

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/basedpyright

test: lint
	$(BIN)/python -m pytest -n 2

clean:
	rm -rf $(VENV) .cache demo build dist *.egg-info
