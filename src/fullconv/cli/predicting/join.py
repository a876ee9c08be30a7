"""The command `fullconv join`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fullconv.cli.console import emit

__all__ = ["join"]


def join(
    out: Annotated[Path, typer.Argument(metavar="OUT", help="The folder that fullconv predict --blocks wrote.")],
    cog: Annotated[
        bool, typer.Option("--cog", help="Write one Cloud Optimized GeoTIFF with overviews, OUT/<stem>.tif, too.")
    ] = False,
) -> None:
    """Put the shares of a large image together.

    Each share is compared with its record. If one is missing, unfinished or damaged, or was made of another image or
    model, the message names it, and nothing is written. OUT/<stem>.vrt then shows all blocks as one image, without a
    copy of their pixels, and areas.csv gets its rows if the shares have --save areas.
    """
    from fullconv.cluster.join import join_blocks

    for joined in join_blocks(out, cog):
        height, width = joined.size
        emit(f"{joined.vrt}: {joined.shares} shares, {width} x {height} pixels")
        if joined.cog is not None:
            emit(f"{joined.cog}: the same as one file")
