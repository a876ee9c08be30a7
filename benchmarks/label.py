"""Measure the live model of `fullconv label` on simulated strokes, against ilastik's way and against training.

    pip install -e ".[serve,bench]"
    python benchmarks/label.py [--data ../shared] [--sets camvid,membranes,bacteria] [--strokes 10,30,100,300]
                               [--images 10] [--seed 0] [--no-forest] [--train MINUTES] [--latency]
                               [--json FILE]

Sets are camvid, membranes, and those of own_data_sets.py. The settings of the live model were chosen on camvid and
membranes, and not on the others.

A simulated person works as the page proposes. The first stroke of each class goes into the first image that shows it.
After that the person takes the image that `rank` puts first, and goes to the places that `uncertain` lists, at most
`--visit` per image before the model is fitted again. At a place the person paints a line inside one true region: the
largest part that is labelled wrongly, or else the largest region there. Held-out images are scored at every second row
and column.

ilastik's way is a random forest of 100 trees on hand-made features: for each channel and seven scales the Gaussian, its
Laplacian, gradient magnitude, difference of Gaussians, and the eigenvalues of structure tensor and Hessian. It gets the
same strokes, with all their pixels. `--train MINUTES` writes the strokes as masks, with 255 where nothing is painted,
and trains a network on them with `fullconv train --minutes MINUTES`.

`--latency` measures, on an image of 1024 x 1024 pixels, the time from `set_labels` to the new prediction of all of it.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from label_forest import Forest
from label_sets import GRID, Labelled, Task, camvid_truth, make_task, mean_iou
from scipy import ndimage

import fullconv
from fullconv.arrays import Float32, Int64, Mask, UInt8
from fullconv.files import write_text
from fullconv.images import read_image, write_image, write_label_map
from fullconv.label.live import Learner
from fullconv.labels import LabelSet, default_palette

STROKE, RADIUS = 40, 3
"""The longest stroke and the largest radius of the pen in pixels."""

Row = dict[str, str | int | float]


@dataclass(eq=False)
class Canvas:
    """What the person has painted into one image: 255 is no paint. `depth` is the distance to the region's border."""

    labelled: Labelled
    paint: UInt8 = field(init=False)
    depth: Float32 = field(init=False)

    def __post_init__(self) -> None:
        """Start without paint."""
        truth = self.labelled.truth
        self.paint = np.full(truth.shape, 255, np.uint8)
        self.depth = np.zeros(truth.shape, np.float32)
        for key in np.unique(truth[truth != 255]):
            inside = truth == key
            self.depth[inside] = ndimage.distance_transform_edt(np.pad(inside, 1))[1:-1, 1:-1][inside]

    def stroke(self, y: int, x: int, random: np.random.Generator) -> bool:
        """Paint a line inside of the region of a pixel, in the direction that is longest; False if nothing is new."""
        truth = self.labelled.truth
        key = truth[y, x]
        best: list[tuple[int, int]] = [(y, x)]
        for angle in random.permutation(8) * np.pi / 4:
            line = []
            for step in range(STROKE):
                row, column = round(y + step * np.sin(angle)), round(x + step * np.cos(angle))
                if not (0 <= row < truth.shape[0] and 0 <= column < truth.shape[1]) or truth[row, column] != key:
                    break
                line.append((row, column))
            best = max(best, line, key=len)
        radius = max(0, min(RADIUS, int(np.median([self.depth[at] for at in best])) - 1))
        drawn = np.zeros(truth.shape, bool)
        for row, column in best:
            drawn[max(0, row - radius) : row + radius + 1, max(0, column - radius) : column + radius + 1] = True
        drawn &= (truth == key) & (self.paint != key)
        self.paint[drawn] = key
        return bool(drawn.any())

    def samples(self) -> tuple[Int64, Int64, UInt8]:
        """Return rows, columns and keys of the painted pixels."""
        rows, columns = np.nonzero(self.paint != 255)
        return rows, columns, self.paint[rows, columns]


def label_until(
    task: Task, counts: Sequence[int], visit: int, cache: Path, seed: int = 0
) -> Iterator[tuple[int, Learner, list[Canvas], list[float]]]:
    """Paint as the live model proposes, and yield the state at each number of strokes, with the seconds of the fits."""
    random = np.random.default_rng(seed)
    learner = Learner(None, cache)
    colors = default_palette(len(task.classes))
    learner.set_classes([(key, name, colors[key]) for key, name in enumerate(task.classes)])
    canvases = {one.path: Canvas(one) for one in task.label}
    for path in canvases:
        learner.prepare(path)
    waiting, done, seconds, seen = list(counts), 0, list[float](), set[int]()
    while waiting:
        proposals = (
            (canvases[one.image], _places(learner, canvases[one.image], seen, visit))
            for one in learner.rank(list(canvases))
        )
        canvas, places = next(((canvas, places) for canvas, places in proposals if places), (None, []))
        if canvas is None:
            raise SystemExit(f"everything that the model proposes is painted after {done} strokes; give more images")
        for y, x in places:
            if done < waiting[0] and canvas.stroke(y, x, random):
                seen.add(int(canvas.labelled.truth[y, x]))
                done += 1
        learner.set_labels(canvas.labelled.path, *canvas.samples())
        started = time.perf_counter()
        learner.fit()
        seconds.append(time.perf_counter() - started)
        if done == waiting[0]:
            yield waiting.pop(0), learner, list(canvases.values()), seconds


def _places(learner: Learner, canvas: Canvas, seen: set[int], visit: int) -> list[tuple[int, int]]:
    """Return where the person paints in an image: a pixel of each new class, then the uncertain places."""
    truth = canvas.labelled.truth
    places: list[tuple[int, int]] = []
    for key in np.unique(truth[truth != 255]):
        deepest = np.where(truth == key, canvas.depth, 0)
        if int(key) not in seen and deepest.max() > 1:
            y, x = np.unravel_index(int(deepest.argmax()), truth.shape)
            places.append((int(y), int(x)))
    if places:
        return places
    predicted = learner.predict(canvas.labelled.path, range(truth.shape[0]), range(truth.shape[1]))
    for place in learner.uncertain(canvas.labelled.path):
        box = np.s_[place.y : place.y + place.height, place.x : place.x + place.width]
        known = (truth[box] != 255) & (canvas.paint[box] == 255)
        wrong = known & (predicted[box] != truth[box]) if predicted is not None else known
        if known.any():
            places.append(_centre(wrong if wrong.any() else known, truth[box], place.y, place.x))
        if len(places) == visit:
            break
    return places


def _centre(wanted: Mask, truth: UInt8, top: int, left: int) -> tuple[int, int]:
    """Return the pixel of the wanted ones that is deepest in its region."""
    depth = np.zeros(truth.shape)
    for key in np.unique(truth[wanted]):
        part = np.pad(wanted & (truth == key), 1)
        depth = np.maximum(depth, ndimage.distance_transform_edt(part)[1:-1, 1:-1])
    y, x = np.unravel_index(int(depth.argmax()), depth.shape)
    return top + int(y), left + int(x)


def score_live(learner: Learner, task: Task) -> float:
    """Return the mIoU of the live model on the held-out images."""
    predicted = []
    for one in task.score:
        height, width = one.truth.shape
        labels = learner.predict(one.path, range(height), range(width))
        assert labels is not None
        predicted.append(labels[::GRID, ::GRID])
    return mean_iou([one.truth[::GRID, ::GRID] for one in task.score], predicted, len(task.classes))


def score_trained(task: Task, canvases: Sequence[Canvas], minutes: float, folder: Path) -> tuple[float, float]:
    """Return the mIoU of a network that is trained on the strokes, and the seconds of the training."""
    (folder / "data" / "images").mkdir(parents=True)
    (folder / "data" / "masks").mkdir()
    for canvas in canvases:
        path = canvas.labelled.path
        write_image(folder / "data" / "images" / f"{path.stem}.png", read_image(path).pixels)
        labels = LabelSet.named(task.classes)
        write_label_map(folder / "data" / "masks" / f"{path.stem}.png", canvas.paint, labels)
    write_text(folder / "data" / "dataset.yaml", json.dumps({"names": list(task.classes)}) + "\n")
    command = [sys.executable, "-m", "fullconv", "train", str(folder / "data"), "--out", str(folder / "run")]
    started = time.perf_counter()
    subprocess.run([*command, "--minutes", str(minutes)], check=True, stdout=subprocess.DEVNULL)
    seconds = time.perf_counter() - started
    model = fullconv.load(folder / "run")
    predicted = [model.predict(one.path).label_map[::GRID, ::GRID] for one in task.score]
    truths = [one.truth[::GRID, ::GRID] for one in task.score]
    return mean_iou(truths, predicted, len(task.classes)), seconds


def latency(folder: Path, cache: Path) -> Iterator[Row]:
    """Yield, for 10, 100 and 1000 strokes, the time from a stroke to the prediction of a megapixel, and its parts.

    The image is a mosaic of photographs. `busy` is the processor time, which other work on the machine does not raise.
    """
    random = np.random.default_rng(0)
    files = sorted((folder / "train").glob("*.png"))[::40][:9]
    tiles = [read_image(path).pixels for path in files]
    truths = [camvid_truth(folder / "trainannot" / path.name) for path in files]
    image, truth = (
        np.concatenate([np.concatenate(parts[row : row + 3], 1) for row in (0, 3, 6)])[:1024, :1024]
        for parts in (tiles, truths)
    )
    path = cache.parent / "mosaic.png"
    write_image(path, image)
    canvas = Canvas(Labelled(path, truth))
    learner = Learner(None, cache)
    learner.set_classes([(key, str(key), color) for key, color in enumerate(default_palette(11))])
    learner.prepare(path)
    known, strokes = np.argwhere(truth != 255), 0
    for count in (10, 100, 1000):
        times = []
        while strokes < count:
            y, x = known[random.integers(len(known))]
            strokes += canvas.stroke(int(y), int(x), random)
            if count - strokes < 9:
                samples = canvas.samples()
                wall, busy = time.perf_counter(), time.process_time()
                learner.set_labels(path, *samples)
                learner.fit()
                fitted = time.perf_counter()
                learner.predict(path, range(1024), range(1024))
                times.append((time.perf_counter() - wall, fitted - wall, time.process_time() - busy))
        seconds, fit, used = (float(value) for value in np.median(times, 0))
        row: Row = {"strokes": count, "seconds": seconds, "fit": fit, "busy": used}
        show(row)
        yield row


def show(row: Row) -> None:
    """Print a row."""
    print(*(f"{key} {value:.3f}" if isinstance(value, float) else f"{key} {value}" for key, value in row.items()))
    sys.stdout.flush()


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared"))
    parser.add_argument("--sets", default="camvid,membranes,bacteria")
    parser.add_argument("--strokes", default="10,30,100,300")
    parser.add_argument("--images", type=int, default=10)
    parser.add_argument("--visit", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--no-forest", action="store_true")
    parser.add_argument("--train", type=float, default=0)
    parser.add_argument("--latency", action="store_true")
    parser.add_argument("--cache", type=Path)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as folder:
        cache = args.cache or Path(folder) / "cache"
        if args.latency:
            rows += latency(args.data / "camvid", cache)
        for name in () if args.latency else args.sets.split(","):
            task = make_task(name, args.data, Path(folder) / "sets", args.images)
            forest = None if args.no_forest else Forest(task)
            counts = [int(n) for n in args.strokes.split(",")]
            for count, learner, canvases, seconds in label_until(task, counts, args.visit, cache, args.seed):
                fit = float(np.median(seconds[-5:]))
                row: Row = {"data": name, "strokes": count, "live": score_live(learner, task), "fit": fit}
                if forest is not None:
                    row["forest"], row["forest_fit"] = forest.score(
                        [(canvas.labelled.path, canvas.samples()) for canvas in canvases]
                    )
                if args.train:
                    run = Path(folder) / f"{name}-{count}"
                    row["trained"], row["training"] = score_trained(task, canvases, args.train, run)
                rows.append(row)
                show(row)
    if args.json:
        write_text(args.json, json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
