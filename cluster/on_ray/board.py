"""The run board as a detached Ray actor, and the thread that keeps a run in touch with it."""

import logging
import os
import signal
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import ray
from ray.exceptions import GetTimeoutError, RayError

from cluster.board import Entry, RunBoard, RunStatus, Wanted
from cluster.on_ray.errors import own_error
from cluster.on_ray.remote import remote
from common.errors import ResourceError

if TYPE_CHECKING:
    from cluster.control import Control

NAMESPACE = "stillhouse"
BOARD = "run-board"

EXCHANGE_S = 0.5
ANSWER_TIMEOUT_S = 20.0

START_TIMEOUT_S = 180.0
"""For the board's process: a node that reads its programs for the first time takes its time."""

LOOK_S = 2.0
"""Between two looks at a run whose name is wanted; four of its reports."""

logger = logging.getLogger(__name__)

ON_HEAD = {"node:__internal_head__": 0.001}
"""A resource of the head node; with another node the board would lose what it knows of all runs."""

_RAY_BOARD = remote(RunBoard, num_cpus=0, resources=ON_HEAD, max_restarts=-1, max_task_retries=-1)


def open_board() -> Any:
    """Return the cluster's run board, started where there is none yet.

    Raises:
        StillhouseError: it does not start.
    """
    board = _RAY_BOARD.options(
        name=BOARD, namespace=NAMESPACE, lifetime="detached", get_if_exists=True
    ).remote()
    try:
        ray.get(board.__ray_ready__.remote(), timeout=START_TIMEOUT_S)
    except GetTimeoutError:
        raise ResourceError(
            f"the cluster's run board did not start within {START_TIMEOUT_S:g} s; it runs on the "
            f"head node: is there room for a process, and is the network to it well?"
        ) from None
    except RayError as error:
        raise own_error("the run board failed", error) from error
    return board


class BoardClient:
    """The run board as a terminal sees it."""

    def __init__(self) -> None:
        self._board: Any | None
        try:
            self._board = ray.get_actor(BOARD, namespace=NAMESPACE)
        except ValueError:  # no run was ever started here
            self._board = None
        self.cluster = str(ray.get_runtime_context().gcs_address)
        """HOST:PORT."""

    def entries(self) -> list[Entry]:
        """Return all runs."""
        if self._board is None:
            return []
        entries: list[Entry] = ask(self._board.entries.remote())
        return entries

    def entry(self, name: str) -> Entry:
        """Return a run.

        Raises:
            ResourceError: there is no such run.
        """
        if self._board is None:
            raise ResourceError(f"{name}: no such run on this cluster; there are: none")
        entry: Entry = ask(self._board.entry.remote(name))
        return entry

    def want(self, name: str, **changes: object) -> Entry:
        """Write down what is wanted of a run.

        Raises:
            ResourceError: it cannot be had.
        """
        self.entry(name)
        assert self._board is not None
        entry: Entry = ask(self._board.want.remote(name, **changes))
        return entry

    def wait(
        self,
        name: str,
        until: Callable[[Entry], bool],
        *,
        timeout_s: float,
        seen: Callable[[Entry], None] = lambda entry: None,
    ) -> Entry:
        """Look at a run twice a second until something holds, it is dead, or time is over.

        Args:
            name: of the run.
            until: what to wait for.
            timeout_s: how long at most.
            seen: told every look.
        """
        deadline = time.monotonic() + timeout_s
        while True:
            entry = self.entry(name)
            seen(entry)
            if until(entry) or not entry.alive or time.monotonic() > deadline:
                return entry
            time.sleep(EXCHANGE_S)


@contextmanager
def attached(control: "Control") -> Iterator[None]:
    """Keep a run that belongs to this process on the board; a stop comes as Ctrl-C does.

    Raises:
        ResourceError: another run of this name is going on.
    """
    link = BoardLink(control, on_stop=lambda: os.kill(os.getpid(), signal.SIGINT))
    try:
        yield
    except KeyboardInterrupt:
        control.report(phase="stopped")
        raise
    except Exception as error:
        control.report(phase="failed", detail=str(error))
        raise
    finally:
        link.close()


class BoardLink:
    """Exchanges a run's reports and wishes with the board until it is closed.

    Args:
        control: of the run.
        token: tells this launch from others of its name; a new one by default.
        on_stop: called, once and from the link's thread, when a stop is wanted while the
            controller is in a phase that it does not leave by itself.

    Raises:
        ResourceError: another run of this name is going on.
    """

    def __init__(
        self, control: "Control", *, token: str | None = None, on_stop: Callable[[], None]
    ) -> None:
        self._control = control
        self._token = token or uuid.uuid4().hex
        self._on_stop = on_stop
        self._closed = threading.Event()
        self._board = open_board()
        self.former_starts: int = take_name(
            self._board, self._board.begin, self._token, control.status
        )
        self._thread = threading.Thread(target=self._run, name="board-link", daemon=True)
        self._thread.start()

    def close(self, **changes: Any) -> None:
        """Report `changes` as the last thing, and end."""
        self._control.report(**changes)
        self._closed.set()
        if threading.current_thread() is self._thread:
            self._exchange()
        else:
            self._thread.join()

    def _run(self) -> None:
        told = False
        while not self._closed.wait(EXCHANGE_S):
            self._exchange()
            stop = self._control.wanted.stop and self._control.status.phase != "distilling"
            if stop and not told:
                told = True
                self._on_stop()
        self._exchange()

    def _exchange(self) -> None:
        try:
            answer: Wanted = ray.get(
                self._board.exchange.remote(self._token, self._control.status),
                timeout=ANSWER_TIMEOUT_S,
            )
        except RayError:  # it is started again, or the head is; the next report comes soon
            return
        self._control.want(answer)


def take_name(board: Any, take: Any, token: str, status: RunStatus) -> Any:
    """Take a run's name, waiting for a run that had it and does not report any more.

    A process that was killed cannot say that its run is over; the board takes it for dead after
    `SILENT_S`. A run that lives reports much more often than it is looked at here.

    Args:
        board: the run board.
        take: its method, `claim` or `begin`.
        token: of this launch.
        status: of this launch.

    Raises:
        ResourceError: a run of this name is going on.
    """
    age_s = None
    while True:
        try:
            return ask(take.remote(token, status))
        except ResourceError:
            former, age_s = age_s, ask(board.entry.remote(status.name)).age_s
            if former is None:
                logger.warning(
                    "a run named %s has not ended; it last reported %.1f s ago", status.name, age_s
                )
            elif age_s < former + LOOK_S:  # it reported since
                raise
        time.sleep(LOOK_S)


def ask(reference: Any) -> Any:
    """Return the board's answer, its own errors as they are.

    Raises:
        StillhouseError: what the board raised.
        ResourceError: it does not answer.
    """
    try:
        return ray.get(reference, timeout=ANSWER_TIMEOUT_S)
    except GetTimeoutError:
        raise ResourceError(
            f"the cluster's run board does not answer within {ANSWER_TIMEOUT_S:g} s; is its head "
            f"node busy or gone?"
        ) from None
    except RayError as error:
        raise own_error("the run board failed", error) from error
