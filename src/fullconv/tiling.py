"""What a pixel of a label map depends on, and how an image is cut accordingly. Plain ints."""

from __future__ import annotations

from dataclasses import dataclass

from fullconv.geometry import Field

__all__ = ["Window"]


@dataclass(frozen=True)
class Window:
    """Which pixels of the image the label of one depends on, along one axis.

    It needs `before` pixels before it and `after` pixels after it: the halo. What is cut out starts at a multiple of
    `period`, so that the cells of a strided network lie on it as they lie on the whole image.
    """

    before: int
    after: int
    period: int = 1

    @classmethod
    def of(cls, field: Field) -> Window:
        """What a pixel of a dense network depends on; ModelError where `field` is not one of pixels."""
        return cls(*field.halo, field.advance)

    @classmethod
    def centred(cls, size: int) -> Window:
        """The input of a classifier, with the pixel in its middle (for even sizes the first one behind it)."""
        return cls(size // 2, size - 1 - size // 2)

    @property
    def size(self) -> int:
        """Pixels of a cut for one pixel; all cuts have this size."""
        return self.before + self.after + self.period

    def start(self, pixel: int) -> int:
        """The first pixel of the cut for `pixel`; below 0 outside of the image."""
        return (pixel - self.before) // self.period * self.period
