"""HTML pages: one base template and one style sheet for all pages that fullconv writes."""

__all__: list[str] = []
