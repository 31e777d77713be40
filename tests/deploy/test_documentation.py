"""Every command that a document shows is one that the command line understands.

What the commands do is tested where they are; here it is held that names, options and the kinds of
their values are right, and that the files that they name are there.
"""

import re
from pathlib import Path

import pytest
from typer.core import TyperGroup
from typer.main import get_command

from cluster.cli import app
from cluster.commands.table import MODULES
from tests.deploy import recipe_keys
from tests.deploy.documents import DOCUMENTS, ROOT, Command, commands, mentioned

PLACEHOLDER, NUMBER = "N", "3"
"""How documents write some number, and one."""


def command_line() -> TyperGroup:
    group = get_command(app)
    assert isinstance(group, TyperGroup)
    return group


@pytest.mark.parametrize("command", [*commands()], ids=str)
def test_a_command_that_is_shown_is_understood(command: Command) -> None:
    name, *rest = command.args
    given = [NUMBER if word == PLACEHOLDER else word for word in rest]
    # Parses without running; what is not understood raises.
    assert command_line().commands[name].make_context(name, given).params
    for word in command.args:
        if word.startswith("deploy/"):
            assert (ROOT / word).exists(), f"{command}: {word} is not there"


@pytest.mark.parametrize("command", [*mentioned()], ids=str)
def test_a_command_that_is_mentioned_is_there(command: Command) -> None:
    """Within sentences some arguments are left out, but names and options must be right."""
    found = command_line().commands[command.args[0]]
    options = {name for option in found.params for name in (*option.opts, *option.secondary_opts)}
    for word in command.args[1:]:
        word = word.strip("[].,")
        if word.startswith("--"):
            assert word in options, f"{command}: no option {word}"


def test_every_command_is_documented() -> None:
    told = {command.args[0] for command in (*commands(), *mentioned())}
    assert told >= set(MODULES)


def test_the_page_of_all_keys_is_that_of_the_code() -> None:
    written = recipe_keys.PAGE.read_text()
    assert written == recipe_keys.page(), "make it anew: python -m tests.deploy.recipe_keys"


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_a_file_that_is_linked_is_there(document: Path) -> None:
    for target in re.findall(r"\]\(([^)#\s]+)", document.read_text()):
        if "://" not in target:
            assert (document.parent / target).exists(), target
