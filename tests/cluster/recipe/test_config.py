from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from actors.behavior import Dagger, Mixed
from actors.config import ActorsConfig, EvaluationConfig
from actors.environments.atari import AtariConfig
from actors.environments.gymnasium_env import GymnasiumConfig
from actors.placement import AtSamplingPlacement, RunnerPlacement, SharedPlacement
from cluster.recipe.config import RunConfig, StopConfig, load_recipe
from cluster.run_directory import create_run_directory, open_run_directory
from common.config import validate
from common.errors import ConfigError
from common.networks.mlp import MLPSpec
from common.networks.nature_cnn import NatureCNNSpec
from common.replay.config import ReplayConfig
from learners.config import LearnerConfig
from learners.objectives.kl import KL
from tests.cartpole import write_recipe
from tests.datasets import write_dataset

ROOT = Path(__file__).resolve().parents[3]
RECIPES = sorted((ROOT / "deploy" / "recipes").glob("*.toml"))
assert RECIPES, "the recipes have moved"

SMALLEST: dict[str, Any] = {
    "total_env_steps": 1_000,
    "env": {"family": "gymnasium", "id": "CartPole-v1"},
    "teacher": {"path": "teacher.safetensors"},
    "student": {"network": {"name": "mlp"}},
    "objective": {"kl": {}},
}
"""Nothing can be left out."""


def config_with(**changes: Any) -> RunConfig:
    tree = {key: value for key, value in (SMALLEST | changes).items() if value is not None}
    return validate(RunConfig, tree, "recipe")


def round_trip(config: RunConfig, folder: Path) -> RunConfig:
    create_run_directory(folder, config)
    return open_run_directory(folder, [])[1]


def test_what_is_left_out_is_each_folders_default() -> None:
    config = config_with()
    assert config.name == "CartPole-v1"
    assert config.env == GymnasiumConfig(id="CartPole-v1")
    assert config.student.network == MLPSpec()
    assert config.objective.terms() == {"kl": KL()}
    assert config.behavior == Dagger()
    assert config.actors == ActorsConfig()
    assert config.replay == ReplayConfig()
    assert config.learner == LearnerConfig()
    assert config.evaluation == EvaluationConfig()
    assert config.stop == StopConfig()


@pytest.mark.parametrize("key", SMALLEST)
def test_nothing_else_can_be_left_out(key: str) -> None:
    with pytest.raises(ConfigError, match=rf"recipe: {key}"):
        config_with(**{key: None})


def test_families_and_names_choose_the_tables_that_are_read() -> None:
    config = config_with(
        env={"family": "atari", "id": "pong", "sticky_actions": 0.25},
        behavior={"name": "mixed", "share": 0.3},
        student={"network": {"name": "nature_cnn", "size": "62k"}},
    )
    assert config.env == AtariConfig(id="pong", sticky_actions=0.25)
    assert config.behavior == Mixed(share=0.3)
    assert config.student.network == NatureCNNSpec(channels=(16, 16, 16), hidden=64)


def test_a_recipe_cannot_be_changed() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        config_with().seed = 1


def test_a_recipe_without_a_teacher_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"either \[teacher\].*or \[teach\].*not neither"):
        config_with(teacher=None)


def test_a_recipe_with_two_teachers_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"either \[teacher\].*or \[teach\].*not both"):
        config_with(teach={})


def test_a_teacher_of_a_game_has_the_settings_of_games_where_the_recipe_has_none() -> None:
    given = {"algorithm": "ppo", "learning_rate": 0.5, "ppo": {"num_epochs": 7}}
    cartpole, pong = (
        config_with(teacher=None, teach=given, **env).teach
        for env in ({}, {"env": {"family": "atari", "id": "pong"}})
    )
    assert cartpole is not None
    assert pong is not None
    assert (cartpole.clip_rewards, cartpole.ppo.clip) == (False, 0.2)
    assert (pong.clip_rewards, pong.ppo.clip) == (True, 0.1)
    for teach in (cartpole, pong):
        assert (teach.learning_rate, teach.ppo.num_epochs) == (0.5, 7)


def test_the_replay_must_hold_two_chunks() -> None:
    actors = {"num_envs_per_runner": 10, "unroll_length": 30}
    assert config_with(actors=actors, replay={"capacity": 600}).actors.chunk_size == 300
    with pytest.raises(ConfigError, match=r"replay.capacity = 599: must hold two chunks .* 300"):
        config_with(actors=actors, replay={"capacity": 599})


@pytest.mark.parametrize(
    ("behavior", "fits"),
    [
        ({"name": "teacher"}, False),
        ({"name": "mixed", "share": 1.0}, False),
        ({"name": "mixed", "share": 0.9}, True),
        ({"name": "student"}, True),
        ({"name": "dagger", "anneal_fraction": 1.0}, True),
    ],
)
def test_a_schedule_by_share_of_teacher_needs_a_student_that_plays(
    behavior: dict[str, Any], fits: bool
) -> None:
    weight = {"start": 1.0, "end": 0.0, "by": "share_of_teacher"}
    keys = {"behavior": behavior, "objective": {"kl": {"weight": weight}}}
    if fits:
        assert config_with(**keys).objective.follows_share_of_teacher
        return
    with pytest.raises(ConfigError, match=f"behavior.name = '{behavior['name']}' plays none"):
        config_with(**keys)


PLACEMENTS: dict[str, Any] = {
    "runner": RunnerPlacement(),
    "shared": SharedPlacement(num_actors=2, num_gpus=0.5, max_wait_ms=0.5),
    "at_sampling": AtSamplingPlacement(micro_batch_size=64),
}


@pytest.mark.parametrize("name", PLACEMENTS)
def test_the_teachers_place_is_read_and_reads_back(name: str, tmp_path: Path) -> None:
    config = config_with(actors={"inference": PLACEMENTS[name].model_dump()})
    assert config.actors.inference == PLACEMENTS[name]
    assert config.actors.labels_chunks == (name != "at_sampling")
    assert round_trip(config, tmp_path / "run").actors == config.actors
    assert RunConfig.model_validate_json(config.model_dump_json()) == config
    named = load_recipe(
        write_recipe(tmp_path / "recipe.toml"), [f"actors.inference.placement={name}"]
    )
    assert type(named.actors.inference) is type(PLACEMENTS[name])


@pytest.mark.parametrize(
    ("inference", "message"),
    [
        (
            {"placement": "gpu"},
            "actors.inference.placement = 'gpu': .* at_sampling, runner, shared",
        ),
        ({"num_gpus": 1}, "actors.inference.placement: missing"),
        (
            {"placement": "at_sampling", "max_wait_ms": 1.0},
            "actors.inference.max_wait_ms: unknown key; .* micro_batch_size",
        ),
        ({"placement": "shared", "max_batch": 1}, "did you mean max_batch_size"),
        ({"placement": "shared", "num_gpus": 2}, "actors.inference.num_gpus = 2"),
        ({"placement": "shared", "max_wait_ms": -1.0}, "actors.inference.max_wait_ms = -1.0"),
        (
            {"placement": "shared", "num_actors": 3},
            r"actors.inference.num_actors = 3: more than the 2 env runners that could ask them",
        ),
    ],
)
def test_a_place_that_makes_no_sense_is_refused_in_one_line(
    inference: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        config_with(actors={"inference": inference})
    assert "\n" not in str(caught.value)


def test_the_window_must_hold_two_chunks() -> None:
    actors = {"num_envs_per_runner": 10, "unroll_length": 30}
    assert config_with(actors=actors, replay={"window": 600}).replay.window_size() == 600
    with pytest.raises(ConfigError, match=r"replay.window = 599: must hold two chunks .* 300"):
        config_with(actors=actors, replay={"window": 599})


def test_ranks_share_batches_shards_and_replay_equally() -> None:
    actors = {"num_env_runners": 4, "num_envs_per_runner": 10, "unroll_length": 30}

    def ranks(number: int, *, batch_size: int = 96, shards: int = 4, capacity: int = 1_200) -> None:
        config_with(
            actors=actors,
            learner={"num_ranks": number, "batch_size": batch_size},
            replay={"num_shards": shards, "capacity": capacity},
        )

    ranks(2)
    with pytest.raises(ConfigError, match=r"learner: batch_size = 97 must be a multiple .* = 2:"):
        ranks(2, batch_size=97)
    with pytest.raises(ConfigError, match=r"replay.num_shards = 4: .* of learner.num_ranks = 3"):
        ranks(3)
    with pytest.raises(ConfigError, match=r"replay.capacity = 1199: .* 300 for each of 2 ranks"):
        ranks(2, capacity=1_199)


@pytest.mark.parametrize(
    ("env_id", "name"),
    [
        ("Acrobot-v1", "Acrobot-v1"),
        ("ALE/Pong-v5", "ALE-Pong-v5"),
        ("my_games:Maze-v0", "my_games-Maze-v0"),
        ("_a/", "a"),
        ("/", "run"),
    ],
)
def test_a_run_is_called_like_its_environment_where_its_recipe_gives_no_name(
    env_id: str, name: str
) -> None:
    assert config_with(env={"family": "gymnasium", "id": env_id, "trust": True}).name == name


def test_a_run_of_several_tasks_is_called_like_all_of_them() -> None:
    task = {key: SMALLEST[key] for key in ("env", "teacher")}
    tasks = [{"name": name} | task for name in ("light", "heavy")]
    config = config_with(env=None, teacher=None, tasks=tasks, actors={"num_env_runners": 2})
    assert config.name == "light-heavy"


@pytest.mark.parametrize("name", ["a b", "", "-a", "../a", "a/b"])
def test_a_name_that_makes_no_folder_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match="name = "):
        config_with(name=name)


@pytest.mark.parametrize(
    ("batch_size", "num_envs", "unroll_length", "expected"),
    [
        (128, 32, 64, 1024),  # half a chunk of 2,048 is eight batches
        (100, 10, 45, 200),  # half a chunk of 450 holds two whole batches
        (225, 10, 45, 225),
        (226, 10, 45, 225),  # a larger batch takes several requests
        (65_536, 32, 64, 1024),
        (128, 1, 1, 1),
    ],
)
def test_the_learner_asks_for_whole_batches_of_half_a_chunk(
    batch_size: int, num_envs: int, unroll_length: int, expected: int
) -> None:
    config = config_with(
        learner={"batch_size": batch_size},
        actors={"num_envs_per_runner": num_envs, "unroll_length": unroll_length},
    )
    assert config.samples_per_request == expected
    ranks = config.learner.model_copy(update={"num_ranks": 2, "batch_size": 2 * batch_size})
    shared = config.model_copy(update={"learner": ranks})
    assert shared.samples_per_request == expected


@pytest.mark.parametrize(("ratio", "expected"), [(8.0, 1024), (0.5, 512), (0.1, 102), (1e-6, 1)])
def test_the_learner_asks_for_half_of_what_a_chunk_is_worth_where_that_is_less(
    ratio: float, expected: int
) -> None:
    assert config_with(replay={"samples_per_insert": ratio}).samples_per_request == expected


@pytest.mark.parametrize(("batch_size", "expected"), [(128, 2), (2_048, 2), (65_536, 64)])
def test_as_many_answers_are_ready_as_a_batch_needs(batch_size: int, expected: int) -> None:
    assert config_with(learner={"batch_size": batch_size}).answers_ready == expected


@pytest.mark.parametrize("algorithm", ["dqn", "ppo"])
def test_a_recipe_that_trains_its_teacher_reads_back(algorithm: str, tmp_path: Path) -> None:
    settings = {"algorithm": algorithm, "hidden": [8], algorithm: {"batch_size": 512}}
    config = config_with(teacher=None, teach=settings)
    assert round_trip(config, tmp_path / "run") == config
    assert RunConfig.model_validate_json(config.model_dump_json()) == config


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda path: path.stem)
def test_every_recipe_is_read_and_reads_back(recipe: Path, tmp_path: Path) -> None:
    overrides = []
    if "[dataset]" in recipe.read_text():
        write_dataset(tmp_path / "data", 2)
        overrides = [f"dataset.path={tmp_path / 'data'}"]
    config = load_recipe(recipe, overrides)
    assert config.name in (recipe.stem, config.env.id)
    assert round_trip(config, tmp_path / "run") == config
    assert RunConfig.model_validate_json(config.model_dump_json()) == config
