"""The images of Label Studio's tasks: their references, and the image that each region belongs to."""

from __future__ import annotations

import logging
import re
import shlex
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from fullconv.errors import DataError
from fullconv.images import BAND_SUFFIXES

__all__ = ["image_references", "match_keys", "rename_remedy"]

logger = logging.getLogger(__name__)

PREFERRED = "image"
"""The key of the image in most tasks."""


def image_references(data: Mapping[str, Any]) -> dict[str, list[str]]:
    """Return the paths of a task's images by key, "image" first; a value may be a list of images."""
    references = {}
    for key, value in sorted(data.items(), key=lambda item: item[0] != PREFERRED):
        values = value if isinstance(value, list) else [value]
        paths = [path for path in map(_path_of, values) if path is not None]
        if paths and len(paths) == len(values):
            references[key] = paths
    return references


def match_keys(targets: Collection[str], keys: Sequence[str]) -> dict[str, str]:
    """Return the key of the data for each object tag (`to_name`) that regions refer to.

    The export does not contain the labelling configuration, so these rules apply in order: a single key is that of all
    tags; a key equals the tag; key and tag end in the same number, which no other has. A single tag belongs to "image".
    Raises DataError if these rules leave a tag without a key.
    """
    if len(keys) < 2:
        return {target: key for target in targets for key in keys}
    if len(targets) == 1 and PREFERRED in keys and not set(targets) & set(keys):
        return dict.fromkeys(targets, PREFERRED)
    matched = {}
    for target in sorted(targets):
        equal = [key for key in keys if key == target]
        numbered = [key for key in keys if _number(key) is not None and _number(key) == _number(target)]
        rivals = [other for other in targets if _number(other) == _number(target)]
        candidates = equal or (numbered if len(rivals) == 1 else [])
        if len(candidates) == 1:
            matched[target] = candidates[0]
    if len(matched) < len(targets) or len(set(matched.values())) < len(matched):
        tags = ", ".join(sorted(target or "''" for target in targets))
        problem = f"its tasks have {len(keys)} images ({', '.join(keys)}), and the regions refer to {tags}"
        raise DataError(f"{problem}: it is not certain which region belongs to which image", code="ambiguous-image")
    if any(target != key for target, key in matched.items()):
        pairs = ", ".join(f"{target} is on {key}" for target, key in matched.items())
        logger.info("regions belong to images by number: %s", pairs)
    return matched


def rename_remedy(path: Path, targets: Collection[str], keys: Sequence[str]) -> str:
    """Return the command that gives a tag the name of its key."""
    tag = next((target for target in sorted(targets) if target not in keys), "TAG") or "TAG"
    command = f"""sed -i -E 's/("to_name": *)"{tag}"/\\1"KEY"/g' {shlex.quote(str(path))}"""
    return f"give each tag the name of its image's key (KEY: {', '.join(keys)}): {command}"


def _path_of(value: object) -> str | None:
    """Return the path of an image from a URL, or from `?d=` for local files; None for anything else."""
    if not isinstance(value, str):
        return None
    try:
        parts = urlsplit(value)
    except ValueError:
        return None
    name = parse_qs(parts.query).get("d", [""])[0] or unquote(parts.path)
    return name if PurePosixPath(name).suffix.lower() in BAND_SUFFIXES else None


def _number(name: str) -> int | None:
    match = re.search(r"\d+$", name)
    return int(match[0]) if match else None
