"""The addresses of the service."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Annotated, Any

from fastapi import FastAPI, Query, Request, Response

from fullconv import __version__
from fullconv.images.input_format import InputFormat
from fullconv.runtime.runner import Runner
from fullconv.serve.answers import As
from fullconv.serve.inference import add_inference
from fullconv.serve.metrics import CONTENT_TYPE_LATEST
from fullconv.serve.service import Service
from fullconv.web import make_app, mount_static
from fullconv.web.security import LOOPBACK

__all__ = ["make_service"]

_BODY = {
    "required": True,
    "content": {
        "image/*": {"schema": {"type": "string", "format": "binary"}},
        "multipart/form-data": {
            "schema": {"type": "object", "properties": {"image": {"type": "string", "format": "binary"}}}
        },
    },
}

_ERRORS: dict[int | str, dict[str, Any]] = {
    400: {"description": "The request has no image, or cannot be read."},
    401: {"description": "The token is missing or wrong."},
    408: {"description": "The body arrived too slowly."},
    413: {"description": "Too many bytes, or too many pixels by the header of the image."},
    415: {"description": "The body is not an image that can be read here."},
    422: {"description": "The image is damaged, or does not fit the model."},
    429: {"description": "The queue is full; the header Retry-After says when to send again."},
    503: {"description": "The model is loading, or the server is ending."},
    504: {"description": "The prediction took too long."},
}


def make_service(service: Service, *, token: str | None = None, hosts: Sequence[str] = LOOPBACK) -> FastAPI:
    """Return the app of a service; its model starts loading when the server starts."""
    app = make_app(
        "fullconv serve",
        token=token,
        hosts=hosts,
        max_bytes=service.options.max_bytes,
        on_done=service.metrics.count_request,
        version=__version__,
        description="Labels every pixel of an image. Errors are JSON objects: error is a code, message a sentence.",
        openapi_url="/openapi.json",
    )
    service.draining = lambda: bool(app.state.draining)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        service.start(lambda: app.state.stop())
        yield
        service.close()

    app.router.lifespan_context = lifespan
    app.state.open_paths |= {"/docs", "/openapi.json", "/livez", "/readyz", "/v2/health/live", "/v2/health/ready"}
    mount_static(app, "fullconv.serve")
    _add_health(app, service)
    _add_predict(app, service)
    add_inference(app, service)
    return app


def _add_health(app: FastAPI, service: Service) -> None:
    @app.get("/livez", summary="Whether the process answers; needs no token.")
    async def livez() -> dict[str, str]:
        return {"status": "live"}

    @app.get("/readyz", summary="Whether predictions are accepted; needs no token.", responses={503: _ERRORS[503]})
    async def readyz() -> dict[str, str]:
        service.runner()
        return {"status": "ready"}

    @app.get("/metrics", summary="Metrics in the text format of Prometheus.")
    def metrics() -> Response:
        return Response(service.metrics.expose(), media_type=CONTENT_TYPE_LATEST)


def _add_predict(app: FastAPI, service: Service) -> None:
    @app.get("/model", summary="The classes of the model, the images that it takes, and the limits.")
    async def model() -> dict[str, Any]:
        return _describe(service, service.runner())

    @app.post(
        "/predict",
        summary="Label every pixel of an image.",
        openapi_extra={"requestBody": _BODY},
        responses=_ERRORS,
        response_class=Response,
    )
    async def predict(
        request: Request,
        kind: Annotated[As, Query(alias="as", description="The kind of the answer.")] = "json",
        name: Annotated[str, Query(max_length=500, description="The name of the image in the answer.")] = "",
        preview: Annotated[int, Query(ge=0, le=4096, description="Side of a picture in a JSON answer.")] = 0,
    ) -> Response:
        """Answer with the file that `fullconv predict` writes: mask (PNG or GeoTIFF), overlay (JPEG), probabilities
        (.npz), polygons (GeoJSON), areas (CSV), or a summary as JSON. The body is the image.
        """  # noqa: D205
        return await service.predict(request, kind, name, preview)


def _describe(service: Service, runner: Runner) -> dict[str, Any]:
    info, options = runner.info, service.options
    labels = info.labels
    classes = [
        {"id": index, "name": name, "color": "#{:02x}{:02x}{:02x}".format(*color)}
        for index, (name, color) in enumerate(zip(labels.class_names, labels.palette, strict=True))
    ]
    fields = [window.before + window.after + 1 for window in info.windows]
    return {
        "name": service.name,
        "version": __version__,
        "classes": classes,
        "ignored_label": labels.ignore_index,
        "input": _describe_input(info.input),
        "receptive_field": fields if info.exact else None,
        "limits": {
            "max_bytes": options.max_bytes,
            "max_pixels": options.max_pixels,
            "timeout": options.timeout,
            "queue": options.queue,
        },
    }


def _describe_input(input: InputFormat) -> dict[str, Any]:
    return {"channels": input.channels, "range": input.value_range}
