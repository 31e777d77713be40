"""The newest student beside its teacher, game after game, as pictures for the live page.

The student comes from the run's newest checkpoint, looked for before every game; of several tasks
each is played in turn. Whoever watches costs the run little: the games are played in the class that
gives way to everybody else.
"""

import io
import time
from collections.abc import Iterator
from itertools import cycle

from PIL import Image

from actors.playback import Playback
from cluster.players import Entry, players_of, student_entry, teacher_entry
from cluster.prepare import Preparation
from common.errors import StillhouseError
from common.policies.policy import Policy
from common.policies.tasks import policy_of_task
from common.storage import Location
from learners.checkpoint import load_newest_checkpoint

FRAMES_PER_S = 15.0
MAX_STEPS = 900
"""After a minute of play a newer student has its turn."""

LOOK_S = 2.0
"""Between two looks for a first student."""

JPEG_QUALITY = 80


def pictures(
    preparation: Preparation, teacher: Policy, checkpoints: Location
) -> Iterator[bytes | None]:
    """Yield the frames of endless games as JPEG files, in their own time.

    None is yielded while there is no student yet, so that a watcher who leaves is noticed.

    Args:
        preparation: the run's recipe.
        teacher: the recipe's; of several tasks, each has its own.
        checkpoints: of the run.

    Raises:
        ConfigError: an environment cannot be made or shown.
    """
    several = bool(preparation.parts)
    tasks = list(zip(preparation.tasks, preparation.teachers(teacher), strict=True))
    for number, (part, own) in enumerate(cycle(tasks)):
        while (student := newest_student(preparation, teacher, checkpoints)) is None:
            yield None
            time.sleep(LOOK_S)
        name = part.config.task_name
        policy = policy_of_task(student, name) if several else student
        entries = (teacher_entry(part.config, own), student_entry(part.config, policy))
        yield from _game(entries, seed=part.config.seed + number // len(tasks))


def newest_student(
    preparation: Preparation, teacher: Policy, checkpoints: Location
) -> Policy | None:
    """Return the student of a run's newest checkpoint, or None where there is none yet."""
    try:
        found = load_newest_checkpoint(checkpoints)
    except StillhouseError:  # it is being replaced just now, say
        return None
    if found is None:
        return None
    student = preparation.new_student(teacher)
    student.network.load_state_dict(found.state["network"])
    return student


def _game(entries: tuple[Entry, Entry], *, seed: int) -> Iterator[bytes]:
    """Yield one game's frames when their time has come."""
    with players_of(entries) as players:
        playback = Playback(players, num_episodes=1, seed=seed, max_steps=MAX_STEPS)
        due = time.monotonic()
        for frame in playback.frames():
            file = io.BytesIO()
            Image.fromarray(frame).save(file, format="JPEG", quality=JPEG_QUALITY)
            time.sleep(max(0.0, due - time.monotonic()))
            due = max(due, time.monotonic() - 1.0) + 1.0 / FRAMES_PER_S
            yield file.getvalue()
