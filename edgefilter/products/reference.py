"""References of all settings and all tables, in Markdown, generated from the code."""

import ast
import inspect
import json
import textwrap
from collections.abc import Iterator, Mapping
from typing import Any

import pyarrow as pa
from pydantic import BaseModel

from edgefilter.core import config
from edgefilter.products.schemas import PATH_COLUMNS, SCHEMAS

_BOUNDS = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}


def settings_reference() -> str:
    """Return a table of settings for each section of a configuration, in Markdown: key, default, values, meaning."""
    schema = config.NodeConfig.model_json_schema()
    sections = ((key, _definition_name(value)) for key, value in schema["properties"].items())
    return "\n".join(line for key, name in sections for line in _section(key, name, schema["$defs"]))


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


def _section(key: str, name: str, definitions: Mapping[str, Any]) -> Iterator[str]:
    schema, meanings = definitions[name], _meanings(getattr(config, name))
    yield f"## `[{key}]`\n\n{textwrap.dedent(schema['description']).strip()}\n"
    yield "| Key | Default | Values | Meaning |\n| --- | --- | --- | --- |"
    for field, value in schema["properties"].items():
        default = json.dumps(value.get("default")).replace("null", "follows")
        meaning = meanings.get(field, "").replace("|", "\\|").replace("``", "`")
        default = default if default == "follows" else f"`{default}`"
        yield f"| `{field}` | {default} | {_values(value, definitions)} | {meaning} |"
    yield ""


def _definition_name(value: Mapping[str, Any]) -> str:
    """Return the name of the class that a property refers to, alone or in a list."""
    return str((value | value.get("items", {}))["$ref"]).rpartition("/")[2]


def _meanings(section: type[BaseModel]) -> dict[str, str]:
    """Return the docstring below each field; it is read from the source, because Python does not store it."""
    body = ast.parse(textwrap.dedent(inspect.getsource(section))).body[0]
    assert isinstance(body, ast.ClassDef)
    found = {}
    for field, text in zip(body.body, body.body[1:], strict=False):
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name) and isinstance(text, ast.Expr):
            found[field.target.id] = inspect.cleandoc(str(ast.literal_eval(text.value))).replace("\n", " ")
    return found


def _values(value: Mapping[str, Any], definitions: Mapping[str, Any]) -> str:
    choices = [choice for choice in value.get("anyOf", [value]) if choice.get("type") != "null"]
    return " or ".join(_choice(definitions[_definition_name(one)] if "$ref" in one else one) for one in choices)


def _choice(value: Mapping[str, Any]) -> str:
    if "enum" in value:
        return ", ".join(f'`"{choice}"`' for choice in value["enum"])
    bounds = ", ".join(f"{sign} {value[key]:,.12g}" for key, sign in _BOUNDS.items() if key in value)
    kind = {"array": "list", "boolean": "true, false", "string": "text"}.get(value["type"], value["type"])
    return f"{kind} {bounds}".strip()
