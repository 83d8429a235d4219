# Every command of the project. `make run TASK="..."` and `make test` set up what they need.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
MAKEFLAGS += --no-print-directory

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
TESTS ?=

# The task is a person's words. It goes to the program through the environment, exactly as it was typed:
# neither make nor the shell ever reads it. (Without `unexport`, make would expand its dollar signs.)
unexport TASK
export ET_TASK := $(value TASK)
export CONFIG
export PYTHON

.PHONY: help run test test-cover lint format build build-all verify-cross bench clean distclean

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-13s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

run: $(VENV)/.run ## Set up, then do TASK="..." with what is found: CONFIG=, a config, a key, Ollama, the embedded model
	@scripts/run.sh

test: setup-tests lint ## Set up, then check and test everything
	@$(BIN)/pytest -n 2 $(TESTS)

test-cover: setup-tests ## Run the tests and report what they never reached (htmlcov/index.html)
	@$(BIN)/pytest -n 2 --cov --cov-report=term --cov-report=html $(TESTS)

lint: $(VENV)/.dev ## Check format, style, types, layers and scripts
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/basedpyright
	$(BIN)/lint-imports
	bash -n scripts/*.sh .ci/run
	@if command -v shellcheck >/dev/null; then shellcheck scripts/*.sh scripts/release/*.sh .ci/run; fi

format: $(VENV)/.dev ## Write the code as ruff would
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

build: $(VENV)/.dev ## Wheel, sdist and a one-file `et` for this machine in build/ (ARCH=arm64 for another)
	@$(BIN)/python -m scripts.release build $(if $(ARCH),--arch $(ARCH))

build-all: $(VENV)/.dev ## One archive a platform and SHA256SUMS in dist/
	@$(BIN)/python -m scripts.release build-all

verify-cross: build-all ## Build every archive, check it, and install and start this machine's
	@$(BIN)/python -m scripts.release verify

bench: $(VENV)/.dev ## Measure the cost of a request, a stream and a start
	@$(BIN)/python -m bench

clean: ## Remove what builds and tests left
	rm -rf build dist htmlcov .coverage .coverage.* .pytest_cache .ruff_cache .hypothesis .import_linter_cache
	find src tests bench scripts -name __pycache__ -type d -prune -exec rm -rf {} + 2>/dev/null || true

distclean: clean ## Remove the environment as well: the next command sets up anew
	rm -rf $(VENV) .peers

.PHONY: setup-tests
setup-tests: $(VENV)/.dev
	@scripts/debian-packages.sh test
	@scripts/npm-peer.sh aimock
	@scripts/npm-peer.sh gemini

$(VENV)/.run: pyproject.toml uv.lock scripts/venv.sh
	@scripts/debian-packages.sh run
	@scripts/venv.sh run

$(VENV)/.dev: pyproject.toml uv.lock scripts/venv.sh
	@scripts/debian-packages.sh run
	@scripts/venv.sh dev
