"""What the plugin Deepness of QGIS does with a segmentation network, by the rules in its documentation.

Written from the documentation and from reading its source (PUTvision/qgis-plugin-deepness, MapProcessorSegmentation,
TileParams, ModelBase); neither QGIS nor the plugin is needed. It processes the entire layer at the layer's resolution.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

__all__ = ["Plugin"]


class Plugin:
    """A network that was opened in the plugin's window, with the settings that its metadata give."""

    def __init__(self, path: Path) -> None:
        import onnxruntime

        self._session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        (given,) = self._session.get_inputs()
        (made,) = self._session.get_outputs()
        self.name, self.shape = given.name, given.shape
        assert len(made.shape) == 4
        assert made.shape[2] == made.shape[3]
        texts = self._session.get_modelmeta().custom_metadata_map
        self.settings: dict[str, Any] = {name: json.loads(text) for name, text in texts.items()}
        assert str(self.settings["model_type"]).capitalize() == "Segmentor"
        by_id = sorted(self.settings["class_names"].items(), key=lambda entry: int(entry[0]))
        assert [int(key) for key, _ in by_id] == list(range(made.shape[1]))
        self.class_names = [name for _, name in by_id]
        self.side = int(self.shape[-1])
        self.stride = self.side - int(self.side * float(int(self.settings["tiles_overlap"])) / 100 * 2) // 2

    def extend(self, layer: np.ndarray) -> np.ndarray:
        """Return a layer, H x W x C bytes, with zeros on the right and below, so that whole tiles cover it."""
        sides = [
            self.side if n <= self.side else n + (self.stride - (n - self.side) % self.stride) % self.stride
            for n in layer.shape[:2]
        ]
        return np.pad(layer, [(0, side - n) for side, n in zip(sides, layer.shape, strict=False)] + [(0, 0)])

    def label(self, layer: np.ndarray) -> np.ndarray:
        """Return the class of each pixel of a layer."""
        whole = self.extend(layer)
        result = np.zeros(whole.shape[:2], np.uint8)
        counts = [round((n - self.side) / self.stride) + 1 for n in result.shape]
        margin = (self.side - self.stride) // 2
        for row, column in np.ndindex(*counts):
            starts = (row * self.stride, column * self.stride)
            tile = whole[tuple(slice(start, start + self.side) for start in starts)]
            classes = self._label_tile(tile)
            keep = [
                slice(0 if at == 0 else margin, self.side - (0 if at == count - 1 else margin))
                for at, count in zip((row, column), counts, strict=True)
            ]
            place = tuple(
                slice(start + part.start, start + part.stop) for start, part in zip(starts, keep, strict=True)
            )
            result[place] = classes[tuple(keep)]
        assert int(self.settings["seg_small_segment"]) // 2 == 0, "a median filter would follow"
        return result[: layer.shape[0], : layer.shape[1]]

    def _label_tile(self, tile: np.ndarray) -> np.ndarray:
        values = np.float32(tile[None, :, :, : self.shape[-3]] * 1.0 / 255.0)
        mean, std = (np.array(self.settings[f"standardization_{name}"], np.float32) for name in ("mean", "std"))
        batch = np.transpose((values - mean) / std, (0, 3, 1, 2))
        (scores,) = self._session.run(None, {self.name: batch})
        scores[scores < float(self.settings["seg_thresh"])] = 0
        return scores[0].argmax(0).astype(np.uint8)
