"""The command line: `stillhouse COMMAND`; the commands are listed in `cluster.commands.table`.

Exit codes: 0 done, 2 the user's mistake (one line, no traceback), 1 ours, 130 stopped by Ctrl-C.
"""

import sys
from importlib.metadata import version
from typing import Annotated, Any

import typer

from cluster.commands.table import CommandTable
from cluster.interrupt import INTERRUPTED
from common.credentials import refuse_credentials
from common.errors import StillhouseError, UserError

app = typer.Typer(
    cls=CommandTable,
    add_completion=False,
    pretty_exceptions_enable=False,
)


def _tell_version(wanted: bool) -> None:
    if wanted:
        print(f"stillhouse {version('stillhouse')}")
        raise typer.Exit


@app.callback()
def stillhouse(
    _version: Annotated[
        bool,
        typer.Option("--version", callback=_tell_version, is_eager=True, help="Print the version."),
    ] = False,
) -> None:
    """Distil trained reinforcement-learning policies into small ones."""


def main() -> None:
    """Run the command line and turn errors into exit codes."""
    try:
        refuse_credentials("the command line", sys.argv[1:])
        # Typer's own way of telling a mistake is a box of four lines.
        words = sys.argv[1:] or ["--help"]
        sys.exit(app(words, prog_name="stillhouse", standalone_mode=False))
    except typer.TyperException as error:
        _fail(_in_one_line(error), 2)
    except UserError as error:
        _fail(error, 2)
    except StillhouseError as error:
        _fail(error, 1)
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        sys.exit(INTERRUPTED)


def _in_one_line(mistake: typer.TyperException) -> str:
    """Say what is wrong with a command line, and where its options are listed."""
    message = " ".join(mistake.format_message().split()).rstrip(".")
    context: typer.Context | None = getattr(mistake, "ctx", None)
    return message if context is None else f"{message} (see {context.command_path} --help)"


def _fail(error: Any, code: int) -> None:
    print(f"error: {error}", file=sys.stderr)
    sys.exit(code)
