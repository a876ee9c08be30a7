"""Read data sets that were published with tables of their own, as their archives unpack: one module for each."""

__all__: list[str] = []
