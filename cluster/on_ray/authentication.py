"""The token without which nobody joins a cluster, and who may read it.

Ray asks for a token on every cluster that it starts in `ray.init`, and keeps it in the user's home,
`~/.ray/auth_token`. A token is as good as an account on the cluster: whoever holds it runs code
there. Ray writes the file as any other, so that on many machines every user can read it; here it is
made before Ray makes it, or narrowed, and belongs to its user alone.
"""

import os
import secrets
import tempfile
from pathlib import Path

TOKEN_BYTES = 32
USER_ONLY = 0o600


def protect_local_token() -> None:
    """See to it that there is a token for clusters on this machine and that only the user reads it.

    Nothing is done where the environment names another token, or turns tokens off.

    Raises:
        OSError: the user's home cannot be written, or the token belongs to another user.
    """
    mode = os.environ.get("RAY_AUTH_MODE", "token").lower()
    elsewhere = any(os.environ.get(name) for name in ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"))
    if mode != "token" or elsewhere:
        return
    path = Path.home() / ".ray" / "auth_token"
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists():
        _make(path)
    if path.stat().st_mode & 0o077:
        path.chmod(USER_ONLY)


def _make(path: Path) -> None:
    """Write a token whole; where another process is faster, its token stands."""
    descriptor, name = tempfile.mkstemp(dir=path.parent)  # only its user may read it
    try:
        with os.fdopen(descriptor, "w") as file:
            file.write(secrets.token_hex(TOKEN_BYTES))
        os.link(name, path)
    except FileExistsError:
        pass
    finally:
        os.unlink(name)
