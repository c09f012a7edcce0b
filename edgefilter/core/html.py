"""Small HTML tables, with which a notebook shows an object. Standard library only: everything imports this."""

from collections.abc import Iterable, Mapping
from html import escape
from typing import Any


def property_table(title: str, rows: Iterable[tuple[str, object]], note: str = "") -> str:
    """Make a table of names and values under a title; all text is escaped.

    Parameters
    ----------
    title
        Line above the table.
    rows
        Names and values.
    note
        Line below the table.

    Returns
    -------
    str
        HTML.
    """
    cells = "".join(
        f'<tr><th style="text-align:left">{escape(name)}</th><td style="text-align:left">{escape(str(value))}</td></tr>'
        for name, value in rows
    )
    below = f"<p>{escape(note)}</p>" if note else ""
    return f"<div><p><strong>{escape(title)}</strong></p><table>{cells}</table>{below}</div>"


def data_table(title: str, names: Iterable[str], rows: Iterable[Iterable[object]], note: str = "") -> str:
    """Make a table with a line of names above rows of values; all text is escaped.

    Parameters
    ----------
    title
        Line above the table.
    names
        Names of the columns.
    rows
        Values, a row each.
    note
        Line below the table.

    Returns
    -------
    str
        HTML.
    """
    head = "".join(f'<th style="text-align:right">{escape(name)}</th>' for name in names)
    body = "".join(
        "<tr>" + "".join(f'<td style="text-align:right">{escape(str(value))}</td>' for value in row) + "</tr>"
        for row in rows
    )
    below = f"<p>{escape(note)}</p>" if note else ""
    return (
        f"<div><p><strong>{escape(title)}</strong></p><table><thead><tr>{head}</tr></thead>"
        f"<tbody>{body}</tbody></table>{below}</div>"
    )


def settings_html(title: str, tree: Mapping[str, Any]) -> str:
    """Make a table of settings, a row for each ``section.key``.

    Parameters
    ----------
    title
        Line above the table.
    tree
        Sections and their values; None is shown as "follows from the stream".

    Returns
    -------
    str
        HTML.
    """
    rows: list[tuple[str, object]] = []
    for name, value in tree.items():
        inner = value.items() if isinstance(value, Mapping) else [("", value)]
        rows += [
            (f"{name}.{key}".rstrip("."), "follows from the stream" if setting is None else setting)
            for key, setting in inner
        ]
    return property_table(title, rows)
