# The executable documentation: what a newcomer, CI and the editor run.
SHELL := /bin/bash
PYTHON ?= python3.13
BIN := .venv/bin
unexport PYTHONDONTWRITEBYTECODE  # every process that the tests start would compile all of it anew

.PHONY: run test check bench format clean

run: .venv/ready  ## start everything on 127.0.0.1, seeded; Ctrl-C stops it
	$(BIN)/python -m sandbox

test: .venv/ready  ## everything: lint, types, contracts, all tests with coverage
	$(BIN)/ruff format --check . && $(BIN)/ruff check . && $(BIN)/mypy && $(BIN)/lint-imports --no-cache
	$(BIN)/coverage erase
	$(BIN)/coverage run -m pytest -n 4 --dist worksteal tests
	$(BIN)/coverage combine -q
	$(BIN)/coverage report --skip-covered --fail-under=95
	$(BIN)/coverage report --include='shared/*' --format=total --fail-under=95

check: .venv/ready  ## the quick half: lint, types, contracts, tests that need nothing but Python
	$(BIN)/ruff format --check . && $(BIN)/ruff check . && $(BIN)/mypy && $(BIN)/lint-imports --no-cache
	$(BIN)/pytest -n 4 --dist worksteal -m fast tests

bench: .venv/ready  ## print timings and call counts; no thresholds
	$(BIN)/python -m tests.bench

format: .venv/ready
	$(BIN)/ruff format . && $(BIN)/ruff check --fix .

clean:
	rm -rf .venv .sandbox .mypy_cache .ruff_cache .coverage*

.venv/ready: requirements.txt requirements-dev.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check -r requirements-dev.txt
	touch $@
