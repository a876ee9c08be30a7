"""Checks that optional packages are installed, before their import fails."""

from __future__ import annotations

from importlib.util import find_spec

from fullconv.errors import MissingExtra

__all__ = ["need", "need_torch"]


def need(extra: str, *packages: str) -> None:
    """Raise MissingExtra if a package is not installed. `extra` is the extra of fullconv that installs it."""
    for package in packages:
        if find_spec(package) is None:
            raise MissingExtra(package, extra)


def need_torch() -> None:
    """Raise MissingExtra if a package that training and torch models need is not installed."""
    need("train", "torch", "torchvision", "lightning")
