"""Weights stored as float16 against float32: size of the file, labels, mIoU, and the time of loading and of one image.

    python benchmarks/half_weights.py [MODEL.onnx] [--data ../shared/camvid] [--images 20] [--backend onnx]

The two files take turns, and times are given as ratios. Without MODEL it takes the bundled model of street scenes.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import numpy as np
import onnx

from fullconv.data.layouts import find_dataset
from fullconv.evaluation.evaluate import evaluate
from fullconv.onnx_graph.half import store_halves
from fullconv.runtime.load import load_runner
from fullconv.runtime.models import bundled
from fullconv.runtime.runner import Runner

ROUNDS = 9


def main() -> None:
    """Print the comparison."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path, nargs="?", default=bundled("street"))
    parser.add_argument("--data", type=Path, default=Path("../shared/camvid"))
    parser.add_argument("--images", type=int, default=20)
    parser.add_argument("--backend", choices=["onnx", "openvino"], default="onnx")
    options = parser.parse_args()
    with TemporaryDirectory() as folder:
        half = Path(folder) / "half.onnx"
        onnx.save(store_halves(onnx.load(options.model)), half)
        paths = (options.model, half)
        sizes = [path.stat().st_size / 1e6 for path in paths]
        print(f"size: {sizes[0]:.2f} MB, {sizes[1]:.2f} MB, ratio {sizes[1] / sizes[0]:.3f}")
        loads: tuple[list[float], list[float]] = ([], [])
        runners: list[Runner] = []
        for _ in range(ROUNDS):
            runners = []
            for path, seconds in zip(paths, loads, strict=True):
                start = time.perf_counter()
                runners.append(load_runner(path, options.backend))
                seconds.append(time.perf_counter() - start)
        print(f"load: {median(loads[0]):.3f} s, {median(loads[1]):.3f} s, ratio {_ratio(loads):.2f}")
        _compare(runners, options.data, options.images)


def _compare(runners: list[Runner], data: Path, count: int) -> None:
    dataset = find_dataset(data).read_as(runners[0].info.input)
    samples = dataset.split("val")
    samples = samples[:: max(1, len(samples) // count)][:count]
    seconds: tuple[list[float], list[float]] = ([], [])
    equal = total = 0
    for sample in samples:
        image = dataset.read(sample)[0][None]
        labels = []
        for runner, times in zip(runners, seconds, strict=True):
            start = time.perf_counter()
            labels.append(runner.label_maps(image))
            times.append(time.perf_counter() - start)
        equal, total = equal + int(np.count_nonzero(labels[0] == labels[1])), total + labels[0].size
    print(f"labels of {len(samples)} images: {100 * equal / total:.4f} % equal ({total - equal} of {total} differ)")
    print(f"one image: {median(seconds[0]):.3f} s, {median(seconds[1]):.3f} s, ratio {_ratio(seconds):.2f}")
    scores = [evaluate(runner, dataset, samples).mean_iou for runner in runners]
    print(f"mIoU on these images: {scores[0]:.5f}, {scores[1]:.5f}")


def _ratio(seconds: tuple[list[float], list[float]]) -> float:
    """Return the median of the ratios of the rounds, which a busy machine disturbs least."""
    return median(half / whole for whole, half in zip(*seconds, strict=True))


if __name__ == "__main__":
    main()
