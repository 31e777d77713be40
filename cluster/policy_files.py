"""Policy files that a command line names, where it could name a run directory, too."""

import sys
from pathlib import Path

from common.errors import PolicyMissingError
from common.policies.policy import Policy
from common.storage import Named
from common.teachers import did_you_mean, load_teacher


def load_policy_file(source: Named, *, trust: bool = False) -> Policy:
    """Read a policy of any format; what its reader has to say goes to standard error.

    Args:
        source: as it was named.
        trust: whether what can run code when it is read may do so.

    Raises:
        PolicyMissingError: nothing is there.
        UserError: it cannot be read.
    """
    try:
        return load_teacher(source, trust=trust, say=_note)
    except PolicyMissingError:
        hint = did_you_mean(Path(str(source)))
        raise PolicyMissingError(
            f"{source}: neither a run directory nor a policy file is there{hint}; give the path of "
            f"one"
        ) from None


def _note(text: str) -> None:
    print(f"note: {text}", file=sys.stderr)
