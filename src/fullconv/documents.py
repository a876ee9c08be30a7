"""JSON and YAML from files that may be damaged or hostile: bounded in depth and size, without YAML's aliases."""

from __future__ import annotations

import json
from typing import Any

import yaml

__all__ = ["describe_errors", "dump_yaml", "parse_json", "parse_yaml"]

MAX_DEPTH = 100
MAX_NODES = 200_000
"""Values in a YAML document. Its parser takes a second for some ten thousand."""


def parse_json(text: str) -> Any:
    """Return the values of a JSON document. Raises ValueError for anything else, and for one that is nested deeply."""
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def describe_errors(error: Exception, whole: str = "it", most: int = 3) -> str:
    """Return the text of an error; of a ValidationError of pydantic, the first `most` places and reasons.

    `whole` names the value at the top.
    """
    listed = getattr(error, "errors", None)
    if listed is None:
        return str(error)
    places = [f"{'.'.join(map(str, one['loc'])) or whole}: {one['msg']}" for one in listed()[:most]]
    return "; ".join(places)


def parse_yaml(text: str) -> Any:
    """Return the values of a YAML document, as `yaml.safe_load`.

    Raises ValueError for anything else, for aliases (a few lines of them can stand for gigabytes), and for a document
    that is nested deeply or has very many values.
    """
    try:
        return yaml.load(text, Loader=_Loader)
    except yaml.YAMLError as error:
        raise ValueError(" ".join(str(error).split())) from None
    except (RecursionError, OverflowError, AttributeError, TypeError, LookupError) as error:
        raise ValueError(f"a value cannot be read ({type(error).__name__})") from None


def dump_yaml(values: Any) -> str:
    """Return plain values as YAML that `parse_yaml` reads, in their order."""
    return yaml.dump(values, Dumper=_Dumper, sort_keys=False, allow_unicode=True)


class _Loader(yaml.SafeLoader):
    """PyYAML's safe loader with bounds."""

    def __init__(self, stream: str) -> None:
        super().__init__(stream)
        self._depth = self._nodes = 0

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        """Read a value."""
        if self.check_event(yaml.events.AliasEvent):
            raise yaml.YAMLError("it has an alias (*name); write the value out")
        self._nodes, self._depth = self._nodes + 1, self._depth + 1
        if self._nodes > MAX_NODES:
            raise yaml.YAMLError(f"it has more than {MAX_NODES:,} values")
        if self._depth > MAX_DEPTH:
            raise yaml.YAMLError("it is nested too deeply")
        node = super().compose_node(parent, index)
        self._depth -= 1
        return node


class _Dumper(yaml.SafeDumper):
    """PyYAML's safe dumper, which writes a value out each time that it occurs."""

    def ignore_aliases(self, data: Any) -> bool:
        """Never write an alias."""
        return True
