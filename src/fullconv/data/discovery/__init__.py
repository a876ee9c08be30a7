"""Find images, masks and splits in a folder as it lies, by names, structure and content."""

__all__: list[str] = []
