PYTHON ?= python3
VENV ?= .venv
BASE ?= python:3.11-slim
IMAGE ?= hammingbird
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt

.PHONY: run install test slow browser lint image help

help:  ## say what can be made
	@sed -n 's/^\([a-z]*\):.*## /\1\t/p' Makefile

run: $(VENV)/installed  ## install, train on real digits and Python's documentation, serve on 127.0.0.1:8000
	$(BIN)/hammingbird demo

install: $(VENV)/installed  ## install into .venv, and nothing else

test: lint  ## check and test everything but the slow
	$(BIN)/pytest -n 2 --dist loadgroup

slow: $(VENV)/developing  ## the long tests: hundreds of kills, thousands of damaged files
	$(BIN)/pytest -m slow --timeout 1800

browser: $(VENV)/developing  ## go through the page with this machine's Chromium
	$(PIP) --editable '.[dev,browser]'
	$(BIN)/pytest -m browser

lint: $(VENV)/developing
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

image:  ## build the container image, with docker or else buildah; BASE names the base image
	tools/build-image $(BASE) $(IMAGE) .

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/installed: pyproject.toml constraints.txt | $(BIN)/python
	$(PIP) --editable .
	touch $@

$(VENV)/developing: pyproject.toml constraints.txt | $(BIN)/python
	$(PIP) --editable '.[dev]'
	touch $@ $(VENV)/installed
