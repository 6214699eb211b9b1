# Every command of a checkout. It needs make and Python 3.11, 3.12 or 3.13; what else a command
# needs is installed into $(VENV), once.

VENV ?= .venv
BIN := $(VENV)/bin
PYTHON ?=
PYTEST_ARGS ?=
BENCH_ARGS ?=
DEMO_ARGS ?=
SOURCES := $(wildcard h5dask pipelines)
PYTHONS = python3.13 python3.12 python3.11 python3 python \
          $(wildcard $(HOME)/.pyenv/versions/3.1[123].*/bin/python)
SUITS = import ensurepip, sys, venv; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))
FIND = for p in $(or $(PYTHON),$(PYTHONS)); do \
         if "$$p" -c '$(SUITS)' >/dev/null 2>&1; then echo "$$p"; break; fi; done
ABSENT = h5dask needs Python 3.11, 3.12 or 3.13 with venv and ensurepip, found none \
         $(if $(PYTHON),at PYTHON=$(PYTHON),on the PATH); name one: make PYTHON=/path/to/python3.12
PIP = $(BIN)/python -m pip install --quiet --quiet --disable-pip-version-check --no-input

help: ## list these commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: $(VENV)/.has-h5dask ## the main job over real files (DEMO_ARGS="--scale 1GB")
	@$(BIN)/h5dask demo $(DEMO_ARGS)

test: $(VENV)/.has-test ## all tests but the long ones (PYTEST_ARGS="-k ann")
	@$(BIN)/python -m pytest $(PYTEST_ARGS)

check: $(VENV)/.has-check ## lint, format and types, nothing changed
	@$(BIN)/ruff check --quiet .
	@$(BIN)/ruff format --quiet --check .
	@$(BIN)/mypy --no-error-summary $(SOURCES)

format: $(VENV)/.has-check ## put the source in order
	@$(BIN)/ruff check --quiet --fix-only .
	@$(BIN)/ruff format --quiet .

bench: $(VENV)/.has-bench ## measure against peers, in 35 minutes (BENCH_ARGS="--only Reading")
	@$(BIN)/python -m tests.benchmarks $(BENCH_ARGS)

test-servers: $(VENV)/.has-servers ## tests against real stores, which it installs where it can
	@tests/servers/install.sh $(VENV)
	@$(BIN)/python -m pytest -m servers $(PYTEST_ARGS)

soak: $(VENV)/.has-test ## the long tests
	@$(BIN)/python -m pytest -m soak $(PYTEST_ARGS) || [ $$? -eq 5 ] # 5: there is none

clean: ## remove what these commands made
	rm -rf $(VENV) .ci/work build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find $(wildcard h5dask tests pipelines) -name __pycache__ -type d -prune -exec rm -rf {} +

mutate: $(VENV)/.has-test ## put faults into a copy, each to be caught (MUTATE_ARGS="kernels jobs")
	@$(BIN)/python -m tests.mutations $(MUTATE_ARGS)

$(VENV)/.made:
	$(eval FOUND := $(shell $(FIND)))
	$(if $(FOUND),,$(error $(ABSENT)))
	@echo "Creating $(VENV) with $$($(FOUND) --version)" >&2
	@$(FOUND) -m venv --clear $(VENV)
	@echo "$(PYTHON)" >$@

# A PYTHON other than the environment's own makes it anew.
ifneq ($(PYTHON),)
ifneq ($(PYTHON),$(shell cat $(VENV)/.made 2>/dev/null))
.PHONY: $(VENV)/.made
endif
endif

$(VENV)/.has-%: $(VENV)/.made pyproject.toml
	@echo "Installing h5dask$(if $(filter-out h5dask,$*),[$*]) and what it needs" >&2
	@$(PIP) --editable '.$(if $(filter-out h5dask,$*),[$*])'
	@touch $@

.PHONY: help demo test test-servers check format bench soak clean mutate
