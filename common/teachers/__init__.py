"""Teacher files: recognised by their content and read without running anything from them.

A new format is one file and one line in `TEACHER_FORMATS`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from common.errors import ConfigError, MismatchError, PolicyFileError
from common.policies.policy import Policy, load_policy
from common.storage import Named
from common.teachers.safetensors_format import is_safetensors, load_safetensors
from common.teachers.sb3_archive import is_sb3
from common.teachers.sb3_format import load_sb3

__all__ = ["TEACHER_FORMATS", "TeacherFormat", "load_teacher"]

_HEAD_BYTES = 64


@dataclass(frozen=True, slots=True)
class TeacherFormat:
    """How one kind of teacher file is named, recognised and read."""

    description: str
    recognises: Callable[[Path], bool]
    """Whether an existing, non-empty file looks like this format; never raises for its content."""
    load: Callable[[Path], Policy]


TEACHER_FORMATS: dict[str, TeacherFormat] = {
    "safetensors": TeacherFormat(
        "a .safetensors file with its .json beside it", is_safetensors, load_safetensors
    ),
    "sb3": TeacherFormat("a Stable-Baselines3 .zip", is_sb3, load_sb3),
}


def load_teacher(path: Named, *, format: str = "auto") -> Policy:
    """Read a teacher.

    Args:
        path: the teacher's file; files of others are read from a local disk only, a policy that
            Stillhouse wrote also from a URI.
        format: a name in `TEACHER_FORMATS`, or "auto" to decide by the file's content.

    Returns:
        The policy in float32 on the CPU.

    Raises:
        ConfigError: `format` is unknown.
        PolicyFileError: the file is missing, empty, damaged, foreign, unsafe to read, or holds a
            teacher that is not supported.
    """
    if format != "auto" and format not in TEACHER_FORMATS:
        allowed = ", ".join(["auto", *TEACHER_FORMATS])
        raise ConfigError(f"teacher format = {format!r}: unknown format; allowed: {allowed}")
    if "://" in str(path):
        return load_policy(path)
    path = Path(str(path))
    head = _read_head(path)
    chosen = TEACHER_FORMATS[_recognise(path, head) if format == "auto" else format]
    try:
        return chosen.load(path)
    except MismatchError as error:
        raise PolicyFileError(f"{path}: its parts do not fit together ({error})") from None
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"]) or "policy"
        raise PolicyFileError(
            f"{path}: what it says of itself makes no policy ({where}: {first['msg']}); "
            f"fetch it again"
        ) from None


def _read_head(path: Path) -> bytes:
    """Return the file's first bytes."""
    if path.is_dir():
        raise PolicyFileError(f"{path}: a directory; give the path of the teacher file in it")
    if not path.exists():
        raise PolicyFileError(f"{path}: no such file; give the path of a teacher file")
    if not path.is_file():
        raise PolicyFileError(f"{path}: not a regular file; give the path of a teacher file")
    try:
        with path.open("rb") as file:
            head = file.read(_HEAD_BYTES)
    except OSError as error:
        raise PolicyFileError(
            f"{path}: cannot be read ({error.strerror}); check its permissions"
        ) from None
    if not head:
        raise PolicyFileError(f"{path}: the file is empty; fetch it again")
    return head


def _recognise(path: Path, head: bytes) -> str:
    for name, candidate in TEACHER_FORMATS.items():
        if candidate.recognises(path):
            return name
    if head.startswith(b"PK\x03\x04"):
        guess = "a truncated zip, or a zip of something else"
    elif head.startswith(b"\x80"):
        guess = "a pickle, which could run code when read"
    else:
        guess = "damaged, or a file of another kind"
    known = " or ".join(candidate.description for candidate in TEACHER_FORMATS.values())
    raise PolicyFileError(f"{path}: not a teacher file ({guess}); give {known}")
