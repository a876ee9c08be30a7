"""The skip network: score layers, upsampling and fusion on the features of a classifier."""

__all__: list[str] = []
