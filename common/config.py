"""Strict configuration: a frozen pydantic base, TOML in, and errors that a person can act on.

Every folder owns its own models, built on `StrictModel`; `cluster.recipe.config.RunConfig` composes
them. This module knows none of them.
"""

import itertools
import tomllib
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from common.config_mistakes import in_words
from common.errors import ConfigError, FileMissingError, StorageError
from common.storage import Named, locate

Tree = dict[str, Any]
ModelT = TypeVar("ModelT", bound=BaseModel)


class StrictModel(BaseModel):
    """Base of every configuration and specification model: frozen, unknown keys refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


def read_toml(path: Named) -> Tree:
    """Read a TOML file.

    Raises:
        ConfigError: the file is missing or not TOML.
    """
    location = locate(path)
    try:
        return tomllib.loads(location.read_bytes().decode())
    except StorageError as error:
        missing = isinstance(error, FileMissingError) or location.is_dir()
        reason = f"{location}: no such recipe; give the path of a .toml file"
        raise ConfigError(reason if missing else str(error)) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{location}: not a TOML file ({error})") from None


def apply_overrides(tree: Tree, overrides: Sequence[str]) -> Tree:
    """Return `tree` with `a.b.c=value` overrides applied.

    A value is read as a TOML value (`3`, `true`, `[16, 16]`, `"text"`) and taken as plain text
    where it is not one.

    Raises:
        ConfigError: an override has no `=`, an empty key, or runs through a value.
    """
    for override in overrides:
        key, separator, text = override.partition("=")
        if not separator or not all(key.strip().split(".")):
            raise ConfigError(f"--set {override}: expected key=value, for example seed=1")
        tree = with_value(tree, key.strip(), parse_value(text), source=f"--set {override}")
    return tree


def with_value(tree: Tree, key: str, value: Any, *, source: str) -> Tree:
    """Return `tree` with the value of one key changed.

    Args:
        tree: of tables, as read from TOML.
        key: `a.b.c`; in an array of tables a part is a table's name: `tasks.pong.teacher.path`.
        value: the new one.
        source: who wants it, for messages.

    Raises:
        ConfigError: the key runs through a value.
    """
    result: Tree = _copy(tree)
    parts = key.split(".")
    node = result
    for part, name in itertools.pairwise(parts):
        child = node.setdefault(part, {})
        if isinstance(child, list):  # of tables, which are told apart by their names
            child = {table["name"]: table for table in child if "name" in table}
            if name not in child:
                known = ", ".join(child)
                raise ConfigError(f"{source}: {part} has no {name}, only {known}")
        if not isinstance(child, dict):
            raise ConfigError(f"{source}: {part} is a value, not a table")
        node = child
    node[parts[-1]] = value
    return result


def parse_value(text: str) -> Any:
    """Read a TOML value; what is none is plain text."""
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def validate(model: type[ModelT], tree: Mapping[str, Any], source: str) -> ModelT:
    """Build `model` from `tree`.

    Raises:
        ConfigError: with the path, the value and what is allowed, one clause a mistake.
    """
    try:
        return model.model_validate(tree)
    except ValidationError as error:
        raise ConfigError(f"{source}: " + "; ".join(in_words(model, error))) from None


def _copy(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _copy(child) for key, child in value.items()}
    return [_copy(child) for child in value] if isinstance(value, list) else value
