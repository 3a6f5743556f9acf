# Two doors: `make demo` and `make test`. Both set everything up first and are safe to repeat.
PYTHON ?= python3
BIN := .venv/bin
WORKERS ?= 2
# 30 days before the synthetic shop's log ends
DEMO_CUTOFF := 2025-01-05
.DEFAULT_GOAL := help
.PHONY: help setup demo test lint types rules unit wheel format clean

help:  ## list the targets
	@grep -E '^[a-z]+:.*## ' Makefile | sed -E 's/^([a-z]+):.*## /\1\t/' | expand -t 10

setup: .venv/.ready  ## make .venv with polyvec and the tested versions of everything

.venv/.ready: pyproject.toml constraints.txt
	@echo "setting up .venv: this takes some minutes the first time"
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	touch $@

demo: setup  ## the whole path on a synthetic shop, ending in a report
	$(BIN)/polyvec synth --out demo/shop --overwrite
	$(BIN)/polyvec prepare demo/shop/events.parquet --items demo/shop/items.parquet --out demo/shop.dataset --overwrite
	$(BIN)/polyvec fit guim demo/shop.dataset --until $(DEMO_CUTOFF) --out demo/shop.model --overwrite \
		--set num_cutoffs=4 --set stride_days=21 --set epochs=2
	$(BIN)/polyvec embed demo/shop.model demo/shop.dataset --until $(DEMO_CUTOFF) --out demo/shop.emb --overwrite
	$(BIN)/polyvec evaluate demo/shop.emb demo/shop.dataset --shop demo/shop \
		--profiles demo/shop/users.parquet --model demo/shop.model --out demo/report --overwrite
	@echo "open demo/report/$$(ls demo/report | grep -m1 html)"

test: lint types rules unit wheel  ## everything that CI checks

lint: setup  ## ruff: format and lint
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

types: setup  ## mypy, strict
	$(BIN)/mypy

rules: setup  ## import-linter: which layer may import which
	$(BIN)/lint-imports

unit: setup  ## pytest: tests and doctests, with coverage
	OMP_NUM_THREADS=1 $(BIN)/pytest -n $(WORKERS) --cov --cov-report=term:skip-covered --doctest-modules src tests

wheel: setup  ## the built wheel, installed and run outside the source tree
	sh tests/wheel.sh $(BIN)/python

format: setup  ## bring the code into shape
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean:  ## remove everything that was made
	rm -rf .venv build dist demo src/*.egg-info .coverage .hypothesis .*_cache
