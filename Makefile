# `make run` trains, evaluates and reports on a laptop; `make test` runs every test, `make test-fast` those that are cheap
# and start no program; `make docs` builds the site. They install what they need first.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
WORKDIR ?= runs/digits

# What is compiled of Python is kept, whatever the environment says: the tests start hundreds of programs.
PYTEST := PYTHONDONTWRITEBYTECODE= $(BIN)/python -m pytest -x -q -n 2 --dist loadfile --no-loadscope-reorder

.PHONY: run test test-fast check format docs install clean

run: $(VENV)/run.done
	$(BIN)/python -m care_jax.main --config=configs/digits.py --workdir=$(WORKDIR)
	@echo "The README's other commands need this environment, once a shell:  . $(VENV)/bin/activate"

test: $(VENV)/test.done
	$(PYTEST) --durations=15

# Without what is marked slow; a test that outgrew its mark fails either target (tests/costs.py).
test-fast: $(VENV)/test.done
	$(PYTEST) -m 'not slow'

check: $(VENV)/test.done
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(VENV)/test.done
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# The site, into site/: index.html opens from the disk.
docs: $(VENV)/docs.done
	NO_MKDOCS_2_WARNING=1 PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python -m mkdocs build --strict --quiet

install: $(VENV)/test.done

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "care_jax needs Python 3.11 or newer; this is $$($(PYTHON) --version): make PYTHON=python3.12 ..."; exit 2; }
	@$(PYTHON) -m venv $(VENV) || \
	  { rm -rf $(VENV); echo "Python's venv module is missing: on Debian, apt-get install python3-venv"; exit 2; }

$(VENV)/run.done: $(BIN)/python requirements.txt pyproject.toml
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[train]'
	@touch $@

$(VENV)/test.done: $(BIN)/python requirements.txt pyproject.toml
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[test]'
	@touch $@ $(VENV)/run.done

$(VENV)/docs.done: $(BIN)/python pyproject.toml
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[docs]'
	@touch $@

clean:
	rm -rf $(VENV) runs site .pytest_cache .ruff_cache .mypy_cache *.egg-info
