# Everything runs in .venv. Every target that needs it creates it and keeps it up to date from the hashed lock: with uv if
# that is on the PATH, otherwise with venv and pip.
.DEFAULT_GOAL := help
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
SUPPORTED := >=3.11,<3.15
IS_SUPPORTED := import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 15))
# Run instead of only found: a version manager puts programs on the PATH that do not work in every folder.
UV := $(shell uv --version >/dev/null 2>&1 && echo uv)
# The first supported Python.
PYTHON ?= $(shell for p in python3 python3.14 python3.13 python3.12 python3.11; do \
	$$p -c '$(IS_SUPPORTED)' >/dev/null 2>&1 && echo $$p && break; done)
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-input

# Many images set this variable. Then each process compiles what it imports, 3.3 s of CPU instead of 1.4 s, and the tests
# start a hundred processes.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help setup demo up down test test-ui test-celery gates check nightly faults docs bench lock migration clean

help: ## Show this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-11s %s\n", $$1, $$2}'

setup: $(STAMP) ## Create .venv with the locked dependencies

# A working .venv is kept and updated. --no-build-isolation: the build backend is in the lock as well.
$(STAMP): requirements.lock pyproject.toml
ifeq ($(UV),)
	@test -n "$(PYTHON)" || { echo "No Python $(SUPPORTED) found (python3, python3.14, ... on the PATH). Install one, say which by" \
		"make PYTHON=/path/to/python, or install uv, which fetches its own." >&2; exit 1; }
	@"$(PYTHON)" -c '$(IS_SUPPORTED)' || { echo "$(PYTHON) does not run or is not Python $(SUPPORTED)." >&2; exit 1; }
	@$(BIN)/python -c 'import pip; $(IS_SUPPORTED)' 2>/dev/null || "$(PYTHON)" -m venv --clear $(VENV)
	$(PIP) --require-hashes -r requirements.lock
	$(PIP) --no-deps --no-build-isolation --editable .
else
	@$(BIN)/python -c '$(IS_SUPPORTED)' 2>/dev/null || uv venv --quiet --clear --python "$(or $(PYTHON),$(SUPPORTED))" $(VENV)
	uv pip install --quiet --python $(BIN)/python --require-hashes -r requirements.lock
	uv pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation --editable .
endif
	@touch $(STAMP)

demo: $(STAMP) ## Try it: a temporary database, generated bars, the bars that come out
	@$(BIN)/agg-pipeline demo

up: $(STAMP) ## Start database, REST API, Dagster UI and daemon; Ctrl-C stops them
	@$(BIN)/agg-pipeline up

down: $(STAMP) ## Stop what `make up` started
	@$(BIN)/agg-pipeline down

# Three workers, each with servers of its own, for two cores: tests of Dagster's processes mostly wait. A worker takes the
# next test when it has done one; which tests stay together says agg_pipeline_tests/conftest.py.
# Their databases and files lie in memory where 4 GB of it are free and programs may run there: a tenth less time.
IN_MEMORY = $(shell at=$$(mktemp /dev/shm/agg.XXXXXX 2>/dev/null) && cp /bin/sh $$at && chmod +x $$at \
	&& $$at -c : 2>/dev/null && awk '/^MemAvailable/ {exit $$2 < 4000000}' /proc/meminfo \
	&& test $$(df -k /dev/shm | awk 'END {print $$4}') -gt 4000000 && echo TMPDIR=/dev/shm; rm -f $$at)
PYTEST = $(IN_MEMORY) $(BIN)/python -m pytest --numprocesses 3 --dist loadscope --no-loadscope-reorder

test: $(STAMP) ## Run the tests on real servers (ARGS="-k leases" for some); `make nightly` has the long ones
	$(PYTEST) $(ARGS)

# One browser and one Dagster; AGG_SCREENSHOTS=folder keeps what the browser saw.
test-ui: $(STAMP) ## Drive the Dagster UI in a real browser (needs Chromium)
	$(BIN)/python -m pytest -m ui agg_pipeline_tests/ui $(ARGS)

# Offline, half a minute. Rules that squawk skips: each migration runs in its own transaction and takes as long as its table
# needs; names and types of the predecessor's columns stay. Functions take no lock that others wait for.
SQUAWK := $(BIN)/squawk --pg-version 15 --assume-in-transaction \
	-e prefer-bigint-over-int,prefer-identity,require-statement-timeout
MIGRATIONS := agg_pipeline/supabase/migrations
# What only looks like a secret: passwords of examples and tests, pinned commits and checksums, names of tests.
NO_SECRET := ^(password|agg-pipeline-storage|wrong|scram-sha-256|planted.*|[^/]*\{KEY\}[^/]*|at)$$
NO_SECRET_LINE := (uses: [a-z/-]+@[0-9a-f]{40} \#|^SHA256 = |^def test_|^NO_ALGORITHM = )

gates: $(STAMP) ## Lint and type-check code, SQL, workflows and image; check secrets and licences
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(SQUAWK) --exclude-path '*_fn_*.sql' $(MIGRATIONS)/*.sql
	$(SQUAWK) -e require-lock-timeout $(MIGRATIONS)/*_fn_*.sql
	git ls-files -z | xargs -0 $(BIN)/detect-secrets-hook --no-verify --exclude-files '^requirements(-extras)?\.lock$$|/catalogue\.json$$' \
		--exclude-secrets '$(NO_SECRET)' --exclude-lines '$(NO_SECRET_LINE)'
	$(BIN)/zizmor --offline --no-progress --persona pedantic .github
	$(BIN)/check-jsonschema --builtin-schema vendor.github-workflows .github/workflows/*.yml
	$(BIN)/check-jsonschema --builtin-schema vendor.dependabot .github/dependabot.yml
	$(BIN)/check-jsonschema --builtin-schema vendor.compose-spec deploy/compose.yaml
	$(BIN)/hadolint Dockerfile
	$(BIN)/python -m pytest -q agg_pipeline_tests/gates

# With an empty DAGSTER_HOME: without it Dagster uses the dagster.yaml of this folder, which needs its database.
check: gates ## Run the gates, Dagster's validation of the definitions and the tests, as CI does
	@mkdir -p $(VENV)/dagster_home && touch $(VENV)/dagster_home/dagster.yaml
	DAGSTER_HOME="$(CURDIR)/$(VENV)/dagster_home" $(BIN)/dagster definitions validate -w workspace.yaml
	$(PYTEST) $(ARGS)

# What `make test` leaves out of the long tables of cases, and random tests with many more cases: half an hour on two cores.
# AGG_KILLS=500 AGG_EXAMPLES=50000 for a night.
nightly: $(STAMP) ## Run the long tests: every mutation and fault, hundreds of random histories and kills
	AGG_KILLS=$(or $(AGG_KILLS),30) $(PYTEST) --hypothesis-profile nightly \
		-m '(nightly or random or hypothesis) and not bench and not ui and not celery' --durations 20 $(ARGS)

# More rounds than the same tests in `make test`, with Dagster's own processes and real pauses between repeated calls.
faults: $(STAMP) ## Inject every fault and write docs/reliability.md
	@mkdir -p docs
	AGG_FAULTS=$(or $(AGG_FAULTS),2) AGG_FAULT_TABLE=docs/reliability.md $(BIN)/python -m pytest -m 'not bench' \
		agg_pipeline_tests/faults agg_pipeline_tests/sql/test_isolation.py $(ARGS)

# Compares a database of all migrations with one of agg_pipeline/supabase/schemas; docs/database.md has the steps.
migration: $(STAMP) ## Write the migration for what changed in supabase/schemas (NAME=topic)
	@$(BIN)/agg-pipeline migration $(or $(NAME),"")

docs: $(STAMP) ## Write docs/sql-api.md from the comments in the database
	$(BIN)/python -m agg_pipeline_tests.sql_api

# What the benchmarks and AGG_EXECUTOR=celery or k8s need in addition.
EXTRAS := $(VENV)/.extras
$(EXTRAS): $(STAMP) requirements-extras.lock
ifeq ($(UV),)
	$(PIP) --require-hashes -r requirements-extras.lock
else
	uv pip install --quiet --python $(BIN)/python --require-hashes -r requirements-extras.lock
endif
	@touch $(EXTRAS)

# ARGS="agg_pipeline_tests/bench/test_bench_peers.py" measures the figures of one file and keeps the others of the table.
bench: $(EXTRAS) ## Measure: one JSON line per figure, and docs/performance.md
	@mkdir -p docs
	AGG_BENCH_PAGE=docs/performance.md $(BIN)/python -m pytest -m bench -s $(or $(ARGS),agg_pipeline_tests/bench)

test-celery: $(EXTRAS) ## Run the steps of a run on two Celery workers (needs redis-server)
	$(BIN)/python -m pytest -m celery agg_pipeline_tests/dagster/test_celery.py $(ARGS)

lock: ## Update the lock files to the newest versions that pyproject.toml allows (needs uv)
	@test -n "$(UV)" || { echo "make lock needs uv." >&2; exit 1; }
	uv pip compile --quiet --upgrade --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-strip-extras \
		--no-annotate --no-header --extra dev pyproject.toml -o requirements.lock
	uv pip compile --quiet --upgrade --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-strip-extras \
		--no-annotate --no-header --extra dev --extra bench --extra celery --extra k8s -c requirements.lock pyproject.toml \
		-o requirements-extras.lock

clean: ## Remove .venv and caches; keep the data in .agg_pipeline
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis build dist
	find agg_pipeline agg_pipeline_tests -name __pycache__ -type d -prune -exec rm -rf {} +
