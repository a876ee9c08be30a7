"""A network layer by layer: sizes, receptive fields and costs."""

__all__: list[str] = []
