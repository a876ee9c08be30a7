"""The codes of errors and the table of their wordings agree, and the wordings are plain English."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

import fullconv
from refusals import TABLE, WORDINGS

SOURCE = Path(fullconv.__file__).parent

AVOIDED = re.compile(
    r"\b(told|tells|beside|behind|whatever|whoever|learnt|comes? along|of one's own|by itself|gone? on)\b",
    re.IGNORECASE,
)


def _codes() -> set[str]:
    """Return every `code="..."` in the source."""
    return {
        keyword.value.value
        for path in SOURCE.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call)
        for keyword in node.keywords
        if keyword.arg == "code" and isinstance(keyword.value, ast.Constant) and isinstance(keyword.value.value, str)
    }


def test_every_code_has_its_wording() -> None:
    assert sorted(_codes() - WORDINGS.keys()) == []


def test_every_wording_has_its_code() -> None:
    assert sorted(WORDINGS.keys() - _codes()) == []


def test_the_table_is_sorted_and_holds_no_line_twice() -> None:
    lines = TABLE.read_text(encoding="utf-8").splitlines()
    assert lines == sorted(set(lines))


@pytest.mark.parametrize("code", WORDINGS)
def test_codes_and_wordings_are_plain(code: str) -> None:
    assert re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", code)
    for wording in WORDINGS[code]:
        assert not AVOIDED.search(wording), wording
        assert wording == wording.strip()


def test_every_code_is_raised_by_a_test() -> None:
    tests = "\n".join(path.read_text(encoding="utf-8") for path in Path(__file__).parent.glob("*.py"))
    assert sorted(code for code in WORDINGS if f'"{code}"' not in tests) == []
