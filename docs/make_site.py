"""Hooks of `make docs`: pages from files outside of docs/, the API, and no request to another server."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parent.parent
SOURCE = ROOT / "src" / "fullconv"
COPIED = {
    "README.md": "index.md",
    "README.zh-CN.md": "zh.md",
    "CHANGELOG.md": "changes.md",
    "CONTRIBUTING.md": "contributing.md",
    "SECURITY.md": "reporting.md",
}
CARDS = {f"src/fullconv/models/{card.name}": f"models/{card.name}" for card in SOURCE.glob("models/*.md")}
PAGES = {source: page for source, page in (COPIED | CARDS).items() if (ROOT / source).is_file()}
LINK = re.compile(r"(!?)\[([^\]]*)\]\(([^)#:\s]+)(#[^)\s]*)?\)")
FOREIGN = re.compile(r"""<(?:script|link|img|iframe)\b[^>]*?\b(?:src|href)=["']?(?:https?:)?//[^>]*>""")


def on_config(config: Any) -> Any:
    """Add the API, one page a room, and the Chinese page to the navigation."""
    config["nav"].append({"API": [{name: f"api/{name}.md"} for name in _rooms()]})
    if "README.zh-CN.md" in PAGES:
        config["nav"].insert(1, {"中文": "zh.md"})
    return config


def on_files(files: Files, config: Any) -> Files:
    """Add the pages that docs/ does not hold."""
    for source, page in PAGES.items():
        text = (ROOT / source).read_text(encoding="utf-8")
        files.append(File.generated(config, page, content=text))
    for room, modules in _rooms().items():
        first = f"::: {modules[0]}\n    options: {{heading_level: 1}}"
        text = "\n\n".join([first, *(f"::: {module}" for module in modules[1:])])
        files.append(File.generated(config, f"api/{room}.md", content=text))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Let links between files of the repository lead to the pages made of them; text remains where there is no page."""
    here = page.file.src_uri
    source = next((source for source, made in PAGES.items() if made == here), f"docs/{here}")

    def follow(match: re.Match[str]) -> str:
        image, text, target, anchor = match[1], match[2], match[3], match[4] or ""
        path = os.path.normpath(Path(source).parent / target).replace(os.sep, "/")
        made = PAGES.get(path) or (path.removeprefix("docs/") if path.startswith("docs/") else None)
        if not (ROOT / path).exists():
            raise PluginError(f"{source}: there is no {target}")
        if made is None or (ROOT / path).is_dir():
            return text
        link = os.path.relpath(made, Path(here).parent).replace(os.sep, "/")
        return f"{image}[{text}]({link}{anchor})"

    return LINK.sub(follow, markdown)


def on_post_build(config: Any) -> None:
    """Fail on a page that would load a script, style, font or picture from another server."""
    for path in Path(config["site_dir"]).rglob("*"):
        if path.suffix in {".html", ".css"}:
            text = path.read_text(encoding="utf-8")
            found = FOREIGN.findall(text) or re.findall(r"url\(['\"]?(?:https?:)?//[^)]*\)|@import[^;]*//[^;]*", text)
            found = [tag for tag in found if 'rel="canonical"' not in tag]
            if found:
                raise PluginError(f"{path}: asks another server: {found[0]}")


def _rooms() -> dict[str, list[str]]:
    """Return the modules of each room by their dotted names; the package itself comes first."""
    rooms: dict[str, list[str]] = {}
    for path in sorted(SOURCE.rglob("*.py")):
        parts = path.relative_to(SOURCE.parent).with_suffix("").parts
        name = ".".join(parts).removesuffix(".__init__")
        if parts[-1] != "__main__":
            rooms.setdefault(".".join(name.split(".")[:2]), []).append(name)
    return rooms
