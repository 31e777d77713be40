"""The commands that a person is told to type next, so that they work as the run did.

A run in one process goes on there: without `--local`, its commands would start Ray.
"""

import shlex
from contextlib import suppress

from cluster.report.versions import starts_of, was_local
from cluster.run_directory import RunDirectory
from common.errors import StorageError


def command_line(command: str, target: str, *options: str, is_local: bool) -> str:
    """Return a command as a shell takes it.

    Args:
        command: its name.
        target: a run directory, or a recipe.
        options: further words.
        is_local: whether it is to work in one process.
    """
    local = ("--local",) if is_local else ()
    return shlex.join(("stillhouse", command, target, *options, *local))


def next_command(directory: RunDirectory, command: str, *options: str) -> str:
    """Return a command on a run, in one process where the run's last start was in one."""
    is_local = False
    with suppress(StorageError):
        is_local = was_local(starts_of(directory))
    return command_line(command, str(directory.path), *options, is_local=is_local)
