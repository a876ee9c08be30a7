"""A package of bioimage.io: rdf.yaml of specification 0.5, the network, its documentation, and a test image.

The specification is that of bioimage-io/spec-bioimage-io (`bioimageio.spec.model.v0_5`). Programs that read it pad an
image by the halo, compute blocks of the allowed sizes, and crop the halo from each result.
"""

from __future__ import annotations

import hashlib
import re
import zipfile
from collections.abc import Iterator
from datetime import UTC, datetime
from math import lcm
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import onnx
import yaml
from packaging.licenses import InvalidLicenseExpression, canonicalize_license_expression

from fullconv.arrays import Float32
from fullconv.errors import UsageError
from fullconv.files import atomic_folder, atomic_write, check_new_folder
from fullconv.geometry.tiles import Window
from fullconv.onnx_graph.exported import read_exported
from fullconv.onnx_graph.probabilities import INPUT, OUTPUT, make_probabilities
from fullconv.packages.bioimage_page import make_page
from fullconv.packages.shortened import shorten_paths
from fullconv.packages.written import Written
from fullconv.runtime.metadata import ModelMetadata
from fullconv.runtime.onnx import open_session

__all__ = ["FORMAT_VERSION", "PAPER", "choose_blocks", "write_bioimage"]

FORMAT_VERSION = "0.5.12"

PAPER = {
    "text": "Long, J., Shelhamer, E., Darrell, T.: Fully Convolutional Networks for Semantic Segmentation. CVPR 2015.",
    "doi": "10.1109/CVPR.2015.7298965",
}

_IDENTIFIER = re.compile(r"(?!LicenseRef-)[A-Za-z0-9.-]+")


def choose_blocks(windows: tuple[Window, Window]) -> tuple[int, int]:
    """Return the halo of a block and the step of its sizes, in pixels.

    Blocks whose sizes are a multiple of the step, the halo included, start on the network's grid. With the halo, their
    results are those of one large block.
    """
    step = lcm(*(window.period for window in windows))
    halo = max(max(window.before, window.after) for window in windows)
    return -(-max(halo, 1) // step) * step, step


def write_bioimage(
    source: Path, out: Path, name: str, *, licence: str | None = None, author: str | None = None
) -> Written:
    """Write the exported file `source` as a package of bioimage.io: a .zip file, or a new folder for any other suffix.

    `name` is that of the network; characters that the specification does not allow are replaced. `licence` is an
    identifier of SPDX, such as MIT; None takes that of the file, if it is one. `author` is the person who trained the
    network.

    Raises ModelError if `fullconv export` did not write `source`, and UsageError for a licence or author that the
    specification does not allow, or a folder that is not empty.
    """
    named = None if licence is None else _find_licence(licence)
    if licence is not None and named is None:
        message = f"--licence {licence!r} is not an identifier of SPDX; give one such as MIT or CC-BY-4.0"
        raise UsageError(message, code="licence-not-spdx")
    if author is not None and ("/" in author or not author.strip()):
        message = f"--author {author!r} is not a name; bioimage.io allows no / in it"
        raise UsageError(message, code="author-not-a-name")
    model, metadata = read_exported(source)
    metadata = shorten_paths(metadata)
    licence = named or _find_licence(str(metadata.notes.get("licence")))
    name = _clean(name)
    if out.suffix.lower() == ".zip":
        with TemporaryDirectory() as folder, atomic_write(out) as temporary:
            _fill(Path(folder), model, metadata, name, licence, author)
            with zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED) as archive:
                for path in sorted(Path(folder).iterdir()):
                    archive.write(path, path.name)
    else:
        check_new_folder(out, source)
        with atomic_folder(out) as folder:
            _fill(folder, model, metadata, name, licence, author)
    return Written(out, tuple(_notes(metadata, licence, author)))


def _find_licence(text: str) -> str | None:
    """Return an identifier in the list of SPDX, in its spelling; None for any other text."""
    try:
        licence = canonicalize_license_expression(text)
    except InvalidLicenseExpression:
        return None
    return licence if _IDENTIFIER.fullmatch(licence) else None


def _fill(
    folder: Path, model: onnx.ModelProto, metadata: ModelMetadata, name: str, licence: str | None, author: str | None
) -> None:
    """Write all files of the package into a folder."""
    path = folder / "weights.onnx"
    onnx.save(make_probabilities(model, metadata, white=255), path)
    halo, step = choose_blocks(metadata.info.windows)
    halo = halo if metadata.info.exact else 0
    image = _make_image(metadata, (2 * halo + step, 2 * halo + 2 * step))
    np.save(folder / "test_input.npy", image)
    np.save(folder / "test_output.npy", _predict(path, len(model.graph.node), _prepare(image, metadata)))
    (folder / "README.md").write_text(make_page(metadata, name, halo, step), encoding="utf-8")
    values: dict[str, Any] = {
        "format_version": FORMAT_VERSION,
        "type": "model",
        "name": name,
        "description": f"Labels each pixel: {', '.join(metadata.info.labels.class_names)}."[:1024],
        "authors": [] if author is None else [{"name": author}],
        "cite": [PAPER],
        "license": licence,
        "tags": ["semantic-segmentation", "fully-convolutional", "fullconv", "onnx", "2d"],
        "documentation": _file(folder / "README.md"),
        "timestamp": datetime.now(UTC).isoformat(timespec="seconds"),
        "inputs": [_describe_input(folder, metadata, halo, step)],
        "outputs": [_describe_output(folder, metadata, halo)],
        "weights": {"onnx": {**_file(path), "opset_version": model.opset_import[0].version}},
        "config": {"fullconv": {"class_names": list(metadata.info.labels.class_names), **metadata.notes}},
    }
    values = {name: value for name, value in values.items() if value not in (None, [])}
    text = yaml.safe_dump(values, sort_keys=False, allow_unicode=True, width=120)
    (folder / "rdf.yaml").write_text(text, encoding="utf-8")


def _describe_input(folder: Path, metadata: ModelMetadata, halo: int, step: int) -> dict[str, Any]:
    channels, bounds = metadata.info.input.channels, metadata.info.input.value_range
    names = ["red", "green", "blue"] if channels == 3 else [f"channel{index}" for index in range(channels)]
    low, high = bounds or (0.0, 255.0)
    described: dict[str, Any] = {
        "id": INPUT,
        "description": f"An image whose values are {low:.10g} to {high:.10g}.",
        "axes": [
            {"type": "batch"},
            {"type": "channel", "channel_names": names},
            *({"type": "space", "id": axis, "size": {"min": 2 * halo + step, "step": step}} for axis in "yx"),
        ],
        "data": {"type": "float32", "range": [low, high]},
        "test_tensor": _file(folder / "test_input.npy"),
        "pad": {"mode": "symmetric"},
    }
    if (low, high) != (0.0, 255.0):
        gain = 255 / (high - low)
        described["preprocessing"] = [{"id": "scale_linear", "kwargs": {"gain": gain, "offset": -low * gain}}]
    return described


def _describe_output(folder: Path, metadata: ModelMetadata, halo: int) -> dict[str, Any]:
    crop = {"halo": halo} if halo else {}
    return {
        "id": OUTPUT,
        "description": "The probability of each class; the largest one labels the pixel.",
        "axes": [
            {"type": "batch"},
            {"type": "channel", "channel_names": list(metadata.info.labels.class_names)},
            *({"type": "space", "id": axis, "size": {"tensor_id": INPUT, "axis_id": axis}, **crop} for axis in "yx"),
        ],
        "data": {"type": "float32", "range": [0.0, 1.0]},
        "test_tensor": _file(folder / "test_output.npy"),
    }


def _file(path: Path) -> dict[str, str]:
    return {"source": path.name, "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}


def _make_image(metadata: ModelMetadata, size: tuple[int, int]) -> Float32:
    """Return one image of noisy squares, 1 x C x H x W, in the values of the network's files."""
    shape = (*size, metadata.info.input.channels)
    random = np.random.default_rng(0)
    squares = random.integers(0, 192, (size[0] // 16 + 1, size[1] // 16 + 1, shape[2])).repeat(16, 0).repeat(16, 1)
    image = squares[: size[0], : size[1]] + random.integers(0, 64, shape)
    low, high = metadata.info.input.value_range or (0.0, 255.0)
    return (low + image * ((high - low) / 255)).astype(np.float32).transpose(2, 0, 1)[None]


def _prepare(image: Float32, metadata: ModelMetadata) -> Float32:
    """Return the image after the preprocessing in rdf.yaml."""
    low, high = metadata.info.input.value_range or (0.0, 255.0)
    gain = 255 / (high - low)
    return image if (low, high) == (0.0, 255.0) else (image * gain - low * gain).astype(np.float32)


def _predict(path: Path, nodes: int, image: Float32) -> Float32:
    """Return the network's output for an image, nothing padded and nothing cropped."""
    output: Float32 = open_session(path, lambda: str(path), nodes).value.run([OUTPUT], {INPUT: image})[0]
    return output


def _clean(name: str) -> str:
    """Return a name that the specification allows: 5 to 64 letters, digits and _ + - ( ) or blanks."""
    clean = re.sub(r"[^A-Za-z0-9_+ ()-]", "-", name)[:50]
    return clean if len(clean) >= 5 else f"fullconv {clean}"


def _notes(metadata: ModelMetadata, licence: str | None, author: str | None) -> Iterator[str]:
    """Yield what bioimage.io asks for and the package does not say."""
    if not metadata.info.exact:
        yield "the network has global context, so the package has no halo: results of blocks differ at their borders"
    if author is None:
        yield "the package names no author, which bioimage.io's collection asks for: give --author NAME"
    if licence is None:
        yield "the package names no licence: give --licence with an identifier of SPDX, such as MIT"
