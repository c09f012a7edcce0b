"""Hook of mkdocs: fills in references that are made from the code, and leaves missing pages out of the navigation."""

from pathlib import Path
from typing import Any

from edgefilter.products.reference import settings_reference, tables_reference

_REFERENCES = {"<!-- settings -->": settings_reference, "<!-- tables -->": tables_reference}


def on_config(config: Any) -> Any:
    """Remove pages from the navigation whose files do not exist."""
    config["nav"] = _existing(config["nav"], Path(config["docs_dir"]))
    return config


def _existing(entry: Any, folder: Path) -> Any:
    if isinstance(entry, str):
        return entry if (folder / entry).is_file() else None
    if isinstance(entry, list):
        return [found for item in entry if (found := _existing(item, folder))]
    return {name: found for name, item in entry.items() if (found := _existing(item, folder))}


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Replace the markers of a page by the references."""
    for marker, make in _REFERENCES.items():
        if marker in markdown:
            markdown = markdown.replace(marker, make())
    return markdown
