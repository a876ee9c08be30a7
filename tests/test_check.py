"""What `fullconv check` says as a command: never a traceback, what can be repaired, and the sheet."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

import corpus
from command_line import check


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder for a data set, beside the one that commands run in."""
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    root = tmp_path / "data"
    root.mkdir()
    return root


NAMES = list(corpus.FAULTS)


@pytest.mark.parametrize(("name", "other"), [*zip(NAMES, [*NAMES[7:], *NAMES[:7]], strict=True)])
def test_no_faults_without_names_end_in_a_traceback(
    data: Path, monkeypatch: pytest.MonkeyPatch, name: str, other: str
) -> None:
    """One fault, and two in one folder, where no file names the classes."""
    corpus.FAULTS[name][1](data)
    (data / "dataset.yaml").unlink(missing_ok=True)
    assert check(monkeypatch, data) in (0, 3)
    second = data.with_name("second")
    second.mkdir()
    corpus.FAULTS[other][1](second)
    (second / "dataset.yaml").unlink(missing_ok=True)
    for path in sorted(second.rglob("*")):
        place = data / path.relative_to(second).with_name(path.name if path.is_dir() else f"x{path.name}")
        if path.is_symlink() or path.is_file():
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(path, place, follow_symlinks=False)
    assert check(monkeypatch, data) in (0, 3)


@pytest.mark.parametrize(
    ("name", "count"),
    [("mask_0_255", 5), ("exif_rotation", 1), ("mixed_channels", 1), ("jpeg_mask", 0), ("grey_levels", 0), ("base", 0)],
)
def test_what_can_be_repaired_is_said_in_the_last_line(
    data: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], name: str, count: int
) -> None:
    (corpus.base if name == "base" else corpus.FAULTS[name][1])(data)
    check(monkeypatch, data)
    last = capsys.readouterr().out.splitlines()[-1]
    if count:
        assert last == f"fullconv check {data} --fix DIR repairs {count} of them"
        assert check(monkeypatch, data, "--fix", "fixed") in (0, 3)
        assert check(monkeypatch, "fixed") == 0
        last = capsys.readouterr().out.splitlines()[-1]
    assert "--fix" not in last
