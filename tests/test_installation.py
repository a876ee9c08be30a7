"""The pip command fits the place that fullconv was installed from."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from importlib.metadata import PackageNotFoundError
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement

from fullconv import __version__, installation
from fullconv.errors import MissingExtra
from fullconv.installation import pip_command

COMMIT = "d7fc20f0c2f34cbd1e4ebd0bbc0ae2a5e5ad3f65"


def installed_from(monkeypatch: pytest.MonkeyPatch, origin: dict[str, Any] | None) -> None:
    """Let fullconv's distribution hold this direct_url.json, or none."""
    text = None if origin is None else json.dumps(origin)

    class Distribution:
        def read_text(self, name: str) -> str | None:
            return text if name == "direct_url.json" else None

    monkeypatch.setattr(installation, "distribution", lambda name: Distribution())


def quoted(command: str) -> str:
    """Return the command with this system's quotes."""
    return command.replace("'", '"') if os.name == "nt" else command


@pytest.mark.parametrize(
    ("origin", "command"),
    [
        (None, "pip install 'fullconv[geo]'"),
        (
            {"url": "file:///tmp/fullconv-0.1.0-py3-none-any.whl", "archive_info": {"hashes": {}}},
            "pip install 'fullconv[geo] @ file:///tmp/fullconv-0.1.0-py3-none-any.whl'",
        ),
        (
            {"url": "https://example.org/fullconv-0.1.0.tar.gz", "archive_info": {}},
            "pip install 'fullconv[geo] @ https://example.org/fullconv-0.1.0.tar.gz'",
        ),
        (
            {
                "url": "https://example.org/fullconv.git",
                "vcs_info": {"vcs": "git", "requested_revision": "main", "commit_id": COMMIT},
                "subdirectory": "python",
            },
            f"pip install 'fullconv[geo] @ git+https://example.org/fullconv.git@{COMMIT}#subdirectory=python'",
        ),
    ],
    ids=["index", "wheel", "sdist on the web", "git"],
)
def test_an_installation_without_a_checkout_is_extended_from_where_it_came(
    monkeypatch: pytest.MonkeyPatch, origin: dict[str, Any] | None, command: str
) -> None:
    installed_from(monkeypatch, origin)
    assert pip_command("geo") == quoted(command)
    assert Requirement(shlex.split(command)[-1]).extras == {"geo"}


@pytest.mark.parametrize(("editable", "option"), [(False, ""), (True, "-e ")])
def test_a_checkout_is_a_dot_inside_and_a_path_outside(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, editable: bool, option: str
) -> None:
    checkout = tmp_path / "my projects" / "fullconv"
    checkout.mkdir(parents=True)
    installed_from(monkeypatch, {"url": checkout.as_uri(), "dir_info": {"editable": True} if editable else {}})
    monkeypatch.chdir(tmp_path)
    assert pip_command("train") == quoted(f"pip install {option}'{checkout}[train]'")
    monkeypatch.chdir(checkout)
    assert pip_command("train") == quoted(f"pip install {option}'.[train]'")


def test_a_checkout_that_nobody_installed_is_found_by_its_project_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(name: str) -> None:
        raise PackageNotFoundError(name)

    monkeypatch.setattr(installation, "distribution", missing)
    monkeypatch.setattr(installation, "__file__", str(tmp_path / "src" / "fullconv" / "installation.py"))
    monkeypatch.chdir(tmp_path)
    assert pip_command("train").endswith(quoted("fullconv[train]'"))
    (tmp_path / "pyproject.toml").touch()
    assert pip_command("train").endswith(quoted("'.[train]'"))


def test_windows_shells_get_double_quotes(monkeypatch: pytest.MonkeyPatch) -> None:
    installed_from(monkeypatch, None)
    monkeypatch.setattr(installation.os, "name", "nt")
    assert pip_command("train") == 'pip install "fullconv[train]"'


def test_the_error_names_package_file_and_command(monkeypatch: pytest.MonkeyPatch) -> None:
    installed_from(monkeypatch, None)
    error = MissingExtra("rasterio", "geo", Path("a.tif"))
    assert str(error) == quoted("a.tif: rasterio is not installed. Run: pip install 'fullconv[geo]'")
    assert (error.code, error.exit_code) == ("missing-extra", 2)


def test_importing_the_errors_reads_no_metadata() -> None:
    code = (
        "import sys; before = set(sys.modules); import fullconv.errors\n"  # a measurement of coverage loads json
        "print(*sorted({'importlib.metadata', 'json'} & set(sys.modules) - before), 'end')"
    )
    assert subprocess.check_output([sys.executable, "-c", code], text=True).split() == ["end"]


def test_the_package_runs_as_a_module() -> None:
    assert subprocess.check_output([sys.executable, "-m", "fullconv", "--version"], text=True) == f"{__version__}\n"
