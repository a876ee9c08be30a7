"""Label Studio's machine learning backend: predictions appear there as brush masks, which a person corrects.

Only images of the one Label Studio at `url` are fetched, because a task may name any address. Its key is in the
environment variable LABEL_STUDIO_API_KEY.

Source: `label_studio_ml/api.py` of HumanSignal/label-studio-ml-backend.
"""

from __future__ import annotations

import asyncio
import json
import os
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urljoin, urlsplit
from xml.etree.ElementTree import ParseError, TreeBuilder, XMLParser

from fastapi import FastAPI, Request, Response

from fullconv.arrays import UInt8
from fullconv.documents import parse_json
from fullconv.errors import FullconvError
from fullconv.images import read_image
from fullconv.labels import LabelSet
from fullconv.predict.result import segment
from fullconv.runtime.runner import Runner
from fullconv.serve.answers import check_image
from fullconv.serve.brush import encode_brush
from fullconv.serve.inference import MAX_JSON
from fullconv.serve.service import Service
from fullconv.serve.uploads import Upload
from fullconv.web.errors import RequestError

__all__ = ["Config", "add_label_studio", "read_config"]

KEY = "LABEL_STUDIO_API_KEY"
MAX_TASKS = 50
FETCH_SECONDS = 30.0


@dataclass(frozen=True)
class Config:
    """What a labelling interface has: the names of its brush and image, the key of the image in tasks, its labels."""

    brush: str
    image: str
    key: str
    labels: tuple[str, ...]


def add_label_studio(app: FastAPI, service: Service, prefix: str, url: str) -> None:
    """Add the addresses of the backend below `prefix`, for the Label Studio at `url`."""

    @app.get(f"{prefix}/health", summary="Label Studio: whether the backend answers.")
    async def health() -> dict[str, str]:
        service.runner()
        return {"status": "UP", "model_class": "fullconv"}

    @app.post(f"{prefix}/setup", summary="Label Studio: a project is connected.")
    async def setup(request: Request) -> dict[str, str]:
        schema = (await _read_json(service, request)).get("schema")
        if schema:
            _match_labels(read_config(schema), service.runner().info.labels)
        return {"model_version": service.name}

    @app.post(f"{prefix}/webhook", summary="Label Studio: an event; nothing is trained.")
    async def webhook(request: Request) -> dict[str, str]:
        await _read_json(service, request)
        return {"status": "ok"}

    @app.post(f"{prefix}/predict", summary="Label Studio: brush masks for tasks.")
    async def predict(request: Request) -> Response:
        runner = service.runner()
        values = await _read_json(service, request, for_prediction=True)
        config = read_config(values.get("label_config"))
        tasks = values.get("tasks")
        if not isinstance(tasks, list) or len(tasks) > MAX_TASKS or not all(isinstance(task, dict) for task in tasks):
            raise _wrong(f'"tasks" must be a list of at most {MAX_TASKS} tasks')
        results = [await _predict_task(service, request, runner, config, task, url) for task in tasks]
        return Response('{"results": [' + ", ".join(results) + "]}", media_type="application/json")


def read_config(text: object) -> Config:
    """Read the XML of a labelling interface with `BrushLabels`. Raises RequestError for anything else."""
    if not isinstance(text, str) or len(text) > 2**18 or "<!" in text.replace("<!--", ""):
        raise _wrong('"label_config" must be the XML of a labelling interface')
    try:
        parser = XMLParser(target=TreeBuilder())
        parser.feed(text)
        root = parser.close()
    except (ParseError, ValueError, RecursionError):
        raise _wrong('"label_config" must be the XML of a labelling interface') from None
    for brush in root.iter("BrushLabels"):
        image = next((tag for tag in root.iter("Image") if tag.get("name") == brush.get("toName")), None)
        if image is not None and brush.get("name") and (image.get("value") or "").startswith("$"):
            labels = tuple(label.get("value") or "" for label in brush.iter("Label"))
            return Config(brush.get("name", ""), image.get("name", ""), image.get("value", "")[1:], labels)
    raise _wrong("the labelling interface has no BrushLabels for an Image")


def _match_labels(config: Config, labels: LabelSet) -> dict[int, str]:
    """Return the classes that are labels of the interface, by id; raise RequestError if there are none."""
    ids = {index: name for index, name in enumerate(labels.class_names) if index != labels.ignore_index}
    known = {index: name for index, name in ids.items() if name in config.labels}
    if not known:
        names = ", ".join(ids.values())
        raise _wrong(f"none of its brush labels is a class of the model ({names}); add Label tags with these names")
    return known


async def _predict_task(
    service: Service, request: Request, runner: Runner, config: Config, task: Mapping[str, Any], url: str
) -> str:
    """Return the result of one task as JSON."""
    names = _match_labels(config, runner.info.labels)
    data = task.get("data")
    address = data.get(config.key) if isinstance(data, dict) else None
    upload = Upload(service.folder)
    try:
        await asyncio.to_thread(_fetch, address, url, upload.path, service.options.max_bytes)

        def work() -> tuple[str, int]:
            check_image(upload.path, service.options.max_pixels, "mask", len(names))
            result = segment(runner, read_image(upload.path, runner.info.input), "image")
            regions = _make_regions(result.label_map, names, config)
            return json.dumps({"model_version": service.name, "result": regions}), result.label_map.size

        upload.begin()
        try:
            return await service.compute(request, work, "label-studio", upload.ended)
        except FullconvError as error:
            if isinstance(error, RequestError):
                raise
            message = str(error).replace(str(upload.path), "the image of the task")
            raise RequestError(422, message, code="task-not-predicted") from error
    finally:
        upload.close()


def _make_regions(label_map: UInt8, names: Mapping[int, str], config: Config) -> list[dict[str, Any]]:
    height, width = label_map.shape
    regions = []
    for index, name in names.items():
        mask = label_map == index
        if mask.any():
            value = {"format": "rle", "rle": encode_brush(mask), "brushlabels": [name]}
            head = {"id": f"fullconv-{index}", "from_name": config.brush, "to_name": config.image}
            size = {"original_width": width, "original_height": height, "image_rotation": 0}
            regions.append({**head, "type": "brushlabels", **size, "value": value})
    return regions


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """Follows nothing: a redirect could lead into the network of this server."""

    def redirect_request(self, *_: Any) -> None:
        return None


def _fetch(address: object, url: str, target: Path, max_bytes: int) -> None:
    """Download an image of the Label Studio at `url`. Raises RequestError for any other address, and if it fails."""
    base = urlsplit(url)
    full = urljoin(url, address) if isinstance(address, str) and len(address) < 4000 else ""
    parts = urlsplit(full)
    if (parts.scheme, parts.netloc) != (base.scheme, base.netloc) or any(ord(letter) < 33 for letter in full):
        message = "only images that Label Studio serves are read; upload the image there, and check --label-studio-url"
        raise RequestError(422, message, code="foreign-image")
    key = os.environ.get(KEY)
    sent = {"Authorization": f"Token {key}"} if key else {}
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), _NoRedirect)
    end, count = time.monotonic() + FETCH_SECONDS, 0
    try:
        with opener.open(urllib.request.Request(full, headers=sent), timeout=10) as source, target.open("wb") as file:
            while part := source.read(2**18):
                count += file.write(part)
                if count > max_bytes:
                    raise RequestError(413, "the image of the task is too large", code="request-too-large")
                if time.monotonic() > end:
                    message = f"Label Studio takes more than {FETCH_SECONDS:g} s to give the image; check the network"
                    raise RequestError(422, message, code="image-not-fetched")
    except (urllib.error.URLError, OSError, ValueError) as error:
        reason = error.code if isinstance(error, urllib.error.HTTPError) else getattr(error, "reason", error)
        message = f"Label Studio does not give the image ({reason}); check --label-studio-url and {KEY}"
        raise RequestError(422, message, code="image-not-fetched") from error


async def _read_json(service: Service, request: Request, for_prediction: bool = False) -> Mapping[str, Any]:
    message = "the request of Label Studio is too large; select fewer tasks"
    body = await service.read_body(request, MAX_JSON, message, for_prediction)
    try:
        values = parse_json(body.decode()) if body else {}
    except ValueError:
        values = None
    if not isinstance(values, dict):
        raise _wrong("the body is not a JSON object")
    return values


def _wrong(reason: str) -> RequestError:
    return RequestError(400, f"this is not a request of Label Studio that fits: {reason}", code="wrong-label-studio")
