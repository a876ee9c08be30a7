"""The command line: one file for each command, and what they share."""

__all__: list[str] = []
