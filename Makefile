# `make reproduce` goes from a fresh clone to tables and pictures; `make test` runs the tests. No GPU is needed.
#
# VENV=folder selects another virtual environment, PYTHON=python3.12 the Python (3.11 or 3.12) that creates it.

VENV ?= .venv
PYTHON ?= python3
TESTS ?= tests
PYTEST_OPTIONS ?=
# Number of processes that the test files are distributed over; each uses one thread.
TEST_WORKERS ?= 2

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
PIP := $(VENV)/bin/python -m pip --disable-pip-version-check --no-input
export PATH := $(abspath $(VENV))/bin:$(PATH)
export DO_NOT_TRACK := 1
export DVC_NO_ANALYTICS := 1
export MLFLOW_DISABLE_TELEMETRY := true

# Identifies the inputs of the environment: a shared one may have been installed from another checkout.
LOCKED := $(shell sha256sum requirements.lock | cut -c1-64)
PROJECT := $(CURDIR) $(shell sha256sum pyproject.toml | cut -c1-64)

TENSORFLOW := $(VENV)-tensorflow
TF_LOCKED := $(shell sha256sum requirements-tensorflow.lock | cut -c1-64)
PANOPTICAPI := $(VENV)-panopticapi
PQ_LOCKED := $(shell sha256sum requirements-panopticapi.lock | cut -c1-64)

AUDIT := $(VENV)-audit
AUDIT_LOCKED := $(shell sha256sum requirements-audit.lock | cut -c1-64)

.PHONY: setup setup-tensorflow setup-panopticapi reproduce test test-long lint format audit

# An installation under the distribution's former name, `kmax`, is removed: both would own the package `kmax`.
setup:
	@test -x $(VENV)/bin/python || $(PYTHON) -c 'import sys; v = sys.version_info[:2]; \
	  sys.exit(0 if (3, 11) <= v <= (3, 12) else "Python 3.11 or 3.12 is required; try: make PYTHON=python3.12")'
	@test -x $(VENV)/bin/python || $(PYTHON) -m venv $(VENV)
	@if [ "$$(cat $(VENV)/kmax-locked.txt 2>/dev/null)" != "$(LOCKED)" ]; then \
	  echo "installing the locked packages into $(VENV) (a few minutes, about 6.5 GB)"; \
	  $(PIP) install --no-deps --requirement requirements.lock; \
	  echo "$(LOCKED)" > $(VENV)/kmax-locked.txt; \
	fi
	@if [ "$$(cat $(VENV)/kmax-project.txt 2>/dev/null)" != "$(PROJECT)" ]; then \
	  ! $(PIP) show --quiet kmax 2>/dev/null || $(PIP) uninstall --quiet --yes kmax; \
	  $(PIP) install --quiet --no-deps --no-build-isolation --editable .; \
	  echo "$(PROJECT)" > $(VENV)/kmax-project.txt; \
	fi

# For the tests that write checkpoints with TensorFlow; they are skipped without it.
setup-tensorflow:
	@test -x $(TENSORFLOW)/bin/python || $(VENV)/bin/python -m venv $(TENSORFLOW)
	@if [ "$$(cat $(TENSORFLOW)/kmax-locked.txt 2>/dev/null)" != "$(TF_LOCKED)" ]; then \
	  echo "installing TensorFlow into $(TENSORFLOW) (1.6 GB)"; \
	  $(TENSORFLOW)/bin/python -m pip --disable-pip-version-check --no-input install --quiet --no-deps \
	    --requirement requirements-tensorflow.lock; \
	  echo "$(TF_LOCKED)" > $(TENSORFLOW)/kmax-locked.txt; \
	fi

# For the tests that have panopticapi evaluate; without it they are skipped.
setup-panopticapi:
	@test -x $(PANOPTICAPI)/bin/python || $(VENV)/bin/python -m venv $(PANOPTICAPI)
	@if [ "$$(cat $(PANOPTICAPI)/kmax-locked.txt 2>/dev/null)" != "$(PQ_LOCKED)" ]; then \
	  echo "installing panopticapi into $(PANOPTICAPI): 0.1 GB"; \
	  $(PANOPTICAPI)/bin/python -m pip --disable-pip-version-check --no-input install --quiet --no-deps \
	    --requirement requirements-panopticapi.lock; \
	  echo "$(PQ_LOCKED)" > $(PANOPTICAPI)/kmax-locked.txt; \
	fi

reproduce: setup
	@snakemake --cores all
	@echo
	@cat reports/tables/shapes.md
	@echo
	@echo "tables:    reports/tables/ (.md .csv .tex .html)"
	@echo "pictures:  reports/site/index.html (open it in a browser; no network needed)"
	@echo "training:  kmax track ui"

test: setup
	KMAX_TENSORFLOW_PYTHON="$${KMAX_TENSORFLOW_PYTHON:-$(abspath $(TENSORFLOW))/bin/python}" \
	  KMAX_PANOPTICAPI_PYTHON="$${KMAX_PANOPTICAPI_PYTHON:-$(abspath $(PANOPTICAPI))/bin/python}" \
	  OMP_NUM_THREADS=1 OMP_WAIT_POLICY=PASSIVE \
	  pytest $(TESTS) -m "not long" --numprocesses $(TEST_WORKERS) --dist loadfile $(PYTEST_OPTIONS)

test-long: setup
	KMAX_PANOPTICAPI_PYTHON="$${KMAX_PANOPTICAPI_PYTHON:-$(abspath $(PANOPTICAPI))/bin/python}" \
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

# The lock files against known advisories, and newer releases. It needs the network and is not part of CI: its result
# changes with the advisories. Without a network: one line, error 3.
audit:
	@test -x $(AUDIT)/bin/python || $(PYTHON) -m venv $(AUDIT)
	@if [ "$$(cat $(AUDIT)/kmax-locked.txt 2>/dev/null)" != "$(AUDIT_LOCKED)" ]; then \
	  $(AUDIT)/bin/python -m pip --disable-pip-version-check --no-input install --quiet --no-deps --retries 1 \
	    --requirement requirements-audit.lock 2> $(AUDIT)/pip.log || { \
	    echo "audit: not checked, pip-audit cannot be installed: $$(grep ERROR $(AUDIT)/pip.log | tail -n 1)" >&2; \
	    exit 3; }; \
	  echo "$(AUDIT_LOCKED)" > $(AUDIT)/kmax-locked.txt; \
	fi
	@$(AUDIT)/bin/python tools/audit.py --python $(VENV)/bin/python $(sort $(wildcard requirements*.lock))
