"""From a classifier to a dense network: linear layers become convolutions, strides become dilation."""

__all__: list[str] = []
