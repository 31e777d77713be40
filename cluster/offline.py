"""A run from a dataset: what is checked before it starts, and what is taken from it.

Readers stand where env runners stand otherwise; replay, learner, checkpoints and figures are those
of every run. The environment is only made to score the student in the end, and where it cannot be
made, held-out sequences are what there is.
"""

from collections.abc import Iterable
from typing import Any

import numpy as np
from pydantic import TypeAdapter

from actors.environments import EnvironmentSpec, make_environment
from cluster.recipe.config import RunConfig
from common.dataset import Dataset, open_dataset
from common.errors import ConfigError, DatasetError, MismatchError, UserError
from common.policies.inference import Observations
from common.trajectory import TrajectoryChunk

_SPACES = TypeAdapter(EnvironmentSpec)


def spaces_of(environment: EnvironmentSpec) -> dict[str, Any]:
    """Return an environment's specification as a manifest holds it."""
    spaces: dict[str, Any] = _SPACES.dump_python(environment, mode="json")
    return spaces


def open_checked(config: RunConfig) -> Dataset | None:
    """Open the recipe's dataset, read it through, and hold it against the recipe.

    Returns:
        The dataset, or None where the recipe has none.

    Raises:
        UserError: what is wrong with it, in one line.
    """
    if config.dataset is None:
        return None
    dataset = open_dataset(config.dataset.path)
    dataset.verify()
    told, actors = dataset.manifest, config.actors
    for key, given, recorded in (
        ("unroll_length", actors.unroll_length, told.unroll_length),
        ("num_envs_per_runner", actors.num_envs_per_runner, told.num_envs),
    ):
        if given != recorded:
            raise MismatchError(
                f"actors.{key} = {given}: {dataset.location} was recorded with {recorded}; leave "
                f"it out"
            )
    training = len(dataset.split(config.dataset.holdout).training)
    if training < actors.num_env_runners:
        raise ConfigError(
            f"actors.num_env_runners = {actors.num_env_runners}: {dataset.location} has only "
            f"{training} chunks to train on for them to share; lower it"
        )
    return dataset


def recorded_spaces(dataset: Dataset) -> EnvironmentSpec:
    """Return the specification of the environment that was recorded.

    Raises:
        DatasetError: the manifest holds something else.
    """
    try:
        return _SPACES.validate_python(dataset.manifest.spaces)
    except ValueError as error:
        first = " ".join(str(error).splitlines()[:3])
        raise DatasetError(f"{dataset.location}: damaged manifest ({first})") from None


def decide_play(
    config: RunConfig, spaces: EnvironmentSpec, recorded: dict[str, Any]
) -> tuple[RunConfig, list[str]]:
    """Find out whether the student can be scored by playing.

    Args:
        config: the recipe.
        spaces: of the environment that was recorded.
        recorded: its `[env]`.

    Returns:
        The recipe with `evaluation.play` resolved, and what to tell the user.

    Raises:
        UserError: it cannot, and the recipe asks for it; or it is another environment.
    """
    evaluation, notes = config.evaluation, list[str]()
    play = evaluation.play
    if play is not False:
        try:
            env = make_environment(config.env, num_envs=1)
        except UserError as error:
            if play is True or evaluation.required_share is not None:
                raise
            play = False
            notes.append(f"the student is scored on held-out sequences only: {error}")
        else:
            play = True
            found = env.spec
            env.close()
            if found != spaces:
                raise MismatchError(
                    f"env.id = {config.env.id!r}: its observations or actions are not those that "
                    f"the dataset was recorded with; leave [env] out"
                )
            own = config.env.model_dump(mode="json")
            notes += [
                f"the dataset was recorded with env.{key} = {value!r}, and the student is scored "
                f"with {own[key]!r}"
                for key, value in recorded.items()
                if key in own and own[key] != value
            ]
    changed = evaluation.model_copy(update={"play": play})
    return config.model_copy(update={"evaluation": changed}), notes


def with_plain_readers(config: RunConfig) -> RunConfig:
    """Return the recipe with nothing `auto` in `[actors]`: readers compute no policy."""
    plain = {"precision": "float32", "layout": "contiguous"}
    return config.model_copy(update={"actors": config.actors.model_copy(update=plain)})


def some_observations(config: RunConfig, dataset: Dataset) -> Observations:
    """Return observations of the training chunks, as many as an evaluation keeps.

    Returns:
        [M, *shape], chunk by chunk in a shuffled order.
    """
    assert config.dataset is not None
    training = dataset.split(config.dataset.holdout).training
    rng = np.random.default_rng(config.seed)
    chunks = (dataset.read(number) for number in rng.permutation(training).tolist())
    return drawn_from(chunks, config.evaluation.num_observations, rng)


def drawn_from(
    chunks: Iterable[TrajectoryChunk],
    wanted: int,
    rng: np.random.Generator,
    *,
    of_each: int | None = None,
) -> Observations:
    """Return up to `wanted` observations [M, *shape] of valid rows, chunk by chunk.

    Args:
        chunks: read until there is enough.
        wanted: at least 1.
        rng: draws the rows.
        of_each: at most so many of a chunk.
    """
    found = list[Observations]()
    for chunk in chunks:
        rows = np.flatnonzero(chunk.valid)
        rows = np.sort(rng.permutation(rows)[: min(wanted, of_each or wanted)])
        found.append(chunk.observations.take(rows))
        wanted -= rows.size
        if wanted <= 0:
            break
    return np.concatenate(found)
