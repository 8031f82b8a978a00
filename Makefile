# Everything runs in .venv, which any target that needs it makes and keeps up to date.
.DEFAULT_GOAL := help
SHELL := /bin/bash
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
UV := $(shell command -v uv 2>/dev/null)
# The first Python that is new enough and not too new.
PYTHON ?= $(shell for p in python3 python3.14 python3.13 python3.12 python3.11; do \
	command -v $$p >/dev/null && $$p -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 15))' && echo $$p && break; done)

.PHONY: help setup demo up down test check bench lock clean

help: ## Show this list
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-8s %s\n", $$1, $$2}'

setup: $(STAMP) ## Make .venv with the locked dependencies

$(STAMP): requirements.lock pyproject.toml
ifeq ($(UV),)
	@test -n "$(PYTHON)" || { echo "No Python 3.11 to 3.14 found; install one, or install uv, which fetches its own."; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --editable .
else
	$(UV) venv --quiet --allow-existing $(if $(PYTHON),--python $(PYTHON),--python 3.11) $(VENV)
	$(UV) pip install --quiet --python $(BIN)/python --require-hashes -r requirements.lock
	$(UV) pip install --quiet --python $(BIN)/python --no-deps --editable .
endif
	@touch $(STAMP)

demo: $(STAMP) ## Try it: temporary database, generated bars, ticks until nothing is due
	@$(BIN)/agg-pipeline demo

up: $(STAMP) ## Start database, REST API, Dagster UI and daemon; Ctrl-C ends all
	@$(BIN)/agg-pipeline up

down: $(STAMP) ## Stop what `make up` started
	@$(BIN)/agg-pipeline down

test: $(STAMP) ## Run all tests but the benchmarks, on real servers
	$(BIN)/python -m pytest $(ARGS)

check: $(STAMP) ## Lint, type check, validate the definitions, run all tests: what CI runs
	$(BIN)/ruff check .
	$(BIN)/mypy
	cd agg_pipeline && ../$(BIN)/dagster definitions validate -w ../workspace.yaml  # not here: dagster.yaml wants its database
	$(BIN)/python -m pytest $(ARGS)

bench: $(STAMP) ## Measure; one JSON line a figure
	$(BIN)/python -m pytest -m bench -s $(ARGS)

lock: ## Lock the newest dependencies that pyproject.toml allows (needs uv)
	uv pip compile --quiet --upgrade --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-strip-extras \
		--no-annotate --no-header --extra dev pyproject.toml -o requirements.lock

clean: ## Remove .venv and caches; data in .agg_pipeline stays
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis
