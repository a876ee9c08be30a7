"""The options about reading a data set, which all commands that take labelled images share."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import wraps
from typing import Annotated, Any, get_type_hints

import typer

from fullconv.data.reading import MaskNodata, Reading

__all__ = ["reads_data"]

GROUP = "Reading DATA"
"""The group of these options in the help."""


def _options(
    images: Annotated[
        list[str] | None,
        typer.Option(
            metavar="PATTERN",
            help="The image files below DATA, in quotes, such as 'photos/*.jpg'; **/ is any folder; repeatable.",
            rich_help_panel=GROUP,
        ),
    ] = None,
    masks: Annotated[
        list[str] | None,
        typer.Option(
            metavar="PATTERN",
            help="The mask files below DATA. Image and mask are a pair if the wildcards stand for the same text.",
            rich_help_panel=GROUP,
        ),
    ] = None,
    mask_nodata: Annotated[
        MaskNodata | None,
        typer.Option(
            metavar="ignore|background",
            help="Meaning of the pixels that a mask file declares as nodata.",
            rich_help_panel=GROUP,
        ),
    ] = None,
    unlabelled: Annotated[
        str | None,
        typer.Option(
            metavar="CLASS|ignore",
            help="Meaning of the pixels of an annotated image that no shape covers.",
            rich_help_panel=GROUP,
        ),
    ] = None,
    val_share: Annotated[
        float | None,
        typer.Option(
            metavar="X", help="Share of the images to hold out for validation, such as 0.2.", rich_help_panel=GROUP
        ),
    ] = None,
    val_by: Annotated[
        str | None,
        typer.Option(
            metavar="REGEX",
            help="Keep images together on one side of the split if this finds the same text in their paths.",
            rich_help_panel=GROUP,
        ),
    ] = None,
    strict: Annotated[
        bool, typer.Option("--strict", help="Stop if anything must be inferred; for pipelines.", rich_help_panel=GROUP)
    ] = False,
    outside: Annotated[
        bool,
        typer.Option(
            "--outside",
            help="Read files that annotations and links take from outside of DATA, too.",
            rich_help_panel=GROUP,
        ),
    ] = False,
) -> None:
    """Declare the options."""


def reads_data(command: Callable[..., None]) -> Callable[..., None]:
    """Add the options to a command, which gets those that the user sets as the dictionary `reading`."""
    own = inspect.signature(command, eval_str=True)
    shared = inspect.signature(_options, eval_str=True).parameters

    @wraps(command)
    def wrapper(**values: Any) -> None:
        given = {name: values.pop(name) for name in shared}
        reading = {name: value for name, value in given.items() if value is not None and value is not False}
        command(**values, reading=Reading(**reading))  # type: ignore[typeddict-item]

    mine = [parameter for parameter in own.parameters.values() if parameter.name != "reading"]
    wrapper.__signature__ = own.replace(parameters=[*mine, *shared.values()])  # type: ignore[attr-defined]
    hints = {**get_type_hints(command, include_extras=True), **get_type_hints(_options, include_extras=True)}
    wrapper.__annotations__ = {name: hint for name, hint in hints.items() if name != "reading"}
    del wrapper.__wrapped__
    return wrapper
