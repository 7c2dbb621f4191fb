# `make book` and `make test` need only Python 3.11+ and make. `make help` lists everything.
.DEFAULT_GOAL := help
SHELL := /bin/bash
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
export PATH := $(CURDIR)/$(BIN):$(PATH)
export KERAS_BACKEND := jax
# Two chapters run at a time: OpenMP threads that wait for a busy core would spin.
export OMP_NUM_THREADS ?= 1
# Freed memory goes back to one pool, not to one a thread (glibc) or a library (Arrow).
export MALLOC_ARENA_MAX ?= 1
export ARROW_DEFAULT_MEMORY_POOL ?= system
# A library's progress bar asks for widgets, on every page that imports it; the book shows none.
export PYTHONWARNINGS := ignore:IProgress not found
CHAPTER ?=
SEEDS ?=
FLAGS ?=
PORT ?= 8000

$(VENV)/installed: requirements.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else f"expected Python 3.11 or newer, found {sys.version.split()[0]}; set PYTHON=python3.x")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check -r requirements.txt
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps -e .
	touch $@

.PHONY: help book serve lab data test test-notebooks test-browser test-binder bench-serving robust falsify solutions preflight lock clean
help:  ## this list
	@grep -E '^[a-z-]+:.*##' Makefile | sed -E 's/^([a-z-]+):.*## /\1\t/' | expand -t 16

data: $(VENV)/installed  ## fetch real data and site assets, pinned by hash
	python -m mlsd.datasets fetch

book: data  ## execute the chapters that changed and build the site in _build/html
	python -m press.execute
	jupyter-book build . --path-output . -W -n --keep-going --quiet

serve:  ## show the site on http://localhost:8000 (PORT=...)
	$(PYTHON) -m http.server --directory _build/html --bind 127.0.0.1 $(PORT)

lab: data  ## open the chapters in JupyterLab
	jupyter lab chapters

test: book  ## unit, chapter and site suites, and every notebook uncached
	pytest tests/unit tests/chapters tests/site
	$(MAKE) --no-print-directory test-notebooks

test-notebooks: book  ## execute every notebook once more, uncached, and compare its numbers with the book's
	rm -rf .again && cp -r chapters .again
	pytest --nbmake --overwrite --nbmake-timeout=600 -n 2 --dist=load -p no:cacheprovider .again
	python -m press.again

test-browser: book  ## the site and JupyterLab in headless Chromium
	pytest tests/browser

test-binder:  ## install what Binder would from the last commit, and run every chapter in it
	press/binder.sh

bench-serving: data  ## latency and throughput of the service and its stores
	python -m mlsd.serving.bench

robust: data  ## claims and decisions on five seeds, or on SEEDS=11,12 or fresh:3 (CHAPTER=name, FLAGS=--force for those unchanged)
	SEEDS=$(SEEDS) python -m press.robust $(CHAPTER) $(FLAGS)

falsify: data  ## every claim, broken in each way that it names (CHAPTER, FLAGS as above)
	python -m press.falsify $(CHAPTER) $(FLAGS)

solutions: data  ## run the code in the solutions of the exercises (CHAPTER=name for one)
	python -m press.solutions $(CHAPTER)

preflight: $(VENV)/installed  ## is this machine ready? prints a report to paste
	python -m press.preflight

lock:  ## resolve pyproject.toml anew into requirements.txt
	$(PYTHON) -m venv $(VENV)/lock && $(VENV)/lock/bin/pip install --quiet uv
	$(VENV)/lock/bin/uv pip compile --quiet --universal --fork-strategy fewest --python-version 3.11 --no-annotate --no-header \
	    --upgrade pyproject.toml -o requirements.txt

clean:  ## remove what was built, the execution cache included
	rm -rf _build .again
