"""The range of a data set's numbers that becomes 0 to 255: declared in dataset.yaml, or measured on training images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from fullconv.arrays import Float64
from fullconv.data.dataset import DataSet, RangeFacts, Sample
from fullconv.errors import DataError, MissingExtra
from fullconv.faults import Fault
from fullconv.images import InputFormat, ValueRange, open_image
from fullconv.images.decoders.values import not_finite_fault
from fullconv.images.stored_values import ValueSample, clipped_share, robust_range, sample_values

__all__ = ["doubt_faults", "measure_range"]

SAMPLED = 200
"""Maximum number of training images whose numbers are measured."""

CHECKED = 20
"""Maximum number of images of each other split whose numbers are compared with the range."""

FULL = 0.5
"""Images whose numbers cover more than this share of their type's range are scaled by the type."""

NARROW, DECLARED_NARROW = 0.25, 0.05
"""A range of which the numbers use less than this share is doubtful; the second is for a range in dataset.yaml."""

MANY_CLIPPED, DECLARED_CLIPPED = 0.02, 0.5
"""A range is doubtful if more than this share of the numbers is outside of it."""

SPIKE = 0.001
"""A share of equal numbers, far from all others, that may mean "no data"."""


def measure_range(dataset: DataSet, faults: list[Fault]) -> DataSet:
    """Return the data set with the range that becomes 0 to 255, and its `range_facts`.

    `range` in dataset.yaml stays. Without it, images of more than 8 bits get the range of nearly all numbers in up to
    `SAMPLED` training images, without pixels without data. If that is more than `FULL` of the range of the type, or
    if most images have 8 bits, numbers are scaled by the type. Images of 8 bits do not change. A number that probably
    means "no data", in images that could not be read without a range, is added to `faults`, as are images with NaN or
    infinite values.
    """
    samples = dataset.splits.get("train", ())
    chosen = samples[:: -(-len(samples) // SAMPLED) or 1]
    deep = _sample(dataset, chosen)
    if not deep:
        return dataset
    faults += _not_finite(deep)
    measured = _Measured(tuple(deep.values()), len(chosen))
    if dataset.value_range is not None:
        facts = measured.declared(dataset.value_range)
        return replace(dataset, range_facts=_compare_splits(dataset, facts, faults))
    spike = measured.spike()
    if spike is not None and measured.unreadable and measured.is_common:
        faults.append(_spike_fault(spike, deep))
        return replace(dataset, value_range=spike.others)
    facts, bounds = measured.choose(spike)
    if bounds is not None and not _accept(dataset, chosen, bounds):
        facts, bounds = measured.by_type("some files cannot be read with a range here"), None
    dataset = replace(dataset, value_range=bounds)
    return replace(dataset, range_facts=_compare_splits(dataset, facts, faults))


@dataclass(frozen=True)
class _Spike:
    """A number far from all others: its share, and the range of the others."""

    value: float
    share: float
    others: ValueRange


@dataclass(frozen=True)
class _Measured:
    """The numbers of the training images of more than 8 bits, of `images` that were looked at."""

    deep: tuple[ValueSample, ...]
    images: int

    @property
    def values(self) -> Float64:
        return np.concatenate([one.values for one in self.deep])

    @property
    def top(self) -> int:
        return self.deep[0].top

    @property
    def extremes(self) -> ValueRange:
        return min(one.least for one in self.deep), max(one.most for one in self.deep)

    @property
    def unreadable(self) -> bool:
        """Whether some numbers have no rule without a range."""
        return self.extremes[0] < 0 or self.extremes[1] > self.top

    @property
    def is_common(self) -> bool:
        """Whether the images of more than 8 bits are most of all images, and all of them floats or all integers."""
        return 2 * len(self.deep) > self.images and len({one.top for one in self.deep}) == 1

    @property
    def about(self) -> str:
        types = " and ".join(sorted({one.type for one in self.deep}))
        count = f"{len(self.deep)} training image{'s' * (len(self.deep) > 1)}"
        return f"{count} ({types}) hold {_words(self.extremes)}"

    def choose(self, spike: _Spike | None) -> tuple[RangeFacts, ValueRange | None]:
        """Return the facts, and the range that reading needs; it is None for the rules of the type."""
        bounds = robust_range(self.values) if spike is None else spike.others
        if bounds is None:
            return self.by_type("all values are equal"), None
        if not self.is_common:
            return self.by_type("other images have another type", bounds), None
        low, high = bounds
        if low >= 0 and high <= 1.01 * self.top and high - low > FULL * self.top:
            facts = self.by_type("they use more than half of it")
            return facts, (0.0, float(self.top)) if self.unreadable else None
        text = (
            f"values {_words(bounds)} become 0 to 255, and others are clipped "
            f"({100 * clipped_share([self.values], bounds):.3g} %): {self.about}; "
            "`range: [LOW, HIGH]` in dataset.yaml sets other values"
        )
        return RangeFacts(low, high, "training images", text, *_spike_doubt(spike)), bounds

    def by_type(self, reason: str, bounds: ValueRange | None = None) -> RangeFacts:
        """Return the facts of the range of the type; `bounds` are the range that the images use."""
        text = f"values 0 to {self.top} become 0 to 255, by the type, because {reason}: {self.about}"
        return RangeFacts(0, self.top, "type", text, *self._doubt((0, self.top), bounds))

    def declared(self, bounds: ValueRange) -> RangeFacts:
        """Return the facts of the range in dataset.yaml."""
        text = f"values {_words(bounds)} become 0 to 255, by `range` in dataset.yaml: {self.about}"
        limits = DECLARED_NARROW, DECLARED_CLIPPED
        return RangeFacts(*bounds, "dataset.yaml", text, *self._doubt(bounds, robust_range(self.values), limits))

    def _doubt(
        self, bounds: ValueRange, used: ValueRange | None, limits: tuple[float, float] = (NARROW, MANY_CLIPPED)
    ) -> tuple[str, str]:
        """Return why a range may not fit the numbers, and the remedy; empty if it fits."""
        if used is None:
            return "", ""
        clipped = clipped_share([self.values], bounds)
        if clipped <= limits[1] and used[1] - used[0] >= limits[0] * (bounds[1] - bounds[0]):
            return "", ""
        doubt = f"nearly all values of the training images are {_words(used)}, but {_words(bounds)} become 0 to 255"
        doubt += f", so {100 * clipped:.3g} % are clipped" if clipped > MANY_CLIPPED else ""
        remedy = f"set `range: [{used[0]:.10g}, {used[1]:.10g}]` in dataset.yaml, unless the images look right"
        return doubt, remedy

    def spike(self) -> _Spike | None:
        """Return the least or the greatest number if many pixels have it and all others are far from it."""
        values = self.values
        for end in (values.min(), values.max()):
            share, others = float((values == end).mean()), values[values != end]
            used = robust_range(others) if others.size else None
            if used is None or share < SPIKE:
                continue
            low, high = np.percentile(others, (0.1, 99.9))
            if max(low - end, end - high) > 2 * (high - low):
                return _Spike(float(end), share, used)
        return None


def _sample(dataset: DataSet, samples: Sequence[Sample]) -> dict[Path, ValueSample]:
    """Return the numbers of the images of more than 8 bits. Faulty images are reported elsewhere."""
    deep: dict[Path, ValueSample] = {}
    for sample in samples:
        try:
            numbers = sample_values(sample.image, dataset.channels)
        except (DataError, MissingExtra):
            continue
        if numbers is not None:
            deep[sample.image] = numbers
    return deep


def _accept(dataset: DataSet, samples: Sequence[Sample], bounds: ValueRange) -> bool:
    """Return whether each image that opens without a range also opens with it; Pillow refuses some TIFFs."""
    for sample in samples:
        try:
            with open_image(sample.image, InputFormat(dataset.channels), whole=True):
                pass
        except (DataError, MissingExtra):
            continue
        try:
            with open_image(sample.image, InputFormat(dataset.channels, bounds), whole=True):
                pass
        except (DataError, MissingExtra):
            return False
    return True


def _compare_splits(dataset: DataSet, facts: RangeFacts, faults: list[Fault]) -> RangeFacts:
    """Add a doubt if many numbers of another split are outside of the range, and the faults of its images."""
    for name, samples in dataset.splits.items():
        if name == "train" or not samples:
            continue
        deep = _sample(dataset, samples[:: -(-len(samples) // CHECKED)])
        faults += _not_finite(deep)
        if facts.source != "training images" or facts.doubt:
            continue
        share = clipped_share([one.values for one in deep.values()], (facts.low, facts.high)) if deep else 0.0
        if share > MANY_CLIPPED:
            bounds = _words((facts.low, facts.high))
            doubt = f"{100 * share:.3g} % of the values of the {name} images are outside of {bounds}, and are clipped"
            remedy = "set a `range` in dataset.yaml that holds the values of all images"
            facts = replace(facts, doubt=doubt, remedy=remedy)
    return facts


def _not_finite(deep: dict[Path, ValueSample]) -> list[Fault]:
    return [not_finite_fault(path) for path, one in deep.items() if not one.is_finite]


def doubt_faults(dataset: DataSet) -> list[Fault]:
    """Return the fault of a range that may not fit the images; none if it fits."""
    facts = dataset.range_facts
    if facts is None or not facts.doubt:
        return []
    return [Fault("doubtful-range", dataset.root, facts.doubt, facts.remedy)]


def _spike_doubt(spike: _Spike | None) -> tuple[str, str]:
    if spike is None:
        return "", ""
    doubt = (
        f"{100 * spike.share:.3g} % of the values are exactly {spike.value:.10g}, far from the others "
        f"({_words(spike.others)}), and are clipped"
    )
    remedy = (
        f"if they mean that there is no data, declare {spike.value:.10g} as the nodata value of the files; otherwise "
        "set `range` in dataset.yaml"
    )
    return doubt, remedy


def _spike_fault(spike: _Spike, deep: dict[Path, ValueSample]) -> Fault:
    """Return the fault of a number that may mean "no data", at the first image that holds it."""
    first = next(path for path, one in deep.items() if spike.value in (one.least, one.most))
    problem = (
        f"has the value {spike.value:.10g}, as {100 * spike.share:.3g} % of the values of the training images, "
        f"far from the others ({_words(spike.others)})"
    )
    remedy = (
        f"if it means that there is no data, declare it in all files (gdal_edit.py -a_nodata {spike.value:.10g} FILE); "
        f"to clip it, set `range: [{spike.others[0]:.10g}, {spike.others[1]:.10g}]` in dataset.yaml"
    )
    return Fault("value-range", first, problem, remedy)


def _words(bounds: ValueRange) -> str:
    return f"{bounds[0]:.10g} to {bounds[1]:.10g}"
