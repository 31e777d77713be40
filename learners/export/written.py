"""What there is to say of a file beyond what asking it tells."""

from typing import NamedTuple


class Written(NamedTuple):
    """Said by who wrote it."""

    notes: str = ""
    """For the user."""
    constant_bytes: int | None = None
    """Weights and tables, as a device holds them, of a file of source text."""
