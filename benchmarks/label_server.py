"""Measure the server of `fullconv label` without a browser: latency of a stroke, memory, large images, kills.

    python benchmarks/label_server.py latency [--strokes 100]
    python benchmarks/label_server.py memory [--images 500] [--photo 1000]
    python benchmarks/label_server.py large [--side 10000]
    python benchmarks/label_server.py kills [--kills 100]

`latency` is the time from sending a stroke to having the new prediction of all tiles of a photo of 1024 x 1024 pixels:
answer, event, four tiles. `memory` opens photos of `photo` x `photo` pixels one after the other, as a person does,
paints on each, and reads the resident memory of the server. `large` writes tiled GeoTIFFs of `side` x `side` pixels
(RGB, deflate and JPEG; 16 bits, LZW) without overviews, and measures the time from a cold start to all tiles of the
first view. `kills` ends a real server with SIGKILL while two tabs paint, and compares what it holds after that with all
its answers.

Photos are drawn: smooth areas with noise. Needs the extras serve and geo.
"""

from __future__ import annotations

import argparse
import http.client
import json
import logging
import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
import time
import warnings
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from fullconv.arrays import UInt8

HEADERS = {"Content-Type": "application/json"}


class Session:
    """A server in its own process, with a connection that stays open and a thread that reads its events."""

    def __init__(self, photos: Path) -> None:
        command = [sys.executable, "-m", "fullconv", "label", str(photos), "--no-browser"]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        address, _, token = self.process.stdout.readline().strip().partition("/#token=")
        self.host = address.removeprefix("http://")
        self.headers = {**HEADERS, "Authorization": f"Bearer {token}"}
        self.connection = http.client.HTTPConnection(self.host, timeout=300)
        self.models: queue.Queue[int] = queue.Queue()
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        connection = http.client.HTTPConnection(self.host, timeout=300)
        connection.request("GET", "/api/events", headers=self.headers)
        response, event = connection.getresponse(), ""
        while line := response.readline().decode():
            if line.startswith("event: "):
                event = line[7:].strip()
            elif line.startswith("data: ") and event == "model":
                self.models.put(json.loads(line[6:])["version"])

    def call(self, method: str, path: str, body: Any = None) -> tuple[int, bytes, str]:
        """Return status, content and the header X-Version."""
        self.connection.request(method, f"/api{path}", None if body is None else json.dumps(body), self.headers)
        response = self.connection.getresponse()
        return response.status, response.read(), response.getheader("x-version", "")

    def ids(self) -> dict[str, str]:
        """Return the ids of all images by their names."""
        return {one["name"]: one["id"] for one in json.loads(self.call("GET", "/images")[1])["images"]}

    def paint(self, id: str, key: int, points: list[list[float]], radius: float = 8) -> None:
        """Paint a stroke of the brush."""
        body = {"client": "bench", "tool": "brush", "class": key, "points": points, "radius": radius}
        status, content, _ = self.call("POST", f"/images/{id}/strokes", body)
        assert status == 200, content

    def memory(self) -> float:
        """Return the resident memory of the server in MiB."""
        text = Path(f"/proc/{self.process.pid}/status").read_text("ascii")
        return int(text.split("VmRSS:")[1].split()[0]) / 1024

    def peak(self) -> float:
        """Return the largest resident memory so far in MiB."""
        text = Path(f"/proc/{self.process.pid}/status").read_text("ascii")
        return int(text.split("VmHWM:")[1].split()[0]) / 1024

    def cpu(self) -> float:
        """Return the seconds of all cores that the server has used; other work on the machine does not change them."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text("ascii").rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def end(self) -> None:
        """Stop the server as Ctrl-C does."""
        self.process.send_signal(signal.SIGTERM)
        assert self.process.wait(120) == 0
        assert self.process.stdout is not None
        self.process.stdout.close()


def draw(size: tuple[int, int], seed: int) -> UInt8:
    """Return a photo of smooth areas with noise."""
    rng = np.random.default_rng(seed)
    small = rng.integers(20, 230, (size[0] // 64 + 1, size[1] // 64 + 1, 3), dtype=np.uint8)
    smooth = np.asarray(Image.fromarray(small).resize((size[1], size[0]), Image.Resampling.BICUBIC)).astype(np.int16)
    noisy: UInt8 = (smooth + rng.integers(-12, 13, smooth.shape)).clip(0, 255).astype(np.uint8)
    return noisy


def describe(seconds: list[float]) -> str:
    """Return median, 95th percentile and maximum in milliseconds."""
    values = np.percentile(np.array(seconds) * 1000, [50, 95, 100])
    return "median {:.0f} ms, 95 % {:.0f} ms, maximum {:.0f} ms".format(*values)


def measure_latency(folder: Path, strokes: int) -> None:
    """Paint strokes on a photo of 1 megapixel, and wait for the new prediction each time."""
    (folder / "photos").mkdir()
    Image.fromarray(draw((1024, 1024), 0)).save(folder / "photos" / "a.png")
    session, rng = Session(folder / "photos"), np.random.default_rng(1)
    id = session.ids()["a.png"]
    session.call("GET", f"/images/{id}/photo/0/0/0")
    time.sleep(8)  # a person looks at the photo first; its taps are computed meanwhile
    tabs = [http.client.HTTPConnection(session.host, timeout=300) for _ in range(4)]  # as a browser does
    pool = ThreadPoolExecutor(4)

    def show(number: int, version: int) -> None:
        tabs[number].request(
            "GET", f"/api/images/{id}/prediction/0/{number % 2}/{number // 2}", headers=session.headers
        )
        response = tabs[number].getresponse()
        assert len(response.read()) > 0
        assert int(response.getheader("x-version", "0")) >= version

    cpu = session.cpu()
    total: list[float] = []
    answered: list[float] = []
    fitted: list[float] = []
    for number in range(strokes):
        points = rng.uniform(100, 900, (1, 2)) + np.cumsum(rng.normal(0, 6, (40, 2)), 0)
        while not session.models.empty():
            session.models.get()
        began = time.perf_counter()
        session.paint(id, number % 2, points.tolist())
        answered.append(time.perf_counter() - began)
        version = session.models.get(timeout=300)
        fitted.append(time.perf_counter() - began)
        if version:
            list(pool.map(lambda number: show(number, version), range(4)))  # noqa: B023
            total.append(time.perf_counter() - began)
        time.sleep(0.3)
    print(f"strokes: {strokes}; to the answer: {describe(answered)}")
    print(f"CPU of the server: {1000 * (session.cpu() - cpu) / strokes:.0f} ms for each stroke")
    print(f"to the event: {describe(fitted)}")
    print(f"to the new prediction of 1 megapixel: {describe(total)}")
    session.end()


def measure_memory(folder: Path, images: int, side: int) -> None:
    """Open photos one after the other, paint on each, and print the memory."""
    (folder / "photos").mkdir()
    for number in range(images):
        Image.fromarray(draw((side, side), number)).save(folder / "photos" / f"{number:04}.jpg", quality=90)
    session = Session(folder / "photos")
    began = session.memory()
    for number, id in enumerate(session.ids().values()):
        for kind in ("photo", "labels", "prediction"):
            for tile in [f"0/{column}/{row}" for column in range(-(-side // 512)) for row in range(-(-side // 512))]:
                assert session.call("GET", f"/images/{id}/{kind}/{tile}")[0] in (200, 204)
        session.paint(id, number % 2, [[side / 9, side / 9 + number % (side / 2)], [side * 0.7, side * 0.8]], 12)
        if number + 1 in (1, 10, 50, 100, 200, 300, 400, images):
            print(
                f"{number + 1} images: {session.memory():.0f} MiB (at the start {began:.0f}, peak {session.peak():.0f})"
            )
    session.end()


def measure_large(folder: Path, side: int) -> None:
    """Open large images without overviews from a cold start."""
    import rasterio

    logging.getLogger("rasterio").setLevel(logging.ERROR)
    warnings.simplefilter("ignore", rasterio.errors.NotGeoreferencedWarning)
    kinds: dict[str, tuple[str, int, str, dict[str, Any]]] = {
        "RGB, deflate": ("rgb.tif", 3, "uint8", {"compress": "deflate", "photometric": "rgb"}),
        "RGB, JPEG": ("jpeg.tif", 3, "uint8", {"compress": "jpeg", "photometric": "ycbcr", "interleave": "pixel"}),
        "16 bits, LZW": ("deep.tif", 1, "uint16", {"compress": "lzw", "predictor": 2}),
    }
    level = next(level for level in range(20) if side >> level <= 1500)
    count = -(-side // (512 << level))
    for name, (file, bands, dtype, options) in kinds.items():
        photos = folder / file.partition(".")[0]
        photos.mkdir()
        shape: dict[str, Any] = {"height": side, "width": side, "count": bands, "dtype": dtype}
        place: dict[str, Any] = {"tiled": True, "blockxsize": 256, "blockysize": 256, "crs": "EPSG:3857"}
        place["transform"] = rasterio.Affine(1, 0, 9, 0, -1, 9)
        part = draw((side // 10, side // 10), 3)
        with rasterio.open(photos / file, "w", driver="GTiff", **shape, **place, **options) as target:
            for band in range(bands):
                tiled = np.tile(part[..., band], (10, 10))
                target.write(tiled if dtype == "uint8" else tiled.astype(np.uint16) * 13, band + 1)
        began = time.perf_counter()
        session = Session(photos)
        started = time.perf_counter() - began
        id = session.ids()[file]
        times, used = [], []
        for _ in range(2):
            began, cpu = time.perf_counter(), session.cpu()
            for row in range(count):
                for column in range(count):
                    assert session.call("GET", f"/images/{id}/photo/{level}/{column}/{row}")[0] == 200
                    assert session.call("GET", f"/images/{id}/labels/{level}/{column}/{row}")[0] == 200
            times.append(time.perf_counter() - began)
            used.append(session.cpu() - cpu)
        began = time.perf_counter()
        session.paint(id, 1, [[side / 2, side / 2], [side / 2 + 900, side / 2 + 500]], 40)
        stroke = time.perf_counter() - began
        began = time.perf_counter()
        assert session.call("GET", f"/images/{id}/photo/0/{side // 1024}/{side // 1024}")[0] == 200
        detail = time.perf_counter() - began
        first, again = (f"{wall:.2f} s, {cpu:.2f} s of CPU" for wall, cpu in zip(times, used, strict=True))
        print(f"{name}, {side} x {side}: start {started:.1f} s; first view of {count * count} tiles: {first}")
        print(
            f"  again: {again}; tile of full size {detail:.2f} s; stroke {stroke:.2f} s; peak {session.peak():.0f} MiB"
        )
        session.end()


def measure_kills(folder: Path, kills: int) -> None:
    """Kill a server again and again, and say how many answers it had given."""
    sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))
    make_photos = import_module("label_folder").make_photos
    answers = import_module("label_kills").kill_sessions(make_photos(folder / "photos"), kills, seed=0)
    print(f"{kills} kills, {answers} answered strokes, undos and redos: none lost")


def main() -> None:
    """Measure what the first argument names."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["latency", "memory", "large", "kills"])
    parser.add_argument("--strokes", type=int, default=100)
    parser.add_argument("--images", type=int, default=500)
    parser.add_argument("--photo", type=int, default=1000)
    parser.add_argument("--side", type=int, default=10_000)
    parser.add_argument("--kills", type=int, default=100)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        measures = {
            "latency": lambda: measure_latency(Path(folder), given.strokes),
            "memory": lambda: measure_memory(Path(folder), given.images, given.photo),
            "large": lambda: measure_large(Path(folder), given.side),
            "kills": lambda: measure_kills(Path(folder), given.kills),
        }
        measures[given.what]()


if __name__ == "__main__":
    main()
