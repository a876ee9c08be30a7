"""Print the lowest allowed version of every direct dependency as pip constraints, for `make lowest`."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

EXTRAS = ("train", "geo", "video", "openvino", "serve", "test")


def constraints() -> list[str]:
    """Return `name==version` for every dependency that the tests use."""
    project = tomllib.loads((Path(__file__).parent.parent / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    found = []
    for requirement in [*project["dependencies"], *(one for extra in EXTRAS for one in extras[extra])]:
        match = re.match(r"([\w.-]+)(?:\[[\w,]+\])?>=([\d.]+)", requirement)
        if match is None:
            raise ValueError(f"pyproject.toml: {requirement} has no lower bound")
        found.append(f"{match[1]}=={match[2]}")
    return found


if __name__ == "__main__":
    print(*constraints(), sep="\n")
