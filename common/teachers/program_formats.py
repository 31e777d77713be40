"""Teachers that bring their own runtime: ONNX, TorchScript and torch.export files.

What the outputs mean is told by the JSON beside the file (`common.teachers.sidecar`).
"""

import zipfile
from pathlib import Path

from common.errors import PolicyFileError
from common.policies.policy import Policy
from common.programs import PROGRAMS, Runtime, refuse_untrusted
from common.teachers.sidecar import policy_of

_ONNX_VERSIONS = range(1, 0x20)
_ONNX_FIELDS = b"\x12\x1a\x22\x28\x32\x3a\x42"
"""First bytes of a model's second to eighth field, one of which follows the version."""
_OLD_EXPORT = "serialized_exported_program.json"


def is_onnx(path: Path) -> bool:
    """Tell whether a file begins as ONNX models do: the format's version, then another field."""
    with path.open("rb") as file:
        head = file.read(3)
    return len(head) == 3 and head[0] == 8 and head[1] in _ONNX_VERSIONS and head[2] in _ONNX_FIELDS


def is_torchscript(path: Path) -> bool:
    """Tell whether a file is a zip with TorchScript's constants and code."""
    names = [name.partition("/")[2] for name in _members(path)]
    return "constants.pkl" in names and any(name.startswith("code/") for name in names)


def is_torch_export(path: Path) -> bool:
    """Tell whether a file is a zip with an exported program of torch."""
    names = _members(path)
    inner = [name.partition("/")[2] for name in names]
    new = "archive_format" in inner and any(name.startswith("models/") for name in inner)
    return new or _OLD_EXPORT in names


def load_onnx(path: Path) -> Policy:
    """Read an ONNX file.

    Raises:
        PolicyFileError: it is damaged, or what it computes is not told.
        ConfigError: the JSON beside it is wrong.
    """
    return policy_of("onnx", path.read_bytes(), path)


def load_torchscript(path: Path, trust: bool) -> Policy:
    """Read a TorchScript archive.

    Raises:
        PolicyFileError: it is not trusted, damaged, or what it computes is not told.
        ConfigError: the JSON beside it is wrong.
    """
    return _load_archive("torchscript", path, trust, fits=is_torchscript(path))


def load_torch_export(path: Path, trust: bool) -> Policy:
    """Read a `.pt2` archive.

    Raises:
        PolicyFileError: it is not trusted, damaged, or what it computes is not told.
        ConfigError: the JSON beside it is wrong.
    """
    return _load_archive("torch_export", path, trust, fits=is_torch_export(path))


def _load_archive(runtime: Runtime, path: Path, trust: bool, *, fits: bool) -> Policy:
    if not fits:
        raise PolicyFileError(
            f"{path}: damaged or not {PROGRAMS[runtime].description}; fetch it again"
        )
    refuse_untrusted(runtime, trust=trust, source=str(path))
    return policy_of(runtime, path.read_bytes(), path)


def _members(path: Path) -> list[str]:
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.namelist()
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError):
        return []
