"""`stillhouse sweep`: many students of one teacher, and the one to take."""

import json
from datetime import datetime
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from cluster.backends import opened_backend
from cluster.commands.json_output import standard_output_kept
from cluster.commands.options import Address, AsJson, Overrides, Recipe
from cluster.recipe.config import load_recipe
from cluster.recipe.tasks import refuse_tasks
from cluster.run_directory import RUNS, check_new_directory
from common.config import parse_value
from common.errors import ConfigError
from common.storage import locate

commands = typer.Typer()

REQUIRED_SHARE = 0.95
COST_NAMES = {"bytes": "bytes", "multiply_adds": "multiply-adds", "latency_ms": "latency"}


@commands.command()
def sweep(
    recipe: Recipe,
    vary: Annotated[
        list[str],
        typer.Option(
            metavar="KEY=[VALUE, …]",
            help="A key of the recipe and the values to try; repeatable, for all combinations.",
        ),
    ],
    overrides: Overrides = None,
    samples: Annotated[
        int | None, typer.Option(min=1, help="So many random combinations, instead of all.")
    ] = None,
    share: Annotated[
        float | None,
        typer.Option(help="Of the teacher, that the chosen student must have; by default 0.95."),
    ] = None,
    out: Annotated[str | None, typer.Option(help="Folder or URI for all runs.")] = None,
    address: Address = None,
    as_json: AsJson = False,
) -> None:
    """Distil with many settings, and choose the cheapest student that is good enough."""
    config = load_recipe(recipe, overrides or [])
    refuse_tasks(config, "sweep")
    if config.teacher is None:
        raise ConfigError(
            f"{recipe}: all trials need the same teacher, and this recipe trains one; train it "
            f"once with stillhouse teach, and name it: [teacher] path = …"
        )
    # Ray Tune takes seconds to import; errors above come without that wait.
    from cluster.sweep import Variation, plan_trials, run_sweep

    variations = [Variation(key, values) for key, values in map(_read_variation, vary)]
    path = locate(out or RUNS / f"{config.name}-sweep-{datetime.now():%Y%m%d-%H%M%S}")
    check_new_directory(path, option="--out")
    errors = Console(stderr=True)
    trials = plan_trials(config, variations, num_samples=samples)
    errors.print(f"{len(trials)} trials, in {path}", markup=False)
    required = share if share is not None else config.evaluation.required_share
    with standard_output_kept(as_json), opened_backend(address, local=False):
        result = run_sweep(
            config,
            trials,
            path,
            required_share=REQUIRED_SHARE if required is None else required,
        )
    if as_json:
        print(json.dumps(result.as_json()))
        return
    Console().print(_table(result.as_json()))
    assert result.chosen is not None
    print(f"chosen: {result.chosen.name} ({result.chosen.run_dir})")


def _read_variation(text: str) -> tuple[str, tuple[Any, ...]]:
    key, _, written = text.partition("=")
    values = parse_value(written)
    if not isinstance(values, list) or not values or not all(key.strip().split(".")):
        raise ConfigError(
            f"--vary {text}: expected a key and a list of values, for example "
            f"learner.learning_rate=[1e-3, 3e-3]"
        )
    return key.strip(), tuple(values)


def _table(tree: dict[str, Any]) -> Table:
    table = Table(title="students, by their share of the teacher")
    for name in ("settings", "share of the teacher", *COST_NAMES.values(), "nobody beats it in"):
        table.add_column(name, justify="left" if name == "settings" else "right")
    for each in tree["candidates"]:
        footprint = each["footprint"]
        interval = f"{100 * each['share_ci_low']:.1f} to {100 * each['share_ci_high']:.1f}"
        table.add_row(
            each["name"] + (" ← chosen" if each["name"] == tree["chosen"] else ""),
            f"{100 * each['share']:.1f} % ({interval})",
            f"{footprint['bytes']:,}",
            f"{footprint['multiply_adds']:,}",
            f"{footprint['latency_ms']:.3f} ms",
            ", ".join(COST_NAMES[cost] for cost in each["best_for"]) or "–",
        )
    for name, reason in tree["failed"].items():
        table.add_row(name, f"failed: {reason}", "", "", "", "")
    return table
