"""The result of a training."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from fullconv.metrics import Scores

__all__ = ["TrainResult"]


@dataclass(frozen=True)
class TrainResult:
    """The result of a training.

    `folder` is the run folder, `scores` are those of the best weights on the validation images, `seconds` is the time
    of training, `parameters` the size of the network. `alarm` is the reason not to use the network, or empty: the
    network labels nearly everything as one class, or is no better than that. `model` is the path of model.onnx. It is
    None if there is an alarm or the network has no ONNX form. A result can be used as the path of its folder, as in
    `fullconv.load(result)`.
    """

    folder: Path
    scores: Scores
    seconds: float
    parameters: int
    alarm: str = ""
    model: Path | None = None

    def __fspath__(self) -> str:
        """Return the run folder."""
        return str(self.folder)
