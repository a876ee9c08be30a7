"""The facts of a report: the measurement, its baseline, its intervals and the verdict."""

from __future__ import annotations

from dataclasses import dataclass

from fullconv.arrays import Int64
from fullconv.evaluation.intervals import Bootstrap, bootstrap, sum_series
from fullconv.evaluation.measure import Measurement
from fullconv.forks import lazy_property
from fullconv.metrics import Scores
from fullconv.report.source import Source
from fullconv.report.verdict import Verdict, find_majority_class, judge, score_majority

__all__ = ["Findings"]


@dataclass(frozen=True, eq=False)
class Findings:
    """The measurement, the source of the model, and all values that a report derives from them."""

    measurement: Measurement
    source: Source

    @property
    def scores(self) -> Scores:
        """The scores of the model."""
        return self.measurement.scores

    @lazy_property
    def baseline(self) -> Scores:
        """The scores of a model that predicts the majority class everywhere."""
        return score_majority(self.scores)

    @property
    def majority(self) -> str:
        """The name of the majority class."""
        return self.scores.class_names[find_majority_class(self.scores.confusion)]

    @lazy_property
    def bootstrap(self) -> Bootstrap:
        """The intervals over images, or over series of images that belong together."""
        majority, series = find_majority_class(self.scores.confusion), self.measurement.series()
        return bootstrap(self.measurement.counts(), majority, series=series)

    @lazy_property
    def verdict(self) -> Verdict:
        """The verdict on the model."""
        return judge(self.scores, self.bootstrap, self.source, self.measurement.misfit)

    @property
    def data(self) -> str:
        """The name of the data set."""
        return self.measurement.dataset.root.resolve().name

    @property
    def images_with(self) -> Int64:
        """The number of images whose truth contains each class, K int64."""
        images: Int64 = (self.measurement.counts()[:, 1] > 0).sum(0)
        return images

    @property
    def series_with(self) -> Int64:
        """The number of series, or of images if none belong together, whose truth contains each class, K int64."""
        sums = sum_series(self.measurement.counts(), self.measurement.series())
        series: Int64 = (sums[:, 1] > 0).sum(0)
        return series

    @property
    def chosen_here(self) -> bool:
        """Whether the weights were chosen by validation on the same images that the report measures."""
        of_run = bool(self.source.curves) and self.source.trained_on(self.measurement.dataset.root)
        return self.measurement.split == "val" and of_run
