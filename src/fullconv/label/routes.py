"""The addresses of the API, and the form of its requests. Handlers run in threads; the stream of events does not."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Any, Literal

from fastapi import FastAPI, Path
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import Response, StreamingResponse

from fullconv.errors import FullconvError
from fullconv.label.server import LabelTile, Server, StrokeRequest
from fullconv.label.store.strokes import MOST_POINTS
from fullconv.web import RequestError

__all__ = ["add_event_route", "add_image_routes", "add_project_routes", "add_training_routes"]

Id = Annotated[str, Path(pattern="^[0-9a-f]{16}$")]
"""The id of an image; anything else is refused before it is looked up."""

Number = Annotated[int, Path(ge=0, le=2**20)]
Level = Annotated[int, Path(ge=0, le=30)]
Client = Annotated[str, Field(pattern="^[A-Za-z0-9_-]{1,64}$")]
RequestNumber = Annotated[int | None, Field(ge=0, le=2**53)]
"""The number of a request. If no answer came, the client sends the same number again, and it is carried out once."""

Finite = Annotated[float, Field(allow_inf_nan=False)]

_CONFLICTS = frozenset(
    {
        *("last-class", "merged-into-itself", "too-many-classes", "class-name-taken", "class-color-taken"),
        *("class-color-white", "no-prediction", "accept-too-large", "training-runs", "too-few-labelled"),
        *("missing-extra", "masks-not-written"),
    }
)
"""Codes of errors that the state of the session causes, not the request."""

_ABSENT = frozenset({"unknown-image-id", "no-tile"})


class _Body(BaseModel):
    model_config = ConfigDict(extra="ignore", strict=True)


class _StrokeBody(_Body):
    """A stroke of a tool."""

    client: Client
    number: RequestNumber = None
    tool: Literal["brush", "polygon", "fill", "accept"]
    class_: Annotated[int, Field(alias="class", ge=0, le=255)] = 255
    points: Annotated[list[Annotated[list[Finite], Field(min_length=2, max_length=2)]], Field(max_length=MOST_POINTS)]
    radius: Annotated[float, Field(allow_inf_nan=False, ge=0)] = 0.0
    tolerance: Annotated[int, Field(ge=0, le=255)] = 0
    scope: Literal["region", "class", "image"] = "region"


class _ClientBody(_Body):
    """Whose stroke is undone or redone."""

    client: Client
    number: RequestNumber = None


class _ClassBody(_Body):
    """A change of the classes."""

    action: Literal["add", "rename", "recolour", "merge", "delete"]
    key: int | None = None
    into: int | None = None
    name: str | None = None
    color: str | None = None


def add_project_routes(app: FastAPI, server: Server) -> None:
    """Add the addresses of the project, its classes and its list of images."""

    @app.get("/api/project")
    def project() -> dict[str, Any]:
        return server.project()

    @app.get("/api/images")
    def images() -> dict[str, Any]:
        return {"images": server.images()}

    @app.post("/api/classes")
    def classes(body: _ClassBody) -> dict[str, Any]:
        with _refusals():
            return server.change_classes(body.model_dump(exclude_none=True))


def add_image_routes(app: FastAPI, server: Server) -> None:
    """Add the addresses of an image: its tiles, its uncertain places, and its strokes."""
    tile = "/{level}/{column}/{row}"

    @app.get("/api/images/{id}/photo" + tile)
    def photo(id: Id, level: Level, column: Number, row: Number, version: str = "") -> Response:
        with _refusals():
            packed = server.photo_tile(id, level, column, row)
        # Photos of other sessions have the same address apart from the version.
        is_known = version != "" and version == server.store.photo_version(id)
        caching = {"cache-control": "private, max-age=600" if is_known else "no-store"}
        return Response(packed, media_type="image/jpeg", headers=caching)

    @app.get("/api/images/{id}/labels" + tile)
    def labels(id: Id, level: Level, column: Number, row: Number) -> Response:
        with _refusals():
            return _answer(server.label_tile(id, level, column, row))

    @app.get("/api/images/{id}/prediction" + tile)
    def prediction(id: Id, level: Level, column: Number, row: Number) -> Response:
        with _refusals():
            found = server.prediction_tile(id, level, column, row)
        return Response(status_code=204) if found is None else _answer(found)

    @app.get("/api/images/{id}/uncertain")
    def uncertain(id: Id) -> dict[str, Any]:
        with _refusals():
            return {"places": server.uncertain(id)}

    @app.post("/api/images/{id}/strokes")
    def strokes(id: Id, body: _StrokeBody) -> dict[str, Any]:
        values = body.client, body.tool, body.class_, body.points, body.radius, body.tolerance, body.scope, body.number
        with _refusals():
            return server.paint(id, StrokeRequest(*values))

    @app.post("/api/images/{id}/undo")
    def undo(id: Id, body: _ClientBody) -> dict[str, Any]:
        with _refusals():
            return server.move(id, body.client, redo=False, number=body.number)

    @app.post("/api/images/{id}/redo")
    def redo(id: Id, body: _ClientBody) -> dict[str, Any]:
        with _refusals():
            return server.move(id, body.client, redo=True, number=body.number)


def add_training_routes(app: FastAPI, server: Server) -> None:
    """Add the addresses of the training."""

    @app.get("/api/training")
    def show() -> dict[str, Any]:
        return server.training.training.to_dict()

    @app.post("/api/training")
    def start() -> dict[str, Any]:
        with _refusals():
            server.start_training()
        return server.training.training.to_dict()

    @app.delete("/api/training")
    def cancel() -> dict[str, Any]:
        server.training.cancel()
        return server.training.training.to_dict()


def add_event_route(app: FastAPI, server: Server) -> None:
    """Add the stream of events, which ends when the server does."""

    @app.get("/api/events")
    async def events() -> StreamingResponse:
        stream = server.events.listen(lambda: bool(app.state.draining))
        return StreamingResponse(stream, media_type="text/event-stream")


@contextmanager
def _refusals() -> Iterator[None]:
    """Give errors of the session's state and of absent things their status."""
    try:
        yield
    except FullconvError as error:
        if error.code in _CONFLICTS:
            raise RequestError(409, str(error), code=error.code) from error
        if error.code in _ABSENT:
            raise RequestError(404, str(error), code=error.code) from error
        if error.code == "file-not-writable":
            raise RequestError(507, str(error), code=error.code) from error
        raise


def _answer(tile: LabelTile) -> Response:
    height, width = tile.size
    headers = {"x-tile": f"{width}x{height}", "x-version": str(tile.version), "content-encoding": "gzip"}
    return Response(tile.packed, media_type="application/octet-stream", headers=headers)
