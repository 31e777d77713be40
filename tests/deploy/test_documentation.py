"""Every command that a document shows is one that the command line understands.

What the commands do is tested where they are; here it is held that names, options and the kinds of
their values are right, and that the files that they name are there.
"""

from pathlib import Path

import click
import pytest
from typer.main import get_command

from cluster.cli import app
from cluster.command_table import MODULES
from tests.deploy.documents import DOCUMENTS, ROOT, Command, commands, mentioned

PLACEHOLDER = "N"
"""A number, in the documents' way of writing."""


def understood(command: Command) -> click.Context:
    """Parse a command line without running it.

    Raises:
        click.ClickException: it is not understood.
    """
    group = get_command(app)
    assert isinstance(group, click.Group)
    name, *rest = command.args
    found = group.get_command(click.Context(group), name)
    assert found is not None, f"{command}: no such command"
    given = ["3" if word == PLACEHOLDER else word for word in rest]
    return found.make_context(name, given)


@pytest.mark.parametrize("command", commands(), ids=str)
def test_a_command_that_is_shown_is_understood(command: Command) -> None:
    assert understood(command).params
    for word in command.args:
        if word.startswith("deploy/"):
            assert (ROOT / word).exists(), f"{command}: {word} is not there"


@pytest.mark.parametrize("command", mentioned(), ids=str)
def test_a_command_that_is_mentioned_is_there(command: Command) -> None:
    """Within sentences some arguments are left out, but names and options must be right."""
    group = get_command(app)
    assert isinstance(group, click.Group)
    found = group.get_command(click.Context(group), command.args[0])
    assert found is not None
    options = {name for option in found.params for name in option.opts}
    for word in command.args[1:]:
        word = word.strip("[].,")
        if word.startswith("--"):
            assert word in options, f"{command}: no option {word}"


def test_every_command_is_documented() -> None:
    told = {command.args[0] for command in (*commands(), *mentioned())}
    assert told >= set(MODULES)


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_a_file_that_is_linked_is_there(document: Path) -> None:
    import re

    for target in re.findall(r"\]\(([^)#\s]+)", document.read_text()):
        if "://" not in target:
            assert (document.parent / target).exists(), target
