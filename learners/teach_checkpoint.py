"""Checkpoints of a teacher's training, in the format and the folders of `learners.checkpoint`.

`learner.pt` holds the position of the training, the best policy so far and the algorithm's state;
`replay.zst` what a DQN has in its replay. Steps are env steps.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from common.errors import ConfigError
from common.policies.spec import PolicySpec
from common.storage import Location
from learners.checkpoint import Part, load_newest_checkpoint, save_checkpoint
from learners.teach_config import TeachConfig

REPLAY = "replay.zst"
_KEY = "teaching"


@dataclass(frozen=True, slots=True, eq=False)
class TeachCheckpoint:
    """Where a training goes on."""

    folder: Location
    state: dict[str, Any]

    @property
    def env_steps(self) -> int:
        """Sampled by then."""
        return int(self.state["env_steps"])

    @property
    def replay(self) -> Location:
        """The replay's file, which is there with a DQN."""
        return self.folder / REPLAY

    def check(self, config: TeachConfig, spec: PolicySpec) -> None:
        """Hold it against what is to go on.

        Raises:
            ConfigError: it is of another algorithm, network or environment.
        """
        then, now = json.loads(self.state["about"]), json.loads(_about(config, spec))
        for key, value in now.items():
            if then.get(key) != value:
                raise ConfigError(
                    f"{self.folder}: its training has {key} = {then.get(key)!r}, and the recipe "
                    f"has {value!r}; set it back, or train in a new folder"
                )


def newest_training(checkpoints: Location) -> TeachCheckpoint | None:
    """Return the newest whole checkpoint of a training, or None where there is none.

    Raises:
        ConfigError: the folder's checkpoints are of something else.
        StorageError: the place cannot be reached.
    """
    found = load_newest_checkpoint(checkpoints)
    if found is None:
        return None
    if _KEY not in found.state:
        raise ConfigError(f"{checkpoints}: holds checkpoints, but of no teacher's training")
    return TeachCheckpoint(found.folder, found.state[_KEY])


def save_training(
    checkpoints: Location,
    config: TeachConfig,
    spec: PolicySpec,
    state: Mapping[str, Any],
    parts: Mapping[str, Part],
) -> None:
    """Write a checkpoint and remove the oldest.

    Args:
        checkpoints: where they lie.
        config: the recipe's `[teach]`.
        spec: of the teacher.
        state: tensors, numbers and text; `env_steps` is the checkpoint's name.
        parts: its other files, by their names.

    Raises:
        StorageError: it cannot be written; what was there before is as it was.
    """
    whole = {_KEY: {**state, "about": _about(config, spec)}}
    save_checkpoint(
        checkpoints, whole, step=state["env_steps"], keep=config.checkpoints_kept, parts=parts
    )


def _about(config: TeachConfig, spec: PolicySpec) -> str:
    """Return what a training cannot change on its way, as JSON."""
    fixed = {"network", "observation", "num_actions", "dist", "environment"}
    about = {"algorithm": config.algorithm, **spec.model_dump(mode="json", include=fixed)}
    return json.dumps(about)
