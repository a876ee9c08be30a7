"""An image whose strokes are in memory: its canvas, its journal, and the last request of each client."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fullconv.errors import DataError
from fullconv.label.store.canvas import Base, Canvas
from fullconv.label.store.journal import Journal, read_journal
from fullconv.label.store.strokes import Stroke, parse_operations

__all__ = ["Opened"]


class Opened:
    """A canvas and its journal; `bytes` are those of the canvas when the image was last used.

    `stamps` identify the files that were read.
    """

    def __init__(
        self, path: Path, photo: Path, size: tuple[int, int], base: Base | None, stamps: Sequence[Any] = ()
    ) -> None:
        """Paint the strokes of the journal `path` again, on an image of `size` (height, width).

        Raises DataError if the journal is damaged, or if it is that of another image than `photo`.
        """
        lines, length = read_journal(path)
        if lines and lines[0].get("size", list(size)) != list(size):
            message = (
                f"{path}: was painted on an image of another size than {photo}, which has {size[1]} x {size[0]} "
                "pixels; put the image back that was labelled"
            )
            raise DataError(message, code="other-image-labelled")
        self.canvas, self.journal, self.stamps = Canvas(size, base), Journal(path, length), list(stamps)
        self._last: dict[str, tuple[object, Stroke]] = {}
        for line, operation in zip(lines, parse_operations(lines, str(path)), strict=True):
            stroke = self._replay(operation, photo)
            self._last[stroke.client] = line.get("number"), stroke
        self.bytes = self.canvas.bytes

    def _replay(self, operation: tuple[str, Stroke | int, str], photo: Path) -> Stroke:
        """Carry out an operation of the journal, and return its stroke."""
        name, subject, client = operation
        if isinstance(subject, Stroke):
            if subject.box[2] > self.canvas.size[1] or subject.box[3] > self.canvas.size[0]:
                message = f"{self.journal.path}: paints outside of {photo}; put the image back that was labelled"
                raise DataError(message, code="other-image-labelled")
            return self.canvas.add(subject)
        moved = self.canvas.undo(client) if name == "undo" else self.canvas.redo(client)
        if moved is None or moved.id != subject:
            message = f"{self.journal.path}: undoes a stroke that it does not hold; restore the file from a copy"
            raise DataError(message, code="damaged-journal")
        return moved

    def write(self, line: Mapping[str, Any], stroke: Stroke, number: int | None) -> None:
        """Put an operation on a stroke on the disk, with the number of its request.

        The first line of a journal has the size of the image, too. Raises FullconvError if it cannot be written.
        """
        more: dict[str, Any] = {}
        if not self.journal.length:
            more["size"] = list(self.canvas.size)
        if number is not None:
            more["number"] = number
        self.journal.append({**line, **more})
        self._last[stroke.client] = number, stroke

    def answered(self, client: str, number: int | None) -> Stroke | None:
        """Return the stroke of a client's last request if it had this number, and its answer was lost; None if not."""
        last, stroke = self._last.get(client, (None, None))
        return stroke if number is not None and last == number else None
