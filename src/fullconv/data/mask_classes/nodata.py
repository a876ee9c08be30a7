"""What masks declare as nodata, or store as transparent: ignored, or the background."""

from __future__ import annotations

from collections.abc import Sequence

from fullconv.data.reading import MaskNodata

__all__ = ["SMALL_SHARE", "is_ignored"]

SMALL_SHARE = 0.05
"""Nodata is ignored where it covers no more than this share of the pixels."""

SETTLE = "`--mask-nodata {}` changes that"


def is_ignored(
    share: float, other_background: bool, others: Sequence[int], chosen: MaskNodata | None
) -> tuple[bool, str]:
    """Return whether pixels without data in a mask are ignored, and why; otherwise they are the background.

    They are ignored if another value is the background, or if they are few and several classes remain. QGIS declares
    the background as nodata by default.
    """
    if chosen is not None:
        return chosen == "ignore", f"as `--mask-nodata {chosen}` says"
    if other_background:
        return True, f"another value is the background; {SETTLE.format('background')}"
    if share <= SMALL_SHARE and len(others) > 1:
        return True, f"their share is small; {SETTLE.format('background')}"
    return False, f"no other value is the background; {SETTLE.format('ignore')}"
