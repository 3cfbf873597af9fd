# Every target runs in .venv, which is made by the first one that needs it and brought up to date
# when setup.py or the constraints change. Variables, given as `make test NAME=value`:
#   PYTHON       the interpreter that .venv is made from (3.11 or newer)
#   EXTRAS       extras of setup.py to install, separated by commas: test,parity
#   PYTEST_ARGS  further arguments of pytest: make test PYTEST_ARGS='tests/xfer_jax -k loss'
SHELL := bash
PYTHON ?= python3
EXTRAS ?= test
PYTEST_ARGS ?=

PY := .venv/bin/python
STAMP := .venv/.installed

# The stamp holds the extras that are installed. A new one reinstalls; none is ever dropped.
comma := ,
space := $(subst ,, )
installed := $(shell cat $(STAMP) 2>/dev/null)
extras := $(sort $(installed) $(subst $(comma),$(space),$(EXTRAS)) $(filter docs,$(MAKECMDGOALS)))
listed := $(subst $(space),$(comma),$(extras))

# Files stay whole, in the order of tests/conftest.py: their tests share what is expensive.
PYTEST := $(PY) -m pytest -q -n auto --dist loadfile --no-loadscope-reorder

.DEFAULT_GOAL := help
.PHONY: help install quickstart test test-quick lint docs bench clean new-extras

help: ## list these targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s%s\n", $$1, $$2 }' $(MAKEFILE_LIST)

install: $(STAMP) ## make .venv with EXTRAS in it, and nothing else

quickstart: $(STAMP) ## a first look: pre-train, fine-tune and score a pocket mT5 (no download, no accelerator)
	$(PY) -m xfer_jax.quickstart

test: $(STAMP) ## run the tests; XFER_DATA_DIR=... adds those that read real data
	$(PYTEST) $(PYTEST_ARGS)

test-quick: $(STAMP) ## run the tests of at most a second each, in a minute or two
	$(PYTEST) -m "not slow" $(PYTEST_ARGS)

lint: $(STAMP) ## check formatting, style, types, and that imports point one way
	$(PY) -m ruff format --check .
	$(PY) -m ruff check .
	$(PY) -m mypy
	.venv/bin/lint-imports --no-cache

docs: $(STAMP) ## build the documentation into out/site, where every link must lead somewhere
	NO_MKDOCS_2_WARNING=1 $(PY) -m mkdocs build --strict

bench: $(STAMP) ## measure speed beside its peers (EXTRAS=test,parity adds Hugging Face's), into benchmarks/results
	$(PY) -m benchmarks

clean: ## remove .venv, builds and caches; results stay
	rm -rf .venv .workflow build dist out/site *.egg-info .pytest_cache .ruff_cache .mypy_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# --use-pep517: or pip builds seqeval in the old way, which fails, once wheel is installed.
# The packages of setup.py and of the extra `test` are installed with their hashes checked; those of
# other extras by version, as some differ between machines (PyTorch has builds for each).
$(STAMP): setup.py $(wildcard constraints/*.txt) $(if $(filter-out $(installed),$(extras)),new-extras)
	@$(PY) -m pip --version >/dev/null 2>&1 || { \
	  command -v $(PYTHON) >/dev/null || { \
	    echo "There is no '$(PYTHON)' here: name a Python 3.11 or newer with make PYTHON=..." >&2; \
	    exit 1; }; \
	  $(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(v < (3, 11) and \
	    "xfer-jax needs Python 3.11 or newer and $(PYTHON) is %d.%d: name another with make PYTHON=..." \
	    % v[:2])' && \
	  $(PYTHON) -m venv --clear .venv; }
	@version=$$($(PY) -c 'import sys; print("%d.%d" % sys.version_info[:2])'); \
	pins=constraints/py$${version/./}.txt; \
	install="$(PY) -m pip install $(if $(MAKE_TERMOUT),,-q) --disable-pip-version-check --use-pep517"; \
	if [ -f $$pins ]; then \
	  echo "Installing $(listed) into .venv with $$pins; the first time takes minutes."; \
	  $$install --no-deps --require-hashes -r $$pins && \
	  $$install --no-deps --no-build-isolation -e . && \
	  if [ -n "$(filter-out test,$(extras))" ]; then \
	    sed -E 's/ *\\$$//; /^ *--hash/d' $$pins $${pins/.txt/-extras.txt} >.venv/pins.txt && \
	    $$install -c .venv/pins.txt -e '.[$(listed)]'; \
	  fi; \
	else \
	  echo "No tested constraints for Python $$version: installing the newest that setup.py allows."; \
	  $$install -e '.[$(listed)]'; \
	fi
	@echo $(extras) >$@
