"""Training the teacher that a recipe's `[teach]` describes."""

from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager

from actors.environments import VectorEnvironment
from cluster.assembly import build_environment
from cluster.interrupt import deferred_interrupt
from cluster.prepare import Preparation, taught_spec
from cluster.progress import Reporter
from cluster.teaching.curve import TeachCurve
from cluster.teaching.directory import TeachDirectory
from cluster.teaching.version_writer import VersionWriter
from common.policies.policy import Policy
from learners.teach_checkpoint import TeachCheckpoint
from learners.teacher_search import TeachEvaluation, TeachProgress


def train_teacher_for(
    preparation: Preparation,
    reporter: Reporter,
    *,
    directory: TeachDirectory | None = None,
    resumed: TeachCheckpoint | None = None,
    versions: VersionWriter | None = None,
) -> tuple[Policy, bool]:
    """Train the teacher that the recipe's `[teach]` describes.

    The first Ctrl-C ends the training with the best teacher so far.

    Args:
        preparation: the recipe, found good.
        reporter: where progress goes.
        directory: where checkpoints and the curve go; None for nowhere.
        resumed: the checkpoint from which the training goes on.
        versions: writes every better policy of the training, for runs that learn meanwhile.

    Returns:
        The teacher, and whether the training was ended by Ctrl-C.
    """
    # RLlib takes seconds to import; only runs that train a teacher pay for it.
    from learners.rllib_teacher import TeachHooks, train_teacher

    config, teach = preparation.config, preparation.config.teach
    assert teach is not None

    def make_copies(num_envs: int) -> VectorEnvironment:
        return build_environment(config, num_envs=num_envs)

    def on_progress(progress: TeachProgress) -> None:
        if curve is not None:
            curve.add(progress)
        reporter.progress(
            "teach",
            min(1.0, progress.env_steps / teach.total_env_steps),
            f"{progress.env_steps:,} of {teach.total_env_steps:,} env steps, mean return "
            f"{progress.mean_return:.1f}, best greedy {progress.best_return:.1f}",
        )

    def on_evaluation(evaluation: TeachEvaluation) -> None:
        if versions is not None:
            versions.take(evaluation)

    reporter.say(f"training a {teach.algorithm.upper()} teacher of {config.env.id} with RLlib")
    if resumed is not None:
        reporter.say(f"going on from its checkpoint after {resumed.env_steps:,} env steps")
    with ExitStack() as stack:
        curve = None
        if directory is not None:
            after = 0 if resumed is None else resumed.env_steps
            curve = stack.enter_context(closing(TeachCurve(directory, after=after)))
        stack.enter_context(_ray_for_rllib())
        interrupt = stack.enter_context(deferred_interrupt())
        stack.callback(reporter.close)
        teacher = train_teacher(
            teach,
            taught_spec(config, preparation.environment),
            make_copies,
            hooks=TeachHooks(
                on_progress=on_progress,
                on_evaluation=on_evaluation,
                should_stop=lambda: interrupt.requested,
            ),
            checkpoints=None if directory is None else directory.checkpoints,
            resumed=resumed,
        )
        return teacher, interrupt.requested


@contextmanager
def _ray_for_rllib() -> Iterator[None]:
    """Start Ray where nobody has (`--local`): RLlib on its own joins any cluster of the machine."""
    import ray

    from cluster.on_ray.connection import start_here

    if ray.is_initialized():
        yield
        return
    start_here(num_cpus=1)
    try:
        yield
    finally:
        ray.shutdown()
