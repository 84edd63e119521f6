# Everything runs in .venv, which the first target that needs it creates.

# The first of these that can create an environment; PYTHON=... overrides it.
CANDIDATES := $(foreach v,3.11 3.12 3.13,python$(v) \
  $(wildcard $(HOME)/.pyenv/versions/$(v).*/bin/python))
PYTHON = $(shell for p in $(CANDIDATES); do \
  $$p -c 'import ensurepip' 2>/dev/null && echo $$p && break; done)
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
EXTRAS := vision,gan,search,tpu,export,docs,dev
export TF_CPP_MIN_LOG_LEVEL ?= 2
export NO_MKDOCS_2_WARNING := 1
# Where it is set, each of the processes that tests start would compile all
# sources anew.
export PYTHONDONTWRITEBYTECODE :=

.DEFAULT_GOAL := help
.PHONY: help setup demo test test-fast test-all test-versions lint format bench \
  docs docs-serve clean

help:  ## show this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/' | expand -t 16

setup: $(STAMP)  ## create .venv and install everything, pinned

$(STAMP): setup.py constraints.txt evonorm_tf/versions.py
	@test -x $(BIN)/python || { python="$(PYTHON)"; \
	  test -n "$$python" || { echo "Python 3.11, 3.12 or 3.13 is needed," \
	    "and none was found. How to fix it: make PYTHON=/path/to/python"; \
	    exit 1; }; \
	  echo "Making $(VENV) with $$python"; $$python -m venv $(VENV); }
	@$(BIN)/python -c \
	  'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' \
	  || { echo "Python 3.11, 3.12 or 3.13 is needed. Received:" \
	    "$$($(BIN)/python -V) in $(VENV). How to fix it: make clean, then" \
	    "make PYTHON=/path/to/python setup"; exit 1; }
	@echo "Installing into $(VENV), $$($(BIN)/python -V): 2 minutes, 5 GB."
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check \
	  --constraint constraints.txt --editable '.[$(EXTRAS)]'
	@touch $@

# TensorFlow reports a missing GPU as an error, which does not matter here.
demo: export TF_CPP_MIN_LOG_LEVEL := 3
demo: $(STAMP)  ## train EvoNorms and BatchNorm on digits, 2 to 4 minutes
	@$(BIN)/python -m classification.demo

# JAX compiles what runs once, without optimising it; test-all does optimise.
test: $(STAMP)  ## run the tests, as CI does
	$(BIN)/python -m pytest -m 'not slow' -n 2 --dist loadfile \
	  --no-loadscope-reorder --durations=15
	KERAS_BACKEND=jax XLA_FLAGS=--xla_backend_optimization_level=0 \
	  $(BIN)/python -m pytest -m 'not slow' -n 2 --dist worksteal tests/jax

test-fast: $(STAMP)  ## run tests of layers, graphs, metrics: 5 minutes
	$(BIN)/python -m pytest -m 'not slow' tests/layers $(wildcard \
	  tests/graphs tests/gan/test_metrics.py)

test-all: $(STAMP)  ## run all tests, including slow ones
	$(BIN)/python -m pytest -n 2 --dist loadfile --durations=30
	KERAS_BACKEND=jax $(BIN)/python -m pytest tests/jax

test-versions: $(STAMP)  ## test the wheel with old and new versions
	@$(BIN)/python -m tests.versions

lint: $(STAMP)  ## check format, rules, spelling and wording
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/codespell
	$(BIN)/python docs/check_words.py

format: $(STAMP)  ## fix what ruff can fix
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: $(STAMP)  ## time every layer against BatchNorm + ReLU
	@$(BIN)/python -m benchmarks.layers

docs: $(STAMP)  ## build the documentation site in build/site, strictly
	$(BIN)/mkdocs build --strict --quiet

docs-serve: $(STAMP)  ## show the documentation site at http://127.0.0.1:8000
	$(BIN)/mkdocs serve

clean:  ## remove .venv and the output of runs
	rm -rf $(VENV) runs build dist *.egg-info
