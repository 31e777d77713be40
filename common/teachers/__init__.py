"""Teachers of every kind: recognised by their content and read without running anything from them.

A new format is one file and one line in `TEACHER_FORMATS`. The formats that can run code say so
and want `teacher.trust = true`.

Only a Stable-Baselines3 zip has more than its own file and what is called as it is: the statistics
of VecNormalize, which a reader may name and is told of.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from common.errors import ConfigError, MismatchError, PolicyFileError, PolicyMissingError
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

__all__ = ["TEACHER_FORMATS", "Reading", "TeacherFormat", "did_you_mean", "load_teacher"]

_HEAD_BYTES = 64
_FACTORY = "factory"
_SB3 = "sb3"


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """How a teacher is read."""

    trust: bool
    """Whether its code may run."""
    normalizer: Path | None
    """The statistics of its observations, where they are named."""
    say: Callable[[str], None]
    """Told how its observations are normalised, and what may be missing."""


@dataclass(frozen=True, slots=True)
class TeacherFormat:
    """How one kind of teacher is named, recognised and read."""

    description: str
    recognises: Callable[[Path], bool]
    """Whether what is there looks like this format; never raises for its content. It is asked
    about folders where `folders` says so, and else about files that are not empty."""
    load: Callable[[Path, Reading], Policy]
    folders: bool = False


def _without_code(load: Callable[[Path], Policy]) -> Callable[[Path, Reading], Policy]:
    """Return how a format is read that runs no code, whether it is trusted or not."""
    return lambda path, _: load(path)


def _with_trust(load: Callable[[Path, bool], Policy]) -> Callable[[Path, Reading], Policy]:
    """Return how a format is read that can run code."""
    return lambda path, reading: load(path, reading.trust)


def _load_sb3(path: Path, reading: Reading) -> Policy:
    return load_sb3(path, normalizer=reading.normalizer, say=reading.say)


TEACHER_FORMATS: dict[str, TeacherFormat] = {
    "safetensors": TeacherFormat(
        "a .safetensors file with its .json beside it",
        is_safetensors,
        _with_trust(load_safetensors),
    ),
    _SB3: TeacherFormat("a Stable-Baselines3 .zip", is_sb3, _load_sb3),
    "torchscript": TeacherFormat(
        "a TorchScript archive", is_torchscript, _with_trust(load_torchscript)
    ),
    "torch_export": TeacherFormat(
        "a .pt2 archive", is_torch_export, _with_trust(load_torch_export)
    ),
    "cleanrl": TeacherFormat("a .cleanrl_model", is_cleanrl, _without_code(load_cleanrl)),
    "onnx": TeacherFormat("an .onnx file", is_onnx, _without_code(load_onnx)),
    "rllib": TeacherFormat(
        "the folder of an RLlib checkpoint", is_rllib, _without_code(load_rllib), folders=True
    ),
    _FACTORY: TeacherFormat(
        "a function as package.module:function", lambda _: False, _with_trust(load_factory)
    ),
}


def load_teacher(
    path: Named,
    *,
    format: str = "auto",
    trust: bool = False,
    normalizer: str | None = None,
    say: Callable[[str], None] = lambda _: None,
) -> Policy:
    """Read a teacher.

    Args:
        path: the teacher's file, folder or function; files of others are read from a local disk
            only, a policy that Stillhouse wrote also from a URI.
        format: a name in `TEACHER_FORMATS`, or "auto" to decide by what is there.
        trust: whether what can run code when it is read may do so.
        normalizer: of a Stable-Baselines3 zip, the file of VecNormalize's statistics, where it does
            not lie beside the zip under a name that is known.
        say: told how the observations of such a zip are normalised, and what may be missing.

    Returns:
        The policy in float32 on the CPU.

    Raises:
        ConfigError: `format` is unknown, what is written beside the teacher is wrong, or
            `normalizer` is given for one that has none.
        PolicyMissingError: the file is not there.
        PolicyFileError: it is empty, damaged, foreign, unsafe to read, or of a kind that is not
            supported.
    """
    if format != "auto" and format not in TEACHER_FORMATS:
        allowed = ", ".join(["auto", *TEACHER_FORMATS])
        raise ConfigError(f"teacher format = {format!r}: unknown format; allowed: {allowed}")
    if "://" in str(path):
        _refuse_normalizer(path, normalizer)
        return load_policy(path, trust=trust)
    is_factory = names_factory(str(path)) if format == "auto" else format == _FACTORY
    path = Path(str(path))
    name = _FACTORY if is_factory else _found_format(path, format)
    if name != _SB3:
        _refuse_normalizer(path, normalizer)
    statistics = None if normalizer is None else Path(normalizer)
    try:
        return TEACHER_FORMATS[name].load(
            path, Reading(trust=trust, normalizer=statistics, say=say)
        )
    except MismatchError as error:
        raise PolicyFileError(f"{path}: its parts do not fit together ({error})") from None
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"]) or "policy"
        raise PolicyFileError(
            f"{path}: what it says of itself makes no policy ({where}: {first['msg']}); "
            f"fetch it again"
        ) from None


def did_you_mean(path: Path) -> str:
    """Return a hint for a path without the ending that Stable-Baselines3's `save` adds, or ""."""
    zipped = path.parent / f"{path.name}.zip"
    return f" (did you mean {zipped}?)" if zipped.is_file() else ""


def _refuse_normalizer(path: Named, normalizer: str | None) -> None:
    if normalizer is not None:
        raise ConfigError(
            f"teacher.normalizer = {normalizer}: goes with {TEACHER_FORMATS[_SB3].description}, "
            f"and {path} is none; leave it out"
        )


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
        f"{path}: a directory, and no RLlib checkpoint{did_you_mean(path)}; give the path of the "
        f"teacher file in it"
    )


def _read_head(path: Path) -> bytes:
    """Return the file's first bytes."""
    if not path.exists():
        raise PolicyMissingError(
            f"{path}: no such file{did_you_mean(path)}; give the path of a teacher file"
        )
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
        guess = "a truncated zip, which to fetch again, or a zip of something else"
    elif head.startswith(b"\x80"):
        guess = "a pickle, which could run code when read"
    else:
        guess = "damaged, or a file of another kind"
    known = ", ".join(candidate.description for candidate in TEACHER_FORMATS.values())
    raise PolicyFileError(f"{path}: not a teacher file ({guess}); give one of: {known}")
