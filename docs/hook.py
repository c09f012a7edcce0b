"""What mkdocs cannot do alone: references made from the code, and a table of contents of the pages that are there."""

from pathlib import Path
from typing import Any

from edgefilter.products.reference import settings_reference, tables_reference

_MADE = {"<!-- settings -->": settings_reference, "<!-- tables -->": tables_reference}


def on_config(config: Any) -> Any:
    """Leave pages out of the navigation whose files are not there."""
    config["nav"] = _there(config["nav"], Path(config["docs_dir"]))
    return config


def _there(entry: Any, folder: Path) -> Any:
    if isinstance(entry, str):
        return entry if (folder / entry).is_file() else None
    if isinstance(entry, list):
        return [kept for kept in (_there(item, folder) for item in entry) if kept]
    kept = {name: _there(item, folder) for name, item in entry.items()}
    return {name: item for name, item in kept.items() if item}


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Put the references where their marks stand."""
    for mark, make in _MADE.items():
        if mark in markdown:
            markdown = markdown.replace(mark, make())
    return markdown
