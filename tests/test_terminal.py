"""The command line prints log messages to stderr."""

from __future__ import annotations

import logging
import sys

import pytest

from fullconv.cli.app import main
from fullconv.cli.console import show_log


def test_log_messages_from_info_upwards_go_to_stderr_inside_show_log_only(capsys: pytest.CaptureFixture[str]) -> None:
    logger = logging.getLogger("fullconv.tests")
    before = logging.getLogger("fullconv").handlers[:]
    with show_log():
        logger.debug("for developers")
        logger.info("%d of %d", 1, 2)
        logger.warning("went wrong")
    logger.info("not printed")
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", "1 of 2\nwent wrong\n")
    assert logging.getLogger("fullconv").handlers == before
    assert logging.getLogger("fullconv").propagate


@pytest.mark.parametrize(
    "arguments", [["ch\x1b[31m"], ["check", "d", "--x\x9b\u202e"], ["predict", "a", "b", "--backend", "\a"]]
)
def test_errors_of_the_command_line_show_control_characters_as_escapes(
    arguments: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["fullconv", *arguments])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    text = capsys.readouterr().err
    assert "\\x" in text or "\\u202e" in text or "\\a" in text
    assert not set("\x1b\x9b\u202e\a") & set(text)
