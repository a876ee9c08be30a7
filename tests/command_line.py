"""Commands as a user types them, in this process."""

from __future__ import annotations

from pathlib import Path

import pytest

from fullconv.cli.app import main


def predict(monkeypatch: pytest.MonkeyPatch, *arguments: str | Path) -> int:
    """The exit code of `fullconv predict`."""
    monkeypatch.setattr("sys.argv", ["fullconv", "predict", *map(str, arguments)])
    with pytest.raises(SystemExit) as exit_:
        main()
    return int(exit_.value.code or 0)


def check(monkeypatch: pytest.MonkeyPatch, *arguments: str | Path) -> int:
    """The exit code of `fullconv check`."""
    monkeypatch.setattr("sys.argv", ["fullconv", "check", *map(str, arguments)])
    with pytest.raises(SystemExit) as exit_:
        main()
    return int(exit_.value.code or 0)
