"""What `fullconv predict --tile` prints on its tiles: the labels that a smaller halo changes, and --verify."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from fullconv.cli.console import print_table, say
from fullconv.errors import FullconvError, Interrupted, describe_failure

if TYPE_CHECKING:
    from fullconv.runtime.tiles import TiledRunner

__all__ = ["report_halo", "report_verification"]

log = logging.getLogger(__name__)


def report_halo(tiled: TiledRunner, paths: list[Path]) -> None:
    """Print how many labels a smaller halo changes, measured on the first image that is cut into tiles."""
    if not tiled.runner.info.exact:
        say(
            f"halo {tiled.halo}: every label of this network depends on the whole image, so labels from tiles may "
            "differ from those of the whole image"
        )
        return
    if tiled.info.exact:
        return
    from fullconv.images import open_image
    from fullconv.runtime.verify import halo_error

    files = tiled.info.input
    for path in paths:
        try:
            with open_image(path, files) as reader:
                error = halo_error(tiled, reader)
        except (FullconvError, OSError):  # predict_files will report it
            continue
        if error is not None:
            need = max(max(window.before, window.after) for window in tiled.info.windows)
            say(
                f"halo {tiled.halo} instead of {need}: on {error.tiles} tiles of {path}, {error.differing:,} "
                f"of {error.pixels:,} labels ({100 * error.share:.2f} %) differ from the exact ones; the tiles take "
                f"{100 * error.saved:.0f} % less time"
            )
            return


def report_verification(tiled: TiledRunner, paths: Iterable[Path]) -> FullconvError | None:
    """Print how much tiles differ from the whole image, for each input that is not a video.

    Returns an error if labels differ by more than ties, or an image cannot be predicted as a whole.
    """
    from fullconv.images import open_image
    from fullconv.images.video import is_video
    from fullconv.runtime.verify import TIE, verify_tiles

    rows = [["image", "pixels", "tiles", "differing labels", "ties", "logit difference", "logit range", "margin"]]
    differing, failed, images = [], [], [path for path in paths if not is_video(path)]
    for path in images:
        try:
            with open_image(path, tiled.info.input) as reader:
                height, width = reader.size
                result = verify_tiles(tiled, reader.read(range(height), range(width))[0])
        except Interrupted:
            raise
        except Exception as error:  # one image never stops the others
            log.debug("%s", path, exc_info=True)
            failed.append(describe_failure(path, error))
            continue
        counts = [f"{count:,}" for count in (result.pixels, result.tiles, result.differing, result.ties)]
        sizes = [f"{size:.3g}" for size in (result.largest, result.logit_range, result.margin)]
        rows.append([str(path), *counts, *sizes])
        if not result.holds:
            differing.append(path)
    if rows[1:]:
        _print_verification(rows)
    failures = f"{len(failed)} of {len(images)} images cannot be verified:" + "".join(f"\n  - {one}" for one in failed)
    if differing:
        message = (
            f"labels from tiles differ from those of the whole image on {len(differing)} of {len(images)} images, "
            f"not only at ties (two logits within {TIE:g} of their range)"
        )
        return FullconvError(f"{message}\n{failures}" if failed else message, code="tiles-differ")
    return FullconvError(failures, code="tiles-not-verified") if failed else None


def _print_verification(rows: list[list[str]]) -> None:
    """Print the table with its header, and what it shows."""
    from fullconv.runtime.verify import TIE

    print_table(rows)
    if all(count == "0" for row in rows[1:] for count in row[3:5]):
        say("the labels from tiles are identical to those of the whole image")
        return
    say(
        f"ties are labels whose two largest logits differ by less than {TIE:g} of the logit range, so that rounding "
        "decides; logit difference and margin are the largest difference to the whole image, and between the two "
        "logits of a differing label"
    )
