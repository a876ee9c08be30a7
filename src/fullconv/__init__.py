"""Fully convolutional networks: any image classifier becomes a pixel classifier."""

__version__ = "0.1.0"
__all__ = ["__version__"]
