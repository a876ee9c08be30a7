"""Names of written files: they are valid on every system, and reading the result finds each of them again."""

from __future__ import annotations

import re
import sys
import unicodedata
from pathlib import PurePosixPath

__all__ = ["name_file", "name_key"]

_UNSAFE = re.compile(r'[<>:"|?*#]')

_RESERVED = re.compile(r"(con|prn|aux|nul|com[0-9¹²³]|lpt[0-9¹²³])\s*(\.|$)", re.IGNORECASE)
"""Names that Windows gives to devices, with any suffix."""

_CASE_COUNTS = sys.platform not in ("win32", "darwin")


def name_file(name: str) -> str:
    """Return the stem of the files of a sample, from its name, which may be a path.

    Folders become part of the name; "." and ".." are dropped. Control characters, line ends, "#", and characters that
    Windows does not allow become "_". Dots and blanks at the start and blanks at the end are cut off: files with
    leading dots are hidden, and lists of names ignore blanks around them.
    """
    parts = [part for part in PurePosixPath(name.replace("\\", "/")).parts if part not in ("/", "//", ".", "..")]
    joined = _UNSAFE.sub("_", "_".join(parts))
    joined = "".join("_" if unicodedata.category(letter) in ("Cc", "Cf", "Zl", "Zp") else letter for letter in joined)
    stem = joined.lstrip(". \u00a0\u3000\ufeff").strip()
    return f"_{stem}" if not stem or _RESERVED.match(stem) else stem


def name_key(stem: str) -> str:
    """Return the key under which a file system may hold a stem only once."""
    key = unicodedata.normalize("NFC", stem)
    return key if _CASE_COUNTS else key.casefold()
