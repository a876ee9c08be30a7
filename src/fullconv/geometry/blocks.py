"""Blocks of tiles: a grid of tiles is divided into rectangles of about equal size. Integer arithmetic only."""

from __future__ import annotations

from fullconv.errors import UsageError

__all__ = ["split_grid"]


def split_grid(rows: int, columns: int, count: int) -> list[tuple[range, range]]:
    """Divide a grid of `rows` x `columns` tiles into `count` rectangles that cover each tile once.

    The grid is cut in two across its longer side, and each part again. The sizes of the parts follow the numbers of
    rectangles in them, so all rectangles have about the same number of tiles. The order is that of the cuts, from the
    top left.

    Raises UsageError unless `count` is at least 1 and at most the number of tiles.
    """
    if not 1 <= count <= rows * columns:
        message = f"{count:,} shares of {rows * columns:,} tiles; use 1 to {rows * columns:,}, or smaller tiles"
        raise UsageError(message, code="more-shares-than-tiles")
    return _split(range(rows), range(columns), count)


def _split(rows: range, columns: range, count: int) -> list[tuple[range, range]]:
    if count == 1:
        return [(rows, columns)]
    across = len(rows) < len(columns)
    long, short = (columns, rows) if across else (rows, columns)
    cut = min(max(1, (2 * len(long) * (count // 2) + count) // (2 * count)), len(long) - 1)  # rounded
    first, second = cut * len(short), (len(long) - cut) * len(short)
    share = (2 * count * first + first + second) // (2 * (first + second))
    share = min(max(share, 1, count - second), first, count - 1)
    if across:
        return _split(rows, columns[:cut], share) + _split(rows, columns[cut:], count - share)
    return _split(rows[:cut], columns, share) + _split(rows[cut:], columns, count - share)
