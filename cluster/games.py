"""Videos of games: of whoever shall be watched, and of a run's teacher and student side by side."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

from actors.playback import HELD_FRAMES, Playback, Played
from cluster.players import Entry, players_of, student_entry, teacher_entry
from cluster.prepare import Preparation
from cluster.recipe.config import RunConfig
from cluster.run_directory import RunDirectory, write_json
from cluster.video import FRAMES_PER_S, Video, write_video
from common.errors import StorageError, UserError
from common.policies.policy import Policy
from common.policies.tasks import policy_of_task
from common.storage import Location, Named

GAME_S = 20
"""Seconds that a run's video has at most."""
GAME_STEPS = GAME_S * FRAMES_PER_S - 1 - HELD_FRAMES
GAME_BYTES = 2_000_000
"""Its size at most."""
_BITS_PER_S = 700_000
"""With which it stays below that: 1.75 MB in 20 s, one second's reserve of the encoder and the
container's index come on top."""


class GameVideo(NamedTuple):
    """A video, and what came of the episodes in it."""

    video: Video
    played: tuple[Played, ...]
    """By player."""


def record_games(
    entries: Sequence[Entry],
    place: Named,
    *,
    num_episodes: int,
    seed: int,
    max_steps: int | None,
    max_bits_per_s: int | None = None,
) -> GameVideo:
    """Let one or two policies play side by side, and write a video of it.

    Raises:
        ConfigError: an environment cannot be made or shown.
        MismatchError: a policy does not fit its environment.
        StorageError: the video cannot be written.
    """
    with players_of(entries) as players:
        playback = Playback(players, num_episodes=num_episodes, seed=seed, max_steps=max_steps)
        video = write_video(place, playback.frames(), max_bits_per_s=max_bits_per_s)
        return GameVideo(video, playback.results())


def write_game(
    directory: RunDirectory,
    config: RunConfig,
    teacher: Policy,
    student: Policy,
    *,
    task: str | None = None,
) -> Location:
    """Write a game of a run's teacher (left) and student (right), and what it shows as JSON.

    `games/NAME.mp4` has at most `GAME_S` seconds and `GAME_BYTES` bytes. `games/NAME.json`, which
    is written last, has `seed`, `return_teacher`, `return_student`, `steps` (of the longer game)
    and `cut`: whether the game was broken off; returns are then those up to there.

    Args:
        directory: of the run.
        config: the recipe, of one task.
        teacher: of this task.
        student: of this task alone.
        task: its name, where there are several.

    Returns:
        Where the video is.

    Raises:
        ConfigError: the environment cannot be made or shown.
        MismatchError: a policy does not fit it.
        StorageError: a file cannot be written.
    """
    place = directory.games / f"{task or 'game'}.mp4"
    game = record_games(
        [teacher_entry(config, teacher), student_entry(config, student)],
        place,
        num_episodes=1,
        seed=config.seed,
        max_steps=GAME_STEPS,
        max_bits_per_s=_BITS_PER_S,
    )
    by_teacher, by_student = game.played
    write_json(
        place.with_suffix(".json"),
        {
            "seed": config.seed,
            "return_teacher": by_teacher.returns[0],
            "return_student": by_student.returns[0],
            "steps": max(by_teacher.lengths[0], by_student.lengths[0]),
            "cut": by_teacher.cut[0] or by_student.cut[0],
        },
    )
    return place


def write_games(
    directory: RunDirectory,
    preparation: Preparation,
    teacher: Policy,
    student: Policy,
    *,
    say: Callable[[str], None],
) -> None:
    """Write a game of every task of a run.

    An environment that cannot be made or shown costs its video, and `say` is told so.

    Args:
        directory: of the run.
        preparation: its recipe.
        teacher: that is shown; of several tasks, each has its own.
        student: of all tasks.
        say: told which game there is no video of, and why.

    Raises:
        StorageError: a file cannot be written.
    """
    several = bool(preparation.parts)
    # One that is refreshed is no longer that of its recipe.
    teachers = preparation.teachers(teacher) if several else (teacher,)
    for part, own in zip(preparation.tasks, teachers, strict=True):
        name = part.config.task_name
        policy = policy_of_task(student, name) if several else student
        task = name if several else None
        try:
            write_game(directory, part.config, own, policy, task=task)
        except StorageError:
            raise
        except UserError as error:
            say(f"no video of {name}: {error}")
