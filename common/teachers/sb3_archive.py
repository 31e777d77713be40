"""Reading what a Stable-Baselines3 zip and its RL Zoo folder say, without running any of it.

A zip holds `policy.pth` (tensors) and `data` (JSON in which Python objects are base64 pickles
with their attributes as plain text beside). Only the tensors, through torch's weights-only
reader, and the plain text are read. What they mean is for `common.teachers.sb3_format`.
"""

import io
import json
import pickle
import re
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from common.errors import PolicyFileError
from common.teachers.torch_state import plain_state

_MAX_BYTES = {"policy.pth": 2 * 2**30, "data": 64 * 2**20, "_stable_baselines3_version": 64}
"""The zip's members that are read, and how large each may be unpacked."""


@dataclass(frozen=True, slots=True, eq=False)
class SB3Archive:
    """What is read from a zip, and the folder it lies in."""

    path: Path
    state: dict[str, torch.Tensor]
    """The tensors of policy.pth by name, float32, on the CPU."""
    data: dict[str, Any]
    """The JSON with the model's attributes."""
    version: str
    """The version of Stable-Baselines3 that wrote the zip."""

    def table(self, key: str) -> dict[str, Any]:
        """Return the plain parts of an entry of `data`, {} where it has none."""
        value = self.data.get(key)
        return value if isinstance(value, dict) else {}

    def class_name(self, key: str, attribute: str) -> str:
        """Return "ReLU" of a text such as "<class 'torch.nn.modules.activation.ReLU'>".

        A text of another form is returned as it is, so that nobody takes it for a known class;
        "" where there is none.
        """
        text = self.table(key).get(attribute)
        found = re.fullmatch(r"<class '(?:\w+\.)*(\w+)'>", str(text))
        return found[1] if found else "" if text is None else repr(text)

    def zoo_text(self, name: str) -> str:
        """Return a text file that the RL Zoo left beside the zip, "" where there is none.

        It is to be searched as text: YAML tags in it name Python objects.
        """
        file = self.zoo_file(name)
        return "" if file is None else file.read_text(encoding="utf-8", errors="replace")

    def zoo_file(self, name: str) -> Path | None:
        """Return the path of a file that the RL Zoo left beside the zip, None where there is none.

        It lies in the folder that is called as the zip is, or in the zip's own.
        """
        folders = (self.path.with_suffix(""), self.path.parent)
        return next((folder / name for folder in folders if (folder / name).is_file()), None)

    def refusal(self, text: str) -> PolicyFileError:
        """Return an error that names the file."""
        return PolicyFileError(f"{self.path}: {text}")


def is_sb3(path: Path) -> bool:
    """Tell whether a file is a zip with the members that Stable-Baselines3 writes."""
    try:
        with zipfile.ZipFile(path) as archive:
            return {"policy.pth", "data"} <= set(archive.namelist())
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError):
        return False


def read_archive(path: Path) -> SB3Archive:
    """Read a zip's tensors, its plain JSON and the version that wrote it.

    Raises:
        PolicyFileError: the file is damaged, too large when unpacked, or holds more than tensors.
    """
    try:
        with zipfile.ZipFile(path) as file:
            members = {name: _read_member(file, name) for name in _MAX_BYTES}
        loaded = torch.load(
            io.BytesIO(members["policy.pth"]), map_location="cpu", weights_only=True
        )
        data = json.loads(members["data"])
        state = plain_state(loaded, name="policy.pth")
    except pickle.UnpicklingError:
        raise PolicyFileError(
            f"{path}: policy.pth holds something else than tensors, which could run code when "
            f"read; get the teacher from a source that you trust"
        ) from None
    except PolicyFileError as error:
        raise PolicyFileError(f"{path}: {error}") from None
    # Damage can make the zip, tensor and JSON readers fail in any way.
    except Exception as error:
        reason = f"{type(error).__name__}: {error}".partition("\n")[0]
        raise PolicyFileError(
            f"{path}: damaged or not a Stable-Baselines3 zip ({reason}); fetch it again"
        ) from None
    version = members["_stable_baselines3_version"].decode("ascii", "replace").strip()
    return SB3Archive(path, state, data if isinstance(data, dict) else {}, version)


def _read_member(file: zipfile.ZipFile, name: str) -> bytes:
    if name == "_stable_baselines3_version" and name not in file.namelist():
        return b"not stated"
    info = file.getinfo(name)
    if info.file_size > _MAX_BYTES[name]:
        raise PolicyFileError(
            f"{name} unpacks to {info.file_size} bytes, more than the {_MAX_BYTES[name]} that a "
            f"teacher may have; check where the file comes from"
        )
    return file.read(info)
