"""Keeps credentials out of what is written down: recipes, run directories, command lines, logs.

`s3://KEY:SECRET@bucket/runs` would be saved with the recipe, printed with errors and shown to every
user of the machine in the list of processes. Such an address is refused before anything is written;
storage takes its credentials from the environment.
"""

import re
from collections.abc import Mapping

from common.errors import ConfigError

_WITH_CREDENTIALS = re.compile(
    r"\b([A-Za-z][A-Za-z0-9+.-]*://)"
    r"[^/?#\s]*:(?!\d+(?:[/?#]|$))[^?#\s]*@"  # NAME:PASSWORD@; HOST:PORT/… is something else
)


def refuse_credentials(name: str, value: object) -> None:
    """Refuse addresses that hold a user's name and password.

    Args:
        name: what the value is called in the error, for example a recipe's key.
        value: a text, or tables and lists of them; anything else is good.

    Raises:
        ConfigError: one of them does; the message does not repeat it.
    """
    if isinstance(value, Mapping):
        for key, item in value.items():
            refuse_credentials(f"{name}.{key}" if name else str(key), item)
    elif isinstance(value, list | tuple):
        for item in value:
            refuse_credentials(name, item)
    elif isinstance(value, str) and (found := _WITH_CREDENTIALS.search(value)):
        raise ConfigError(
            f"{name}: holds credentials ({found[1]}...@); give credentials in the environment, for "
            f"example as AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
        )
