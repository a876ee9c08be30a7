"""The images held out for validation where a data set has no split: an exact share, with every class on both sides."""

from __future__ import annotations

import hashlib
import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from fullconv.data.splits import without_split

__all__ = ["VAL_SHARE", "HeldOut", "hold_out", "make_folds", "series_of", "show_series"]

VAL_SHARE = 0.2
"""Share of the images that are held out for validation, if the user does not choose another."""

FEWEST_SERIES = 3
"""Fewer series than this cannot be held out whole: one in val would be a third of the images or more."""

LARGEST_ERROR = 0.75
"""Whole series are held out only if the share of the images comes this close to the share that is wanted."""

_COUNTERS = re.compile(
    r"""(?:^|[_\-. ]+)(?:row|r|y|x|col|c)\d+[_\-. ]*(?:col|c|x|y|row|r)\d+$  # _r3_c4
    | (?:^|[_\-. ]+)\d+[_\-. x]+\d+$  # _3_4
    | [_\-. ]*\d+x\d+$  # 3x4
    | [_\-. ]*\d+$""",
    re.VERBOSE | re.IGNORECASE,
)
"""The number of a frame, or those of a tile, at the end of a name."""


@dataclass(frozen=True)
class HeldOut:
    """Indices of the images held out, ascending, and a sentence that says how they were chosen."""

    val: tuple[int, ...]
    reason: str


def hold_out(
    names: Sequence[str],
    classes: npt.NDArray[np.bool_] | None = None,
    groups: Sequence[str] | None = None,
    share: float = VAL_SHARE,
) -> HeldOut:
    """Choose the validation images among all.

    `names` are the samples' names, which alone decide the order in which they are considered (by a hash), so that
    images that are added later move at most the few at the border. `classes` is N x K bool, which classes each image
    shows: every class that at least two groups show is on both sides, if the share allows. `groups` names what must
    stay together; without it, series of names that differ by a number only are kept together where there are enough of
    them. The share is exact for images without groups: round(share x N), at least one, and never all.
    """
    count = len(names)
    if count < 2:
        return HeldOut((), "there is one image, so none is held out for validation" if count else "there are no images")
    wanted = min(max(1, round(share * count)), count - 1)
    units, reason = _units(names, groups, wanted)
    order = sorted(units, key=_rank)
    chosen = _first(order, units, wanted)
    if classes is not None:
        chosen = _cover(chosen, order, units, classes, wanted)
    val = tuple(sorted(index for unit in chosen for index in units[unit]))
    about = f"{len(val)} of {count} images are held out for validation, chosen by a hash of their names{reason}"
    return HeldOut(val, about)


def make_folds(
    names: Sequence[str],
    count: int,
    classes: npt.NDArray[np.bool_] | None = None,
    groups: Sequence[str] | None = None,
) -> tuple[list[tuple[int, ...]], str]:
    """Divide the images into `count` folds of about the same size, and return their indices and a sentence.

    Arguments are those of `hold_out`. Classes are spread over the folds, the rarest first, each time into the fold that
    lacks it most (iterative stratification: Sechidis et al., ECML PKDD 2011). Raises ValueError if there are fewer
    units (images, or groups that stay together) than folds.
    """
    units, reason = _units(names, groups, max(1, round(len(names) / count)))
    if len(units) < count:
        raise ValueError(f"{len(units)} {'images' if groups is None and not reason else 'groups of images'}")
    open_units = sorted(units, key=_rank)
    shown = {
        unit: np.zeros(0, bool) if classes is None else np.any(classes[units[unit]], axis=0) for unit in open_units
    }
    folds: list[list[str]] = [[] for _ in range(count)]
    frequency = np.sum([shown[unit] for unit in open_units], axis=0)
    for target in (*np.argsort(frequency, kind="stable").tolist(), None):
        for unit in [unit for unit in open_units if target is None or shown[unit][target]]:
            lacking = [0 if target is None else sum(bool(shown[other][target]) for other in fold) for fold in folds]
            sizes = [sum(len(units[other]) for other in fold) for fold in folds]
            folds[min(range(count), key=lambda fold: (lacking[fold], sizes[fold], fold))].append(unit)
            open_units.remove(unit)
    indices = [tuple(sorted(index for unit in fold for index in units[unit])) for fold in folds]
    return indices, f"{count} folds of {', '.join(str(len(fold)) for fold in indices)} images, chosen by a hash{reason}"


def series_of(name: str) -> str:
    """Return a name without its last number, and without a separate number before it, as both may count tiles.

    `drive1_00390` is of the series `drive1`, `scene_4_2_7` and `scene_4_r2_c7` of `scene_4`, `photo` of `photo`.
    """
    return _COUNTERS.sub("", name) or name


def show_series(names: Sequence[str]) -> bool:
    """Return whether the names of a data set show which of its images are of one video or scene.

    They do if they have at least three series, and half of the series or more have several images. With fewer, the
    part before the number may be any word, as in `img_001`; so may the name of a split, as in `val_001`.
    """
    different = set(names)  # both splits may have a 0001
    sizes = Counter(map(series_of, different))
    several = sum(size > 1 for size in sizes.values())
    if len(sizes) == len(different) or 2 * several < len(sizes):
        return False
    return len({without_split(series) for series in sizes}) >= FEWEST_SERIES


def _units(names: Sequence[str], groups: Sequence[str] | None, wanted: int) -> tuple[dict[str, list[int]], str]:
    """Return what is held out as a whole: its name and the indices of its images; and what to say of it."""
    if groups is not None:
        units = _by_key(groups)
        return units, f"; the {len(units)} groups stay whole"
    series = _by_key([series_of(name) for name in names])
    if show_series(names):
        size = sum(map(len, (series[unit] for unit in _first(sorted(series, key=_rank), series, wanted))))
        if abs(size - wanted) <= LARGEST_ERROR * wanted:
            shown = ", ".join(sorted(series)[:3])
            return series, (
                f"; images whose names differ by a number only ({shown}, ...) stay together, since they may be frames "
                "of one video or tiles of one image"
            )
    return _by_key(list(names)), ""


def _by_key(keys: Sequence[str]) -> dict[str, list[int]]:
    units: dict[str, list[int]] = defaultdict(list)
    for index, key in enumerate(keys):
        units[key].append(index)
    return dict(units)


def _rank(name: str) -> bytes:
    return hashlib.sha256(name.encode("utf-8", "surrogateescape")).digest()


def _first(order: Sequence[str], units: Mapping[str, Sequence[int]], wanted: int) -> list[str]:
    """Take units in order until there are as many images as wanted; a unit that would be too many is passed over."""
    chosen: list[str] = []
    size = 0
    for unit in order:
        if size + len(units[unit]) <= wanted:
            chosen.append(unit)
            size += len(units[unit])
    if not chosen and len(units) > 1:
        chosen = [min(order, key=lambda unit: (len(units[unit]), order.index(unit)))]
    return chosen


def _cover(
    chosen: list[str],
    order: Sequence[str],
    units: Mapping[str, Sequence[int]],
    classes: npt.NDArray[np.bool_],
    wanted: int,
) -> list[str]:
    """Exchange units until each class that two units show is on both sides; the rarest classes come first."""
    shown: dict[str, npt.NDArray[np.bool_]] = {
        unit: np.any(classes[list(indices)], axis=0) for unit, indices in units.items()
    }
    frequency = np.sum([shown[unit] for unit in order], axis=0)
    val = list(chosen)
    for target in np.argsort(frequency, kind="stable"):
        if frequency[target] < 2:
            continue
        held = set(val)
        inside = [unit for unit in val if shown[unit][target]]
        outside = [unit for unit in order if unit not in held and shown[unit][target]]
        if inside and outside:
            continue
        incoming = outside if not inside else [unit for unit in order if unit not in held and not shown[unit][target]]
        leaving = inside if not outside else val
        val = _exchange(val, incoming, leaving, order, shown, frequency, units, wanted, int(target))
    return val


def _exchange(
    val: list[str],
    incoming: Sequence[str],
    leaving: Sequence[str],
    order: Sequence[str],
    shown: Mapping[str, npt.NDArray[np.bool_]],
    frequency: npt.NDArray[np.int64],
    units: Mapping[str, Sequence[int]],
    wanted: int,
    target: int,
) -> list[str]:
    """Return `val` with one unit exchanged so that no class is lost on either side; unchanged if that is impossible."""
    before = np.sum([shown[unit] for unit in val], axis=0)
    size = sum(len(units[unit]) for unit in val)
    for new in incoming:
        for old in reversed(leaving):
            after = before - shown[old] + shown[new]
            covered = (after > 0) & (after < frequency)
            lost = ((before > 0) & (before < frequency) & ~covered).any()
            changed = size - len(units[old]) + len(units[new])
            if covered[target] and not lost and 0 < changed <= max(wanted, size):
                return [unit for unit in val if unit != old] + [new]
    return val
