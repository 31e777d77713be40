"""Turns the medians of parts and whole into the figures that matter.

With e, t, s and l the core-seconds that environment, teacher, student and training step need for
a transition (each measured alone, on one core, in the same run), r the samples trained on a
transition and C the cores:

    efficiency    = transitions/s end to end ÷ (C / (e + t + s + r·l))
    overlap       = end to end with C − 1 env runners, so that the learner has a core of its own
                    ÷ min(these env runners alone, learner alone)
    collector     = env runner without its networks ÷ bare environment
    inference     = teacher forward in the env runner ÷ the best type and layout for this CPU
    training_step = gradient step in the learner ÷ the best micro-batch and layout
    gather        = bytes/s of batches out of the window ÷ memcpy of as many

With as many env runners as cores the overlap has a ceiling below 1, because env runners alone may
then use what the learner needs: `overlap_shared` is reported with its `overlap_shared_ceiling`,
n / (n + r·l) with n = e + t + s.
"""

import statistics
from dataclasses import dataclass
from typing import Any

from rich.table import Table

from cluster.recipe.config import RunConfig

Rounds = dict[str, list[float]]
"""A value for each round, by name."""

Measurements = dict[str, list[list[float]]]
"""Values for each round, by name: of every time that all parts were measured in it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchReport:
    """All rounds, by name."""

    config: RunConfig
    num_cores: int
    parts: Measurements
    whole: Rounds

    def figures(self) -> dict[str, float]:
        """Return medians over the rounds by the names that programs read.

        Without a whole, only those of the parts are given.
        """
        found = self._ratios() | (self._figures_of_the_whole() if self.whole else {})
        return {name: statistics.median(values) for name, values in found.items()}

    def _ratios(self) -> Rounds:
        """Return the parts' ratios, each of what was measured side by side."""
        return {
            "collector": self._ratio("env_runner_without_networks", "environment"),
            "inference": self._ratio("teacher_forward", self._best("teacher_forward ")),
            "training_step": self._ratio("training_step", self._best("training_step ")),
            "gather": self._ratio("gather", "memcpy"),
        }

    def _figures_of_the_whole(self) -> Rounds:
        whole, cores = self.whole, self.num_cores
        acting, training = self._core_seconds()
        total = [a + t for a, t in zip(acting, training, strict=True)]
        found = {
            "efficiency": _products(whole["transitions_per_s"], total, 1 / cores),
            "overlap": _overlap(
                whole["split_transitions_per_s"], whole["split_collectors_alone_per_s"], training
            ),
            "overlap_shared": _overlap(
                whole["transitions_per_s"], whole["collectors_alone_per_s"], training
            ),
            "overlap_shared_ceiling": [a / t for a, t in zip(acting, total, strict=True)],
        }
        same = (
            "transitions_per_s",
            "samples_per_s",
            "bytes_per_transition",
            "data_wait",
            "samples_per_insert",
            "learner_wait",
            "env_runner_wait",
        )
        return found | {name: whole[name] for name in same}

    def _core_seconds(self) -> tuple[list[float], list[float]]:
        """Return core-seconds a transition, round by round: acting (n), training (r·l)."""
        r = self.config.replay.samples_per_insert
        names = ("environment", "teacher_forward", "student_forward")
        speeds = self._speeds()
        of_rounds = zip(*(speeds[name] for name in names), strict=True)
        acting = [sum(1 / speed for speed in of_round) for of_round in of_rounds]
        return acting, [r / speed for speed in speeds["training_step"]]

    def _speeds(self) -> Rounds:
        """Return the median speed of each part in each round."""
        return {name: list(map(statistics.median, of)) for name, of in self.parts.items()}

    def _ratio(self, part: str, other: str) -> list[float]:
        rounds = zip(self.parts[part], self.parts[other], strict=True)
        pairs = (zip(speeds, others, strict=True) for speeds, others in rounds)
        return [statistics.median(a / b for a, b in of_round) for of_round in pairs]

    def _best(self, prefix: str) -> str:
        speeds = self._speeds()
        named = [name for name in speeds if name.startswith(prefix)]
        return max(named, key=lambda name: statistics.median(speeds[name]))

    def as_json(self) -> dict[str, Any]:
        """Return the figures and every round behind them."""
        return {
            **self.figures(),
            "num_cores": self.num_cores,
            "rounds": {**self._speeds(), **self.whole, **self._ratios()},
        }

    def tables(self) -> list[Table]:
        """Return the parts and the figures for the screen."""
        parts = Table(title="alone, one core")
        for column in ("part", "a second", "lowest", "highest"):
            parts.add_column(column, justify="left" if column == "part" else "right")
        for name, values in {**self._speeds(), **self.whole}.items():
            cells = (statistics.median(values), min(values), max(values))
            parts.add_row(name, *(f"{value:,.5g}" for value in cells))
        figures = Table(title=f"{self.config.name} on {self.num_cores} cores")
        figures.add_column("figure")
        figures.add_column("median", justify="right")
        for name, value in self.figures().items():
            figures.add_row(name, f"{value:,.4g}")
        return [parts, figures]


def _products(values: list[float], others: list[float], factor: float) -> list[float]:
    return [a * b * factor for a, b in zip(values, others, strict=True)]


def _overlap(whole: list[float], collectors: list[float], training: list[float]) -> list[float]:
    """Return end to end ÷ the slower of both sides alone, round by round."""
    sides = zip(whole, collectors, training, strict=True)
    return [both / min(collected, 1 / trained) for both, collected, trained in sides]
