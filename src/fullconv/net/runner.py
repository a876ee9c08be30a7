"""A trained network behind the `Runner` seam."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from fullconv.errors import ModelError
from fullconv.labels import LabelSet
from fullconv.net.checkpoint import load_net
from fullconv.net.fcn import FCN

__all__ = ["TorchRunner"]


class TorchRunner:
    """Runs an FCN with torch in float32, on the GPU where there is one."""

    def __init__(self, net: FCN, labels: LabelSet, device: str | None = None) -> None:
        self.device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        self.net = net.eval().to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._labels = labels

    @classmethod
    def load(cls, path: Path, device: str | None = None) -> TorchRunner:
        """From a run folder or a weights file."""
        net, saved = load_net(path)
        return cls(net, saved.labels, device)

    @property
    def labels(self) -> LabelSet:
        """What the channels of the logits mean."""
        return self._labels

    def logits(self, images: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """N x H x W x 3 uint8 RGB to N x K x H x W float32."""
        batch = torch.from_numpy(np.ascontiguousarray(images)).permute(0, 3, 1, 2).to(self.device)
        try:
            with torch.inference_mode():
                logits = self.net(batch)
        except RuntimeError as error:
            if "alloc" in str(error) or "out of memory" in str(error):
                raise MemoryError(f"an image of {images.shape[1]}x{images.shape[2]} does not fit in memory") from error
            raise ModelError(f"the network fails on {images.shape[1]}x{images.shape[2]} pixels: {error}") from error
        result: npt.NDArray[np.float32] = logits.float().cpu().numpy()
        return result
