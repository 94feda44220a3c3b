# Everything a newcomer needs: `make demo`, `make test`. Each target makes its own virtual
# environment when there is none. Another interpreter: `make test PYTHON=python3.12`, which
# works in .venv-python3.12 beside the default .venv.
PYTHON ?= python3
SHELL := /bin/bash
.SHELLFLAGS := -o pipefail -c

ifeq ($(PYTHON),python3)
VENV ?= .venv
else
VENV ?= .venv-$(notdir $(PYTHON))
endif
BIN := $(VENV)/bin

# Tests run on as many processes as there are cores, whole files at a time (of what every model
# must do, whole cases: tests/conftest.py), so that what they share is compiled once.
PYTEST_FLAGS ?= -q -n auto --dist loadfile
BENCH ?= all
BENCH_FLAGS ?=

.PHONY: demo test lint bench clean help

help:
	@echo "make demo    train English to German on real text, translate, print BLEU (10 min)"
	@echo "make test    run the tests"
	@echo "make lint    ruff and pyright"
	@echo "make bench   measure against CTranslate2 and plain torch, write docs/performance.md"
	@echo "make clean   remove virtual environments and caches"

demo: $(VENV)/.installed-demo
	PYTHON=$(BIN)/python bash launch/demo.sh

test: $(VENV)/.installed-dev
	$(BIN)/python -m pytest $(PYTEST_FLAGS)

lint: $(VENV)/.installed-dev
	$(BIN)/python -m ruff check .
	$(BIN)/python -m pyright --pythonpath $(BIN)/python

bench: $(VENV)/.installed-bench
	$(BIN)/python -m benchmarks $(BENCH) $(BENCH_FLAGS)
	$(BIN)/python -m benchmarks table

clean:
	rm -rf .venv .venv-* build dist *.egg-info .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -not -path './.git/*' -prune -exec rm -rf {} +

# A stamp per set of extras: installed once, and again when pyproject.toml changes.
$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "error: seqjax needs Python 3.11 or newer; '$(PYTHON)' is" \
	       "$$($(PYTHON) --version 2>&1 || echo missing)." \
	       "Name another one: make $(MAKECMDGOALS) PYTHON=python3.12" >&2; exit 2; }
	@echo "Making $(VENV) with $$($(PYTHON) --version)"
	@$(PYTHON) -m venv $(VENV)

EXTRAS_demo :=
EXTRAS_dev := [dev,speech,tfdata,tensorboard]
EXTRAS_bench := [dev,bench]

$(VENV)/.installed-%: pyproject.toml | $(BIN)/python
	@echo "Installing seqjax$(EXTRAS_$*) into $(VENV) (once; some minutes)"
	@$(BIN)/python -m pip install --disable-pip-version-check --progress-bar off \
	  -e '.$(EXTRAS_$*)' > $(VENV)/install-$*.log 2>&1 & pid=$$!; \
	while kill -0 $$pid 2> /dev/null; do sleep 2; \
	  n=$$(grep -c '^Collecting' $(VENV)/install-$*.log || true); \
	  if [ "$$n" != "$$last" ]; then last=$$n; echo "  $$n packages fetched"; fi; done; \
	wait $$pid || { tail -n 30 $(VENV)/install-$*.log >&2; \
	  echo "error: the installation failed; all of it: $(VENV)/install-$*.log" >&2; exit 1; }
	@touch $@
