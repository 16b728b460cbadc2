# Every verb sets up what it needs in .venv first.
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready
# Each test process computes on one thread; files of tests stay together, with what they share.
WORKERS ?= --numprocesses auto --maxprocesses 4 --dist loadfile

.DEFAULT_GOAL := help
.PHONY: help demo seal test test-all lint format type bench clean

help: ## List the verbs
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-9s %s\n", $$1, $$2}'

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=python3.11 ...")'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[dev]"
	touch $(READY)

demo: $(READY) ## Train on the embedded sample; audit sample data and a sample reward model at every checkpoint
	$(BIN)/imprint reward fit --config experiments/reward-sample.yaml
	$(BIN)/imprint fit --config experiments/demo.yaml --config experiments/demo-rewards.yaml

seal: $(READY) ## The same questions on real hh-rlhf: two reward models, then a classifier (needs IMPRINT_DATA)
	$(BIN)/imprint reward fit --config experiments/reward-pre.yaml
	$(BIN)/imprint reward fit --config experiments/reward-post.yaml
	$(BIN)/imprint fit --config experiments/seal-hh.yaml

test: $(READY) ## Run the quick tests (complete for correctness)
	$(BIN)/python -m pytest -m "not slow and not ddp" $(WORKERS)

test-all: $(READY) ## Run all tests
	$(BIN)/python -m pytest

lint: $(READY) ## Check style
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: $(READY) ## Mend style
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

type: $(READY) ## Check types
	$(BIN)/mypy

bench: $(READY) ## Compare scoring with the seed notebooks' way, drift statistics with the plain way, refusal rules with people
	$(BIN)/python -m experiments.benchmarks.scoring
	$(BIN)/python -m experiments.benchmarks.drift
	@if [ -n "$$IMPRINT_DATA" ]; then $(BIN)/python -m experiments.benchmarks.refusals; \
	else echo "refusal rules: not judged, IMPRINT_DATA is not set"; fi

clean: ## Remove the environment and caches; runs stay
	rm -rf .venv .cache .mypy_cache .ruff_cache .pytest_cache *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
