"""Write docs/commands.md from the commands. With --check, exit with an error if the page is not current."""

from __future__ import annotations

import json
import sys
from inspect import cleandoc
from pathlib import Path
from typing import Any

from typer.main import get_command

from fullconv.cli.app import app
from fullconv.cli.options.help import group_options
from fullconv.files import write_text
from fullconv.training.recipe import Recipe, default_recipe, paper_recipe

TARGET = Path(__file__).with_name("commands.md")

EXIT_CODES = """Results go to stdout; progress and messages go to stderr.
Exit codes: 0 done, 1 failed, 2 wrong usage, 3 bad data, 4 bad model, 70 a fault of fullconv, 130 stopped by a signal.
`fullconv --install-completion` lets bash, zsh, fish and PowerShell complete commands and options with the Tab key.
"""


def document() -> str:
    """Return the page, with a section for each command in the order of `fullconv --help`."""
    group: Any = get_command(app)
    parts = [
        "# The commands",
        "",
        "`docs/make_commands.py` writes this page from the code. Change the code, not this page.",
        "",
    ]
    parts += [EXIT_CODES, "Options before the command:", "", *_table(group.params), ""]
    for name, command in _list_commands(group):
        arguments = [_usage(param) for param in command.params if param.param_type_name == "argument"]
        parts += [f"## fullconv {name}", "", "```", " ".join(["fullconv", name, *arguments, "[OPTIONS]"]), "```", ""]
        parts += [_text(block) + "\n" for block in command.help.split("\n\n")]
        for title, params in group_options(command.params).items():
            parts += [f"{title}:", "", *_table(params), ""]
    return "\n".join([*parts, *_recipe()]).rstrip() + "\n"


def _list_commands(group: Any, before: str = "") -> list[tuple[str, Any]]:
    """List the commands with their full names. The commands of a group take the place of the group."""
    commands: list[tuple[str, Any]] = []
    for name, command in group.commands.items():
        inner = hasattr(command, "commands")
        commands += _list_commands(command, f"{before}{name} ") if inner else [(before + name, command)]
    return commands


def _recipe() -> list[str]:
    """Return the section with the values that `--set` accepts."""
    recipes = zip(default_recipe().to_dict().items(), paper_recipe().to_dict().values(), strict=True)
    rows = [f"| `{name}` | `{json.dumps(default)}` | `{json.dumps(paper)}` |" for (name, default), paper in recipes]
    head = ["| --set | default | paper |", "|---|---|---|"]
    return ["## The recipes", "", cleandoc(Recipe.__doc__ or ""), "", *head, *rows]


def _usage(param: Any) -> str:
    name = param.metavar or param.name.upper()
    return f"{name}..." if param.nargs == -1 else str(name)


def _table(params: list[Any]) -> list[str]:
    rows = ["| | | default |", "|---|---|---|"]
    for param in params:
        is_flag = getattr(param, "is_flag", False)
        named = param.param_type_name == "option"
        name = " ".join([*param.opts[:1], *([] if is_flag else [param.metavar])]) if named else _usage(param)
        shown = _default(param, is_flag)
        rows.append("| " + " | ".join(_escaped(cell) for cell in (f"`{name}`", _text(param.help or ""), shown)) + " |")
    return rows


def _default(param: Any, is_flag: bool) -> str:
    if param.required:
        return "required"
    if isinstance(param.show_default, str):
        return f"`{param.show_default}`" if set("<-") & set(param.show_default) else str(param.show_default)
    return "" if is_flag or param.default is None else f"`{param.default}`"


def _text(block: str) -> str:
    """Return the text on one line, with < escaped, so that a placeholder such as <stem> is not HTML."""
    return " ".join(block.split()).replace("<", "&lt;")


def _escaped(cell: str) -> str:
    return cell.replace("|", "\\|")


def main() -> None:
    """Write the page, or compare it with --check."""
    text = document()
    if "--check" not in sys.argv[1:]:
        write_text(TARGET, text)
    elif not TARGET.is_file() or TARGET.read_text(encoding="utf-8") != text:
        sys.exit(f"{TARGET.name} is not current: run python docs/{Path(__file__).name}")


if __name__ == "__main__":
    main()
