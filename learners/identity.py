"""What of a recipe a checkpoint is bound to."""

import json
from collections.abc import Mapping

from common.errors import ConfigError
from common.policies.spec import PolicySpec
from learners.objectives import ObjectiveConfig


def identity_of(student: PolicySpec, objective: ObjectiveConfig, optimizer: str) -> dict[str, str]:
    """Return the recipe's keys without which a checkpoint means nothing, with their values."""
    in_use = {True: "on", False: "off"}
    return {
        "objective.feature": in_use[objective.needs_features],
        "the student's value head": in_use[student.has_value],
        "student.network": json.dumps(student.network.model_dump(mode="json"), sort_keys=True),
        "tasks": ", ".join(head.name for head in student.heads),
        "learner.optimizer": optimizer,
    }


def check_same_identity(own: Mapping[str, str], former: Mapping[str, str]) -> None:
    """Refuse a checkpoint of another student or optimizer, or that trained more or less beside it.

    Args:
        own: what `identity_of` says of this run.
        former: what it said of the checkpoint's; keys that were not known then are not compared.

    Raises:
        ConfigError: they differ.
    """
    for key, value in own.items():
        if (found := former.get(key, value)) != value:
            mine, theirs = _where_they_differ(value, found)
            raise ConfigError(
                f"{key} = {mine}, but the run's checkpoint was made with {theirs}; go on with "
                f"that, or start a new run"
            )


def _where_they_differ(value: str, found: str) -> tuple[str, str]:
    """Return two values, of tables only the keys in which they differ."""
    if not (value.startswith("{") and found.startswith("{")):
        return value, found
    tables = json.loads(value), json.loads(found)
    keys = [key for key in tables[0] | tables[1] if tables[0].get(key) != tables[1].get(key)]
    mine, theirs = ({key: table.get(key) for key in keys} for table in tables)
    return json.dumps(mine), json.dumps(theirs)


def check_teacher_version(own: int, former: int) -> None:
    """Refuse a checkpoint that learnt from a newer version of the teacher than there is here.

    Raises:
        ConfigError: it did.
    """
    if own < former:
        raise ConfigError(
            f"teacher.refresh: the run's checkpoint was made with version {former} of the teacher, "
            f"and the newest whole one in the run directory is version {own}; put its files back "
            f"into the directory's teachers folder, or start a new run"
        )
