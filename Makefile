GPU ?= cpu
PYTHON ?= python3
VENV := .venv
READY := $(VENV)/.ready-$(GPU)

.DEFAULT_GOAL := help
.PHONY: setup demo test bench-data style clean help

setup: $(READY)  ## make .venv with the packages, torch as constraints/$(GPU).txt says

$(READY): requirements.txt requirements-dev.txt constraints/$(GPU).txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Python 3.11 or newer is needed: make $(MAKECMDGOALS) PYTHON=python3.12"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check -r requirements-dev.txt -c constraints/$(GPU).txt
	@rm -f $(VENV)/.ready-* && touch $@

# The threads named here are raised to the cores there are when the run starts; unnamed, Accelerate warns of its guess.
demo: $(READY)  ## train on the sample: real comments, a real model, no Hub
	$(VENV)/bin/accelerate launch --quiet --num_cpu_threads_per_process 1 \
		--config_file accelerate_configs/cpu.yaml run_toxicity.py recipes/sample.yaml

test: $(READY)  ## run the tests; they need no network
	HF_HUB_OFFLINE=1 $(VENV)/bin/python -m pytest

bench-data: $(READY)  ## measure tokenising against the bare tokenizer, datasets.map and one row at a time
	$(VENV)/bin/python -m benchmarks.data

style: $(READY)  ## check and format the code
	$(VENV)/bin/ruff check --fix .
	$(VENV)/bin/ruff format .

clean:  ## remove .venv and caches; runs/ stays
	rm -rf $(VENV) .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

help:  ## show this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 12
