"""What the command line prints to stderr: log messages, errors, and the colours of classes on a terminal."""

from __future__ import annotations

import logging
import sys
from functools import partial
from io import StringIO
from typing import Literal

import pytest
import rich.console
from rich.console import Console

from fullconv.cli.app import main
from fullconv.cli.console import show_log
from fullconv.cli.predicting.outcome import show_colors
from fullconv.labels import LabelSet


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


@pytest.mark.parametrize(
    ("colors", "is_shown"), [("truecolor", True), ("256", True), ("standard", False), (None, False)]
)
def test_predict_shows_the_colours_of_the_classes_on_a_terminal_that_has_them(
    colors: Literal["truecolor", "256", "standard"] | None, is_shown: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    screen = StringIO()
    terminal = partial(Console, file=screen, force_terminal=colors is not None, color_system=colors, width=60)
    monkeypatch.setattr(rich.console, "Console", lambda **options: terminal(highlight=options["highlight"]))
    show_colors(LabelSet.named(["sky", "wide\x1b[31m road"], [(10, 20, 30), (200, 0, 0)]))
    text = screen.getvalue()
    assert bool(text) == is_shown
    if is_shown:
        assert "sky" in text
        assert "wide\\x1b[31m\u00a0road" in text
        assert text.count("\x1b[38;") == 2
