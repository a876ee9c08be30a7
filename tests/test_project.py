"""What CI, pre-commit, package and citation say about the project is true."""

from __future__ import annotations

import json
import re
import runpy
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement

from fullconv import __version__

ROOT = Path(__file__).parent.parent
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
EXTRAS: dict[str, list[str]] = PROJECT["optional-dependencies"]
TARGETS = re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)


def load(name: str) -> Any:
    return yaml.safe_load((ROOT / name).read_text(encoding="utf-8"))


def test_ci_runs_make_targets_on_the_versions_that_the_package_names() -> None:
    jobs = load(".github/workflows/ci.yml")["jobs"]
    runs = [step["run"] for job in jobs.values() for step in job["steps"] if "run" in step]
    targets = {run.removeprefix("make ") for run in runs if run.startswith("make ")}
    assert [run for run in runs if not run.startswith("make ")] == ["choco install make --no-progress"]
    assert targets <= set(TARGETS)
    assert {"test", "check", "docs", "coverage", "slow", "base", "lowest", "dist"} <= targets
    named = [line.rpartition(" ")[2] for line in PROJECT["classifiers"] if re.search(r":: 3\.\d+$", line)]
    assert jobs["test"]["strategy"]["matrix"]["python"] == named
    assert PROJECT["requires-python"] == f">={named[0]}"


def test_the_lowest_versions_are_those_of_the_package() -> None:
    made = subprocess.check_output([sys.executable, ROOT / ".ci" / "lowest.py"], text=True)
    lowest = dict(line.split("==") for line in made.split())
    tested = runpy.run_path(str(ROOT / ".ci" / "lowest.py"))["EXTRAS"]
    direct = [Requirement(one) for one in [*PROJECT["dependencies"], *(one for name in tested for one in EXTRAS[name])]]
    assert {one.name for one in direct} == set(lowest)
    for one in direct:
        bounds = [bound.version for bound in one.specifier if bound.operator == ">="]
        assert [lowest[one.name]] == bounds


@pytest.mark.parametrize("version", ["2.6.2", "2.6.3"])
def test_two_releases_of_lightning_are_never_installed(version: str) -> None:
    lightning = next(Requirement(one) for one in EXTRAS["train"] if one.startswith("lightning"))
    assert not lightning.specifier.contains(version)
    assert lightning.specifier.contains("2.6.4")


def test_pre_commit_runs_what_make_check_runs() -> None:
    hooks = load(".pre-commit-config.yaml")["repos"][0]["hooks"]
    entries = [hook["entry"] for hook in hooks]
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    recipe = re.search(r"^check: venv docs\n((?:\t.*\n)+)", makefile, re.MULTILINE)
    assert recipe is not None
    name = re.compile(r".*(ruff format|ruff|mypy|codespell|make_commands|check_pages).*")
    wanted = {name.sub(r"\1", row) for row in recipe[1].split("\n")}
    found = {name.sub(r"\1", entry) for entry in entries}
    assert found == wanted - {""}
    assert {hook["language"] for hook in hooks} == {"system"}


def test_pre_commit_checks_the_scripts_that_jsconfig_names() -> None:
    hooks = load(".pre-commit-config.yaml")["repos"][0]["hooks"]
    (pattern,) = [hook["files"] for hook in hooks if hook["id"] == "pages"]
    for names in json.loads((ROOT / "jsconfig.json").read_text(encoding="utf-8"))["include"]:
        assert re.match(pattern, names.replace("*", "page"))


def test_the_citation_is_of_this_version() -> None:
    citation = load("CITATION.cff")
    assert {"cff-version", "message", "title", "authors", "type", "license", "version"} <= set(citation)
    assert str(citation["version"]) == __version__
    assert PROJECT["license"] == f"{citation['license']} AND MIT AND Apache-2.0"  # those of the bundled weights
    assert PROJECT["version"] == __version__
    assert all({"family-names", "given-names"} == set(person) for person in citation["preferred-citation"]["authors"])


def test_the_changelog_has_the_sections_of_keep_a_changelog() -> None:
    page = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    versions = re.findall(r"^## \[(.+?)\] - (.+)$", page, re.MULTILINE)
    assert versions[0] == (__version__, "unreleased")
    assert all(re.fullmatch(r"\d{4}-\d\d-\d\d", date) for _, date in versions[1:])
    sections = re.findall(r"^### (.+)$", page, re.MULTILINE)
    assert {"Added", "Changed", "Fixed"} <= set(sections)
    assert set(sections) <= {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}
    assert re.findall(r"^## .*", page, re.MULTILINE) == [f"## [{version}] - {date}" for version, date in versions]
