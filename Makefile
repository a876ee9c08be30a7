PYTHON ?= python3
TORCH ?= torch==2.14.1 torchvision==0.29.1
PIP = .venv/bin/python -m pip --disable-pip-version-check

.PHONY: venv demo test check clean

venv: .venv/.done

# TORCH may hold options too: make test TORCH="--index-url URL torch torchvision"
.venv/.done: pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=...")'
	$(PYTHON) -m venv .venv
	$(PIP) install $(TORCH)
	$(PIP) install -e ".[train,geo,video,openvino,dev]"
	touch $@

demo: venv
	.venv/bin/fullconv demo

test: venv
	.venv/bin/python -m pytest

check: venv
	.venv/bin/ruff check
	.venv/bin/ruff format --check
	.venv/bin/mypy
	.venv/bin/python docs/make_commands.py --check

clean:
	rm -rf .venv .mypy_cache .pytest_cache .ruff_cache .hypothesis build dist
