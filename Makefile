# make demo: the main job, from nothing. make test: every test, from nothing, and those that start Ray
# one after another, because clusters beside each other starve each other. make check: before a
# commit. All of them build .venv first, where it is missing or pyproject.toml is newer; make install
# does nothing else.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed

export OMP_NUM_THREADS := 1

.PHONY: install demo test check format clean

install: $(INSTALLED)

demo: $(INSTALLED)
	$(BIN)/stillhouse run deploy/recipes/pong.toml

test: $(INSTALLED)
	$(BIN)/python -m pytest -n 2 --dist loadfile -m "not slow and not ray"
	$(BIN)/python -m pytest -m "slow or ray"

check: $(INSTALLED)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m pytest -n 2 --dist loadfile -m "not slow and not ray"

format: $(INSTALLED)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean:
	rm -rf $(VENV) build *.egg-info .mypy_cache .ruff_cache .pytest_cache

$(INSTALLED): pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade "pip>=25"
	$(BIN)/python -m pip install --quiet --editable ".[dev]"
	touch $@
