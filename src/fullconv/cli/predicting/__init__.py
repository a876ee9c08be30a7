"""The parts of `fullconv predict` past one process and one image, and `fullconv join`."""

__all__: list[str] = []
