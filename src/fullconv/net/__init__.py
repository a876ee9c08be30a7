"""Networks: surgery on classifiers, skips, upsampling, weights files."""

__all__: list[str] = []
