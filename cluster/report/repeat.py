"""The commands with which a run is repeated, gone on with and used."""

import shlex


def repeat_commands(run_dir: str) -> tuple[tuple[str, str], ...]:
    """Return what each command does and the command.

    Args:
        run_dir: the run directory, absolute.
    """
    here = shlex.quote(run_dir)
    recipe = shlex.quote(f"{run_dir.rstrip('/')}/recipe.toml")
    return (
        ("the same run again", f"stillhouse run {recipe}"),
        ("the same in one process, to the bit on one machine", f"stillhouse run {recipe} --local"),
        ("score the student again", f"stillhouse evaluate {here} --episodes 100"),
        ("write this page again", f"stillhouse report {here}"),
    )
