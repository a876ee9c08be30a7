"""What makes training crops: colours and damage of cameras, places of rare classes, and objects from other images."""

__all__: list[str] = []
