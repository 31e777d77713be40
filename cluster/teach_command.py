"""`stillhouse teach`: the teacher that a recipe describes, trained and saved."""

from pathlib import Path
from typing import Annotated

import typer

from cluster.backends import num_cpus_here, num_gpus_here, opened_backend
from cluster.config import load_recipe
from cluster.options import Overrides, Recipe
from cluster.prepare import prepare
from cluster.progress import make_reporter
from cluster.run_directory import check_writable
from cluster.screen import screen
from cluster.teaching import train_teacher_for
from cluster.version_writer import VersionWriter
from common.errors import ConfigError
from common.policies.policy import save_policy
from common.storage import locate

commands = typer.Typer()


@commands.command()
def teach(
    recipe: Recipe,
    out: Annotated[Path, typer.Option(help="The teacher's file (.safetensors).")],
    overrides: Overrides = None,
    versions: Annotated[
        str | None,
        typer.Option(help="Folder or URI for every better policy of the training and its curve."),
    ] = None,
) -> None:
    """Train the teacher of a recipe's [teach] table with RLlib, and save it."""
    config = load_recipe(recipe, overrides or [])
    if config.teach is None:
        raise ConfigError(f"{recipe}: has no [teach] table, so there is no teacher to train")
    if out.suffix != ".safetensors":
        raise ConfigError(f"--out {out}: a policy file's name ends in .safetensors")
    check_writable(out)
    writer = None if versions is None else VersionWriter(locate(versions))
    prepare(config, num_cpus=num_cpus_here(), num_gpus=num_gpus_here())
    reporter = make_reporter(screen())
    with opened_backend(None, local=False):
        teacher, _ = train_teacher_for(config, reporter, writer)
    save_policy(teacher, out)
    reporter.say(
        f"{out}: mean greedy return {teacher.spec.measured['mean_return']:.1f} over "
        f"{teacher.spec.measured['episodes']} episodes"
    )
