"""RLlib's notes on its own deprecations and defaults, kept from the user."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def quiet_rllib() -> Iterator[None]:
    """Let RLlib tell of errors only; import it before, because that sets its level."""
    loggers = [logging.getLogger(name) for name in ("ray", "ray.rllib")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
