"""Parsing of XML annotations, without entities and external files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NoReturn
from xml.etree.ElementTree import Element, TreeBuilder
from xml.parsers import expat

from fullconv.errors import DataError
from fullconv.faults import Fault, unreadable
from fullconv.files import open_regular

__all__ = ["parse_xml", "read_xml"]


def read_xml(path: Path) -> Element:
    """Return the root element of a small file. Raises DataError as `parse_xml`."""
    builder = TreeBuilder()
    parse_xml(path, builder.start, builder.end, builder.data)
    return builder.close()


def parse_xml(
    path: Path,
    start: Callable[[str, dict[str, str]], object],
    end: Callable[[str], object],
    text: Callable[[str], object],
) -> None:
    """Call the functions for each element and each text. Raises DataError if the file has a DTD or is not XML."""
    parser = expat.ParserCreate()
    parser.buffer_text = True
    parser.StartElementHandler = start
    parser.EndElementHandler = end
    parser.CharacterDataHandler = text

    def refuse(*declaration: object) -> NoReturn:
        problem = "has a DTD, which annotation tools do not write; it may define entities"
        raise DataError.of(Fault("invalid-annotations", path, problem, "export the annotations again"))

    parser.StartDoctypeDeclHandler = refuse
    try:
        with open(open_regular(path, follow=True), "rb") as file:
            parser.ParseFile(file)
    except OSError as error:
        raise DataError.of(unreadable(path, error)) from None
    except expat.ExpatError as error:
        fault = Fault("invalid-annotations", path, f"is not XML ({error})", "export the annotations again")
        raise DataError.of(fault) from None
