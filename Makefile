# Two doors: `make demo` and `make test`. Both set everything up first and are safe to repeat.
PYTHON ?= python3
BIN := .venv/bin
.DEFAULT_GOAL := help
.PHONY: help setup demo test lint types rules unit wheel format clean

help:  ## list the targets
	@grep -E '^[a-z]+:.*## ' Makefile | sed -E 's/^([a-z]+):.*## /\1\t/' | expand -t 10

setup: .venv/.ready  ## make .venv with polyvec and the tested versions of everything

.venv/.ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --constraint constraints.txt torch
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $@

test: lint types rules unit wheel  ## everything that CI checks

lint: setup
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

types: setup
	$(BIN)/mypy

rules: setup
	$(BIN)/lint-imports

unit: setup
	$(BIN)/pytest -n 2 --cov --cov-report=term:skip-covered --doctest-modules src tests

wheel: setup
	sh tests/wheel.sh $(BIN)/python

format: setup  ## bring the code into shape
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean:  ## remove everything that was made
	rm -rf .venv build dist demo
