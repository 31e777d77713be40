"""What Ray tells in tracebacks of many lines, in one line and as an error of our own."""

from ray.exceptions import RayError, RayTaskError

from common.errors import RunFailedError, StillhouseError


def own_error(what: str, error: RayError) -> StillhouseError:
    """Return what a task raised on purpose, or `what` failed and why.

    Args:
        what: who failed, for example "the learner failed".
        error: as `ray.get` raised it.
    """
    if isinstance(error, RayTaskError) and isinstance(error.cause, StillhouseError):
        return error.cause
    return RunFailedError(f"{what}: {one_line(error)}")


def one_line(error: BaseException) -> str:
    """Return the reason at the end of Ray's message, without addresses and tracebacks."""
    if isinstance(error, RayTaskError):
        return one_line(error.cause)
    if not isinstance(error, RayError):
        return _joined(f"{type(error).__name__}: {error}".splitlines())
    lines = str(error).splitlines()
    # A traceback is indented by blanks, a dead actor's particulars by tabs; the reason follows.
    for indent in ("  ", "\t"):
        if indented := [i for i, line in enumerate(lines) if line.startswith(indent)]:
            return _joined(lines[indented[-1] + 1 :] or lines)
    return _joined(lines)


def _joined(lines: list[str]) -> str:
    return " ".join(" ".join(lines).split())
