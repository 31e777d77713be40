from pathlib import Path

import pytest

from cluster.recipe.config import load_recipe
from cluster.record import recording_config
from cluster.run_directory import create_run_directory, open_run_directory
from common.errors import ConfigError
from tests.cartpole import load_config, write_run

REFRESH = "teacher.refresh={path = 'versions'}"


def test_a_recipes_folder_is_relative_to_the_recipe(tmp_path: Path) -> None:
    recipe = write_run(tmp_path)
    text = recipe.read_text().replace(
        "[student", "[teacher.refresh]\npath = 'versions'\n\n[student", 1
    )
    recipe.write_text(text)
    config = load_recipe(recipe, [])
    assert config.refresh is not None
    assert config.refresh.path == str(tmp_path / "versions")
    directory = create_run_directory(tmp_path / "run", config)
    assert open_run_directory(directory.path, [])[1] == config


def test_a_uri_stays_as_it_is(tmp_path: Path) -> None:
    config = load_config(tmp_path, "teacher.refresh={path = 's3://bucket/versions'}")
    assert config.refresh is not None
    assert config.refresh.path == "s3://bucket/versions"


def test_without_the_table_nothing_is_refreshed(tmp_path: Path) -> None:
    config = load_config(tmp_path)
    assert config.refresh is None
    assert not config.learner_asks_teacher


def test_a_learner_of_a_refreshed_teacher_has_it(tmp_path: Path) -> None:
    assert load_config(tmp_path, REFRESH).learner_asks_teacher


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (("teacher.members=['other.safetensors']",), "teacher.members: does not work with"),
        (("teacher.normalizer=stats.pkl",), "teacher.normalizer: does not work with"),
        (("objective.feature={weight = 0.1}",), "objective.feature: does not work with"),
        (("objective.kl.temperature='auto'",), "temperature = 'auto': does not work with"),
        (
            (
                "learner.num_ranks=2",
                "replay.num_shards=2",
                "actors.num_env_runners=2",
            ),
            "learner.num_ranks = 2: does not work with",
        ),
        (("teacher.refresh.interval_s=0",), "interval_s"),
        (("teacher.refresh.num_episodes=0",), "num_episodes"),
    ],
)
def test_what_does_not_go_with_a_teacher_that_changes_is_refused_in_one_line(
    overrides: tuple[str, ...], words: str, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config(tmp_path, REFRESH, *overrides)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_recording_is_of_one_teacher(tmp_path: Path) -> None:
    config = load_config(tmp_path, REFRESH, "behavior={name = 'teacher'}")
    with pytest.raises(ConfigError, match=r"teacher\.refresh: a recording has the labels of one"):
        recording_config(config)
