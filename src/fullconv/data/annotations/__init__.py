"""Parts of annotation files that every format has: references to images, and annotations without area."""

__all__: list[str] = []
