# Everyday commands; `make` lists them. Each target makes .venv first if it is missing.

SHELL := /bin/bash
.DEFAULT_GOAL := help

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.made-from-lock
GPU_STAMP := $(VENV)/.made-from-gpu-lock

# arguments of `train` and `sweep`: only those given
GIVEN = $(strip $(if $(SPECIES),species=$(SPECIES)) $(if $(ALGO),algo=$(ALGO)) $(if $(STAGE),stage=$(STAGE)) \
	$(if $(SEED),seed=$(SEED)) $(ARGS))
# default of `play`: the stage trained last
BUNDLE ?= $(shell ls -td outputs/*/*/*/bundle 2>/dev/null | head -1)

.PHONY: help setup train sweep results test lint type docs ui play bench torture clean lock

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-8s  %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
	@printf '\nVariables: SPECIES=trex|velociraptor|brachiosaurus ALGO=ppo|sac STAGE=balance|locomotion|behavior SEED=0,\n'
	@printf 'and ARGS= for anything else; commas make a sweep. All are optional.\n'
	@printf '  make train SPECIES=trex ALGO=sac ARGS="2.ppo.learning_rate=1e-4"\n'
	@printf '  make sweep SPECIES=trex,velociraptor SEED=0,1,2\n'

setup: $(STAMP) $(if $(GPU),$(GPU_STAMP)) ## make .venv with the exact versions of requirements.lock; GPU=1: with MuJoCo Warp

$(STAMP): pyproject.toml setup.py requirements.lock .ci/opengl
	@$(PYTHON) -c 'import sys; v = sys.version_info; v >= (3, 11) or sys.exit( \
		f"dinorl needs Python 3.11 or newer, $(PYTHON) is {v[0]}.{v[1]}: make setup PYTHON=python3.11")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile -c requirements.lock -e '.[dev]'
	@# byte-compile on all cores; pip uses one
	@$(BIN)/python -m compileall -q -q -j 0 -x '/tests/' $(VENV)/lib dinorl hydra_plugins || true
	.ci/opengl
	@touch $@

$(GPU_STAMP): $(STAMP) requirements-gpu.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c requirements.lock -c requirements-gpu.lock -e '.[gpu]'
	@touch $@

train: $(STAMP) ## train a curriculum or, with STAGE=, one stage
	$(BIN)/python -m dinorl $(GIVEN)

sweep: SEED ?= 0,1,2
sweep: $(STAMP) ## train many (three seeds by default) and print the table
	$(BIN)/python -m dinorl $(GIVEN)

test: $(STAMP) ## run the tests
	$(BIN)/python -m pytest $(ARGS)

results: $(STAMP) ## train what is missing and rebuild the README's table of results
	$(BIN)/python -m dinorl $(GIVEN) sweep.name=results
	$(BIN)/python -m dinorl results --sweep results

lint: $(STAMP) ## check style, formatting and the order of imports
	$(BIN)/ruff check $(ARGS) .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports --no-cache

type: $(STAMP) ## check types
	$(BIN)/mypy $(ARGS)

docs: $(STAMP) ## build the documentation in build/docs; a warning is an error
	$(BIN)/sphinx-build -W --keep-going -q $(ARGS) docs build/docs
	@echo "open build/docs/index.html"

ui: $(STAMP) ## open the runs in MLflow
	$(BIN)/python -m dinorl ui $(ARGS)

play: $(STAMP) ## watch an animal: BUNDLE=outputs/… or the last one trained
	@test -n "$(BUNDLE)" || { echo "found no run in outputs/: train first, or type BUNDLE=<folder of a run>"; exit 1; }
	$(BIN)/python -m dinorl play $(BUNDLE) $(ARGS)

torture: $(STAMP) ## kill curricula at random moments, and run the long tests
	$(BIN)/python tests/torture.py $(ARGS)
	$(BIN)/python -m pytest -m long
	FUZZ=1 $(BIN)/python -m pytest tests/test_overrides.py

bench: $(STAMP) ## measure how fast everything is
	$(BIN)/python -m dinorl bench $(if $(SPECIES),--species $(SPECIES)) $(ARGS)

clean: ## remove caches and build leftovers; outputs/ and .venv stay
	rm -rf build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache MUJOCO_LOG.TXT
	find . \( -path ./$(VENV) -o -path ./outputs \) -prune -o -name __pycache__ -type d -exec rm -rf {} +

lock: ## resolve requirements.lock again
	rm -rf build/lock && $(PYTHON) -m venv build/lock
	build/lock/bin/python -m pip install --quiet '.[dev]'
	{ sed -n '/^#/p' requirements.lock; build/lock/bin/python -m pip freeze --all --exclude pip --exclude dinorl | sed 's/+cpu$$//'; } \
		> build/requirements.lock
	mv build/requirements.lock requirements.lock
