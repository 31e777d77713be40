"""Real observations for an export: to calibrate int8 with, and to compare the file on.

They come from, whichever is there first:

1. the dataset that `--calibration` names;
2. the replay that the run's newest checkpoint holds (`replay.checkpoint = true`);
3. the dataset that the run was distilled from;
4. the student's own play in its environment.

None of those that calibrate are compared on.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from actors.config import EvaluationConfig
from cluster.assembly import play_in
from cluster.exports.source import Source
from cluster.offline import drawn_from
from common.codec import decode
from common.dataset import Dataset, open_dataset
from common.errors import MismatchError
from common.policies.inference import InferencePolicy, Observations
from common.replay.snapshot import read_snapshot
from common.trajectory import TrajectoryChunk
from learners.checkpoint import load_newest_checkpoint
from learners.saved_replay import WINDOW

OF_EACH_CHUNK = 256
"""At most; chunks are of one moment of the run."""
_COPIES, _STEPS = 16, 500
"""Of the environment in a short play: the steps are enough where not all copies end early."""
_SEED = 0


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Seen:
    """Real observations, [M, *shape] each."""

    calibration: Observations
    compared: Observations
    origin: str
    """Where they come from, for the user."""


def see(
    source: Source, *, calibration: str | None, played: Observations | None, num_calibration: int
) -> Seen:
    """Find real observations of what the policy sees.

    Args:
        source: the policy.
        calibration: the dataset that was named, if any.
        played: from the student's play, where it has played already.
        num_calibration: observations to calibrate with, where there are twice as many.

    Raises:
        ConfigError: there are none: the environment is not known or cannot be made.
        MismatchError: the dataset is of another environment, or the policy takes others.
        DatasetError: the dataset cannot be read.
        StorageError: a checkpoint cannot be read.
    """
    wanted = num_wanted(source, num_calibration)
    found = _from_dataset(calibration, source, wanted) if calibration is not None else None
    if found is None:
        found = _from_replay(source, wanted)
    if found is None and source.config is not None and source.config.dataset is not None:
        found = _from_dataset(source.config.dataset.path, source, wanted)
    if found is None and played is not None:
        found = played, "the student's play"
    if found is None:
        found = _from_play(source, wanted), "a short play of the student"
    observations, origin = found
    order = np.random.default_rng(_SEED).permutation(len(observations))
    # Of few observations, half for each.
    split = min(num_calibration, len(order) // 2)
    return Seen(
        calibration=observations[order[:split]],
        compared=observations[order[split:]],
        origin=origin,
    )


def num_wanted(source: Source, num_calibration: int) -> int:
    """Return how many observations there should be: to calibrate with, and those of evaluations."""
    evaluation = EvaluationConfig() if source.config is None else source.config.evaluation
    return num_calibration + evaluation.num_observations


def _from_dataset(path: str, source: Source, wanted: int) -> tuple[Observations, str]:
    dataset = open_dataset(path)
    try:
        recorded, known = dataset.manifest.environment.get("id"), source.env_id
        if known is not None and recorded != known:
            raise MismatchError(
                f"{path}: was recorded in {recorded}, and {source.path} plays {known}; name a "
                f"dataset of its own environment"
            )
        found = _drawn(_chunks(dataset), len(dataset), wanted)
    finally:
        dataset.close()
    told = source.policy.spec.observation
    if (found.shape[1:], str(found.dtype)) != (told.shape, told.dtype):
        raise MismatchError(
            f"{path}: its observations are {found.dtype} {found.shape[1:]}, and {source.path} "
            f"takes {told.dtype} {told.shape}; name a dataset of its own environment"
        )
    return found, str(path)


def _chunks(dataset: Dataset) -> Iterator[TrajectoryChunk]:
    order = np.random.default_rng(_SEED).permutation(len(dataset))
    return (dataset.read(number) for number in order.tolist())


def _from_replay(source: Source, wanted: int) -> tuple[Observations, str] | None:
    """Return what the learner's window held, None where no checkpoint has a replay."""
    if source.directory is None:
        return None
    checkpoint = load_newest_checkpoint(source.directory.checkpoints)
    if checkpoint is None or checkpoint.state.get("replay") is None:
        return None
    encoded = read_snapshot(checkpoint.folder / WINDOW).chunks
    if not encoded:
        return None
    order = np.random.default_rng(_SEED).permutation(len(encoded)).tolist()
    found = _drawn((decode(encoded[number]) for number in order), len(encoded), wanted)
    return found, "the run's replay"


def _drawn(chunks: Iterable[TrajectoryChunk], num_chunks: int, wanted: int) -> Observations:
    of_each = max(OF_EACH_CHUNK, -(-wanted // num_chunks))
    return drawn_from(chunks, wanted, np.random.default_rng(_SEED), of_each=of_each)


def _from_play(source: Source, wanted: int) -> Observations:
    """Let the policy play for a while, as it is delivered."""
    steps = iter(range(_STEPS))
    result = play_in(
        source.environment(_COPIES),
        policy=InferencePolicy(source.policy),
        reference=None,
        num_episodes=_COPIES * _STEPS,
        seed=_SEED,
        num_observations=wanted,
        should_stop=lambda: next(steps, None) is None,
    )
    return result.observations
