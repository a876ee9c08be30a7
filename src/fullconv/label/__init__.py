"""Label photos in the browser while the network learns: the server of the page, and what it keeps on disk."""

__all__: list[str] = []
