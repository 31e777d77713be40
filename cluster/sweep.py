"""A sweep: the same distillation with other settings, and which student to take.

Ray Tune draws the settings and runs the trials, as many at a time as the cluster has room for. A
trial is a whole run in one process (`cluster.local_backend`) with a run directory of its own; a
trial that breaks costs the others nothing. The driver waits for all of them, then times every
student in turn, because trials beside each other disturb each other's clocks.
"""

import json
import math
import random
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import redirect_stdout
from dataclasses import asdict, dataclass, replace
from itertools import product
from typing import Any, NamedTuple

from ray import tune

from cluster.board import RunStatus
from cluster.control import BoardReporter, Control
from cluster.controller import Controller
from cluster.local_backend import LocalBackend
from cluster.on_ray.errors import one_line
from cluster.prepare import prepare
from cluster.recipe.config import RunConfig
from cluster.run_directory import (
    RunDirectory,
    create_run_directory,
    read_evaluation,
    write_json,
)
from common.config import validate, with_value
from common.errors import RunFailedError
from common.policies.policy import load_policy
from common.storage import Location
from common.threads import set_threads
from learners.footprint import Footprint, measure_footprint

Settings = dict[str, Any]
_SETTINGS = "settings"
"""Key of a trial's settings in its configuration of Tune's."""
"""Recipe keys with dots, and their values."""

COSTS = ("bytes", "multiply_adds", "latency_ms")


class Variation(NamedTuple):
    """A key of the recipe and the values that it shall have."""

    key: str
    values: tuple[Any, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A student that a trial delivered."""

    name: str
    settings: Settings
    run_dir: str
    share: float
    share_ci_low: float
    share_ci_high: float
    footprint: Footprint
    best_for: tuple[str, ...] = ()
    """Costs at which no other student with at least this share is cheaper."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SweepResult:
    """What a sweep found."""

    candidates: tuple[Candidate, ...]
    """The largest share first."""
    chosen: Candidate | None
    """None where no trial delivered a student."""
    failed: dict[str, str]
    """Trials that broke, and why."""

    def as_json(self) -> dict[str, Any]:
        """Return the content of `sweep.json`."""
        return {
            "chosen": None if self.chosen is None else self.chosen.name,
            "candidates": [_as_json(candidate) for candidate in self.candidates],
            "failed": self.failed,
        }


def plan_trials(
    config: RunConfig, variations: Sequence[Variation], *, num_samples: int | None
) -> list[Settings]:
    """Return the settings of all trials, and find those that no run could have before any starts.

    Args:
        config: the recipe that is varied.
        variations: what to vary; all combinations, or
        num_samples: so many different ones, drawn at random with the recipe's seed.

    Raises:
        UserError: what is wrong, in one line.
    """
    combinations = list(_combinations(variations))
    for settings in combinations:
        prepare(with_settings(config, settings), num_cpus=math.inf, num_gpus=math.inf)
    if num_samples is None or num_samples >= len(combinations):
        return combinations
    return random.Random(config.seed).sample(combinations, num_samples)


def with_settings(config: RunConfig, settings: Settings) -> RunConfig:
    """Return the recipe with these settings; a trial is judged later, so nothing is required.

    Raises:
        ConfigError: they make no recipe.
    """
    tree = config.model_dump(mode="json", exclude_none=True)
    tree.get("evaluation", {}).pop("required_share", None)
    for key, value in settings.items():
        tree = with_value(tree, key, value, source=f"--vary {key}")
    return validate(RunConfig, tree, f"--vary {_in_words(settings)}")


def run_sweep(
    config: RunConfig, trials: Sequence[Settings], out: Location, *, required_share: float
) -> SweepResult:
    """Run all trials on the Ray cluster that this process is connected to.

    Args:
        config: the recipe that is varied.
        trials: settings of each.
        out: folder for the trials' run directories and `sweep.json`.
        required_share: the cheapest student with at least this share is chosen.

    Raises:
        RunFailedError: no trial delivered a student.
    """
    tuner = tune.Tuner(
        tune.with_resources(
            tune.with_parameters(_trial, recipe=config.model_dump_json(), folder=out.absolute),
            {"cpu": 1, "gpu": config.learner.num_gpus},
        ),
        param_space={_SETTINGS: tune.grid_search(list(trials))},
        run_config=tune.RunConfig(name="tune", storage_path=out.absolute, verbose=1),
    )
    with redirect_stdout(sys.stderr):  # Tune's progress; the result goes to stdout
        results = tuner.fit()
    delivered: list[Candidate] = []
    failed: dict[str, str] = {}
    for index in range(len(results)):
        trial = results[index]
        settings = (trial.config or {}).get(_SETTINGS, {})
        if trial.error is not None or trial.metrics is None:
            failed[_in_words(settings)] = one_line(trial.error or RuntimeError("no result"))
        else:
            delivered.append(_candidate(settings, trial.metrics["run_dir"]))
    result = judge(delivered, failed, required_share=required_share)
    write_json(out / "sweep.json", result.as_json())
    if result.chosen is None:
        reasons = "; ".join(f"{name}: {reason}" for name, reason in failed.items())
        raise RunFailedError(f"no trial of the sweep delivered a student ({reasons})")
    return result


def judge(
    candidates: Sequence[Candidate], failed: Mapping[str, str], *, required_share: float
) -> SweepResult:
    """Order students, find those that nobody beats, and choose one.

    The chosen one has the fewest bytes of those with at least the required share; where none has
    it, the largest share.
    """
    ordered = sorted(candidates, key=lambda candidate: -candidate.share)
    marked = [replace(each, best_for=_best_for(each, ordered)) for each in ordered]
    good = [each for each in marked if each.share >= required_share]
    chosen = min(good, key=lambda each: each.footprint.bytes) if good else next(iter(marked), None)
    return SweepResult(candidates=tuple(marked), chosen=chosen, failed=dict(failed))


def _best_for(one: Candidate, all_of_them: Sequence[Candidate]) -> tuple[str, ...]:
    """Return the costs at which a student is on the Pareto front of share and cost."""

    def beaten(cost: str) -> bool:
        own = getattr(one.footprint, cost)
        return any(
            other.share >= one.share
            and getattr(other.footprint, cost) <= own
            and (other.share > one.share or getattr(other.footprint, cost) < own)
            for other in all_of_them
        )

    return tuple(cost for cost in COSTS if not beaten(cost))


def _trial(trial: dict[str, Settings], *, recipe: str, folder: str) -> None:
    """Run one trial, in a process of Tune's, and report where its student is."""
    set_threads(1)
    run_dir = f"{folder}/{tune.get_context().get_trial_id()}"
    config = with_settings(RunConfig.model_validate_json(recipe), trial[_SETTINGS])
    directory = create_run_directory(run_dir, config)
    preparation = prepare(config, num_cpus=math.inf, num_gpus=math.inf)
    control = Control(RunStatus(name=config.name, run_dir=run_dir, task=config.task_name))
    reporter = BoardReporter(control)
    Controller(preparation, directory, LocalBackend(), reporter, control).run()
    tune.report({"run_dir": run_dir})


def _candidate(settings: Settings, run_dir: str) -> Candidate:
    """Read what a trial delivered, and time its student now that nothing else runs."""
    directory = RunDirectory(run_dir)
    (task,) = read_evaluation(directory)["tasks"].values()
    return Candidate(
        name=_in_words(settings),
        settings=settings,
        run_dir=run_dir,
        share=task["share_of_teacher"] or 0.0,
        share_ci_low=task["share_ci_low"] or 0.0,
        share_ci_high=task["share_ci_high"] or 0.0,
        footprint=measure_footprint(load_policy(directory.student), bytes_on_disk=None),
    )


def _combinations(variations: Sequence[Variation]) -> Iterator[Settings]:
    for values in product(*(variation.values for variation in variations)):
        yield {each.key: value for each, value in zip(variations, values, strict=True)}


def _in_words(settings: Settings) -> str:
    return ", ".join(f"{key} = {json.dumps(value)}" for key, value in settings.items())


def _as_json(candidate: Candidate) -> dict[str, Any]:
    tree = asdict(candidate)
    return tree | {"best_for": list(candidate.best_for)}
