"""What all readers of annotations need: shapes, run lengths, references to images, and building the data set."""

__all__: list[str] = []
