"""What looks along time, terms and students with a memory, and what it asks of the recipe."""

from actors.behavior import Behavior
from actors.config import ActorsConfig
from common.networks import NetworkSpec
from common.networks.lstm import LSTMSpec
from common.replay.config import ReplayConfig
from learners.config import LearnerConfig
from learners.objectives import ObjectiveConfig

FRESH_CHUNKS = 2
"""Chunks of every env runner that the window of a term on fresh data may hold; the fewest it can
hold."""

_MOMENTS = (0.0, 0.01, 0.25, 0.5, 0.75, 1.0)


def check_over_time(objective: ObjectiveConfig, learner: LearnerConfig) -> None:
    """Ask for sequences where a term needs them.

    Raises:
        ValueError: there are none.
    """
    if objective.over_time and learner.sequence_length == 1:
        raise ValueError(
            f"learner.sequence_length = 1: objective.{objective.over_time[0]} looks along time; "
            f"set it to actors.unroll_length or a divisor of it"
        )


def check_memory(network: NetworkSpec, learner: LearnerConfig) -> None:
    """Ask for sequences where the student has a memory, and for burn-in only there.

    Raises:
        ValueError: there are none, or there is nothing to burn in.
    """
    if isinstance(network, LSTMSpec):
        if learner.sequence_length == 1:
            raise ValueError(
                "learner.sequence_length = 1: student.network.name = 'lstm' has a memory, which "
                "learns from sequences; set it to actors.unroll_length or a divisor of it"
            )
    elif learner.burn_in:
        raise ValueError(
            f"learner.burn_in = {learner.burn_in}: student.network.name = {network.name!r} has no "
            f"memory to fill; leave it out"
        )


def check_on_policy(
    objective: ObjectiveConfig,
    *,
    behavior: Behavior,
    actors: ActorsConfig,
    replay: ReplayConfig,
    learner: LearnerConfig,
) -> None:
    """Ask for the student's own fresh actions where a term learns from these alone.

    Raises:
        ValueError: there would be others.
    """
    if not objective.on_policy:
        return
    name = f"objective.{objective.on_policy[0]}"
    if any(behavior.teacher_share(progress) > 0 for progress in _MOMENTS):
        raise ValueError(
            f"behavior.name = {behavior.name!r}: {name} learns from the student's own actions "
            f"alone, and the teacher would act too; set behavior.name = 'student'"
        )
    if behavior.student_epsilon > 0:
        raise ValueError(
            f"behavior.student_epsilon = {behavior.student_epsilon:g}: {name} learns from actions "
            f"that the student chose; set it to 0, the student samples its actions"
        )
    if replay.sampler.name == "prioritized":
        raise ValueError(
            f"replay.sampler.name = 'prioritized': {name} needs samples as they were played; use "
            f"'fresh_first' or 'uniform'"
        )
    runners = actors.num_env_runners
    if actors.scaling is not None:
        runners = max(runners, actors.scaling.max_env_runners)
    limit = FRESH_CHUNKS * runners * actors.chunk_size
    if replay.window_size() > limit:
        raise ValueError(
            f"replay.window = {replay.window_size()}: {name} learns from fresh data; set it to at "
            f"most {limit}, {FRESH_CHUNKS} chunks of every env runner, and replay.revisits to 0"
        )
    if replay.revisits_chunks:
        raise ValueError(
            f"replay.revisits = {replay.revisits}: {name} learns from fresh data, and older "
            f"chunks would come back; set it to 0"
        )
    between = learner.publish_interval_steps * learner.batch_size
    trained = int(replay.samples_per_insert * replay.window_size())
    if between > trained:
        raise ValueError(
            f"learner.publish_interval_steps = {learner.publish_interval_steps}: {name} learns "
            f"from fresh data, and the student would act on weights that are {between} samples "
            f"old, more than the {trained} of a window; set it to at most "
            f"{max(1, trained // learner.batch_size)}"
        )
