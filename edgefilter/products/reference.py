"""References of all settings and all tables, in Markdown, generated from the code."""

import ast
import inspect
import textwrap
from collections.abc import Iterator, Mapping
from typing import Any

import pyarrow as pa
from pydantic import BaseModel

from edgefilter.core import config
from edgefilter.products.schemas import PATH_COLUMNS, SCHEMAS

_BOUNDS = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}


def settings_reference(model: type[BaseModel] = config.NodeConfig) -> str:
    """Return a table of settings for each section of a configuration: key, default, allowed values, meaning.

    Parameters
    ----------
    model
        Class of the configuration.

    Returns
    -------
    str
        Markdown.
    """
    schema = model.model_json_schema()
    return "\n".join(
        line
        for key, value in schema["properties"].items()
        for line in _section(key, schema["$defs"][_section_name(value)], _section_name(value))
    )


def tables_reference() -> str:
    """Return a table of columns for each table of a store, in Markdown: name, type, unit, meaning."""
    lines = []
    for name, schema in SCHEMAS.items():
        lines.append(f"### `{name}`\n\n| Column | Type | Unit | Meaning |\n| --- | --- | --- | --- |")
        for column in (*schema, *PATH_COLUMNS):
            unit, meaning = (column.metadata[key].decode() for key in (b"unit", b"description"))
            lines.append(f"| `{column.name}` | {_column_type(column.type)} | {unit} | {meaning} |")
        lines.append("")
    return "\n".join(lines)


def _column_type(kind: pa.DataType) -> str:
    return f"list of {kind.value_type}" if pa.types.is_list(kind) else str(kind)


def _section(key: str, schema: Mapping[str, Any], name: str) -> Iterator[str]:
    meanings = _meanings(getattr(config, name))
    yield f"## `[{key}]`\n\n{textwrap.dedent(schema.get('description', '')).strip()}\n"
    yield "| Key | Default | Values | Meaning |\n| --- | --- | --- | --- |"
    for field, value in schema["properties"].items():
        if field in schema.get("required", ()):
            default = "required"
        else:
            default = "follows" if value.get("default") is None else f"`{_toml(value['default'])}`"
        meaning = meanings.get(field, "").replace("|", "\\|").replace("``", "`")
        yield f"| `{field}` | {default} | {_allowed(value)} | {meaning} |"
    yield ""


def _section_name(value: Mapping[str, Any]) -> str:
    """Return the name of the section class that a property refers to: alone, in a list, or as one of several."""
    choices = [value, *value.get("anyOf", ()), *value.get("allOf", ()), value.get("items", {})]
    return next(str(choice["$ref"]).rpartition("/")[2] for choice in choices if "$ref" in choice)


def _meanings(section: type[BaseModel]) -> dict[str, str]:
    """Return the docstring below each field; it is read from the source, because Python does not store it."""
    body = ast.parse(textwrap.dedent(inspect.getsource(section))).body[0]
    assert isinstance(body, ast.ClassDef)
    found = {}
    for field, text in zip(body.body, body.body[1:], strict=False):
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name) and isinstance(text, ast.Expr):
            found[field.target.id] = inspect.cleandoc(str(ast.literal_eval(text.value))).replace("\n", " ")
    return found


def _allowed(value: Mapping[str, Any]) -> str:
    choices = [choice for choice in value.get("anyOf", [value]) if choice.get("type") != "null"]
    return " or ".join(_allowed_choice(choice) for choice in choices)


def _allowed_choice(value: Mapping[str, Any]) -> str:
    if "$ref" in value:
        choices = list(getattr(config, str(value["$ref"]).rpartition("/")[2]))
        return ", ".join(f'`"{choice.value}"`' for choice in choices)
    if "enum" in value:
        return ", ".join(f'`"{choice}"`' for choice in value["enum"])
    bounds = ", ".join(f"{sign} {value[key]:,.12g}" for key, sign in _BOUNDS.items() if key in value)
    kind = {"array": "list", "boolean": "true, false", "string": "text"}.get(value["type"], value["type"])
    return f"{kind} {bounds}".strip()


def _toml(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return f'"{value}"'
    if isinstance(value, list):
        return f"[{', '.join('follows' if item is None else _toml(item) for item in value)}]"
    return str(value)
