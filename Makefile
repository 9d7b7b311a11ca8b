# `make reproduce`: from a fresh clone to tables and pictures. `make test`: the tests. No GPU needed.
#
# VENV=folder uses another virtual environment; PYTHON=python3.12 another Python (3.11 or 3.12) to create it.

VENV ?= .venv
PYTHON ?= python3
TESTS ?= tests
PYTEST_OPTIONS ?=
# Processes that share the test files among them; each computes on one thread.
TEST_WORKERS ?= 2

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
PIP := $(VENV)/bin/python -m pip --disable-pip-version-check --no-input
export PATH := $(abspath $(VENV))/bin:$(PATH)
export DO_NOT_TRACK := 1
export DVC_NO_ANALYTICS := 1
export MLFLOW_DISABLE_TELEMETRY := true

# What the environment was made from; a shared one may last have served another checkout.
LOCKED := $(shell sha256sum requirements.lock | cut -c1-64)
PROJECT := $(CURDIR) $(shell sha256sum pyproject.toml | cut -c1-64)

TENSORFLOW := $(VENV)-tensorflow
TF_LOCKED := $(shell sha256sum requirements-tensorflow.lock | cut -c1-64)

.PHONY: setup setup-tensorflow reproduce test test-long lint format

# An installation under the distribution's former name, `kmax`, is removed: both would own the package `kmax`.
setup:
	@test -x $(VENV)/bin/python || $(PYTHON) -c 'import sys; v = sys.version_info[:2]; \
	  sys.exit(0 if (3, 11) <= v <= (3, 12) else "Python 3.11 or 3.12 is needed: make PYTHON=python3.12")'
	@test -x $(VENV)/bin/python || $(PYTHON) -m venv $(VENV)
	@if [ "$$(cat $(VENV)/kmax-locked.txt 2>/dev/null)" != "$(LOCKED)" ]; then \
	  echo "installing the locked packages into $(VENV): a few minutes, about 6.5 GB"; \
	  $(PIP) install --no-deps --requirement requirements.lock; \
	  echo "$(LOCKED)" > $(VENV)/kmax-locked.txt; \
	fi
	@if [ "$$(cat $(VENV)/kmax-project.txt 2>/dev/null)" != "$(PROJECT)" ]; then \
	  ! $(PIP) show --quiet kmax 2>/dev/null || $(PIP) uninstall --quiet --yes kmax; \
	  $(PIP) install --quiet --no-deps --no-build-isolation --editable .; \
	  echo "$(PROJECT)" > $(VENV)/kmax-project.txt; \
	fi

# For the tests that have TensorFlow write checkpoints; without it they are skipped.
setup-tensorflow:
	@test -x $(TENSORFLOW)/bin/python || $(VENV)/bin/python -m venv $(TENSORFLOW)
	@if [ "$$(cat $(TENSORFLOW)/kmax-locked.txt 2>/dev/null)" != "$(TF_LOCKED)" ]; then \
	  echo "installing TensorFlow into $(TENSORFLOW): 1.6 GB"; \
	  $(TENSORFLOW)/bin/python -m pip --disable-pip-version-check --no-input install --quiet --no-deps \
	    --requirement requirements-tensorflow.lock; \
	  echo "$(TF_LOCKED)" > $(TENSORFLOW)/kmax-locked.txt; \
	fi

reproduce: setup
	@snakemake --cores all
	@echo
	@cat reports/tables/shapes.md
	@echo
	@echo "tables:    reports/tables/ (.md .csv .tex .html)"
	@echo "pictures:  reports/site/index.html (open it in a browser; it needs no network)"
	@echo "training:  kmax track ui"

test: setup
	KMAX_TENSORFLOW_PYTHON="$${KMAX_TENSORFLOW_PYTHON:-$(abspath $(TENSORFLOW))/bin/python}" \
	  OMP_NUM_THREADS=1 OMP_WAIT_POLICY=PASSIVE \
	  pytest $(TESTS) -m "not long" --numprocesses $(TEST_WORKERS) --dist loadfile $(PYTEST_OPTIONS)

test-long: setup
	pytest $(TESTS) -m long $(PYTEST_OPTIONS)

lint: setup
	ruff check .
	ruff format --check .
	mypy
	lint-imports
	snakemake --lint
	snakefmt --check Snakefile workflow

format: setup
	ruff check --fix .
	ruff format .
	snakefmt Snakefile workflow
