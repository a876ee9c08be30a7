"""Measure `fullconv serve`: its throughput next to that of `predict` alone, and what it does when it has too much.

    pip install -e ".[serve]"
    python benchmarks/serving.py [--model street] [--images DIR] [--count 40] [--rounds 5] [--clients 4]
                                 [--workers 1,2,3] [--json FILE]

Prints Markdown. `predict` alone is `predict_files` in a process that has loaded the model, writing label maps; serve is
the command in another process, and a third process sends the same files over loopback and reads the label maps. Both
take turns in each round, so that a busy machine slows both, and the ratio is taken within the round.

Overload: twice as many clients as the server holds send an image each, again and again. The last lines have the time
until 429, and whether every accepted request got its label map.

Without --images, 40 pictures of 480x360 are drawn.
"""

from __future__ import annotations

import argparse
import http.client
import json
import re
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context
from pathlib import Path
from statistics import median, quantiles
from typing import Any

import numpy as np
from tiling import draw_picture

from fullconv.files import write_text
from fullconv.images import IMAGE_SUFFIXES, write_image
from fullconv.predict.predict_files import PredictOptions, predict_files
from fullconv.runtime.load import load_runner
from fullconv.runtime.models import model_path
from fullconv.runtime.runner import Runner

_LOADED: dict[str, Runner] = {}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--model", default="street")
    parser.add_argument("--images", type=Path)
    parser.add_argument("--count", type=int, default=40)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--clients", type=int, default=4)
    parser.add_argument("--workers", default="1,2,3")
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        images = find_images(given.images, Path(folder), given.count)
        results = [
            {"workers": int(workers), **compare(given.model, images, int(workers), given.rounds, given.clients)}
            for workers in given.workers.split(",")
        ]
        overload = measure_overload(given.model, images[0])
    show(results, overload)
    if given.json is not None:
        write_text(given.json, json.dumps({"throughput": results, "overload": overload}, indent=1))


def find_images(folder: Path | None, temporary: Path, count: int) -> list[Path]:
    """Return the images to predict."""
    if folder is not None:
        return sorted(path for path in folder.iterdir() if path.suffix.lower() in IMAGE_SUFFIXES)[:count]
    paths = [temporary / f"{number:03}.jpg" for number in range(count)]
    for number, path in enumerate(paths):
        write_image(path, np.roll(draw_picture(360, 480), 7 * number, 1))
    return paths


@contextmanager
def serve(model: str, *options: str) -> Iterator[tuple[str, int]]:
    """Run the command; yield host and port once it is ready."""
    command = [sys.executable, "-m", "fullconv", "serve", model, "--port", "0", *options]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    try:
        assert process.stdout is not None
        match = re.fullmatch(r"http://(.*):(\d+)", process.stdout.readline().strip())
        assert match is not None
        host, port = match[1], int(match[2])
        while ask(host, port, "GET", "/readyz")[0] != 200:
            time.sleep(0.05)
        yield host, port
    finally:
        process.terminate()
        process.wait()


def ask(host: str, port: int, method: str, path: str, body: bytes | None = None) -> tuple[int, bytes]:
    """Send one request over a new connection."""
    connection = http.client.HTTPConnection(host, port, timeout=120)
    try:
        connection.request(method, path, body)
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def predict_alone(model: str, paths: list[str]) -> float:
    """Return the seconds that `predict` takes; it runs in a process that keeps the model."""
    if model not in _LOADED:
        _LOADED[model] = load_runner(model_path(model))
    with tempfile.TemporaryDirectory() as out:
        began = time.perf_counter()
        report = predict_files(_LOADED[model], map(Path, paths), Path(out), PredictOptions(["labels"]))
        seconds = time.perf_counter() - began
    assert not report.failed
    return seconds


def send_all(host: str, port: int, paths: list[str], clients: int) -> float:
    """Return the seconds until all images have their label maps; each client keeps its connection."""
    local = threading.local()

    def send(path: str) -> None:
        if not hasattr(local, "connection"):
            local.connection = http.client.HTTPConnection(host, port, timeout=120)
        local.connection.request("POST", "/predict?as=mask", Path(path).read_bytes())
        answer = local.connection.getresponse()
        content = answer.read()
        assert answer.status == 200, content

    began = time.perf_counter()
    with ThreadPoolExecutor(clients) as pool:
        list(pool.map(send, paths))
    return time.perf_counter() - began


def compare(model: str, images: list[Path], workers: int, rounds: int, clients: int) -> dict[str, Any]:
    """Return images a second of both, and the ratio, as medians of the rounds."""
    names = [str(path) for path in images]
    with (
        ProcessPoolExecutor(1, get_context("spawn")) as alone,
        ProcessPoolExecutor(1, get_context("spawn")) as load,
        serve(model, "--workers", str(workers)) as (host, port),
    ):
        alone.submit(predict_alone, model, names[:3]).result()
        load.submit(send_all, host, port, names[:3], clients).result()
        pairs = []
        for number in range(rounds):
            pair = {}
            for turn in ("alone", "served") if number % 2 else ("served", "alone"):
                if turn == "alone":
                    pair[turn] = alone.submit(predict_alone, model, names).result()
                else:
                    pair[turn] = load.submit(send_all, host, port, names, clients).result()
            pairs.append(pair)
    ratios = [pair["alone"] / pair["served"] for pair in pairs]
    return {
        "alone": len(names) / median(pair["alone"] for pair in pairs),
        "served": len(names) / median(pair["served"] for pair in pairs),
        "ratio": median(ratios),
        "least": min(ratios),
        "most": max(ratios),
    }


def measure_overload(model: str, image: Path, clients: int = 12, seconds: float = 15.0) -> dict[str, Any]:
    """Return the times of refusals, and whether accepted requests were answered, with a queue of 4.

    Twice as many clients as the server holds keep it full, and wait for half a second after a refusal. One more client
    measures.
    """
    body = image.read_bytes()
    accepted: list[float] = []
    refused: list[float] = []
    other: list[int] = []
    with serve(model, "--workers", "2", "--queue", "4") as (host, port):
        _, expected = ask(host, port, "POST", "/predict?as=mask", body)
        end = time.perf_counter() + seconds

        def insist(pause: float, times: list[float]) -> None:
            while time.perf_counter() < end:
                began = time.perf_counter()
                status, content = ask(host, port, "POST", "/predict?as=mask", body)
                if status == 200 and content == expected:
                    accepted.append(time.perf_counter() - began)
                elif status == 429:
                    times.append(time.perf_counter() - began)
                    time.sleep(pause)
                else:
                    other.append(status)

        threads = [threading.Thread(target=insist, args=(0.5, [])) for _ in range(clients)]
        for thread in threads:
            thread.start()
        insist(0.05, refused)
        for thread in threads:
            thread.join()
    cuts = quantiles(refused, n=100)
    times = {"median": 1000 * cuts[49], "p95": 1000 * cuts[94], "p99": 1000 * cuts[98]}
    return {"clients": clients, "accepted": len(accepted), "refused": len(refused), "other": other, "ms": times}


def show(results: list[dict[str, Any]], overload: dict[str, Any]) -> None:
    """Print both tables."""
    print("| workers | predict alone, images/s | serve, images/s | ratio | smallest and largest |")
    print("|---|---|---|---|---|")
    for row in results:
        span = f"{row['least']:.2f} to {row['most']:.2f}"
        print(f"| {row['workers']} | {row['alone']:.2f} | {row['served']:.2f} | {row['ratio']:.2f} | {span} |")
    ms = overload["ms"]
    print(f"\n{overload['clients']} clients, 2 workers, queue 4: {overload['accepted']} requests were accepted and")
    print(f"answered, {overload['refused']} refused with 429; other answers: {overload['other'] or 'none'}.")
    print(f"Time until 429: median {ms['median']:.1f} ms, 95 % within {ms['p95']:.1f}, 99 % within {ms['p99']:.1f} ms.")


if __name__ == "__main__":
    main()
