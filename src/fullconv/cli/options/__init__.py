"""The options of the commands: those that several share, and how the help lists them."""

__all__: list[str] = []
