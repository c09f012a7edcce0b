"""Settings from a tree of values and ``section.key`` overrides; every mistake is one line."""

import copy
import tomllib
from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from edgefilter.core.errors import ConfigError

Model = TypeVar("Model", bound=BaseModel)


def validate(
    model: type[Model],
    tree: dict[str, Any],
    overrides: Mapping[str, str] | None = None,
    where: str = "settings",
) -> Model:
    """Build settings from a tree of values.

    Parameters
    ----------
    model
        Class of the settings.
    tree
        Sections and their values; it is not changed.
    overrides
        ``section.key`` to TOML value text, as ``--set`` takes them; they win over ``tree``.
    where
        What to call the tree in an error: the name of the file.

    Returns
    -------
    Model
        The settings.

    Raises
    ------
    ConfigError
        One line a mistake: where, key, what is wrong.
    """
    tree = copy.deepcopy(tree)
    for key, value in (overrides or {}).items():
        _apply_override(tree, key, value)
    try:
        return model.model_validate(tree)
    except ValidationError as error:
        raise ConfigError("\n".join(_error_lines(error, where))) from None


def _apply_override(tree: dict[str, Any], key: str, text: str) -> None:
    *sections, name = key.split(".")
    if not name or len(sections) != (2 if sections[:1] == ["stages"] else 1):
        raise ConfigError(f"--set {key}={text}: the key must be SECTION.KEY, such as pulses.snr, or stages.NAME.KEY")
    try:
        parsed = tomllib.loads(f"value = {text}")
    except tomllib.TOMLDecodeError:
        parsed = {}
    value = parsed["value"] if len(parsed) == 1 else text  # a bare word is a string
    table: Any = tree
    for depth, section in enumerate(sections, 1):
        table = table.setdefault(section, {})
        if not isinstance(table, dict):
            raise ConfigError(f"--set {key}={text}: {'.'.join(sections[:depth])} is not a section")
    table[name] = value


def _error_lines(error: ValidationError, where: str) -> list[str]:
    lines = []
    for item in error.errors(include_url=False):
        key = ".".join(str(part) for part in item["loc"])
        message = item["msg"].removeprefix("Value error, ")
        if item["type"] == "extra_forbidden":
            message = "no such setting"
        value = "" if item["type"] in ("value_error", "missing", "extra_forbidden") else f" is {item['input']!r}:"
        head = f"{where}: {key}" if key else where
        # The message of a plug-in may have several lines.
        lines += [f"{head}{value} {line}" if value and key else f"{head}: {line}" for line in message.splitlines()]
    return lines
