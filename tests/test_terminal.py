"""The command line prints log messages to stderr."""

from __future__ import annotations

import logging

import pytest

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
