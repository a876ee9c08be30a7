"""Commands that open a page in the browser."""

__all__: list[str] = []
