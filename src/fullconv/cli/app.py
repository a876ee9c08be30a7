"""The command line's entry point: the app with its commands, the root options, and the ways in which it ends."""

from __future__ import annotations

import itertools
import os
import signal
import sys
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from io import TextIOWrapper
from types import FrameType
from typing import Annotated

import typer

from fullconv import __version__
from fullconv.cli.bench import bench
from fullconv.cli.check import check
from fullconv.cli.console import STOPPING, emit, say, show_log
from fullconv.cli.convert import convert
from fullconv.cli.demo import demo
from fullconv.cli.evaluate import evaluate
from fullconv.cli.exports.command import export
from fullconv.cli.import_weights import import_weights
from fullconv.cli.inspect import inspect
from fullconv.cli.ladder import ladder
from fullconv.cli.options.help import GroupedCommand
from fullconv.cli.pages.label import label
from fullconv.cli.predict import predict
from fullconv.cli.predicting.join import join
from fullconv.cli.report import report
from fullconv.cli.serve import serve
from fullconv.cli.train import train
from fullconv.errors import (
    UNFORESEEN,
    FullconvError,
    Interrupted,
    UsageError,
    describe_os_error,
    describe_unforeseen,
    is_out_of_memory,
)
from fullconv.visible import make_visible
from fullconv.watchdog import note_handled, watch_signals

__all__ = ["app", "main"]

app = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False, rich_markup_mode=None)
app.add_typer(bench)
for command in (train, ladder, demo, label, check, evaluate, report, predict, join, serve, inspect, export, convert):
    app.command(cls=GroupedCommand)(command)
app.command("import", cls=GroupedCommand)(import_weights)


@app.callback(invoke_without_command=True)
def _root(
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Print the traceback of an error, too.")] = False,
) -> None:
    """Fully convolutional networks: label every pixel of your own images."""
    if version:
        emit(__version__)
        raise typer.Exit


def main() -> None:
    """Run the command line. A user's mistake ends with one message and its exit code, without a traceback.

    An exception that fullconv does not raise on purpose ends with one message, too, and the exit code 70.
    """
    _open_closed_streams()
    _STOPPED.clear()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):  # a file name may contain bytes that are not Unicode
            stream.reconfigure(errors="backslashreplace")
    arguments, debug = _take_debug(sys.argv[1:])
    try:
        with show_log(debug), _stoppable(), watch_signals():
            _check_options(arguments)
            app(arguments)
    except FullconvError as error:
        _fail("\n".join([str(error), *getattr(error, "__notes__", ())]), error.exit_code)
    except OSError as error:
        _fail(describe_os_error(error), FullconvError.exit_code)
    except KeyboardInterrupt:
        sys.exit(Interrupted.exit_code)
    except Exception as error:
        if _STOPPED:  # a library turned the signal into another exception
            sys.exit(Interrupted.exit_code)
        if is_out_of_memory(error):
            message = "out of memory; use smaller images, a smaller --crop or --batch, or --tile"
            _fail((str(error) if isinstance(error, MemoryError) else "") or message, FullconvError.exit_code)
        if isinstance(error, ImportError):  # a damaged installation, or too little memory for a library
            name = error.name or "a package"
            _fail(f"{name} cannot be imported ({error}); install it again, or allow more memory", 1)
        _fail(describe_unforeseen(error), UNFORESEEN)


def _take_debug(arguments: Sequence[str]) -> tuple[list[str], bool]:
    """Return the arguments without --debug, which may follow the name of the command, and whether it was there."""
    options = list(itertools.takewhile(lambda argument: argument != "--", arguments))
    rest = [argument for argument in options if argument != "--debug"]
    return [*rest, *arguments[len(options) :]], len(rest) < len(options)


def _check_options(arguments: Sequence[str]) -> None:
    """Refuse options whose names have control characters: the parser would print them as they are."""
    for argument in itertools.takewhile(lambda argument: argument != "--", arguments):
        name = argument.partition("=")[0]
        if name.startswith("-") and make_visible(name) != name:
            raise UsageError(f"there is no option {name}; fullconv --help lists all", code="unknown-option")


def _open_closed_streams() -> None:
    """Open the standard streams that the caller has closed; otherwise the next file would get their numbers."""
    for number, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # gets the lowest free number
        if getattr(sys, name) is None:
            setattr(sys, name, open(number, mode, encoding="utf-8", closefd=False))  # noqa: SIM115


_STOPPED: list[int] = []
"""The signals that have stopped this command."""


def _fail(message: str, exit_code: int) -> None:
    """Print the message, after the traceback if --debug asks for it, and exit. Call it while handling an exception."""
    if _take_debug(sys.argv[1:])[1]:
        traceback.print_exc()
    say(f"fullconv: {message}")
    sys.exit(exit_code)


@contextmanager
def _stoppable() -> Iterator[None]:
    """Let SIGTERM and SIGHUP (a closed terminal) end a command as Ctrl-C does. Signals that are ignored stay ignored.

    A training installs its own handlers in place of these, which save its state first.
    """
    before = {number: signal.getsignal(number) for number in STOPPING}
    handled = {number: handler for number, handler in before.items() if handler not in (signal.SIG_IGN, None)}
    for number in handled:
        signal.signal(number, _stop)
    try:
        yield
    finally:
        for number, handler in handled.items():
            signal.signal(number, handler)


def _stop(number: int, frame: FrameType | None) -> None:
    _STOPPED.append(number)
    note_handled()
    text = f"fullconv: stopped by {signal.Signals(number).name}; every file that was written is complete"
    try:
        say(text)
    except RuntimeError:  # the signal interrupted another line that is being written
        os.write(2, f"{text}\n".encode())
    raise KeyboardInterrupt
