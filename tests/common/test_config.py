from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
from pydantic import Discriminator, Field, Tag, ValidationError, model_validator

from common.config import StrictModel, apply_overrides, read_toml, validate
from common.errors import ConfigError


class Square(StrictModel):
    shape: Literal["square"] = "square"
    side_length: float = Field(gt=0)


class Circle(StrictModel):
    shape: Literal["circle"] = "circle"
    radius: float = Field(gt=0)
    weight: float = 1.0

    @model_validator(mode="after")
    def _not_too_heavy(self) -> "Circle":
        if self.weight > self.radius:
            raise ValueError(f"weight = {self.weight:g} is above the radius")
        return self


class Drawing(StrictModel):
    title: str = "untitled"
    figure: Annotated[Square | Circle, Field(discriminator="shape")] = Circle(radius=1.0)
    others: tuple[Circle, ...] = ()
    frame: Square | None = None
    margin: (
        Annotated[
            Annotated[float, Field(gt=0), Tag("width")] | Annotated[Square, Tag("square")],
            Discriminator(lambda value: "square" if isinstance(value, dict) else "width"),
        ]
        | None
    ) = None


class Book(StrictModel):
    pages: int = Field(ge=1)
    columns: Annotated[int, Field(ge=1)] | Literal["auto"] = "auto"
    cover: Drawing = Drawing()


def complaint(tree: dict[str, Any]) -> str:
    with pytest.raises(ConfigError) as caught:
        validate(Book, tree, "book.toml")
    message = str(caught.value)
    assert "\n" not in message
    return message.removeprefix("book.toml: ")


@pytest.mark.parametrize(
    ("tree", "message"),
    [
        ({"pages": 1, "covr": {}}, "covr: unknown key; did you mean cover?"),
        ({"pages": 1, "zzz": 1}, "zzz: unknown key; allowed: columns, cover, pages"),
        ({}, "pages: missing; this key is required"),
        ({"pages": 0}, "pages = 0: must be 1 or more"),
        ({"pages": 1, "columns": 0}, "columns = 0: must be 1 or more or 'auto'"),
        (
            {"pages": 1, "columns": "two"},
            "columns = 'two': expected a whole number or 'auto'",
        ),
        (
            {"pages": 1.5, "cover": {"others": 3, "frame": 2}},
            "pages = 1.5: expected a whole number; "
            "cover.others = 3: expected a list, such as [64, 64]; "
            "cover.frame = 2: expected a table of keys",
        ),
        ({"pages": 1, "cover": {"titel": ""}}, "cover.titel: unknown key; did you mean title?"),
        (
            {"pages": 1, "cover": {"figure": {"shape": "square", "side_lenght": 1.0}}},
            "cover.figure.side_length: missing; this key is required; "
            "cover.figure.side_lenght: unknown key; did you mean side_length?",
        ),
        (
            {"pages": 1, "cover": {"figure": {"shape": "square", "side_length": 1, "radius": 1}}},
            "cover.figure.radius: unknown key; allowed: shape, side_length",
        ),
        (
            {"pages": 1, "cover": {"figure": {"shape": "circle", "radius": -1.0}}},
            "cover.figure.radius = -1.0: must be greater than 0",
        ),
        (
            {"pages": 1, "cover": {"figure": {"shape": "circle", "radius": 1, "weight": 2}}},
            "cover.figure: weight = 2 is above the radius",
        ),
        (
            {"pages": 1, "cover": {"others": [{"radius": 1}, {"radius": 1, "wieght": 1}]}},
            "cover.others.1.wieght: unknown key; did you mean weight?",
        ),
        (
            {"pages": 1, "cover": {"frame": {"side_length": 1, "side": 1}}},
            "cover.frame.side: unknown key; allowed: shape, side_length",
        ),
        (
            {"pages": 1, "cover": {"frame": {"side_length": float("nan")}}},
            "cover.frame.side_length = nan: expected a finite number",
        ),
        (
            {"pages": 1, "cover": {"margin": -1.0}},
            "cover.margin = -1.0: must be greater than 0",
        ),
        (
            {"pages": 1, "cover": {"margin": {"side_lenght": 2.0}}},
            "cover.margin.side_length: missing; this key is required; "
            "cover.margin.side_lenght: unknown key; did you mean side_length?",
        ),
        (
            {"pages": "line one\nline two"},
            "pages = 'line one\\nline two': expected a whole number",
        ),
    ],
)
def test_a_mistake_is_told_with_path_value_and_what_is_allowed(tree, message):
    assert complaint(tree) == message


@pytest.mark.parametrize(
    ("figure", "message"),
    [
        ({"shape": "oval"}, "cover.figure.shape = 'oval': not known; allowed: circle, square"),
        ({"shape": "sqare"}, "cover.figure.shape = 'sqare': not known; did you mean square?"),
        ({"radius": 1}, "cover.figure.shape: missing; this key is required"),
    ],
)
def test_what_a_tag_must_be_is_told(figure: dict[str, Any], message: str) -> None:
    assert complaint({"pages": 1, "cover": {"figure": figure}}) == message


def test_all_mistakes_are_told_at_once():
    assert complaint({"pages": 0, "covr": 1}).count("; ") == 2


def test_a_right_tree_becomes_a_frozen_model():
    book = validate(Book, {"pages": 3, "cover": {"figure": {"shape": "circle", "radius": 2}}}, "x")
    assert book == Book(pages=3, cover=Drawing(figure=Circle(radius=2.0)))
    with pytest.raises(ValidationError, match="frozen"):
        book.pages = 4


def test_overrides_are_read_as_toml_values_or_taken_as_text():
    overrides = [
        "a=3",
        "b.c=true",
        "b.d=[16, 16]",
        'e="3"',
        "f=plain text",
        "g.h.i=1e-3",
        "j={k = 1}",
        "l=a=b",
        " m = 2",
        "n=",
    ]
    assert apply_overrides({"a": 1, "b": {"x": 0}}, overrides) == {
        "a": 3,
        "b": {"x": 0, "c": True, "d": [16, 16]},
        "e": "3",
        "f": "plain text",
        "g": {"h": {"i": 1e-3}},
        "j": {"k": 1},
        "l": "a=b",
        "m": 2,
        "n": "",
    }


def test_a_later_override_wins():
    assert apply_overrides({}, ["a.b=1", "a.b=2"]) == {"a": {"b": 2}}


def test_overrides_leave_the_tree_as_it_was():
    tree: dict[str, Any] = {"a": {"b": {"c": 1}}}
    apply_overrides(tree, ["a.b.c=2", "a.b.d=3", "e=4"])
    assert tree == {"a": {"b": {"c": 1}}}


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("seed", "--set seed: expected key=value, for example seed=1"),
        ("=1", "--set =1: expected key=value, for example seed=1"),
        ("a..b=1", "--set a..b=1: expected key=value, for example seed=1"),
        ("a.b.c=1", "--set a.b.c=1: b is a value, not a table"),
    ],
)
def test_an_override_that_cannot_be_applied_is_refused(override, message):
    with pytest.raises(ConfigError) as caught:
        apply_overrides({"a": {"b": 1}}, [override])
    assert str(caught.value) == message


def test_a_toml_file_is_read_as_utf8(tmp_path: Path):
    path = tmp_path / "recipe.toml"
    path.write_text('[a]\nname = "käse"\n', encoding="utf-8")
    assert read_toml(path) == {"a": {"name": "käse"}}


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"a = = 1", "not a TOML file"),
        (b"a = 1\na = 2", "not a TOML file"),
        (b"a = '\xff'", "not a TOML file"),
        (None, "no such recipe"),
    ],
)
def test_a_file_that_is_no_toml_is_refused_in_one_line(tmp_path: Path, content, reason):
    path = tmp_path / "recipe.toml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ConfigError) as caught:
        read_toml(path)
    assert str(caught.value).startswith(f"{path}: {reason}")
    assert "\n" not in str(caught.value)


def test_a_path_that_cannot_be_read_is_refused(tmp_path: Path):
    with pytest.raises(ConfigError, match="no such recipe"):
        read_toml(tmp_path)
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="cannot be read"):
        read_toml(tmp_path / "file" / "recipe.toml")
