import math

from cluster.report.settings import differing, settings_table


def test_a_setting_is_told_where_it_differs_and_nowhere_else() -> None:
    one, other = differing([{"name": "a", "b": {"c": 1, "d": 2}}, {"name": "e", "b": {"c": 3}}])
    assert one == {"b.c": 1, "b.d": 2}
    assert other == {"b.c": 3, "b.d": None}
    table = settings_table({"first": one, "second": other})
    assert table is not None
    assert table.rows == (("b.c", "1", "3"), ("b.d", "2", "–"))


def test_recipes_that_are_the_same_have_no_table() -> None:
    found = differing([{"name": "a", "b": 1}, {"name": "c", "b": 1}, {}])
    assert found == [{}, {}, {}]
    assert settings_table(dict(zip("abc", found, strict=True))) is None


def test_settings_that_json_does_not_know_are_texts() -> None:
    one, other = differing([{"a": {"b": math.inf}}, {"a": {"b": 1.0, "c.d": True}}])
    assert one == {"a.b": "inf", "a.c.d": None}
    assert other == {"a.b": 1.0, "a.c.d": True}
