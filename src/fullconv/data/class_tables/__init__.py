"""Tables of classes that lie with the masks: which files they are, how they are read, and whether they agree."""

__all__: list[str] = []
