"""What an export is like: bytes, latency, agreement with its policy, and score, as a table."""

from dataclasses import dataclass
from typing import Any

from rich.table import Table

from actors.evaluator import EvaluationResult
from cluster.assembly import play_in
from cluster.exports.source import Source
from cluster.scoring import likeness_text, share_text
from common.policies.inference import InferencePolicy
from common.statistics import ShareInterval, bootstrap_mean, share_of_teacher
from common.storage import Location
from learners.export import ExportCheck, Precision

SEED = 0
"""The same games for all."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Played:
    """Full episodes of the export, of the float32 policy, and of random actions."""

    exported: EvaluationResult
    policy: EvaluationResult
    random: EvaluationResult

    @property
    def share(self) -> ShareInterval | None:
        """The export's random-offset share of the policy's return."""
        return share_of_teacher(self.exported.returns, self.policy.returns, self.random.returns)


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """What a policy's file takes."""

    num_bytes: int
    latency_ms: float | None
    """Of an answer to one observation, on one thread; None where this machine cannot run it."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ExportScores:
    """Everything that is said of an export."""

    target: Location
    format: str
    precision: Precision
    runs_in: str
    cost: Cost
    constant_bytes: int | None
    """What a device holds of a file of source text: weights and tables."""
    policy_cost: Cost
    check: ExportCheck | None
    """None where nothing could be compared."""
    origin: str | None
    """Where the observations come from, for the user; None where there are none."""
    not_compared: str | None
    """Why nothing could be compared, for the user."""
    num_calibration: int | None
    """Observations that int8 was calibrated with."""
    played: Played | None
    notes: str
    """What else there is to say of the file, for the user."""

    @property
    def remark(self) -> str | None:
        """What to think of a file of lower precision that is no smaller; None where it is."""
        own, policy = self.cost.num_bytes, self.policy_cost.num_bytes
        if self.precision == "float32" or self.constant_bytes is not None or own < policy:
            return None
        return (
            f"no smaller than its policy ({own:,} against {policy:,} bytes): so small a network "
            f"gains nothing from {self.precision}"
        )

    def as_json(self) -> dict[str, Any]:
        """Return it for programs."""
        check, played = self.check, self.played
        share = None if played is None else played.share
        return {
            "path": str(self.target),
            "format": self.format,
            "precision": self.precision,
            "runs_in": self.runs_in,
            "bytes": self.cost.num_bytes,
            "constant_bytes": self.constant_bytes,
            "latency_ms": self.cost.latency_ms,
            "greedy_agreement": None if check is None else check.greedy_agreement,
            "action_error": None if check is None else check.action_error,
            "max_abs_difference": None if check is None else check.max_abs_difference,
            "observations": 0 if check is None else check.observations,
            "observations_from": self.origin,
            "not_compared": self.not_compared,
            "calibration_observations": self.num_calibration,
            **_score(None if played is None else played.exported),
            "share_of_policy": None if share is None else share.share,
            "share_ci_low": None if share is None else share.ci_low,
            "share_ci_high": None if share is None else share.ci_high,
            "policy": {
                "bytes": self.policy_cost.num_bytes,
                "latency_ms": self.policy_cost.latency_ms,
                **_score(None if played is None else played.policy),
            },
            "notes": self.notes,
        }

    def table(self) -> Table:
        """Return the table for the screen."""
        told = f"observations: {self.origin}"
        if self.not_compared is not None:
            told = f"not compared: {self.not_compared}"
        table = Table(title=f"{self.target.name} against its policy ({told})")
        for name in ("", "bytes", "latency", "same action", "mean return", "of the policy"):
            table.add_column(name, justify="right" if name else "left", overflow="fold")
        check, played = self.check, self.played
        own, policy = (None, None) if played is None else (played.exported, played.policy)
        table.add_row("policy (float32, torch)", *_costs(self.policy_cost), "", _mean(policy), "")
        table.add_row(
            f"{self.format} ({self.precision}, {self.runs_in})",
            *_costs(self.cost, self.constant_bytes),
            "not compared"
            if check is None
            else likeness_text(check.greedy_agreement, check.action_error),
            _mean(own),
            "" if played is None else share_text(played.share),
        )
        return table


def play(
    source: Source, player: InferencePolicy | None, num_episodes: int, num_observations: int = 0
) -> EvaluationResult:
    """Let somebody play what the source plays, as its own specification says.

    Args:
        source: tells the environment.
        player: without a memory; None for random actions.
        num_episodes: full ones.
        num_observations: to keep.
    """
    return play_in(
        source.environment(num_episodes),
        policy=player,
        reference=None,
        num_episodes=num_episodes,
        seed=SEED,
        num_observations=num_observations,
    )


def _score(result: EvaluationResult | None) -> dict[str, Any]:
    if result is None:
        return dict.fromkeys(("mean_return", "ci_low", "ci_high", "episodes"))
    mean = bootstrap_mean(result.returns)
    return {
        "mean_return": mean.mean,
        "ci_low": mean.ci_low,
        "ci_high": mean.ci_high,
        "episodes": mean.episodes,
    }


def _costs(cost: Cost, constant_bytes: int | None = None) -> tuple[str, str]:
    size = f"{cost.num_bytes:,}"
    if constant_bytes is not None:
        size = f"{constant_bytes:,} of constants"
    latency = "not measured" if cost.latency_ms is None else f"{cost.latency_ms:.3f} ms"
    return size, latency


def _mean(result: EvaluationResult | None) -> str:
    if result is None:
        return "not played"
    mean = bootstrap_mean(result.returns)
    return f"{mean.mean:.2f} ({mean.ci_low:.2f} to {mean.ci_high:.2f})"
