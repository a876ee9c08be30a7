"""Settings that all tests share.

Without torch or another extra, the tests that import a missing package are skipped.
"""

from __future__ import annotations

import logging
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Any

import pytest
from hypothesis import settings

from fullconv.errors import MissingExtra

# As in a terminal: what runs in the background, or by nohup, ignores these signals, and so would its children.
for number in ("SIGINT", "SIGHUP", "SIGQUIT"):
    if hasattr(signal, number) and signal.getsignal(getattr(signal, number)) == signal.SIG_IGN:
        signal.signal(getattr(signal, number), signal.default_int_handler if number == "SIGINT" else signal.SIG_DFL)

# As for a user: what a command prints into a pipe arrives when it is flushed.
os.environ.pop("PYTHONUNBUFFERED", None)

EXTRAS = ("torch", "torchvision", "timm", "lightning", "safetensors", "matplotlib", "onnx", "sklearn")
EXTRAS += (
    "scipy",
    "openvino",
    "rasterio",
    "tifffile",
    "av",
    "shapely",
    "fastapi",
    "uvicorn",
    "tritonclient",
    "httpx2",
    "ray",
)
MISSING = {package for package in EXTRAS if find_spec(package) is None}

if "torch" not in MISSING:
    import torch

    # One thread everywhere: sums do not depend on the machine, and a child process can repeat them bit by bit.
    torch.set_num_threads(1)

# The same tree gives the same result; `make fuzz` searches with new examples (--hypothesis-profile=search).
settings.register_profile("search", deadline=None, print_blob=True, derandomize=False)
settings.register_profile("fullconv", deadline=None, print_blob=True, derandomize=True, database=None)
settings.load_profile("fullconv")

pytest_plugins = [
    "browsing",
    *(["voc_tree"] if "scipy" not in MISSING else []),
    *(["geotiffs"] if "rasterio" not in MISSING else []),
]


@contextmanager
def skipping() -> Iterator[None]:
    """Skip what imports a package that is not installed."""
    try:
        yield
    except (ModuleNotFoundError, MissingExtra, pytest.Collector.CollectError) as error:
        cause = error.__cause__ if isinstance(error, pytest.Collector.CollectError) else error
        package = cause.package if isinstance(cause, MissingExtra) else str(getattr(cause, "name", ""))
        package = {"scikit-learn": "sklearn"}.get(package, package.partition(".")[0])
        if package in MISSING:
            pytest.skip(f"{package} is not installed", allow_module_level=True)
        raise


@pytest.fixture(autouse=True)
def unchanged_log() -> Iterator[None]:
    """Fail a test that leaves fullconv's log turned off: later tests would miss its messages."""
    levels = {handler: handler.level for handler in logging.getLogger().handlers}
    yield
    assert {handler: handler.level for handler in logging.getLogger().handlers if handler in levels} == levels
    loggers = [logger for name, logger in logging.root.manager.loggerDict.items() if name.startswith("fullconv")]
    off = [one.name for one in loggers if isinstance(one, logging.Logger) and not (one.propagate and not one.disabled)]
    assert off == []
    assert logging.root.manager.disable == 0


class Module(pytest.Module):
    """A file of tests that is skipped where it cannot be imported for lack of a package."""

    def _getobj(self) -> Any:
        with skipping():
            return super()._getobj()


def pytest_pycollect_makemodule(module_path: Any, parent: Any) -> Module | None:
    """Collect files the usual way where everything is installed."""
    return Module.from_parent(parent, path=module_path) if MISSING else None


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call() -> Iterator[None]:
    """Skip a test that imports a missing package itself."""
    with skipping():
        return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_fixture_setup() -> Iterator[Any]:
    """Skip the tests of a fixture that imports a missing package."""
    with skipping():
        return (yield)
