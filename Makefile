# `make demo` and `make test` work on a fresh machine: each makes .venv and installs what it needs, once.
# The files under .venv whose names begin with a dot say what has been installed; pyproject.toml makes them stale.
# `make demo` installs no torch; .venv-light never has any, whatever .venv has been given since.

PYTHON ?= python3
VENV := .venv
LIGHT := .venv-light
BIN := $(VENV)/bin
DEMO := out/demo
PARALLEL := -n auto --maxprocesses 4 --dist loadfile

.DEFAULT_GOAL := help
.PHONY: help demo test test-all test-light test-engines test-cluster web-demo dist lint format docs emoji-data emoji-model clean

help: ## Say what each command does
	@awk 'BEGIN {FS = ":.*## "} /^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: $(VENV)/.core ## Set up, generate a dozen images with the bundled model, print the contact sheet's path
	$(BIN)/galip generate --seed 0 -o $(DEMO) \
		"a red heart" "a green apple" "3d emoji of blue book" "flag of France" "google emoji of police officer" \
		"google emoji of santa claus" "3d emoji of smiling face with sunglasses" "flat emoji of woman: dark skin tone" \
		"google emoji of man detective" "google emoji of person in lotus position" "flat emoji of couple with heart" \
		"google emoji of cat face"

test: $(VENV)/.dev ## Set up, run the tests (on a CPU, a few minutes)
	$(BIN)/python -m pytest -m "browser and not engines"
	$(BIN)/python -m pytest $(PARALLEL)

test-all: $(VENV)/.dev ## The same with the slow tests
	$(BIN)/python -m pytest -m "browser and not engines"
	$(BIN)/python -m pytest $(PARALLEL) -m "not engines and not browser and not cluster"

test-light: $(LIGHT)/.light ## Tests of an installation without torch: generate, walk, grid, info, serve
	$(LIGHT)/bin/python -m pytest tests/light

test-engines: $(VENV)/.engines ## Tests of exported models, by OpenVINO and ONNX Runtime
	$(BIN)/python -m pytest -m engines

test-cluster: $(VENV)/.cluster ## Tests of the service on a local Ray, and of large jobs there
	$(BIN)/python -m pytest -m cluster

web-demo: $(VENV)/.export ## Build the page that generates in the browser, into out/web-demo (needs npm)
	$(BIN)/python examples/web/build.py

lint: $(VENV)/.dev ## Check style, formatting, types and which module imports which
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(VENV)/.dev ## Put the code into the house's format
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: $(VENV)/.dev ## Build the guide into site/
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

dist: $(VENV)/.dev ## Build sdist and wheel into dist/, and make sure that they are small enough
	rm -rf dist
	$(BIN)/python -m build --quiet
	@for limit in 45:dist/*.tar.gz 40:dist/*.whl; do \
		file=$${limit#*:}; size=$$(wc -c < $$file); echo "$$file: $$size bytes"; \
		[ $$size -lt $$(($${limit%%:*} * 1000000)) ] || { echo "more than $${limit%%:*} MB" >&2; exit 1; }; done

emoji-data: $(VENV)/.recipe ## Fetch and prepare the captioned images of the bundled model
	$(BIN)/python recipes/emoji/prepare.py

emoji-model: $(VENV)/.recipe ## Make the bundled model from nothing (many hours on a CPU)
	$(BIN)/python recipes/emoji/run.py

clean: ## Remove everything that was made here, but for runs/ and the environment
	rm -rf out build dist site .pytest_cache .mypy_cache .ruff_cache .import_linter_cache
	find src tests recipes -name __pycache__ -type d -prune -exec rm -rf {} +

$(BIN)/python $(LIGHT)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' \
		|| { echo "galip needs Python 3.10 or newer; name one: make PYTHON=/path/to/python3 ..." >&2; exit 1; }
	@$(PYTHON) -m venv $(@D:/bin=) \
		|| { rm -rf $(@D:/bin=); echo "no virtual environment could be made; on Debian or Ubuntu install python3-venv" >&2; exit 1; }

$(VENV)/.core: pyproject.toml | $(BIN)/python
	@echo "installing galip and what it needs into $(VENV)"
	$(BIN)/python -m pip install --quiet -e .
	@touch $@

$(LIGHT)/.light: pyproject.toml | $(LIGHT)/bin/python
	$(LIGHT)/bin/python -m pip install --quiet -e ".[serve]" pytest pytest-timeout openai httpx
	@touch $@

$(VENV)/.dev: pyproject.toml $(VENV)/.core
	$(BIN)/python -m pip install --quiet -e ".[dev]"
	@touch $@

$(VENV)/.engines: pyproject.toml $(VENV)/.dev
	$(BIN)/python -m pip install --quiet -e ".[dev,export]"
	@touch $@

$(VENV)/.export: pyproject.toml $(VENV)/.core
	$(BIN)/python -m pip install --quiet -e ".[export]"
	@touch $@

$(VENV)/.cluster: pyproject.toml $(VENV)/.dev
	$(BIN)/python -m pip install --quiet -e ".[dev,cluster]"
	@touch $@

$(VENV)/.recipe: pyproject.toml $(VENV)/.core
	$(BIN)/python -m pip install --quiet -e ".[recipe]"
	@touch $@
