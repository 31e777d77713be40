"""The page of all keys of a recipe, made from the models that read it.

    python -m tests.deploy.recipe_keys

writes deploy/guide/recipe_keys.md anew; a test holds it against the models.
"""

import ast
import inspect
import textwrap
from collections.abc import Iterator
from itertools import pairwise
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from cluster.recipe.config import RunConfig
from learners.objectives.schedule import Schedule
from tests.deploy.documents import ROOT

PAGE = ROOT / "deploy" / "guide" / "recipe_keys.md"

_HEAD = """# All keys of a recipe

Each section is a table of the TOML file; — stands for nothing. What the tables are for, and what
goes together, is in [recipes](recipes.md). This page is made from the code by
`python -m tests.deploy.recipe_keys`.
"""
_KINDS: dict[Any, str] = {
    int: "whole number",
    float: "number",
    bool: "true or false",
    str: "text",
    NoneType: "",
    Any: "anything",
}
_BOUNDS = {"ge": "≥ {}", "gt": "> {}", "le": "≤ {}", "lt": "< {}"}

Model = type[BaseModel]


def page() -> str:
    """Return the page."""
    return "\n".join([_HEAD, *_tables("", RunConfig, {})])


def _tables(path: str, model: Model, told: dict[Model, str]) -> Iterator[str]:
    """Yield the lines of a model's own table, then of those below it, each model once.

    Args:
        path: keys down to it.
        model: which reads the table.
        told: headings of what was told before; what is told here comes to it.
    """
    heading = f"`[{path}]`{_which(model)}" if path else "Top level"
    yield f"## {heading}\n"
    if model in told:
        yield f"As {told[model]}.\n"
        return
    told[model] = heading
    if path and model.__doc__:
        yield f"{_plain(model.__doc__)}\n"
    rows = [_row(name, field, _docs(model)) for name, field in model.model_fields.items()]
    if rows:
        yield "\n".join(["| key | value | default | meaning |", "|---|---|---|---|", *rows, ""])
    for name, field in model.model_fields.items():
        inside = f"{path}.{name}" if path else name
        for inner in _models_in(field.annotation):
            if inner not in told or inner is not Schedule:
                yield from _tables(inside, inner, told)


def _which(model: Model) -> str:
    """Return by which key a table of several kinds is told to be of this one."""
    for name in ("family", "name", "placement"):
        field = model.model_fields.get(name)
        if field is not None and get_origin(field.annotation) is Literal:
            [value] = get_args(field.annotation)
            return f' with `{name} = "{value}"`'
    return ""


def _row(name: str, field: FieldInfo, docs: dict[str, str]) -> str:
    words = [*dict.fromkeys(_words(field.annotation)), *_bounds(field.metadata)]
    kind = " or ".join(filter(None, words[: len(words) - len(_bounds(field.metadata))]))
    bounds = "".join(f", {bound}" for bound in _bounds(field.metadata))
    return f"| `{name}` | {kind}{bounds} | {_default(field)} | {_plain(docs.get(name, ''))} |"


def _words(annotation: Any) -> Iterator[str]:
    """Yield what a value may be."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        inner = [bound for part in arguments[1:] for bound in _bounds_of(part)]
        for word in _words(arguments[0]):
            yield word + "".join(f" {bound}" for bound in inner)
    elif origin in (Union, UnionType):
        for argument in arguments:
            yield from _words(argument)
    elif origin is Literal:
        yield from (f"`{_toml(value)}`" for value in arguments)
    elif origin is tuple:
        yield f"list: {' or '.join(_words(arguments[0]))}"
    elif isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield "table"
    else:
        yield _KINDS.get(origin or annotation, "table")


def _bounds(metadata: list[Any]) -> list[str]:
    return [bound for part in metadata for bound in _bounds_of(part)]


def _bounds_of(part: Any) -> Iterator[str]:
    if isinstance(part, FieldInfo):
        yield from _bounds(part.metadata)
    for name, words in _BOUNDS.items():
        if getattr(part, name, None) is not None:
            yield words.format(f"{getattr(part, name):g}")


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    value = field.get_default(call_default_factory=True)
    if value is None or value in ((), {}, ""):
        return "—"
    if isinstance(value, BaseModel):
        return "" if not (which := _which(type(value))) else which.removeprefix(" with ")
    return f"`{_toml(value)}`"


def _toml(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        return f"[{', '.join(map(_toml, value))}]"
    if isinstance(value, int) and value >= 10_000:
        return f"{value:_}"
    return f'"{value}"' if isinstance(value, str) else f"{value}"


def _models_in(annotation: Any) -> Iterator[Model]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in get_args(annotation):
        yield from _models_in(argument)


def _docs(model: Model) -> dict[str, str]:
    """Return what stands below each field in the code of the model and its bases."""
    found: dict[str, str] = {}
    for base in reversed(model.__mro__):
        if issubclass(base, BaseModel) and base is not BaseModel:
            [node] = ast.parse(textwrap.dedent(inspect.getsource(base))).body
            assert isinstance(node, ast.ClassDef)
            for field, below in pairwise(node.body):
                if isinstance(field, ast.AnnAssign) and isinstance(below, ast.Expr):
                    assert isinstance(field.target, ast.Name)
                    assert isinstance(below.value, ast.Constant)
                    found[field.target.id] = str(below.value.value)
    return found


def _plain(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


if __name__ == "__main__":
    PAGE.write_text(page())
