# `make demo` and `make test` set up what they need in .venv, and write nothing outside this folder.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: demo test nightly check clean

demo: $(VENV)/.installed
	$(BIN)/hash3d generate zero123_gs --image examples/pictures/mushroom.png

test: $(VENV)/.installed-dev check
	$(BIN)/python -m pytest

# The scripts of research/ and prior_training/, in small; the CPU takes minutes.
nightly: $(VENV)/.installed-dev
	$(BIN)/python -m pytest -m nightly

check: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r constraints.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e .
	touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $@

clean:
	rm -rf $(VENV) outputs
