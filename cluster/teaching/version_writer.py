"""`stillhouse teach --versions DIR`: a teacher in training, for runs that learn from it meanwhile.

Every greedy policy that is better than those before is written as `version-000001.safetensors` and
so on; it counts once its specification is beside it, which is written last. `curve.jsonl` has a
line for every evaluation. A run takes them up by `[teacher.refresh]` (`cluster.teacher_versions`).
A training that goes on from a checkpoint counts on from the last version; a run may have taken it.
"""

import json
import logging
import math
import re

from common.errors import ConfigError, StorageError
from common.policies.policy import Policy, save_policy
from common.storage import Location
from learners.teacher_search import TeachEvaluation

logger = logging.getLogger(__name__)

CURVE = "curve.jsonl"
_NAME = re.compile(r"version-(\d+)\.safetensors")


class VersionWriter:
    """Writes versions and the curve of a training into a folder.

    Args:
        folder: where; it must be empty, but for a training that goes on.
        after: env steps of the checkpoint from which it goes on; None where it starts.

    Raises:
        ConfigError: it is not.
        StorageError: nobody can say what is there.
    """

    def __init__(self, folder: Location, *, after: int | None = None) -> None:
        names = folder.names()
        if folder.is_file() or (names and after is None):
            raise ConfigError(f"--versions {folder}: not an empty folder; name another")
        self._folder = folder
        self._versions = max(
            (int(found[1]) for found in map(_NAME.fullmatch, names) if found), default=0
        )
        self._curve = [] if after is None else _curve_until(folder / CURVE, after)

    def take(self, evaluation: TeachEvaluation) -> None:
        """Write what an evaluation found; where that fails, training goes on with a warning."""
        line = {
            "env_steps": evaluation.env_steps,
            "mean_return": _or_none(evaluation.mean_return),
            "greedy_return": evaluation.greedy_return,
            "version": self._versions + evaluation.is_best,
        }
        self._curve.append(json.dumps(line, allow_nan=False) + "\n")
        try:
            if evaluation.is_best:
                self._write(evaluation)
            (self._folder / CURVE).write_text("".join(self._curve))
        except StorageError as error:
            logger.warning("the teacher so far is not written: %s", error)

    def _write(self, evaluation: TeachEvaluation) -> None:
        self._versions += 1
        spec = evaluation.policy.spec
        changes = {
            "measured": {"mean_return": evaluation.greedy_return, "acting": "greedy"},
            "provenance": spec.provenance | {"env_steps": evaluation.env_steps},
        }
        policy = Policy(spec.model_copy(update=changes), evaluation.policy.network)
        save_policy(policy, self._folder / f"version-{self._versions:06d}.safetensors")


def _curve_until(curve: Location, env_steps: int) -> list[str]:
    """Return the lines of evaluations up to so many env steps."""
    if not curve.is_file():
        return []
    lines = curve.read_text().splitlines(keepends=True)
    return [line for line in lines if json.loads(line)["env_steps"] <= env_steps]


def _or_none(value: float) -> float | None:
    """Return a number that JSON knows."""
    return value if math.isfinite(value) else None
