"""Teachers of every kind: recognised by their content and read without running anything from them.

A new format is one file and one line in `TEACHER_FORMATS`. The formats that can run code say so
and want `teacher.trust = true`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from common.errors import ConfigError, MismatchError, PolicyFileError
from common.policies.policy import Policy, load_policy
from common.storage import Named
from common.teachers.cleanrl_format import is_cleanrl, load_cleanrl
from common.teachers.factory_format import load_factory, names_factory
from common.teachers.program_formats import (
    is_onnx,
    is_torch_export,
    is_torchscript,
    load_onnx,
    load_torch_export,
    load_torchscript,
)
from common.teachers.rllib_checkpoint import is_rllib
from common.teachers.rllib_format import load_rllib
from common.teachers.safetensors_format import is_safetensors, load_safetensors
from common.teachers.sb3_archive import is_sb3
from common.teachers.sb3_format import load_sb3

__all__ = ["TEACHER_FORMATS", "TeacherFormat", "load_teacher"]

_HEAD_BYTES = 64
_FACTORY = "factory"


@dataclass(frozen=True, slots=True)
class TeacherFormat:
    """How one kind of teacher is named, recognised and read."""

    description: str
    recognises: Callable[[Path], bool]
    """Whether what is there looks like this format; never raises for its content. It is asked
    about folders where `folders` says so, and else about files that are not empty."""
    load: Callable[[Path, bool], Policy]
    """Reads a teacher; the second argument is whether its code may run."""
    folders: bool = False


def _without_code(load: Callable[[Path], Policy]) -> Callable[[Path, bool], Policy]:
    """Return how a format is read that runs no code, whether it is trusted or not."""
    return lambda path, _: load(path)


TEACHER_FORMATS: dict[str, TeacherFormat] = {
    "safetensors": TeacherFormat(
        "a .safetensors file with its .json beside it", is_safetensors, load_safetensors
    ),
    "sb3": TeacherFormat("a Stable-Baselines3 .zip", is_sb3, _without_code(load_sb3)),
    "torchscript": TeacherFormat("a TorchScript archive", is_torchscript, load_torchscript),
    "torch_export": TeacherFormat("a .pt2 archive", is_torch_export, load_torch_export),
    "cleanrl": TeacherFormat("a .cleanrl_model", is_cleanrl, _without_code(load_cleanrl)),
    "onnx": TeacherFormat("an .onnx file", is_onnx, _without_code(load_onnx)),
    "rllib": TeacherFormat(
        "the folder of an RLlib checkpoint", is_rllib, _without_code(load_rllib), folders=True
    ),
    _FACTORY: TeacherFormat("a function as package.module:function", lambda _: False, load_factory),
}


def load_teacher(path: Named, *, format: str = "auto", trust: bool = False) -> Policy:
    """Read a teacher.

    Args:
        path: the teacher's file, folder or function; files of others are read from a local disk
            only, a policy that Stillhouse wrote also from a URI.
        format: a name in `TEACHER_FORMATS`, or "auto" to decide by what is there.
        trust: whether what can run code when it is read may do so.

    Returns:
        The policy in float32 on the CPU.

    Raises:
        ConfigError: `format` is unknown, or what is written beside the teacher is wrong.
        PolicyFileError: the teacher is missing, empty, damaged, foreign, unsafe to read, or of a
            kind that is not supported.
    """
    if format != "auto" and format not in TEACHER_FORMATS:
        allowed = ", ".join(["auto", *TEACHER_FORMATS])
        raise ConfigError(f"teacher format = {format!r}: unknown format; allowed: {allowed}")
    if "://" in str(path):
        return load_policy(path, trust=trust)
    is_factory = names_factory(str(path)) if format == "auto" else format == _FACTORY
    path = Path(str(path))
    name = _FACTORY if is_factory else _found_format(path, format)
    try:
        return TEACHER_FORMATS[name].load(path, trust)
    except MismatchError as error:
        raise PolicyFileError(f"{path}: its parts do not fit together ({error})") from None
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"]) or "policy"
        raise PolicyFileError(
            f"{path}: what it says of itself makes no policy ({where}: {first['msg']}); "
            f"fetch it again"
        ) from None


def _found_format(path: Path, format: str) -> str:
    """Return the format of what lies at `path`, which is there and not empty."""
    if path.is_dir():
        return _recognise_folder(path, format)
    head = _read_head(path)
    return _recognise(path, head) if format == "auto" else format


def _recognise_folder(path: Path, format: str) -> str:
    for name, candidate in TEACHER_FORMATS.items():
        if candidate.folders and (name == format or candidate.recognises(path)):
            return name
    raise PolicyFileError(
        f"{path}: a directory, and no RLlib checkpoint; give the path of the teacher file in it"
    )


def _read_head(path: Path) -> bytes:
    """Return the file's first bytes."""
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
        if not candidate.folders and candidate.recognises(path):
            return name
    if head.startswith(b"PK\x03\x04"):
        guess = "a truncated zip, or a zip of something else"
    elif head.startswith(b"\x80"):
        guess = "a pickle, which could run code when read"
    else:
        guess = "damaged, or a file of another kind"
    known = ", ".join(candidate.description for candidate in TEACHER_FORMATS.values())
    raise PolicyFileError(f"{path}: not a teacher file ({guess}); give one of: {known}")
