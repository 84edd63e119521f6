# Everything runs in .venv, which the first target that needs it makes.

PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
EXTRAS := vision,gan,search,tpu,export,dev
export TF_CPP_MIN_LOG_LEVEL ?= 2

.DEFAULT_GOAL := help
.PHONY: help setup demo test test-fast test-all lint format bench clean

help:  ## this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/' | expand -t 14

setup: $(STAMP)  ## make .venv and install everything, pinned

$(STAMP): setup.py constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' || \
	  { echo "Python 3.11 is needed. Received: $(PYTHON)." \
	         "Way out: make PYTHON=/path/to/python3.11"; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "Installing into $(VENV): about 2 minutes, 3 GB."
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check \
	  --constraint constraints.txt --editable '.[$(EXTRAS)]'
	@touch $@

# TensorFlow reports a missing GPU as an error; here it would only alarm.
demo: export TF_CPP_MIN_LOG_LEVEL := 3
demo: $(STAMP)  ## train EvoNorms beside BatchNorm on digits, 4 to 6 minutes
	@$(BIN)/python -m classification.demo

test: $(STAMP)  ## what CI runs
	$(BIN)/python -m pytest -m 'not slow' -n 2 --dist loadfile --durations=15

test-fast: $(STAMP)  ## layers, graphs, metrics: under 5 minutes
	$(BIN)/python -m pytest -m 'not slow' tests/layers $(wildcard \
	  tests/graphs tests/gan/test_metrics.py)

test-all: $(STAMP)  ## with the slow ones
	$(BIN)/python -m pytest -n 2 --dist loadfile --durations=30

lint: $(STAMP)  ## ruff, format and rules
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

format: $(STAMP)  ## let ruff mend what it can
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: $(STAMP)  ## time of every layer against BatchNorm + ReLU
	@$(BIN)/python -m benchmarks.layers

clean:  ## remove .venv and what runs left
	rm -rf $(VENV) runs build dist *.egg-info
