# `make book` and `make test` need only Python 3.11+ and make. `make help` lists everything.
.DEFAULT_GOAL := help
SHELL := /bin/bash
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
export PATH := $(CURDIR)/$(BIN):$(PATH)
CHAPTER ?=
SEEDS ?=
FLAGS ?=
SHARE ?=
PORT ?= 8000
# Jupyter refuses to start as root unless told; in a container root is all there is.
LAB_FLAGS ?= $(if $(filter 0,$(shell id -u)),--allow-root)

$(VENV)/installed: requirements.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else f"expected Python 3.11 or newer, found {sys.version.split()[0]}; set PYTHON=python3.x")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check -r requirements.txt
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps -e .
	touch $@

.PHONY: help book serve lab data test test-notebooks test-browser test-binder bench-serving robust falsify measure solutions diagrams preflight tidy platforms lock clean
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
	jupyter lab --ServerApp.root_dir=. --LabApp.default_url=/lab/tree/chapters $(LAB_FLAGS)

test: book  ## every suite but the browser's, and a fifth of the notebooks, another for each commit, once more
	pytest -n 2 --dist=loadfile tests --ignore=tests/browser
	$(MAKE) --no-print-directory -o book test-notebooks

test-notebooks: book  ## execute notebooks once more through nbmake, uncached, and compare their numbers (SHARE=1 for all)
	python -m press.again copy $(SHARE)
	pytest --nbmake --overwrite --nbmake-timeout=600 -n 2 --dist=load -p no:cacheprovider .again
	python -m press.again

test-browser: book  ## the site and JupyterLab in headless Chromium
	pytest -n 2 --dist=loadgroup tests/browser

test-binder:  ## install what Binder would from the last commit, and run every chapter in it
	press/binder.sh

bench-serving: data  ## latency and throughput of the service and its stores
	python -m mlsd.serving.bench

robust: data  ## claims and decisions on five seeds, or on SEEDS=11,12 or fresh:3 (CHAPTER=name, FLAGS=--force for those unchanged)
	SEEDS=$(SEEDS) python -m press.robust $(CHAPTER) $(FLAGS)

falsify: data  ## every claim, broken in each way that it names (CHAPTER, FLAGS as above)
	python -m press.falsify $(CHAPTER) $(FLAGS)

measure: data  ## what each page takes when it runs alone, for the status page (CHAPTER, FLAGS as above); on a machine at rest
	python -m press.alone $(CHAPTER) $(FLAGS)

solutions: data  ## run the code in the solutions of the exercises (CHAPTER=name for one)
	python -m press.solutions $(CHAPTER)

diagrams: data  ## draw the diagrams that are new or changed, with Chromium (FLAGS=--all for all)
	python -m press.diagrams $(FLAGS)

preflight: $(VENV)/installed  ## is this machine ready? prints a report to paste
	python -m press.preflight

tidy: $(VENV)/installed  ## strip outputs (cell ids stay), fold what reports, sort imports, format
	find chapters -name '*.ipynb' -exec nbstripout --keep-id {} +
	find chapters -name '*.ipynb' -exec python -m press.folding {} +
	ruff check --fix .
	ruff format .

platforms: $(VENV)/installed  ## ask the package index which platforms the lock can be installed on
	python -m press.platforms --check

lock: $(VENV)/installed  ## add to requirements.txt what pyproject.toml newly wants (FLAGS=--upgrade for newer versions of all)
	uv pip compile --quiet --universal --fork-strategy fewest --python-version 3.11 --no-annotate --no-header \
	    $(FLAGS) pyproject.toml -o requirements.txt

clean:  ## remove what was built, the execution cache included
	rm -rf _build .again
