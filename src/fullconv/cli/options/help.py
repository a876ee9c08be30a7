"""Help of commands with many options: one list for each group."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from typer.core import TyperCommand

__all__ = ["GroupedCommand", "group_options"]


def group_options(params: Iterable[Any]) -> dict[str, list[Any]]:
    """Return the parameters by the title of their group, in the order of the command; `Arguments` and `Options` first.

    An option's group is its `rich_help_panel`. Rich itself is not used: to import it takes as long as the help.
    """
    groups: dict[str, list[Any]] = {"Arguments": [], "Options": []}
    for param in params:
        title = "Arguments" if param.param_type_name == "argument" else param.rich_help_panel or "Options"
        groups.setdefault(title, []).append(param)
    return {title: some for title, some in groups.items() if some}


class GroupedCommand(TyperCommand):
    """A command whose help has a section for each group of options."""

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write the sections."""
        for title, params in group_options(self.get_params(ctx)).items():
            records = [record for param in params if (record := param.get_help_record(ctx)) is not None]
            if records:
                with formatter.section(title):
                    formatter.write_dl(records)
