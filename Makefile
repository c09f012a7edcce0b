# Needs only Python 3.11 or newer, git, make and access to a package index.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed
JOBS   ?= 2
COMPILE := uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-annotate --no-header

.PHONY: demo test lint types unit wheel lock clean

demo: $(STAMP)
	$(BIN)/edgefilter demo

test: $(STAMP) lint types wheel unit

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(STAMP)
	$(BIN)/mypy

# Two workers, a file of tests each: what a module of tests shares is made once.
unit: $(STAMP)
	$(BIN)/python -m pytest -q -n $(JOBS) --dist loadfile --benchmark-disable --nbmake tests notebooks benchmarks/regressions.py

# Build the wheel, install it into an empty environment with its dependencies only, and run it.
wheel: $(STAMP)
	rm -rf build/wheel && mkdir -p build/wheel
	$(BIN)/python -m build --wheel --no-isolation --outdir build/wheel . >build/wheel/log 2>&1 || { cat build/wheel/log; exit 1; }
	$(PYTHON) -m venv build/wheel/env
	build/wheel/env/bin/pip install --quiet --disable-pip-version-check --require-hashes -r requirements-run.lock
	build/wheel/env/bin/pip install --quiet --disable-pip-version-check --no-deps build/wheel/*.whl
	cd build/wheel && env/bin/edgefilter --version

$(STAMP): pyproject.toml requirements.lock
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "edgefilter needs Python 3.11 or newer")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	touch $@

# Lock names, versions and hashes for all supported versions of Python; run this after a change to pyproject.toml.
# requirements.lock is for development; requirements-run.lock has only the dependencies of the program, at the same versions.
lock:
	$(COMPILE) --extra dev --output-file requirements.lock pyproject.toml build-requirements.in
	$(COMPILE) --constraint requirements.lock --output-file requirements-run.lock pyproject.toml

clean:
	rm -rf $(VENV) build dist *.egg-info
