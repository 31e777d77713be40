"""`stillhouse play`: a policy at play, or two side by side, as a video."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Any

import typer

from actors.playback import HELD_FRAMES, Played
from cluster.commands.options import AsJson, InEnv, OfRecipe, Overrides, Task, Trust
from cluster.games import GameVideo, record_games
from cluster.players import (
    Entry,
    in_the_game_of,
    load_entry_policy,
    part_of,
    student_of_run,
    teacher_of_run,
    title_of,
    told_apart,
)
from cluster.recipe.config import RunConfig
from cluster.run_directory import RunDirectory, check_writable, open_run_directory
from cluster.scene import Scene
from common.errors import ConfigError

commands = typer.Typer()


@commands.command()
def play(
    policy: Annotated[
        str,
        typer.Argument(
            help="A policy of any format, or a run directory, whose student plays.",
            show_default=False,
        ),
    ],
    against: Annotated[
        str | None, typer.Option(help="A policy or run to play beside it, from the same seed.")
    ] = None,
    teacher: Annotated[
        bool, typer.Option("--teacher", help="Of a run: its teacher plays beside its student.")
    ] = False,
    recipe: OfRecipe = None,
    env: InEnv = None,
    task: Task = None,
    overrides: Overrides = None,
    episodes: Annotated[int, typer.Option(min=1, help="Episodes to play.")] = 1,
    seed: Annotated[
        int | None, typer.Option(min=0, help="By default the recipe's, or 0.", show_default=False)
    ] = None,
    max_steps: Annotated[
        int | None, typer.Option(min=1, help="Break an episode off after so many steps.")
    ] = None,
    out: Annotated[
        str | None,
        typer.Option(
            help="The video to write; by default game.mp4, of a run in its run directory. It has "
            "each episode's start, a frame a step, and the end held for half a second."
        ),
    ] = None,
    trust: Trust = False,
    as_json: AsJson = False,
) -> None:
    """Write a video of a policy at play, or of two side by side, and print their returns."""
    scene = Scene(recipe=recipe, env=env, task=task, overrides=overrides or [], trust=trust)
    asked = _Asked(policy, against, teacher, scene)
    if out is None:
        out = str(RunDirectory(policy).video) if _is_run(policy) else "game.mp4"
    _check(asked, out)
    entries, config = _entries(asked)
    seed = seed if seed is not None else 0 if config is None else config.seed
    game = record_games(entries, out, num_episodes=episodes, seed=seed, max_steps=max_steps)
    titles = [entry.title for entry in entries]
    if as_json:
        about = {"out": out, "env": entries[0].env.id, "seed": seed}
        print(json.dumps(about | _as_json(game, titles)))
    else:
        video, of_each = game.video, f"its start, one a step, and {HELD_FRAMES} of its end"
        frames = f"{video.num_frames:,} frames (of each episode {of_each})"
        print(f"{out}: {frames}, {video.num_bytes:,} bytes")
        for title, played in zip(titles, game.played, strict=True):
            for line in _lines(played):
                print(f"{title}: {line}")


@dataclass(frozen=True, slots=True)
class _Asked:
    """Who shall play, and where."""

    policy: str
    against: str | None
    teacher: bool
    scene: Scene


def _check(asked: _Asked, out: str) -> None:
    """Refuse what does not go together, before anything is read."""
    of_run, scene = _is_run(asked.policy), asked.scene
    if asked.teacher and asked.against is not None:
        raise ConfigError("--teacher and --against: give one of them; two can be seen at a time")
    if asked.teacher and not of_run:
        raise ConfigError(f"--teacher: {asked.policy} is no run directory; use --against TEACHER")
    if of_run and scene.is_named:
        raise ConfigError(f"{asked.policy}: has a recipe of its own; change it with --set")
    if scene.overrides and scene.recipe is None and not of_run:
        raise ConfigError("--set: changes a recipe; name one with --recipe")
    if not out.endswith(".mp4"):
        raise ConfigError(f"--out {out}: must end in .mp4")
    check_writable(out)


def _entries(asked: _Asked) -> tuple[list[Entry], RunConfig | None]:
    """Return who plays, from left to right, and the recipe that says where."""
    scene = asked.scene
    config: RunConfig | None
    if _is_run(asked.policy):
        directory, whole = open_run_directory(asked.policy, scene.overrides)
        config = part_of(whole, scene.task)
        first = student_of_run(directory, config, scene.task)
        if asked.teacher:
            return [teacher_of_run(directory, config), first], config
    else:
        config = scene.config()
        first = _entry(asked.policy, config, scene)
    if asked.against is None:
        return [first], config
    if _is_run(asked.against):
        directory, whole = open_run_directory(asked.against, [])
        second = student_of_run(directory, part_of(whole, scene.task), scene.task)
    else:
        second = _entry(asked.against, config, scene, beside=first)
    return told_apart([first, in_the_game_of(first, second)]), config


def _entry(
    source: str, config: RunConfig | None, scene: Scene, beside: Entry | None = None
) -> Entry:
    policy = load_entry_policy(source, task=scene.task, trust=scene.trust)
    return scene.entry(title_of(source), policy, config, beside=beside)


def _is_run(source: str) -> bool:
    return RunDirectory(source).recipe.is_file()


def _as_json(game: GameVideo, titles: list[str]) -> dict[str, Any]:
    players = [
        {"title": title, "returns": played.returns, "lengths": played.lengths, "cut": played.cut}
        for title, played in zip(titles, game.played, strict=True)
    ]
    return {"frames": game.video.num_frames, "bytes": game.video.num_bytes, "players": players}


def _lines(played: Played) -> Iterator[str]:
    episodes = zip(played.returns, played.lengths, played.cut, strict=True)
    for number, (value, length, cut) in enumerate(episodes, 1):
        end = ", broken off there" if cut else ""
        yield f"episode {number}: return {value:g} in {length:,} steps{end}"
    if (count := len(played.returns)) > 1:
        yield f"mean return {sum(played.returns) / count:g} in {count} episodes"
