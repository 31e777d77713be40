"""Questions to the cluster's head, which may be away for a while (`ask_head`).

A head whose GCS server dies and comes back with Redis behind it takes nothing with it: actors and
their calls go on. But whoever asks it something waits until it is back, and nothing new starts. The
supervisor must not wait, so its questions wait in a thread of their own.

Ray itself gives up after `RAY_gcs_rpc_server_reconnect_timeout_s` (60 s; the clusters of deploy/
set more): then every process of the cluster that cannot reach the head ends, the driver too.
"""

import threading
from collections.abc import Callable
from typing import TypeVar

ANSWER_WITHIN_S = 1.0

AWAY = "the cluster's head does not answer, and nothing can be started before it does"

T = TypeVar("T")

_open: threading.Thread | None = None
"""The last question; one that is not answered is not followed by others."""


class HeadAwayError(Exception):
    """The head has not answered in time."""


def ask_head(question: Callable[[], T]) -> T:
    """Return the answer to a question, or what it raises.

    Raises:
        HeadAwayError: there is none within a second, or one asked before is still open.
    """
    global _open
    if head_is_away():
        raise HeadAwayError
    answers: list[T] = []
    errors: list[BaseException] = []

    def ask() -> None:
        try:
            answers.append(question())
        except BaseException as error:  # raised where it was asked
            errors.append(error)

    _open = threading.Thread(target=ask, name="ask-head", daemon=True)
    _open.start()
    _open.join(ANSWER_WITHIN_S)
    if errors:
        raise errors[0]
    if not answers:
        raise HeadAwayError
    return answers[0]


def head_is_away() -> bool:
    """Whether a question is still open."""
    return _open is not None and _open.is_alive()
