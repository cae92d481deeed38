# Everything here needs Python 3.11 to 3.13 and make; the virtual environment is made on first use.
# Another interpreter: make PYTHON=python3.12 test

PYTHON ?= python3
PY := .venv/bin/python
# Keep an advertisement of the documentation theme out of the output.
export NO_MKDOCS_2_WARNING := 1
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.DEFAULT_GOAL := help
.PHONY: help demo test check docs bench format clean

help:
	@echo "make demo    three institutions train a private credit model on this machine (ARGS='--rows all' for more)"
	@echo "make test    all checks and tests"
	@echo "make check   the checks without the tests: format, lint, types, layers, rules, docs"
	@echo "make docs    write the generated pages and build the site into site/"
	@echo "make bench   small benchmarks of everything, and docs/benchmarks.md"
	@echo "make format  format the code as make check wants it"
	@echo "make clean   remove what was made here, the virtual environment too"

demo: .venv/.core
	@.venv/bin/atoll demo credit-risk $(ARGS)

test: .venv/.test
	@$(PY) tools/check.py all

check: .venv/.test
	@$(PY) tools/check.py static

docs: .venv/.test
	@$(PY) tools/generate_docs.py
	@$(PY) -m mkdocs build --strict
	@echo "docs: site/index.html"

bench: .venv/.test
	@$(PY) -m bench all --size small

format: .venv/.test
	@$(PY) -m ruff format
	@$(PY) -m ruff check --fix

clean:
	@rm -rf .venv .bench site build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

# One stamp for each set of packages; tools/install.py writes them.
.venv/.core: pyproject.toml tools/install.py
	@command -v $(PYTHON) >/dev/null || { echo "Atoll needs Python 3.11 to 3.13, and there is no '$(PYTHON)' here."; exit 1; }
	@$(PYTHON) tools/install.py

.venv/.test: pyproject.toml tools/install.py
	@command -v $(PYTHON) >/dev/null || { echo "Atoll needs Python 3.11 to 3.13, and there is no '$(PYTHON)' here."; exit 1; }
	@$(PYTHON) tools/install.py test
