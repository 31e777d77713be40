"""Which file a path in a recipe, or in an override, names."""

from pathlib import Path

import pytest

from cluster.recipe.config import RunConfig, load_recipe
from cluster.run_directory import create_run_directory, open_run_directory
from common.errors import ConfigError
from tests.cartpole import write_recipe


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the working directory, which is not the recipe's folder."""
    folder = tmp_path.resolve() / "elsewhere"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


def teacher_path(config: RunConfig) -> Path:
    assert config.teacher is not None
    return Path(config.teacher.path)


def test_a_teacher_in_the_file_is_relative_to_the_file(tmp_path: Path, elsewhere: Path) -> None:
    recipe = write_recipe(tmp_path / "recipe.toml")
    assert teacher_path(load_recipe(recipe, [])) == tmp_path.resolve() / "teacher.safetensors"
    assert teacher_path(load_recipe(Path("../recipe.toml"), ["seed=1"])) == (
        tmp_path.resolve() / "teacher.safetensors"
    )


def test_a_teacher_in_an_override_is_relative_to_the_working_directory(
    tmp_path: Path, elsewhere: Path
) -> None:
    recipe = write_recipe(tmp_path / "recipe.toml")
    for given, expected in [
        ("mine.zip", elsewhere / "mine.zip"),
        ("../mine.zip", elsewhere.parent / "mine.zip"),
        ("/somewhere/mine.zip", Path("/somewhere/mine.zip")),
    ]:
        assert teacher_path(load_recipe(recipe, [f"teacher.path={given}"])) == expected


def test_a_teacher_with_a_uri_stays_where_it_is(tmp_path: Path, elsewhere: Path) -> None:
    recipe = write_recipe(tmp_path / "recipe.toml")
    uri = "s3://bucket/run/teacher.safetensors"
    config = load_recipe(recipe, [f"teacher.path={uri}"])
    assert config.teacher is not None
    assert config.teacher.path == uri


def test_a_teachers_normalizer_is_named_as_its_path_is(tmp_path: Path, elsewhere: Path) -> None:
    recipe = write_recipe(tmp_path / "recipe.toml")
    text = recipe.read_text().replace("[teacher]", '[teacher]\nnormalizer = "stats.pkl"')
    recipe.write_text(text)
    for overrides, folder in [([], tmp_path), (["teacher.normalizer=stats.pkl"], elsewhere)]:
        teacher = load_recipe(recipe, overrides).teacher
        assert teacher is not None
        assert teacher.normalizer == str(folder.resolve() / "stats.pkl")


def test_a_teacher_that_is_no_path_is_refused_as_such(tmp_path: Path) -> None:
    recipe = write_recipe(tmp_path / "recipe.toml")
    with pytest.raises(ConfigError, match=r"teacher.path = 3"):
        load_recipe(recipe, ["teacher.path=3"])
    with pytest.raises(ConfigError, match=r"recipe\.toml as --set changes it: teacher = 3"):
        load_recipe(recipe, ["teacher=3"])


FULL = [
    "teacher.path=mine.zip",
    "teacher.format=sb3",
    "teacher.acting={mode = 'sample', epsilon = 0.1}",
    "env.kwargs={gravity = 9.0, names = ['a', 'b']}",
    "behavior={name = 'mixed', share = 0.25}",
    "objective.kl.temperature=auto",
    "objective.q_mse={weight = 0.5, huber_delta = 1.0}",
    "objective.nll.weight={start = 1.0, end = 0.0, until = 0.9, by = 'share_of_teacher'}",
    "replay={error_buffer = 90_000.0, window = 50_000, max_bytes = 1_000_000}",
    "replay.sampler={name = 'prioritized', alpha = 0.7}",
    "learner.max_grad_norm=0.5",
    "evaluation={required_share = 0.9, num_random_episodes = 7}",
    "stop={share_of_teacher = 1.0, max_duration_s = 60}",
]
"""Changes what may be left out, None included."""


def test_the_resolved_recipe_says_the_same_from_anywhere(
    tmp_path: Path, elsewhere: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = load_recipe(write_recipe(tmp_path / "recipe.toml"), FULL)
    create_run_directory(Path("run"), config)
    monkeypatch.chdir(tmp_path)
    assert open_run_directory(elsewhere / "run", [])[1] == config
