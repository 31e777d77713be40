"""Strict configuration: a frozen pydantic base, TOML in, and errors that a person can act on.

Every folder owns its own models, built on `StrictModel`; `cluster.config.RunConfig` composes
them. This module knows none of them.
"""

import difflib
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from common.errors import ConfigError

Tree = dict[str, Any]
ModelT = TypeVar("ModelT", bound=BaseModel)


class StrictModel(BaseModel):
    """Base of every configuration and specification model: frozen, unknown keys refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


def read_toml(path: Path) -> Tree:
    """Read a TOML file.

    Raises:
        ConfigError: the file is missing or not TOML.
    """
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, IsADirectoryError):
        raise ConfigError(f"{path}: no such recipe; give the path of a .toml file") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: not a TOML file ({error})") from None


def apply_overrides(tree: Tree, overrides: Sequence[str]) -> Tree:
    """Return `tree` with `a.b.c=value` overrides applied.

    A value is read as a TOML value (`3`, `true`, `[16, 16]`, `"text"`) and taken as plain text
    where it is not one.

    Raises:
        ConfigError: an override has no `=`, an empty key, or runs through a value.
    """
    result = _copy(tree)
    for override in overrides:
        key, separator, text = override.partition("=")
        parts = key.strip().split(".")
        if not separator or not all(parts):
            raise ConfigError(f"--set {override}: expected key=value, for example seed=1")
        node = result
        for part in parts[:-1]:
            child = node.setdefault(part, {})
            if not isinstance(child, dict):
                raise ConfigError(f"--set {override}: {part} is a value, not a table")
            node = child
        node[parts[-1]] = _parse_value(text)
    return result


def validate(model: type[ModelT], tree: Mapping[str, Any], source: str) -> ModelT:
    """Build `model` from `tree`.

    Raises:
        ConfigError: with the path, the value and what is allowed, one clause a mistake.
    """
    try:
        return model.model_validate(tree)
    except ValidationError as error:
        clauses = [_explain(model, dict(item)) for item in error.errors(include_url=False)]
        raise ConfigError(f"{source}: " + "; ".join(clauses)) from None


def _copy(tree: Tree) -> Tree:
    return {key: _copy(value) if isinstance(value, dict) else value for key, value in tree.items()}


def _parse_value(text: str) -> Any:
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def _explain(model: type[BaseModel], item: dict[str, Any]) -> str:
    location = [str(part) for part in item["loc"]]
    path = ".".join(location)
    if item["type"] == "extra_forbidden":
        allowed = _allowed_keys(model, item["loc"][:-1])
        close = difflib.get_close_matches(location[-1], allowed, n=1)
        hint = f"did you mean {close[0]}?" if close else f"allowed: {', '.join(sorted(allowed))}"
        return f"{path}: unknown key; {hint}"
    if item["type"] == "missing":
        return f"{path}: missing; this key is required"
    message = str(item["msg"]).removeprefix("Value error, ")
    if item["type"] == "value_error" and isinstance(item["input"], dict):
        return f"{path}: {message}" if path else message
    return f"{path} = {item['input']!r}: {message}" if path else message


def _allowed_keys(model: type[BaseModel], location: Sequence[int | str]) -> list[str]:
    """Return the keys of the (possibly nested) model that `location` leads to."""
    models = [model]
    for part in location:
        if isinstance(part, int):
            continue
        deeper = [
            found
            for candidate in models
            if part in candidate.model_fields
            for found in _models_in(candidate.model_fields[part].annotation)
        ]
        # A part that is no field is the tag of a discriminated union: keep the one it names.
        tagged = [candidate for candidate in models if _has_tag(candidate, part)]
        models = deeper or tagged or models
    return sorted({key for candidate in models for key in candidate.model_fields})


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [found for arg in getattr(annotation, "__args__", ()) for found in _models_in(arg)]


def _has_tag(model: type[BaseModel], tag: str) -> bool:
    return any(field.default == tag for field in model.model_fields.values())
