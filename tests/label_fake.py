"""A small server with the API of `fullconv label`, for states of the page that are hard to make with the real one.

Pictures are drawn, strokes are kept in numpy masks, and the prediction is the nearest colour of what is painted.
`Fake.mood` makes it slow, or makes it fail.
"""

from __future__ import annotations

import asyncio
import gzip
import io
import json
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from fastapi import FastAPI, HTTPException, Request
from fastapi.responses import JSONResponse, Response, StreamingResponse
from PIL import Image

from fullconv.label.store.drawing import cover_brush, cover_polygon
from fullconv.web.app import make_app
from fullconv.web.run import run
from fullconv.web.static import mount_static
from waiting import LIMIT

__all__ = ["TOKEN", "Fake", "Picture", "draw_scene", "draw_scenes", "serving"]

TOKEN = "test-token"
TILE = 512


def draw_scene(width: int, height: int, seed: int = 0) -> np.ndarray:
    """Return a landscape, height x width x 3 uint8: sky, hills and a field, with a grain."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    hills = height * (0.42 + 0.1 * np.sin(x / width * 5 + seed) + 0.04 * np.sin(x / width * 17 + 2 * seed))
    field = height * (0.68 + 0.06 * np.sin(x / width * 3 + 1 + seed))
    image = np.empty((height, width, 3))
    image[:] = (150, 190, 225)
    image[y > hills] = (74, 108, 66)
    image[y > field] = (196, 170, 98)
    image += rng.normal(0, 6, (height, width, 1)) + (40 * (0.5 - y / height))[..., None]
    return image.clip(0, 255).astype(np.uint8)


@dataclass
class Picture:
    """An image of the fake, its labels, and the strokes of each client."""

    pixels: np.ndarray
    name: str
    error: str | None = None
    hidden_size: bool = False
    mask: np.ndarray = field(init=False)
    guess: np.ndarray = field(init=False)
    guessed: int = -1
    strokes: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    undone: list[tuple[str, dict[str, Any]]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.mask = np.full(self.pixels.shape[:2], 255, np.uint8)


def draw_scenes(number: int, width: int = 600, height: int = 400) -> list[Picture]:
    return [Picture(draw_scene(width, height, seed), f"scene_{seed:03d}.jpg") for seed in range(number)]


class Fake:
    """The state of the server, which tests read and change."""

    def __init__(self, pictures: list[Picture], classes: tuple[str, ...] = ("sky", "hill", "field")) -> None:
        colors = ["#56b4e9", "#009e73", "#e69f00", "#cc79a7", "#0072b2"]
        self.pictures = {f"p{number}": picture for number, picture in enumerate(pictures)}
        self.classes = [{"key": key, "name": name, "color": colors[key % 5]} for key, name in enumerate(classes)]
        self.next_key = len(classes)
        self.version = 0
        self.training: dict[str, Any] = {"state": "idle", "message": "", "progress": 0, "scores": None, "lines": []}
        self.help = ""
        self.session = "orchard"
        self.mood: dict[str, Any] = {}
        self.requests: list[tuple[str, dict[str, Any]]] = []
        self.listeners: set[asyncio.Queue[str | None]] = set()
        self.app = self._make_app()
        self.loop: asyncio.AbstractEventLoop | None = None

    def send(self, name: str, **data: Any) -> None:
        """Send an event to every page, from any thread."""
        if self.loop is None:
            return
        for queue in tuple(self.listeners):
            self.loop.call_soon_threadsafe(queue.put_nowait, f"event: {name}\ndata: {json.dumps(data)}\n\n")

    def hang_up(self) -> None:
        """End all streams of events."""
        for queue in tuple(self.listeners):
            if self.loop is not None:
                self.loop.call_soon_threadsafe(queue.put_nowait, None)

    def project(self) -> dict[str, Any]:
        return {
            "name": "orchard", "session": self.session, "images": len(self.pictures), "classes": self.classes,
            "version": self.version, "start": None, "training_available": not self.help, "training_help": self.help,
        }  # fmt: skip

    def row(self, name: str, picture: Picture, rank: int) -> dict[str, Any]:
        height, width = (0, 0) if picture.hidden_size else picture.pixels.shape[:2]
        reasons = ["Unlike all images that have labels", "The model is unsure at many places", "Nothing is painted yet"]
        score, reason = (None, "") if picture.error else (1 / (rank + 1), reasons[rank % 3])
        return {
            "id": name, "photo": self.session + name, "name": picture.name, "width": width, "height": height,
            "painted": float((picture.mask != 255).mean()), "score": score, "reason": reason, "error": picture.error,
        }  # fmt: skip

    def predict(self, picture: Picture) -> np.ndarray:
        """Return for each pixel the class whose mean colour is nearest."""
        if picture.guessed == self.version:
            return picture.guess
        labelled = [one for one in self.pictures.values() if (one.mask != 255).any()]
        keys = sorted({int(key) for one in labelled for key in np.unique(one.mask)} - {255})
        if not keys:
            return np.full_like(picture.mask, 255)
        means = np.array([np.concatenate([one.pixels[one.mask == key] for one in labelled]).mean(0) for key in keys])
        distance = ((picture.pixels[:, :, None].astype(np.float32) - means) ** 2).sum(-1)
        picture.guess, picture.guessed = np.array(keys, np.uint8)[distance.argmin(-1)], self.version
        return picture.guess

    def paint(self, picture: Picture, stroke: dict[str, Any]) -> tuple[list[int], int]:
        """Paint a stroke; return its box and the number of pixels."""
        height, width = picture.mask.shape
        points = np.array(stroke["points"], float)
        if stroke["tool"] == "brush":
            covered = cover_brush(points, stroke["radius"], range(height), range(width))
        elif stroke["tool"] == "polygon":
            covered = cover_polygon(points, range(height), range(width))
        elif stroke["tool"] == "fill":
            x, y = points[0].astype(int)
            near = np.abs(picture.pixels.astype(int) - picture.pixels[y, x]).max(-1)
            covered = near <= stroke["tolerance"]
        else:
            return self.accept(picture, stroke)
        picture.mask[covered] = stroke["class"]
        return box_of(covered), int(covered.sum())

    def accept(self, picture: Picture, stroke: dict[str, Any]) -> tuple[list[int], int]:
        guess = self.predict(picture)
        x, y = (int(value) for value in stroke["points"][0])
        free = picture.mask == 255
        covered = free if stroke["scope"] == "image" else free & (guess == guess[y, x])
        picture.mask[covered] = guess[covered]
        return box_of(covered), int(covered.sum())

    def repaint(self, picture: Picture) -> None:
        picture.mask[:] = 255
        for _, stroke in picture.strokes:
            self.paint(picture, stroke)

    def learned(self) -> None:
        """Send a new version of the model if two classes are painted."""
        painted = {key for picture in self.pictures.values() for key in np.unique(picture.mask)} - {255}
        if len(painted) > 1:
            self.version += 1
            self.send("model", version=self.version, seconds=0.12)

    async def _behave(self, path: str) -> None:
        """Be slow, or fail, where the test asks for it."""
        self.loop = asyncio.get_running_loop()
        for pattern, mood in tuple(self.mood.items()):
            if pattern in path:
                if isinstance(mood, threading.Event):
                    while not mood.is_set():
                        await asyncio.sleep(0.02)
                else:
                    status, message = mood
                    raise HTTPException(status, message)

    def find(self, name: str) -> Picture:
        if name not in self.pictures:
            raise HTTPException(404, "There is no such image.")
        return self.pictures[name]

    def _make_app(self) -> FastAPI:
        app = make_app("label", token=TOKEN)
        mount_static(app, "fullconv.label")
        add_reading(app, self)
        add_painting(app, self)
        return app


def box_of(covered: np.ndarray) -> list[int]:
    if not covered.any():
        return [0, 0, 0, 0]
    rows, columns = np.flatnonzero(covered.any(1)), np.flatnonzero(covered.any(0))
    return [int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1]


def add_reading(app: FastAPI, fake: Fake) -> None:
    """Add what the page reads."""

    @app.get("/api/project")
    async def project(request: Request) -> dict[str, Any]:
        await fake._behave(request.url.path)
        return fake.project()

    @app.get("/api/images")
    async def images(request: Request) -> dict[str, Any]:
        await fake._behave(request.url.path)
        rows = [fake.row(name, picture, rank) for rank, (name, picture) in enumerate(fake.pictures.items())]
        return {"images": rows}

    @app.get("/api/images/{name}/uncertain")
    async def uncertain(name: str) -> dict[str, Any]:
        height, width = fake.find(name).mask.shape
        places = [
            {"x": int(x * width), "y": int(height * 0.4), "width": 40, "height": 30, "score": 1 - x}
            for x in (0.2, 0.5, 0.8)
        ]
        return {"places": places}

    @app.get("/api/images/{name}/{layer}/{level}/{column}/{row}")
    async def tile(request: Request, name: str, layer: str, level: int, column: int, row: int) -> Response:
        await fake._behave(request.url.path)
        picture = fake.find(name)
        picture.hidden_size = False
        if layer == "prediction" and not fake.version:
            return Response(status_code=204)
        source = {"photo": lambda: picture.pixels, "labels": lambda: picture.mask,
                  "prediction": lambda: fake.predict(picture)}[layer]()  # fmt: skip
        part = source[:: 2**level, :: 2**level][row * TILE : (row + 1) * TILE, column * TILE : (column + 1) * TILE]
        if not part.size:
            raise HTTPException(404, "There is no such tile.")
        if layer == "photo":
            file = io.BytesIO()
            Image.fromarray(np.ascontiguousarray(part)).save(file, "PNG", compress_level=1)
            return Response(file.getvalue(), media_type="image/png")
        headers = {"X-Tile": f"{part.shape[1]}x{part.shape[0]}", "Content-Encoding": "gzip"}
        headers |= {"X-Version": str(fake.version)} if layer == "prediction" else {}
        return Response(gzip.compress(part.tobytes(), 1), headers=headers, media_type="application/octet-stream")

    @app.get("/api/events")
    async def events(request: Request) -> StreamingResponse:
        await fake._behave(request.url.path)
        queue: asyncio.Queue[str | None] = asyncio.Queue()
        fake.listeners.add(queue)

        async def stream() -> AsyncIterator[str]:
            try:
                yield ": hello\n\n"
                while not app.state.draining:
                    try:
                        text = await asyncio.wait_for(queue.get(), 0.2)
                    except TimeoutError:
                        continue
                    if text is None:
                        return
                    yield text
            finally:
                fake.listeners.discard(queue)

        return StreamingResponse(stream(), media_type="text/event-stream")

    @app.get("/api/training")
    async def training() -> dict[str, Any]:
        return fake.training


def add_painting(app: FastAPI, fake: Fake) -> None:
    """Add what the page changes."""

    @app.post("/api/images/{name}/strokes")
    async def strokes(request: Request, name: str) -> dict[str, Any]:
        await fake._behave(request.url.path)
        picture, stroke = fake.find(name), await request.json()
        fake.requests.append((name, stroke))
        box, pixels = fake.paint(picture, stroke)
        picture.strokes.append((stroke["client"], stroke))
        picture.undone = [(client, other) for client, other in picture.undone if client != stroke["client"]]
        fake.send("stroke", image=name, box=box, client=stroke["client"])
        fake.learned()
        return {"stroke": len(picture.strokes), "box": box, "pixels": pixels}

    @app.post("/api/images/{name}/{step}")
    async def undo(request: Request, name: str, step: str) -> dict[str, Any]:
        await fake._behave(request.url.path)
        picture, client = fake.find(name), (await request.json())["client"]
        source, target = (picture.strokes, picture.undone) if step == "undo" else (picture.undone, picture.strokes)
        for index in range(len(source) - 1, -1, -1):
            if source[index][0] == client:
                target.append(source.pop(index))
                fake.repaint(picture)
                height, width = picture.mask.shape
                fake.send("stroke", image=name, box=[0, 0, width, height], client=client)
                fake.learned()
                return {"stroke": index, "box": [0, 0, width, height]}
        return {"stroke": None, "box": None}

    @app.post("/api/classes", response_model=None)
    async def classes(request: Request) -> dict[str, Any] | JSONResponse:
        await fake._behave(request.url.path)
        change = await request.json()
        kind, key = change["action"], change.get("key")
        if kind in ("add", "rename") and any(one["name"] == change["name"] for one in fake.classes):
            message = f"There is already a class {change['name']!r}; choose another name."
            return JSONResponse({"error": "name-taken", "message": message}, 409)
        if kind == "add":
            fake.classes.append({"key": fake.next_key, "name": change["name"], "color": change["color"]})
            fake.next_key += 1
        elif kind == "rename":
            fake.classes = [one | {"name": change["name"]} if one["key"] == key else one for one in fake.classes]
        elif kind == "recolour":
            fake.classes = [one | {"color": change["color"]} if one["key"] == key else one for one in fake.classes]
        else:
            for picture in fake.pictures.values():
                picture.mask[picture.mask == key] = change.get("into", 255)
            fake.classes = [one for one in fake.classes if one["key"] != key]
        fake.send("classes")
        return fake.project()

    @app.post("/api/training")
    async def start() -> dict[str, Any]:
        fake.training |= {"state": "running", "message": "Epoch 1 of 20", "progress": 0.05, "lines": ["epoch 1"]}
        return fake.training

    @app.delete("/api/training")
    async def cancel() -> dict[str, Any]:
        fake.training |= {"state": "cancelled", "message": "The training was cancelled.", "progress": 0}
        return fake.training


@contextmanager
def serving(app: FastAPI, port: int = 0) -> Iterator[str]:
    """Serve an app in a thread; give its address without token."""
    ready, addresses = threading.Event(), []

    def note(address: str) -> None:
        addresses.append(address)
        ready.set()

    thread = threading.Thread(target=run, args=(app, "127.0.0.1", port, note, 1.0), daemon=True)
    thread.start()
    try:
        assert ready.wait(LIMIT), "the server did not start"
        yield addresses[0]
    finally:
        app.state.stop()
        thread.join(120)
        assert not thread.is_alive()
