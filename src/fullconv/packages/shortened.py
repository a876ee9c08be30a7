"""The description of a network without the folders of the computer that trained it, for files that are published."""

from __future__ import annotations

import re
from dataclasses import replace

from fullconv.runtime.metadata import ModelMetadata
from fullconv.runtime.onnx_bytes.wire import iterate_fields, pack

__all__ = ["describe_again", "shorten_paths"]

_PATHS = {"network": ("model",), "scores": ("data",), "weights": ("file", "from", "start")}
"""The notes that may be paths."""

_METADATA, _NAME, _VALUE = 14, 1, 2
"""The field of a ModelProto for its metadata, and the fields of each entry."""


def shorten_paths(metadata: ModelMetadata) -> ModelMetadata:
    """Return the description with only the last part of each path in its notes."""
    notes = dict(metadata.notes)
    for note, names in _PATHS.items():
        if isinstance(values := notes.get(note), dict):
            notes[note] = {name: _shorten(value) if name in names else value for name, value in values.items()}
    return replace(metadata, notes=notes)


def describe_again(content: bytes, metadata: ModelMetadata) -> bytes:
    """Return a file of `fullconv export` with another description. The package onnx is not needed."""
    kept = [content[field.begin : field.end] for field in iterate_fields(content) if field.number != _METADATA]
    entries = (
        pack(_METADATA, pack(_NAME, name.encode()) + pack(_VALUE, text.encode()))
        for name, text in metadata.to_metadata().items()
    )
    return b"".join([*kept, *entries])


def _shorten(value: object) -> object:
    return re.split(r"[/\\]", value.rstrip("/\\"))[-1] if isinstance(value, str) else value
