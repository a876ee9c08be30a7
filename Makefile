PYTHON ?= python3
TORCH ?= torch==2.14.1 torchvision==0.29.1
BIN = $(if $(filter Windows_NT,$(OS)),Scripts,bin)
RUN = .venv/$(BIN)/python -m
PIP = -m pip --disable-pip-version-check install

.PHONY: venv demo test slow fuzz coverage check docs lowest base dist clean

venv: .venv/.done

# TORCH may hold options too: make test TORCH="--index-url URL torch torchvision"
.venv/.done: pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=...")'
	$(PYTHON) -m venv .venv
	.venv/$(BIN)/python $(PIP) $(TORCH)
	.venv/$(BIN)/python $(PIP) -e ".[train,geo,video,openvino,serve,ray,dev]"
	touch $@

demo: venv
	$(RUN) fullconv demo

test: venv
	$(RUN) pytest -n auto --maxprocesses 4 --dist loadfile

# Builds, installs and executes things for minutes.
slow: venv
	$(RUN) pytest -m slow

# Mutated files for every reader, 20,000 each, and new examples for the tests that draw theirs: for an hour or two.
fuzz: venv
	$(RUN) pytest --hypothesis-profile=search $$(grep -l "^from hypothesis" tests/test_*.py)
	FUZZ_CASES=20000 $(RUN) pytest -m fuzz
	FUZZ_CASES=20000 $(RUN) pytest tests/test_fuzz_data.py

# The tests, and the floor of coverage in pyproject.toml.
coverage: venv
	$(RUN) pytest --cov

check: venv docs
	$(RUN) ruff check
	$(RUN) ruff format --check
	$(RUN) mypy
	.venv/$(BIN)/codespell
	.venv/$(BIN)/python docs/make_commands.py --check
	.venv/$(BIN)/python .ci/check_pages.py

docs: venv
	NO_MKDOCS_2_WARNING=1 $(RUN) mkdocs build

# The tests with the lowest versions that pyproject.toml allows. Needs Python 3.11.
lowest: .venv-lowest/.done
	.venv-lowest/$(BIN)/python -m pytest

.venv-lowest/.done: pyproject.toml .ci/lowest.py
	$(PYTHON) -m venv --clear .venv-lowest
	$(PYTHON) .ci/lowest.py > .venv-lowest/lowest.txt
	.venv-lowest/$(BIN)/python $(PIP) --only-binary :all: -r .venv-lowest/lowest.txt
	.venv-lowest/$(BIN)/python $(PIP) -c .venv-lowest/lowest.txt -e ".[train,geo,video,openvino,serve,test]"
	touch $@

# The tests of what the base install can do: no torch, no other extra.
base: .venv-base/.done
	.venv-base/$(BIN)/python -m pytest

.venv-base/.done: pyproject.toml
	$(PYTHON) -m venv --clear .venv-base
	.venv-base/$(BIN)/python $(PIP) -e ".[test]"
	touch $@

# Build sdist and wheel, install the wheel in a clean venv and use it there.
dist: venv
	rm -rf dist
	$(RUN) build
	FULLCONV_DIST=dist $(RUN) pytest -m slow tests/test_dist.py

clean:
	rm -rf .venv .venv-* .mypy_cache .pytest_cache .ruff_cache .hypothesis .coverage build dist site
