# Rootnote. `make help` lists everything; `make demo` and `make test` are the two that matter.
SHELL := /bin/bash
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# A CPU build where the package index offers one; override with e.g. `make setup TORCH=torch==2.11.0`.
TORCH ?= torch==2.13.0
PIP := $(BIN)/pip --disable-pip-version-check install --quiet --constraint .ci/constraints.txt
RUNTIME := $(VENV)/.runtime
DEV := $(VENV)/.dev
KERNELS := $(VENV)/.kernels
PAGES := $(VENV)/.pages
URL ?= http://127.0.0.1:8000

.DEFAULT_GOAL := help

.PHONY: help
help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(RUNTIME): pyproject.toml .ci/constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Rootnote needs Python 3.11 or newer")'
	@echo "Setting up $(VENV) (about a minute the first time)"
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(PIP) $(TORCH)
	@$(PIP) --editable '.[worker]'
	@touch $@

$(DEV): $(RUNTIME)
	@$(PIP) --editable '.[worker,dev,bench]'
	@touch $@

.PHONY: setup
setup: $(RUNTIME) ## Create .venv with everything the service needs

.PHONY: demo
demo: $(RUNTIME) ## Start the service, post a generated track, show who influenced it
	@$(BIN)/rootnote demo

.PHONY: up
up: $(RUNTIME) ## Start the service on the embedded set-up and keep serving
	@$(BIN)/rootnote up

.PHONY: lint
lint: $(DEV) ## Style, types, import contracts, Dockerfile and compose file
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports
	@$(BIN)/hadolint Dockerfile
	@$(BIN)/docker-compose --env-file .env.example config --quiet

.PHONY: test
test: lint ## Lint, types, import contracts and every test
	@$(BIN)/pytest

.PHONY: openapi
openapi: $(DEV) ## Write docs/openapi.json anew; says what is new and what would break a client
	@$(BIN)/python -m app.contract docs/openapi.json

.PHONY: audit
audit: $(DEV) ## Ask the advisory services about every dependency; fails where one could not be asked about
	@$(BIN)/python .ci/audit.py

$(KERNELS): $(DEV)
	@$(PIP) --editable '.[worker,dev,kernels]'
	@touch $@

.PHONY: test-kernels
test-kernels: $(KERNELS) ## The kernels for GPUs against what they stand for, interpreted on a processor
	@TRITON_INTERPRET=1 $(BIN)/pytest tests/kernels

$(PAGES): $(DEV)
	@$(PIP) --editable '.[worker,dev,pages]'
	@touch $@

.PHONY: test-pages
test-pages: $(PAGES) ## The tests that need a browser: pages in a real Chromium (found on the path, or as CHROMIUM)
	@$(BIN)/pytest tests/pages

.PHONY: screenshots
screenshots: $(PAGES) ## Draw docs/images/page-*.png of a service that runs: make screenshots URL=http://127.0.0.1:8000
	@$(BIN)/python -m bench.screenshots $(URL)

.PHONY: format
format: $(DEV) ## Let ruff rewrite what it can
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

.PHONY: clean
clean: ## Remove the virtual environment and the embedded service's data
	rm -rf $(VENV) data build *.egg-info
