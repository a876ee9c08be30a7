"""Helpers that run commands of fullconv in the test's own process."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.main import get_command

from fullconv.cli.app import app, main


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str | Path) -> int:
    """Run `fullconv` with the arguments and return its exit code."""
    monkeypatch.setattr("sys.argv", ["fullconv", *map(str, arguments)])
    with pytest.raises(SystemExit) as exit_:
        main()
    return int(exit_.value.code or 0)


def call(*arguments: str | Path | int) -> None:
    """Run a command without `main`, so that its errors are raised."""
    get_command(app).main([str(argument) for argument in arguments], standalone_mode=False)


def predict(monkeypatch: pytest.MonkeyPatch, *arguments: str | Path) -> int:
    """Run `fullconv predict` and return its exit code."""
    return run(monkeypatch, "predict", *arguments)


def check(monkeypatch: pytest.MonkeyPatch, *arguments: str | Path) -> int:
    """Run `fullconv check` and return its exit code."""
    return run(monkeypatch, "check", *arguments)
