"""Which optional libraries are installed: the one place where reading and writing of images asks."""

from __future__ import annotations

from importlib.util import find_spec

__all__ = ["is_installed"]


def is_installed(package: str) -> bool:
    """Return whether a package can be imported, without importing it."""
    return find_spec(package) is not None
