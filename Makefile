# make demo   sets up .venv, restores the sample backup and shows what came out
# make test   sets up .venv with the test extras and runs the quick tests: every promise, in minutes
# make test-all   these and the slow ones; make test-slow: the slow ones alone
# make fuzz   sets up .venv with the fuzzer and runs each harness for FUZZ_SECONDS
# make check  lint, format, types, and which package imports which
# make docs   the documentation as a site, in build/site; a warning is an error
# make damage  each kind of damage done to ten backups: how much of what can be proven comes out?
# make mutants  small faults in the code that decides what is believed: does a test notice each?

PYTHON ?= python3
VENV ?= .venv
# what the demo installs: this folder, or a wheel
PACKAGE ?= --editable .
# more options for pytest
TEST_OPTIONS ?=
FUZZ_SECONDS ?= 30
# the same inputs each time, so that a change is judged by them; 0 for others
FUZZ_SEED ?= 1
BIN = $(VENV)/bin

.PHONY: demo test test-all test-slow fuzz check docs damage mutants clean

demo: $(VENV)/.demo
	sh examples/demo.sh $(BIN)/qbackup

test: $(VENV)/.test
	$(BIN)/python -m pytest --numprocesses auto -m "not slow" $(TEST_OPTIONS)

test-all: $(VENV)/.test
	$(BIN)/python -m pytest --numprocesses auto $(TEST_OPTIONS)

test-slow: $(VENV)/.test
	$(BIN)/python -m pytest --numprocesses auto -m slow $(TEST_OPTIONS)

fuzz: $(VENV)/.fuzz
	$(BIN)/python -m tests.fuzz --jobs 2 --seconds $(FUZZ_SECONDS) --seed $(FUZZ_SEED)

check: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

docs: $(VENV)/.docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

damage: $(VENV)/.test
	$(BIN)/python -m tests.damage

mutants: $(VENV)/.mutants
	$(BIN)/python -m tests.mutants $(ONLY)

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.demo: $(VENV)/bin/python setup.cfg
	$(BIN)/python -m pip install --quiet $(PACKAGE)
	touch $@

$(VENV)/.test: $(VENV)/bin/python setup.cfg
	$(BIN)/python -m pip install --quiet --editable ".[test]"
	touch $@

$(VENV)/.mutants: $(VENV)/bin/python setup.cfg
	$(BIN)/python -m pip install --quiet --editable ".[mutants]"
	touch $@

$(VENV)/.fuzz: $(VENV)/bin/python setup.cfg
	$(BIN)/python -m pip install --quiet --editable ".[fuzz]"
	touch $@

$(VENV)/.docs: $(VENV)/bin/python setup.cfg
	$(BIN)/python -m pip install --quiet --editable ".[docs]"
	touch $@

$(VENV)/.dev: $(VENV)/bin/python setup.cfg
	$(BIN)/python -m pip install --quiet --editable ".[dev]"
	touch $@

clean:
	rm -rf .venv build dist demo-out mutants *.egg-info .coverage* .pytest_cache .mypy_cache .ruff_cache .hypothesis
