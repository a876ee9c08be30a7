"""The HTML pages: one base template and one style sheet, used by every page that fullconv writes."""

__all__: list[str] = []
