"""Policies that a command line names: by a file, or by the run directory that holds one."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cluster.next_command import next_command
from cluster.run_directory import RunDirectory
from common.errors import PolicyMissingError, RunDirectoryError, UserError
from common.policies.policy import Policy, load_policy
from common.storage import Named
from common.teachers import did_you_mean, load_teacher


def load_policy_file(source: Named, *, trust: bool) -> Policy:
    """Read a policy of any format; what its reader has to say goes to standard error.

    Args:
        source: as it was named.
        trust: whether what can run code when it is read may do so.

    Raises:
        PolicyMissingError: nothing is there.
        UserError: it cannot be read.
    """
    try:
        with naming_trust():
            return load_teacher(source, trust=trust, say=_note)
    except PolicyMissingError:
        hint = did_you_mean(Path(str(source)))
        raise PolicyMissingError(
            f"{source}: neither a run directory nor a policy file is there{hint}; give the path of "
            f"one"
        ) from None


@contextmanager
def naming_trust() -> Iterator[None]:
    """Add how a command is given trust to errors that want it in a recipe."""
    try:
        yield
    except UserError as error:
        if "trust = true" not in str(error):
            raise
        raise type(error)(f"{error}, or here --trust") from None


def kept_student(directory: RunDirectory) -> Policy:
    """Return the student that the run made.

    Raises:
        RunDirectoryError: there is none yet.
        PolicyFileError: it cannot be read.
    """
    if not directory.student.exists():
        raise RunDirectoryError(
            f"{directory.path}: has no student yet; finish it with: "
            f"{next_command(directory, 'resume')}"
        )
    return load_policy(directory.student)


def _note(text: str) -> None:
    print(f"note: {text}", file=sys.stderr)
