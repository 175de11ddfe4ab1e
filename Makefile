# Every command of the project. `make` alone lists them; .ci/run uses the same ones.

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

VENV ?= .venv
BIN := $(VENV)/bin
# What says that the environment is prepared; empty skips the preparation.
READY ?= $(VENV)/.ready
JOBS ?= 2
ARGS ?=
CORPUS := ../shared/data

##@ Running

.PHONY: run
run: setup ## Start Bwenge OS on http://127.0.0.1:8000 (ARGS="--port 9000" and the like)
	@$(BIN)/bwenge up $(ARGS)

.PHONY: up
up: ## Start the split topology: through Docker Compose where Docker runs, else as local processes (up-local)
	@if docker info > /dev/null 2>&1 && docker compose version > /dev/null 2>&1; then \
		tools/compose_env.sh; \
		exec docker compose --env-file deploy/.env -f deploy/compose.yaml up --build $(ARGS); \
	else \
		echo "Docker does not run here, so the services start as processes of this terminal (make up-local)."; \
		$(MAKE) --no-print-directory up-local ARGS="$(filter-out -d --detach,$(ARGS))"; \
	fi

.PHONY: up-local
up-local: $(READY) ## Start the split topology as local processes (ARGS="--base-port 9000" and the like)
	@$(BIN)/bwenge up --split $(ARGS)

.PHONY: setup
setup: $(READY) ## Prepare .venv from requirements.lock; the other targets do it by themselves

ifneq ($(READY),)
$(READY): requirements.lock pyproject.toml
	@python=$$(tools/find_python.sh) && "$$python" -m venv $(VENV)
	@echo "Installing what requirements.lock lists into $(VENV) ..."
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r requirements.lock
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@
endif

##@ Checking

.PHONY: check
check: format-check lint types imports architecture schema ## Format, lint, types, layers, architecture and schema: under three minutes

.PHONY: format-check
format-check: $(READY)
	@$(BIN)/ruff format --check .

.PHONY: lint
lint: $(READY)
	@$(BIN)/ruff check .

.PHONY: types
types: $(READY)
	@$(BIN)/mypy

.PHONY: imports
imports: $(READY)
	@PYTHONPATH=src $(BIN)/lint-imports --no-logo

.PHONY: architecture
architecture: $(READY)
	@$(BIN)/pytest tests/architecture --noconftest -p tests.support.skip_gate -q -m "not slow_architecture" $(ARGS)

.PHONY: schema
schema: $(READY)
	@$(BIN)/pytest tests/migrations/test_schema_drift.py -q $(ARGS)

.PHONY: test
test: $(READY) ## Every test that a fresh machine can run, on two processes (ARGS="-k name" chooses)
	@tools/system_packages.sh redis-server=redis-server curl=curl
	@$(BIN)/pytest -n $(JOBS) --dist loadfile -m "not corpus and not fuzz and not faults" $(ARGS)

.PHONY: faults
faults: $(READY) ## Every process of the split platform killed, and restarted, under load; wants the machine for itself
	@$(BIN)/pytest -m faults $(ARGS)

.PHONY: fuzz
fuzz: $(READY) ## Requests made from the OpenAPI document, as each role, for long (FUZZ_EXAMPLES=2000)
	@$(BIN)/pytest -m fuzz $(ARGS)

.PHONY: corpus
corpus: $(READY) ## The tests over the books and recordings in ../shared/data, where that folder is
	@if [ -d "$(CORPUS)" ]; then \
		$(BIN)/pytest -m corpus $(ARGS); \
	else \
		echo "make corpus: there is no $(CORPUS), so the tests marked corpus are not run."; \
	fi

##@ Measuring

.PHONY: bench
bench: $(READY) ## Speed and memory, printed as tables
	@$(BIN)/python -m bench $(ARGS)

.PHONY: bench-scale
bench-scale: $(READY) ## The same with more sessions and questions; takes long
	@$(BIN)/python -m bench --scale $(ARGS)

##@ Developing

.PHONY: fmt
fmt: $(READY) ## Format, and mend what the linter can mend
	@$(BIN)/ruff check --fix-only --quiet .
	@$(BIN)/ruff format .

.PHONY: lock
lock: $(READY) ## Resolve pyproject.toml into the three locks (ARGS=--upgrade takes newer releases)
	@tools/lock.sh "$(BIN)/python" $(ARGS)

.PHONY: clean
clean: ## Remove what make and the tools made; data/ stays
	@rm -rf $(VENV) dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache .grimp_cache
	@find src tests bench tools -name __pycache__ -type d -prune -exec rm -rf {} +

.PHONY: help
help: ## This list
	@awk 'BEGIN {FS = ":.*## "} /^##@ / {printf "\n%s\n", substr($$0, 5)} \
		/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(firstword $(MAKEFILE_LIST))
