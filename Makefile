# `make demo` and `make test` set up what they need in .venv, and write nothing outside this folder.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# Processes of the suite, of one thread each: the models of the tests are tiny.
WORKERS ?= 2
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(WORKERS) --dist worksteal

.PHONY: demo test nightly check docs clean

demo: $(VENV)/.installed
	$(BIN)/hash3d generate zero123_gs --image examples/pictures/mushroom.png

test: $(VENV)/.installed-dev check
	$(PYTEST)

# The long form of some tests, and the scripts of research/ and prior_training/ in small; the CPU takes minutes.
nightly: $(VENV)/.installed-dev
	$(PYTEST) -m nightly

check: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

# The site, in site/. Its examples are run first; a warning or a broken link is an error.
docs: $(VENV)/.installed-docs
	$(BIN)/python -m pytest tests/test_pages.py tests/test_docs.py tests/systems/test_adding_a_system.py
	$(BIN)/python -m sphinx -q -W --keep-going docs site

$(VENV)/.installed-docs: $(VENV)/.installed-dev
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[docs]'
	touch $@

$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r constraints.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e .
	touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $@

clean:
	rm -rf $(VENV) outputs site docs/generated
