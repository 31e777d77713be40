"""What is wrong with a configuration, in words that a person can act on.

Pydantic finds the mistakes; its own messages speak of Python's types.
"""

import difflib
import itertools
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from pydantic import BaseModel, Tag, ValidationError

_WHOLE = "expected a whole number"
_NUMBER = "expected a number"
_BOOLEAN = "expected true or false"
_LIST = "expected a list, such as [64, 64]"
_TABLE = "expected a table of keys"
_WORDS = {
    "int_type": _WHOLE,
    "int_parsing": _WHOLE,
    "int_from_float": _WHOLE,
    "float_type": _NUMBER,
    "float_parsing": _NUMBER,
    "finite_number": "expected a finite number",
    "bool_type": _BOOLEAN,
    "bool_parsing": _BOOLEAN,
    "string_type": "expected text in quotes",
    "tuple_type": _LIST,
    "list_type": _LIST,
    "dict_type": _TABLE,
    "model_type": _TABLE,
    "model_attributes_type": _TABLE,
    "greater_than": "must be greater than {gt:g}",
    "greater_than_equal": "must be {ge:g} or more",
    "less_than": "must be less than {lt:g}",
    "less_than_equal": "must be {le:g} or less",
    "too_short": "needs {min_length} or more entries",
    "too_long": "must have {max_length} or fewer entries",
    "literal_error": "expected {expected}",
}
"""What to say for an error type of pydantic's, with what it tells of it."""

_LABEL = re.compile(r"(constrained-)?(int|float|str|bool)|literal\[.*\]")


def in_words(model: type[BaseModel], error: ValidationError) -> list[str]:
    """Say of every mistake which key is wrong, its value, and what is allowed.

    Args:
        model: what was to be built.
        error: why it was not.
    """
    alike = itertools.groupby(
        error.errors(include_url=False), key=lambda item: _without_label(item["loc"])
    )
    return [_clause(model, location, [dict(item) for item in group]) for location, group in alike]


def _clause(
    model: type[BaseModel], location: Sequence[int | str], items: Sequence[Mapping[str, Any]]
) -> str:
    """Return what is wrong at one place; of a value that may be of several kinds, all of them."""
    item = items[0]
    kind, context = item["type"], item.get("ctx", {})
    if kind == "extra_forbidden":
        *parents, unknown = location
        keys, models = _follow(model, parents)
        allowed = {key for candidate in models for key in candidate.model_fields}
        return f"{'.'.join([*keys, str(unknown)])}: unknown key; {_hint(str(unknown), allowed)}"
    path = ".".join(_follow(model, location)[0])
    if kind == "missing":
        return f"{path}: missing; this key is required"
    if kind == "union_tag_not_found":
        return f"{path}.{_bare(context['discriminator'])}: missing; this key is required"
    if kind == "union_tag_invalid":
        key, tag = _bare(context["discriminator"]), context["tag"]
        allowed = {_bare(each) for each in context["expected_tags"].split(", ")}
        return f"{path}.{key} = {tag!r}: not known; {_hint(tag, allowed)}"
    first, *others = map(_what_is_expected, items)
    words = " or ".join([first, *(each.removeprefix("expected ") for each in others)])
    if kind == "value_error" and isinstance(item["input"], dict):
        return f"{path}: {words}" if path else words
    return f"{path} = {item['input']!r}: {words}" if path else words


def _what_is_expected(item: Mapping[str, Any]) -> str:
    if item["type"] in _WORDS:
        return _WORDS[item["type"]].format_map(item.get("ctx", {}))
    return str(item["msg"]).removeprefix("Value error, ")


def _without_label(location: tuple[int | str, ...]) -> tuple[int | str, ...]:
    """Return where a value stands, without pydantic's name for one of the kinds it may be of."""
    labelled = location and isinstance(location[-1], str) and _LABEL.fullmatch(location[-1])
    return location[:-1] if labelled else location


def _hint(unknown: str, allowed: Iterable[str]) -> str:
    ordered = sorted(allowed)
    close = difflib.get_close_matches(unknown, ordered, n=1)
    return f"did you mean {close[0]}?" if close else f"allowed: {', '.join(ordered)}"


def _bare(quoted: str) -> str:
    return quoted.strip("'")


def _follow(
    model: type[BaseModel], location: Sequence[int | str]
) -> tuple[list[str], list[type[BaseModel]]]:
    """Return the recipe's keys on the way of `location`, and the models that it leads to."""
    keys: list[str] = []
    models = [model]
    branches: set[str] = set()
    for part in location:
        fields = [c.model_fields[part] for c in models if part in c.model_fields]
        # A part that is no field can be the tag of a discriminated union, which is no key of the
        # recipe: keep the model that it names.
        tagged = [] if fields else [c for c in models if _has_tag(c, part)]
        if fields or not (tagged or part in branches):
            keys.append(str(part))
        branches = {tag for field in fields for tag in _branches_of(field.annotation)}
        deeper = [found for field in fields for found in _models_in(field.annotation)]
        models = deeper or tagged or models
    return keys, models


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [found for arg in getattr(annotation, "__args__", ()) for found in _models_in(arg)]


def _branches_of(annotation: Any) -> set[str]:
    """Return the tags of a union whose branches are told apart by a function."""
    tags = {item.tag for item in getattr(annotation, "__metadata__", ()) if isinstance(item, Tag)}
    return tags.union(*(_branches_of(arg) for arg in getattr(annotation, "__args__", ())))


def _has_tag(model: type[BaseModel], part: int | str) -> bool:
    return isinstance(part, str) and any(
        field.default == part for field in model.model_fields.values()
    )
