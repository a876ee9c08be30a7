"""The Open Inference Protocol (v2), with the extension for binary tensors: Triton's clients work unchanged.

The input `images` is N x H x W x C UINT8, as the model takes it. The outputs are `label_map`, N x H x W UINT8 class
ids, and `logits`, N x K x H x W FP32.

Source: https://github.com/kserve/open-inference-protocol, and Triton's `extension_binary_data.md`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from fastapi import FastAPI, Request, Response

from fullconv import __version__
from fullconv.arrays import UInt8
from fullconv.documents import parse_json
from fullconv.predict.result import segment
from fullconv.runtime.runner import Runner
from fullconv.serve.options import MAX_LOGITS
from fullconv.serve.service import Service
from fullconv.web.errors import RequestError

__all__ = ["add_inference"]

MAX_JSON = 2**23
"""Maximum bytes of JSON: numbers in JSON take ten times the memory of binary ones."""

MAX_NUMBERS = 2**22
"""Maximum numbers of an answer in JSON."""

PART = 2**14
"""Numbers that become JSON at a time: no other thread runs meanwhile, and so no other request is answered."""

VERSION = "1"
LENGTH = "inference-header-content-length"
_BODY = {"required": True, "content": {"application/json": {}, "application/octet-stream": {}}}


@dataclass(frozen=True)
class _Inference:
    """A request: the images, the asked outputs with whether each is binary, and the id of the client."""

    images: UInt8
    outputs: dict[str, bool]
    id: str | None


def add_inference(app: FastAPI, service: Service) -> None:
    """Add the addresses below /v2."""

    @app.get("/v2", summary="The server, in the Open Inference Protocol.")
    async def server() -> dict[str, Any]:
        return {"name": "fullconv", "version": __version__, "extensions": ["binary_tensor_data"]}

    @app.get("/v2/health/live", summary="Whether the process answers; needs no token.")
    async def live() -> dict[str, bool]:
        return {"live": True}

    @app.get("/v2/health/ready", summary="Whether predictions are accepted; needs no token.")
    async def ready() -> dict[str, bool]:
        service.runner()
        return {"ready": True}

    for base in ("/v2/models/{model}", "/v2/models/{model}/versions/{version}"):
        versioned = base.endswith("}") and "version" in base
        app.add_api_route(base, _metadata(service), methods=["GET"], include_in_schema=not versioned)
        app.add_api_route(f"{base}/ready", _model_ready(service), methods=["GET"], include_in_schema=not versioned)
        app.add_api_route(
            f"{base}/infer",
            _infer(service),
            methods=["POST"],
            include_in_schema=not versioned,
            openapi_extra={"requestBody": _BODY},
        )


def _metadata(service: Service) -> Any:
    async def metadata(model: str, version: str = VERSION) -> dict[str, Any]:
        """Describe the model."""
        info = _find(service, model, version).info
        classes, channels = info.labels.num_classes, info.input.channels
        return {
            "name": service.name,
            "versions": [VERSION],
            "platform": "fullconv",
            "inputs": [{"name": "images", "datatype": "UINT8", "shape": [-1, -1, -1, channels]}],
            "outputs": [
                {"name": "label_map", "datatype": "UINT8", "shape": [-1, -1, -1]},
                {"name": "logits", "datatype": "FP32", "shape": [-1, classes, -1, -1]},
            ],
        }

    return metadata


def _model_ready(service: Service) -> Any:
    async def model_ready(model: str, version: str = VERSION) -> dict[str, Any]:
        """Say whether the model is loaded."""
        _find(service, model, version)
        return {"name": service.name, "ready": True}

    return model_ready


def _infer(service: Service) -> Any:
    async def infer(request: Request, model: str, version: str = VERSION) -> Response:
        """Label a batch of images."""
        runner = _find(service, model, version)
        if request.headers.get("content-encoding", "identity") != "identity":
            message = "the body is compressed (Content-Encoding), which is not supported; send it as it is"
            raise RequestError(415, message, code="compressed-body")
        length = request.headers.get(LENGTH)
        most = MAX_JSON if length is None else service.options.max_bytes
        asked = _parse(await service.read_body(request, most, _describe_limit()), length, runner)
        count, height, width = asked.images.shape[:3]
        pixels = count * height * width
        classes = runner.info.labels.num_classes
        if pixels > service.options.max_pixels or ("logits" in asked.outputs and pixels * classes > MAX_LOGITS):
            raise RequestError(
                413, "the images have too many pixels; send fewer or smaller ones", code="too-many-pixels"
            )

        def work() -> tuple[Response, int]:
            return _answer(service.name, asked, _compute(runner, asked)), pixels

        return await service.compute(request, work, "tensors")

    return infer


def _find(service: Service, model: str, version: str) -> Runner:
    if model != service.name or version != VERSION:
        message = f"there is no such model; this server has {service.name}, version {VERSION}"
        raise RequestError(404, message, code="no-such-model")
    return service.runner()


def _compute(runner: Runner, asked: _Inference) -> dict[str, npt.NDArray[Any]]:
    """Label each image as `fullconv predict` does, in tiles where it does."""
    results = [segment(runner, image, "image", keep_logits="logits" in asked.outputs) for image in asked.images]
    arrays: dict[str, npt.NDArray[Any]] = {"label_map": np.stack([result.label_map for result in results])}
    if "logits" in asked.outputs:
        arrays["logits"] = np.stack([result.logits for result in results])
    return arrays


def _parse(body: bytes, length: str | None, runner: Runner) -> _Inference:
    """Read a request. Raises RequestError for anything that does not fit the protocol or the model."""
    if length is not None and not (length.isascii() and length.isdecimal() and int(length[:20]) <= len(body)):
        raise _wrong("the header Inference-Header-Content-Length is not a length within the body")
    end = len(body) if length is None else int(length)
    if end > MAX_JSON:
        raise RequestError(413, _describe_limit(), code="request-too-large")
    try:
        values = parse_json(body[:end].decode())
    except ValueError:
        raise _wrong("the body is not JSON in UTF-8") from None
    inputs = values.get("inputs") if isinstance(values, dict) else None
    if not isinstance(inputs, list) or len(inputs) != 1 or not isinstance(inputs[0], dict):
        raise _wrong('"inputs" must be a list with the one input "images"')
    images = _read_images(inputs[0], body[end:], runner.info.input.channels)
    given = values.get("id")
    return _Inference(images, _read_outputs(values), given[:200] if isinstance(given, str) else None)


def _describe_limit() -> str:
    return f"the JSON part has more than {MAX_JSON:,} bytes; send the images as binary tensors"


def _read_images(tensor: Mapping[str, Any], binary: bytes, channels: int) -> UInt8:
    shape = tensor.get("shape")
    if tensor.get("name") != "images" or tensor.get("datatype") != "UINT8":
        raise _wrong('the input must have the name "images" and the datatype "UINT8"')
    if not isinstance(shape, list) or not all(type(side) is int and 0 < side < 2**31 for side in shape):
        raise _wrong('"shape" must be a list of positive numbers')
    if len(shape) != 4 or shape[3] != channels:
        raise _wrong(f"the images must have the shape [N, H, W, {channels}]")
    size = shape[0] * shape[1] * shape[2] * shape[3]
    stated = _parameters(tensor).get("binary_data_size")
    if stated is not None:
        if stated != size or len(binary) != size:
            raise _wrong("the bytes of the images do not fit their shape")
        return np.frombuffer(binary, np.uint8).reshape(shape)
    return _read_numbers(tensor.get("data"), size).reshape(shape)


def _read_numbers(data: Any, size: int) -> UInt8:
    """Return flat or nested numbers as bytes."""
    try:
        numbers = np.asarray(data)
    except ValueError:  # lists of different lengths
        numbers = np.empty(0, np.object_)
    if numbers.dtype.kind not in "iu" or numbers.size != size or numbers.min() < 0 or numbers.max() > 255:
        raise _wrong('"data" must have as many numbers from 0 to 255 as "shape" says')
    return numbers.astype(np.uint8)


def _read_outputs(values: Mapping[str, Any]) -> dict[str, bool]:
    """Return whether each asked output is binary; without any, the label map is the only one."""
    everywhere = _parameters(values).get("binary_data_output", False) is True
    outputs = values.get("outputs")
    if outputs is None:
        return {"label_map": everywhere}
    if not isinstance(outputs, list) or not outputs or not all(isinstance(output, dict) for output in outputs):
        raise _wrong('"outputs" must be a list of outputs')
    asked: dict[str, bool] = {}
    for output in outputs:
        if output.get("name") not in ("label_map", "logits"):
            raise _wrong('the outputs are "label_map" and "logits"')
        parameters = _parameters(output)
        if parameters.get("classification"):
            raise _wrong("classification is not supported")
        asked[output["name"]] = parameters.get("binary_data", everywhere) is True
    return asked


def _parameters(values: Mapping[str, Any]) -> Mapping[str, Any]:
    parameters = values.get("parameters", {})
    if not isinstance(parameters, dict):
        raise _wrong('"parameters" must be an object')
    return parameters


def _wrong(reason: str) -> RequestError:
    return RequestError(400, f"this is not a request of the Open Inference Protocol: {reason}", code="wrong-inference")


def _answer(name: str, asked: _Inference, arrays: Mapping[str, npt.NDArray[Any]]) -> Response:
    """Return the answer; a worker calls this, because many numbers in JSON take seconds."""
    outputs, binary = [], []
    for output, is_binary in asked.outputs.items():
        array = arrays[output]
        entry: dict[str, Any] = {"name": output, "shape": list(array.shape)}
        entry["datatype"] = "FP32" if array.dtype == np.float32 else "UINT8"
        if is_binary:
            data = np.ascontiguousarray(array).astype(array.dtype.newbyteorder("<"), copy=False).tobytes()
            entry["parameters"] = {"binary_data_size": len(data)}
            outputs.append(json.dumps(entry))
            binary.append(data)
        elif array.size > MAX_NUMBERS:
            message = f"{output} has more than {MAX_NUMBERS:,} numbers; ask for it as a binary tensor"
            raise RequestError(413, message, code="answer-too-large")
        else:
            outputs.append(f'{json.dumps(entry)[:-1]}, "data": [{_format_numbers(array.ravel())}]}}')
    values = {"model_name": name, "model_version": VERSION} | ({} if asked.id is None else {"id": asked.id})
    head = f'{json.dumps(values)[:-1]}, "outputs": [{", ".join(outputs)}]}}'.encode()
    if not binary:
        return Response(head, media_type="application/json")
    return Response(b"".join([head, *binary]), media_type="application/octet-stream", headers={LENGTH: str(len(head))})


def _format_numbers(numbers: npt.NDArray[Any]) -> str:
    """Return numbers as JSON, with commas between them."""
    parts = (numbers[start : start + PART].tolist() for start in range(0, numbers.size, PART))
    return ",".join(json.dumps(part, allow_nan=False, separators=(",", ":"))[1:-1] for part in parts)
