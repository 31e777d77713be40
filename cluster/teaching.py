"""Training the teacher that a recipe's `[teach]` describes."""

from collections.abc import Iterator
from contextlib import contextmanager

from actors.environments.gymnasium_env import GymnasiumConfig
from cluster.config import RunConfig
from cluster.interrupt import deferred_interrupt
from cluster.progress import Reporter
from cluster.version_writer import VersionWriter
from common.policies.policy import Policy


def train_teacher_for(
    config: RunConfig, reporter: Reporter, versions: VersionWriter | None = None
) -> tuple[Policy, bool]:
    """Train the teacher that the recipe's `[teach]` describes.

    The first Ctrl-C ends the training with the best teacher so far.

    Args:
        config: the recipe.
        reporter: where progress goes.
        versions: writes every better policy of the training, for runs that learn meanwhile.

    Returns:
        The teacher, and whether the training was ended by Ctrl-C.
    """
    # RLlib takes seconds to import; only runs that train a teacher pay for it.
    from learners.rllib_teacher import TeachProgress, train_teacher

    teach, env = config.teach, config.env
    assert teach is not None
    assert isinstance(env, GymnasiumConfig)

    def on_progress(progress: TeachProgress) -> None:
        reporter.progress(
            "teach",
            min(1.0, progress.env_steps / teach.total_env_steps),
            f"{progress.env_steps:,} of {teach.total_env_steps:,} env steps, mean return "
            f"{progress.mean_return:.1f}, best greedy {progress.best_return:.1f}",
        )

    reporter.say(f"training a {teach.algorithm.upper()} teacher of {env.id} with RLlib")
    with _ray_for_rllib(), deferred_interrupt() as interrupt:
        try:
            teacher = train_teacher(
                teach,
                env_id=env.id,
                env_kwargs=env.kwargs,
                name=f"{config.name}-teacher",
                on_progress=on_progress,
                should_stop=lambda: interrupt.requested,
                on_evaluation=(lambda evaluation: None) if versions is None else versions.take,
            )
            return teacher, interrupt.requested
        finally:
            reporter.close()


@contextmanager
def _ray_for_rllib() -> Iterator[None]:
    """Start Ray where nobody has (`--local`): RLlib on its own joins any cluster of the machine."""
    import ray

    from cluster.ray_connection import start_here

    if ray.is_initialized():
        yield
        return
    start_here(num_cpus=1)
    try:
        yield
    finally:
        ray.shutdown()
