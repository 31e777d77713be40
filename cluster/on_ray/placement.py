"""The parts that a run cannot do without get their CPUs and GPUs all together, or none of them.

These are the learner's ranks, the shared inference actors, and one env runner for each replay
shard. They are the bundles of one placement group, so two runs that start on a cluster with room
for one cannot each hold half of what they need. Ray packs them onto few nodes, the learner's where
the GPUs are. All other env runners, and the shards (which reserve nothing), are spread.

When a node is lost, Ray moves the group's bundles to others where there is room.
"""

from typing import Any

from ray.util.placement_group import placement_group, remove_placement_group
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from actors.placement import SharedPlacement
from cluster.on_ray.resources import amount, wait_patiently
from cluster.recipe.config import RunConfig

SPREAD = "SPREAD"


class Reservation:
    """A run's placement group.

    Args:
        config: the recipe.
    """

    def __init__(self, config: RunConfig) -> None:
        learner, actors, shared = config.learner, config.actors, config.actors.inference
        rank = _bundle(learner.num_cpus, learner.num_gpus)
        self._bundles = [rank] * learner.num_ranks
        self._first_inference = len(self._bundles)
        if isinstance(shared, SharedPlacement):
            self._bundles += [_bundle(shared.num_cpus, shared.num_gpus)] * shared.num_actors
        self._first_runner = len(self._bundles)
        self._bundles += [_bundle(actors.num_cpus_per_runner, 0.0)] * config.replay.num_shards
        self._timeout_s = config.supervision.wait_for_resources_s
        self._group = placement_group(self._bundles, strategy="PACK")

    def wait(self) -> None:
        """Wait until all of it is reserved.

        Raises:
            ResourceError: it was not in time; nothing is reserved then.
        """
        num_cpus, num_gpus = (
            sum(bundle.get(name, 0.0) for bundle in self._bundles) for name in ("CPU", "GPU")
        )
        try:
            wait_patiently(
                self._group.wait,
                f"the run waits for {amount(num_cpus, num_gpus)} to start with",
                num_gpus > 0,
                self._timeout_s,
            )
        except BaseException:
            self.release()
            raise

    def of_rank(self, rank: int) -> Any:
        """Return where a rank of the learner goes."""
        return self._strategy(rank)

    def of_inference(self, index: int) -> Any:
        """Return where a shared inference actor goes."""
        return self._strategy(self._first_inference + index)

    def of_runner(self, index: int) -> Any:
        """Return where an env runner goes."""
        bundle = self._first_runner + index
        return self._strategy(bundle) if bundle < len(self._bundles) else SPREAD

    def release(self) -> None:
        """Give it back; Ray ends what still runs in it."""
        remove_placement_group(self._group)

    def _strategy(self, bundle: int) -> Any:
        return PlacementGroupSchedulingStrategy(self._group, bundle)


def _bundle(num_cpus: float, num_gpus: float) -> dict[str, float]:
    return {"CPU": num_cpus} | ({"GPU": num_gpus} if num_gpus else {})
