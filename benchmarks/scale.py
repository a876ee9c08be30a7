"""Measure what limits prediction on many cores; compute time and cost of a million photos and of one large image.

    python benchmarks/scale.py [--rounds 5] [--workers 1,8,64] [--sleep 0.5] [--skip-simulation] [--json FILE]
                               [--photo FILE] [--bandwidth 1000] [--price 0.05] [--model street]

Three tables in Markdown:

1. Stages: the seconds of reading, computing and writing, on one core, for a photo and for a tile of a GeoTIFF. They are
   processor seconds of one thread, so other programs change them little; the wall-clock time is in brackets.
2. Scheduling: Ray's workers sleep in place of computing, so this machine can run 64 of them. Busy is the share of the
   workers' time in which they sleep, between the moment when all have begun and the moment when the first has no more
   work. The rest is scheduling. A second run without any sleep gives the images in a second that the driver can handle.
3. Prediction: throughput, hours and costs for 1 to 64 workers. A worker needs the seconds of the
   stages; together they get at most what the storage reads (--bandwidth, MB/s) and what the driver handles.

The photo is a camera-like picture of blobs and noise, 1920 x 1080 as JPEG, unless --photo names one.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from PIL import Image

from fullconv.arrays import UInt8
from fullconv.cluster.engine import choose_rows, run_jobs
from fullconv.cluster.join import join_blocks
from fullconv.cluster.session import RayOptions, ray_session
from fullconv.cluster.worker import Job, JobResult, WorkerSpec
from fullconv.geometry.blocks import split_grid
from fullconv.images import open_image, read_image
from fullconv.predict.large import default_tile
from fullconv.predict.result import Result, choose_targets
from fullconv.predict.resumable import ResumableLabelMap
from fullconv.runtime.load import load_runner
from fullconv.runtime.models import model_path
from fullconv.runtime.runner import Runner
from fullconv.runtime.tiles import TiledRunner

WORKERS = (1, 2, 4, 8, 16, 32, 64)
PHOTOS = 1_000_000
SIDE = 200_000
SHARES = 4


def draw_picture(height: int, width: int, seed: int = 0) -> UInt8:
    """Return smooth blobs with sensor noise, H x W x 3 uint8, which compress about as photos do."""
    chance = np.random.default_rng(seed)
    small = Image.fromarray(chance.integers(0, 256, (max(2, height // 40), max(2, width // 40), 3), np.uint8))
    smooth = np.asarray(small.resize((width, height), Image.Resampling.BICUBIC), np.int16)
    return (smooth + chance.normal(0, 3, smooth.shape)).clip(0, 255).astype(np.uint8)


class Stopwatch:
    """Processor and wall-clock seconds of named stages, by rounds."""

    def __init__(self) -> None:
        self.seconds: dict[str, list[tuple[float, float]]] = {}

    @contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        """Measure a stage in a with block."""
        wall, processor = time.perf_counter(), time.process_time()
        yield
        spent = time.process_time() - processor, time.perf_counter() - wall
        self.seconds.setdefault(stage, []).append(spent)

    def medians(self) -> dict[str, tuple[float, float]]:
        """Return the medians of both by stage."""
        return {
            stage: (median(pair[0] for pair in pairs), median(pair[1] for pair in pairs))
            for stage, pairs in self.seconds.items()
        }


def measure_photo(runner: Runner, photo: Path, out: Path, rounds: int) -> dict[str, Any]:
    """Read, label and write a photo as `fullconv predict --save labels` does."""
    watch = Stopwatch()
    for number in range(rounds + 1):
        if number == 1:
            watch = Stopwatch()  # the first round warms up
        with watch("read"):
            picture = read_image(photo, runner.info.input)
        with watch("compute"):
            labels = runner.label_maps(picture.pixels[None])[0]
        result = Result(picture.pixels, labels, "photo", photo, runner)
        with watch("write labels"):
            result.write(choose_targets(out, Path("photo"), {"labels"}, None))
        with watch("write overlay"):
            result.write(choose_targets(out, Path("photo"), {"overlay"}, None))
    height, width = labels.shape
    return {"pixels": height * width, "bytes": photo.stat().st_size, "seconds": watch.medians()}


def write_geotiff(path: Path, side: int) -> None:
    """Write a tiled GeoTIFF with deflate, as COGs are."""
    import rasterio
    from rasterio.transform import Affine

    profile: dict[str, Any] = {"driver": "GTiff", "count": 3, "dtype": "uint8", "height": side, "width": side}
    profile |= {"tiled": True, "blockxsize": 512, "blockysize": 512, "compress": "deflate", "crs": "EPSG:32633"}
    with rasterio.open(path, "w", transform=Affine(0.1, 0, 500000, 0, -0.1, 4649000), **profile) as target:
        target.write(np.moveaxis(draw_picture(side, side), -1, 0))


def measure_tile(runner: Runner, folder: Path, rounds: int) -> dict[str, Any]:
    """Read, label and store tiles of a GeoTIFF of 2 x 2 tiles, write it as shares do, and join it."""
    side = default_tile(runner)
    path = folder / "large.tif"
    size = 2 * 1024 + (side - 1024)
    write_geotiff(path, size)
    tiled, watch = TiledRunner(runner, side), Stopwatch()
    from fullconv.cluster.blocks import label_block
    from fullconv.cluster.records import Share
    from fullconv.images.banded_writer import BAND, write_bands

    with open_image(path, runner.info.input) as reader:
        tiles = tiled.tiles(reader.size)
        for number in range(rounds + 1):
            rows, columns = tiles[number % len(tiles)]
            if number == 1:
                watch = Stopwatch()
            with watch("read"):
                image, _ = reader.read(rows.read, columns.read)
            with watch("compute"):
                runner.label_maps(image[None])
        target = folder / "stored.tif"
        with ResumableLabelMap(target, reader.size, {}, [0.0]) as part:
            for rows, columns in tiles:
                image, _ = reader.read(rows.read, columns.read)
                labels = runner.label_maps(image[None])[0][rows.inner, columns.inner]
                with watch("store"):
                    part.write((rows, columns), labels)
            with watch("write labels"):
                write_bands(target, part.size, part.bands(BAND), runner.info.labels, reader.geo)
        part.remove()
    for number in (1, 2):
        label_block(tiled, path, folder / "out", Share(number, 2))
    with watch("join to a COG"):
        join_blocks(folder / "out", cog=True)
    seconds = watch.medians()
    for stage in ("write labels", "join to a COG"):
        seconds[stage] = (seconds[stage][0] / len(tiles), seconds[stage][1] / len(tiles))
    kept = size * size / len(tiles)
    return {"pixels": kept, "bytes": path.stat().st_size / len(tiles), "side": side, "seconds": seconds}


class Sleeper:
    """A worker that sleeps in place of reading, computing and writing."""

    def __init__(self, spec: WorkerSpec, threads: int) -> None:
        self.seconds = float(spec.code or 0)

    def __call__(self, batch: dict[str, Any]) -> dict[str, list[str]]:
        """Sleep once for each job; `rows` of the result hold start and end."""
        results = []
        for row in batch["job"]:
            job, start = Job(**json.loads(str(row))), time.time()
            time.sleep(self.seconds)
            times = [[repr(start), repr(time.time())]]
            result = JobResult(job.index, job.share, rows=times, worker=str(os.getpid()))
            results.append(json.dumps(result.__dict__))
        return {"result": results}


def simulate(workers: int, sleep: float, tasks: int) -> dict[str, float]:
    """Return the share of time in which `workers` sleep, and the images in a second without sleep."""
    spec = WorkerSpec(Path(), Path(), code=str(sleep))
    rows = choose_rows(10**6, workers)
    jobs = [Job(index, f"/photos/{index:07}.jpg", f"{index:07}") for index in range(workers * rows * tasks)]
    started = time.time()
    results = list(run_jobs(spec, jobs, workers, 1, rows, Sleeper))
    whole = time.time() - started
    spans: dict[str, list[tuple[float, float]]] = {}
    for result in results:
        spans.setdefault(result.worker, []).append((float(result.rows[0][0]), float(result.rows[0][1])))
    begin = max(min(span)[0] for span in spans.values())
    end = min(max(end for _, end in span) for span in spans.values())
    inside = sum(max(0.0, min(stop, end) - max(start, begin)) for span in spans.values() for start, stop in span)
    busy = inside / (len(spans) * (end - begin)) if end > begin else float("nan")
    return {"workers": len(spans), "jobs": len(jobs), "busy": busy, "window": end - begin, "whole": whole}


def show_table(head: list[str], rows: list[list[str]]) -> None:
    """Print a Markdown table."""
    print(f"| {' | '.join(head)} |\n|---|{'---:|' * (len(head) - 1)}")
    for row in rows:
        print(f"| {' | '.join(row)} |")
    print(flush=True)


def show_stages(measured: dict[str, dict[str, Any]]) -> None:
    """Print the first table."""
    stages = list(dict.fromkeys(stage for one in measured.values() for stage in one["seconds"]))
    rows = []
    for name, one in measured.items():
        cells = [one["seconds"].get(stage) for stage in stages]
        rows.append([name, *("" if cell is None else f"{cell[0]:.3f} ({cell[1]:.3f})" for cell in cells)])
    show_table(["", *stages], rows)


def total(one: dict[str, Any]) -> float:
    """Return the processor seconds of a photo or a tile, with labels and without overlay and COG."""
    stages = [stage for stage in ("read", "compute", "store", "write labels") if stage in one["seconds"]]
    return float(sum(one["seconds"][stage][0] for stage in stages))


def show_photos(photo: dict[str, Any], rate: float, options: argparse.Namespace) -> None:
    """Print throughput and cost of a million photos; `rate` are the images in a second of the driver."""
    rows = []
    for workers in WORKERS:
        limits = {
            "compute": workers / total(photo),
            "storage": options.bandwidth * 1e6 / photo["bytes"],
            "driver": rate,
        }
        limit = min(limits, key=lambda name: limits[name])
        hours = PHOTOS / limits[limit] / 3600
        cost = hours * (workers + 1) * options.price
        rows.append([str(workers), f"{limits[limit]:.1f}", limit, f"{hours:.1f}", f"{cost:.0f}"])
    show_table(["workers", "photos/s", "limit", "hours for a million", f"cost at {options.price} a core-hour"], rows)


def show_image(tile: dict[str, Any], options: argparse.Namespace) -> None:
    """Print time and cost of one image of 200,000 x 200,000 pixels, with the imbalance of the blocks."""
    rows, side = [], -(-(SIDE - (tile["side"] - 1024)) // 1024)
    for workers in WORKERS:
        shares = split_grid(side, side, SHARES * workers)
        loads = [0] * workers
        for share in sorted((len(down) * len(across) for down, across in shares), reverse=True):
            loads[loads.index(min(loads))] += share
        balance = side * side / workers / max(loads)
        read = tile["bytes"] / tile["pixels"] * tile["side"] ** 2  # with the halo
        needed = side * side * read / (max(loads) * total(tile)) / 1e6
        hours = max(loads) * total(tile) / 3600 * max(1.0, needed / options.bandwidth)
        limit = "storage" if needed > options.bandwidth else "compute"
        join = SIDE * SIDE / tile["pixels"] * tile["seconds"]["join to a COG"][0] / 3600
        cost = hours * (workers + 1) * options.price
        rows.append([str(workers), f"{hours:.2f}", limit, f"{100 * balance:.1f} %", f"{join:.2f}", f"{cost:.2f}"])
    heads = ["workers", "hours", "limit", "balance of the blocks", "hours of the COG, one core"]
    show_table([*heads, f"cost at {options.price} a core-hour"], rows)


def parse_arguments() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="street")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--photo", type=Path)
    parser.add_argument("--workers", default="1,8,64", help="numbers of sleeping workers")
    parser.add_argument("--sleep", type=float, default=0.5, help="seconds of sleep for an image")
    parser.add_argument("--tasks", type=int, default=8, help="tasks of 8 images for each sleeping worker")
    parser.add_argument("--skip-simulation", action="store_true")
    parser.add_argument("--rate", type=float, default=1000, help="images/s of the driver without a simulation")
    parser.add_argument("--bandwidth", type=float, default=1000, help="MB/s that the storage reads for all workers")
    parser.add_argument("--price", type=float, default=0.05, help="price of a core for an hour, in any currency")
    parser.add_argument("--json", type=Path, help="write every measurement to this file")
    return parser.parse_args()


def run_simulations(options: argparse.Namespace) -> tuple[list[dict[str, float]], float]:
    """Print the second table, and return its values and the driver's images in a second."""
    counts = [int(text) for text in options.workers.split(",")]
    results = []
    os.environ["RAY_worker_maximum_startup_concurrency"] = str(max(counts))  # noqa: SIM112 - Ray's name
    with ray_session(RayOptions(workers=max(counts))):
        for workers in counts:
            results.append(simulate(workers, options.sleep, options.tasks))
        idle = simulate(counts[-1] if counts[-1] < 8 else 8, 0.0, 40)
    rate = idle["jobs"] / idle["window"]
    heads = ["workers", "images", "busy", "seconds of the window", "with start and end of the workers"]
    rows = []
    for one in results:
        cells = [f"{one['workers']:.0f}", f"{one['jobs']:.0f}", f"{100 * one['busy']:.1f} %", f"{one['window']:.0f}"]
        rows.append([*cells, f"{one['whole']:.0f}"])
    show_table(heads, rows)
    print(f"Without sleep, 8 workers and the driver handle {rate:.0f} images in a second.\n", flush=True)
    return results, rate


def main() -> None:
    """Measure, and print the tables."""
    options = parse_arguments()
    load = ", ".join(f"{number:.1f}" for number in os.getloadavg())
    about = f"fullconv {version('fullconv')}, onnxruntime {version('onnxruntime')}, Python {platform.python_version()}"
    print(f"{about}, {os.cpu_count()} cores, load {load} (1, 5 and 15 minutes), model {options.model}\n", flush=True)
    runner = load_runner(model_path(options.model), spin=False, threads=1)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        photo = options.photo or folder / "photo.jpg"
        if options.photo is None:
            Image.fromarray(draw_picture(1080, 1920)).save(photo, quality=90)
        measured = {"photo": measure_photo(runner, photo, folder, options.rounds)}
        peak: Callable[[], float] = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024  # noqa: E731
        measured["photo"]["MiB"] = peak()
        measured["tile"] = measure_tile(runner, folder, options.rounds)
        measured["tile"]["MiB"] = peak()
    show_stages(measured)
    for name, one in measured.items():
        size = f"{one['pixels'] / 1e6:.2f} Mpx, {one['bytes'] / 1e6:.2f} MB"
        print(f"{name}: {size}, {total(one):.3f} s on one core, peak {one['MiB']:.0f} MiB")
    print(flush=True)
    results: list[dict[str, float]] = []
    rate = options.rate
    if not options.skip_simulation:
        results, rate = run_simulations(options)
    show_photos(measured["photo"], rate, options)
    show_image(measured["tile"], options)
    if options.json:
        values = {"environment": about, "load": load, "stages": measured, "simulation": results, "rate": rate}
        options.json.write_text(json.dumps(values, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main()
