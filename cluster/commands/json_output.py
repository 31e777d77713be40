"""Keeps standard output for a command's own JSON, where a program reads it.

Ray prints there what its raylets report, in any process that joined a cluster: that calls to an
actor which was just ended are tried again, say.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout


@contextmanager
def standard_output_kept(as_json: bool) -> Iterator[None]:
    """Send what is printed meanwhile to standard error, where the command prints JSON."""
    if not as_json:
        yield
        return
    with redirect_stdout(sys.stderr):
        yield
