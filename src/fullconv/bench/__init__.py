"""The paper's claims about speed and field of view, measured on the user's machine."""

__all__: list[str] = []
