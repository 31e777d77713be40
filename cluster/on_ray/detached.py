"""A run that needs no terminal: an actor of the cluster hosts its controller.

The actor belongs to nobody and what it starts belongs to it, so when it dies everything of the run
dies with it; Ray then starts it again, up to `MAX_RESTARTS` times and on any node, and the run goes
on from its newest checkpoint. Its only arguments are names: all it needs lies in the run directory,
the teacher too. When the run has ended, whichever way, the actor ends itself.
"""

import logging
import math
import threading
import uuid

import ray

from cluster.board import Phase, RunStatus
from cluster.control import BoardReporter, Control
from cluster.controller import Controller
from cluster.on_ray.backend import RayBackend
from cluster.on_ray.board import NAMESPACE, BoardClient, BoardLink, open_board, take_name
from cluster.on_ray.errors import one_line
from cluster.on_ray.remote import remote
from cluster.prepare import prepare
from cluster.recipe.config import RunConfig
from cluster.run_directory import RunDirectory, kept_teacher, open_run_directory
from common.errors import RunFailedError
from common.policies.policy import Policy, save_policy
from common.storage import locate
from common.threads import set_threads

logger = logging.getLogger(__name__)

MAX_RESTARTS = 10
"""Of the controller, before the run is given up."""

START_TIMEOUT_S = 120.0


class DetachedRun:
    """Hosts a run's controller in a thread.

    Args:
        run_dir: the run directory, with recipe and teacher.
        token: tells this launch of the run from others; the same after a restart.
    """

    def __init__(self, run_dir: str, token: str) -> None:
        set_threads(1)
        self._run_dir = run_dir
        self._token = token
        threading.Thread(target=self._run, name="controller", daemon=True).start()

    def _run(self) -> None:
        directory, config = open_run_directory(self._run_dir, [])
        control = Control(RunStatus(name=config.name, run_dir=self._run_dir, task=config.task_name))
        link = BoardLink(control, token=self._token, on_stop=lambda: self._end(link, "stopped"))
        reporter = BoardReporter(control)
        try:
            if link.former_starts:
                reporter.say(f"the controller died; this is its start {link.former_starts + 1}")
            preparation = prepare(
                config,
                num_cpus=math.inf,
                num_gpus=math.inf,
                teacher=kept_teacher(directory, config),
            )
            backend = RayBackend(address=None, num_cpus=0)
            outcome = Controller(preparation, directory, backend, reporter, control).run()
        except BaseException as error:  # whatever it is, whoever asks must find it
            logger.exception("the run failed")
            self._end(link, "failed", one_line(error))
        else:
            self._end(link, "finished" if outcome.finished else "stopped")

    def _end(self, link: BoardLink, phase: Phase, detail: str = "") -> None:
        """Report the end, and end this actor for good, with all that it started."""
        link.close(phase=phase, detail=detail)
        ray.kill(ray.get_runtime_context().current_actor, no_restart=True)


_RAY_DETACHED_RUN = remote(DetachedRun, num_cpus=0, max_restarts=MAX_RESTARTS)


def take_teacher_along(
    directory: RunDirectory, config: RunConfig, teacher: Policy | None
) -> RunConfig:
    """Keep the teacher in the run directory: its own file may be on this machine alone.

    Returns:
        The recipe, which names that copy from now on.
    """
    if teacher is None or config.teacher is None:
        return config
    if locate(config.teacher.path) == directory.teacher:
        return config
    save_policy(teacher, directory.teacher)
    changes = {
        "path": directory.teacher.absolute,
        "format": "safetensors",
        "normalizer": None,
        "members": (),
    }
    return config.model_copy(update={"teacher": config.teacher.model_copy(update=changes)})


def launch(status: RunStatus) -> None:
    """Start a run on the cluster that this process is connected to, and wait until it is there.

    Args:
        status: the first one, with an absolute run directory.

    Raises:
        ResourceError: another run of this name is going on.
        RunFailedError: the run does not start.
    """
    token = uuid.uuid4().hex
    board = open_board()
    take_name(board, board.claim, token, status)
    _RAY_DETACHED_RUN.options(name=f"run-{token}", namespace=NAMESPACE, lifetime="detached").remote(
        status.run_dir, token
    )
    entry = BoardClient().wait(
        status.name, lambda entry: entry.starts > 0, timeout_s=START_TIMEOUT_S
    )
    if entry.starts == 0:
        raise RunFailedError(
            f"{status.name}: the run did not start within {START_TIMEOUT_S:g} s; see the logs of "
            f"the cluster's workers"
        )
