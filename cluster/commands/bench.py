"""`stillhouse bench`: how fast the parts of a recipe are, and the whole."""

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from cluster.backends import num_cpus_here, num_gpus_here
from cluster.commands.json_output import standard_output_kept
from cluster.commands.options import AsJson, Overrides
from cluster.prepare import prepare
from cluster.recipe.config import load_recipe
from cluster.recipe.tasks import refuse_tasks
from cluster.recipe.teacher_checks import refuse_memory
from cluster.recipe.teacher_view import refuse_view
from cluster.run_directory import write_json
from common.errors import ConfigError

PONG = Path("deploy/recipes/pong.toml")

commands = typer.Typer()


@commands.command()
def bench(
    recipe: Annotated[Path, typer.Option(help="The recipe whose road is measured.")] = PONG,
    overrides: Overrides = None,
    seconds: Annotated[float, typer.Option(min=1.0, help="Of an end-to-end measurement.")] = 20.0,
    rounds: Annotated[int, typer.Option(min=1, help="How often everything is measured.")] = 5,
    parts_only: Annotated[
        bool, typer.Option("--parts-only", help="Leave the end-to-end measurements out.")
    ] = False,
    out: Annotated[Path | None, typer.Option(help="Write all figures there, as JSON.")] = None,
    as_json: AsJson = False,
) -> None:
    """Measure the parts of a recipe alone, and the whole, on this machine."""
    config = load_recipe(recipe, overrides or [])
    refuse_tasks(config, "bench")
    refuse_view(config, "bench")
    # Any temperature costs the same, and no score is taken here.
    config = config.model_copy(update={"objective": config.objective.with_temperature(1.0)})
    preparation = prepare(config, num_cpus=num_cpus_here(), num_gpus=num_gpus_here())
    if preparation.teacher is None or config.dataset is not None:
        raise ConfigError(f"{recipe}: bench needs a [teacher] with a path")
    refuse_memory(preparation.teacher, "bench")
    from cluster.bench.rounds import run_bench
    from cluster.on_ray.backend import RayBackend

    errors = Console(stderr=True)
    with standard_output_kept(as_json):
        report = run_bench(
            preparation,
            preparation.teacher,
            lambda: RayBackend(address=None, num_cpus=num_cpus_here()),
            num_cores=num_cpus_here(),
            seconds=seconds,
            rounds=rounds,
            with_whole=not parts_only,
            say=lambda text: errors.print(text, markup=False),
        )
    if out is not None:
        write_json(out, report.as_json())
    if as_json:
        print(json.dumps(report.as_json()))
        return
    for table in report.tables():
        Console().print(table)
