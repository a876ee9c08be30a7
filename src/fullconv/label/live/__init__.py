"""The live model: score layers that are fitted to painted pixels on frozen taps."""

from fullconv.label.live.learner import Learner
from fullconv.label.live.places import Place, Ranked

__all__ = ["Learner", "Place", "Ranked"]
