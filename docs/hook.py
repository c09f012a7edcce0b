"""Hook of mkdocs: inserts the references that are generated from the code."""

from typing import Any

from edgefilter.products.reference import settings_reference, tables_reference

_REFERENCES = {"<!-- settings -->": settings_reference, "<!-- tables -->": tables_reference}


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Replace the markers in a page by the references."""
    for marker, reference in _REFERENCES.items():
        if marker in markdown:
            markdown = markdown.replace(marker, reference())
    return markdown
