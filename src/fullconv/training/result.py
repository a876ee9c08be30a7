"""The result of a training."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from fullconv.metrics import Scores

__all__ = ["TrainResult"]


@dataclass(frozen=True)
class TrainResult:
    """The scores of the best weights on the validation images, seconds of training, parameters; the run's `folder`.

    `alarm` is the reason not to use the network, or empty: it calls nearly everything one class, or gains nothing.
    `model` is the path of model.onnx, or None: there is an alarm, or the network has no ONNX form. A result stands for
    its folder where a model is asked for, as in `fullconv.load(result)`.
    """

    folder: Path
    scores: Scores
    seconds: float
    parameters: int
    alarm: str = ""
    model: Path | None = None

    def __fspath__(self) -> str:
        """The folder."""
        return str(self.folder)
