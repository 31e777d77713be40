"""The commands with which a run is repeated, gone on with and used."""

from cluster.next_command import command_line


def repeat_commands(run_dir: str, *, is_local: bool) -> tuple[tuple[str, str], ...]:
    """Return what each command does and the command.

    Args:
        run_dir: the run directory, absolute.
        is_local: whether the run was in one process when it was last started.
    """
    recipe = f"{run_dir.rstrip('/')}/recipe.toml"
    runs = {
        False: ("the same on Ray", command_line("run", recipe, is_local=False)),
        True: (
            "the same in one process, to the bit on one machine",
            command_line("run", recipe, is_local=True),
        ),
    }
    return (
        ("the same run again", runs[is_local][1]),
        runs[not is_local],
        (
            "score the student again",
            command_line("evaluate", run_dir, "--episodes", "100", is_local=is_local),
        ),
        ("write this page again", command_line("report", run_dir, is_local=False)),
    )
