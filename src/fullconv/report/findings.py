"""All that a report states, put together once: measured, compared and judged."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt

from fullconv.evaluation.intervals import Bootstrap, bootstrap
from fullconv.evaluation.measure import Measured
from fullconv.metrics import Scores
from fullconv.report.source import Source
from fullconv.report.verdict import Verdict, judge, majority_class, majority_scores

__all__ = ["Findings"]


@dataclass(frozen=True, eq=False)
class Findings:
    """What was measured, and where the model comes from; the rest follows."""

    measured: Measured
    source: Source

    @property
    def scores(self) -> Scores:
        """The model's."""
        return self.measured.scores

    @cached_property
    def baseline(self) -> Scores:
        """Those of calling every pixel the majority class."""
        return majority_scores(self.scores)

    @property
    def majority(self) -> str:
        """The name of that class."""
        return self.scores.class_names[majority_class(self.scores.confusion)]

    @cached_property
    def bootstrap(self) -> Bootstrap:
        """Intervals over images."""
        return bootstrap(self.measured.counts(), majority_class(self.scores.confusion))

    @cached_property
    def verdict(self) -> Verdict:
        """In plain words."""
        return judge(self.scores, self.bootstrap, self.source)

    @property
    def data(self) -> str:
        """The data set's name."""
        return self.measured.dataset.root.resolve().name

    @property
    def images_with(self) -> npt.NDArray[np.int64]:
        """K int64: in how many images each class is in the truth."""
        found: npt.NDArray[np.int64] = (self.measured.counts()[:, 1] > 0).sum(0)
        return found

    @property
    def chosen_here(self) -> bool:
        """Whether the weights were chosen by validations on the images that they are scored on."""
        trained_on = Path(str(self.source.settings.get("data", ""))).name
        return self.measured.split == "val" and bool(self.source.curves) and trained_on == self.data
