"""Arguments and options that several commands take."""

from pathlib import Path
from typing import Annotated

import typer

Recipe = Annotated[Path, typer.Argument(help="The recipe, a .toml file.", show_default=False)]
Overrides = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Change a key of the recipe; repeatable."),
]
Local = Annotated[bool, typer.Option("--local", help="Everything in this process, without Ray.")]
Address = Annotated[
    str | None,
    typer.Option(
        envvar="RAY_ADDRESS", help="Of a running Ray cluster; without it, one is started here."
    ),
]
Detach = Annotated[
    bool, typer.Option("--detach", help="Let the cluster run it, and return at once.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Task = Annotated[
    str | None, typer.Option("--task", help="Of a student of several tasks: one of them.")
]
OfRecipe = Annotated[
    str | None, typer.Option("--recipe", help="The recipe with the environment to play in.")
]
InEnv = Annotated[
    str | None,
    typer.Option(
        "--env", help="The environment to play in: an id of Gymnasium's, or an Atari game."
    ),
]
Trust = Annotated[
    bool, typer.Option("--trust", help="Policies and --env may run code of their own.")
]
