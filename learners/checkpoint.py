"""Checkpoints: whole or not there, newest first, the last few kept.

A checkpoint is a folder `step-NNNNNNNNN` with the learner's state in `learner.pt`, the replay where
it is asked for, and `manifest.json`, which is written last and holds the size and checksum of every
other file. A folder without a manifest is no checkpoint, so a kill at any moment, on a disk or on
an object store, leaves the former one whole. A step that is saved again gets a folder of its own.

Reading runs nothing from the files: the state is read with `weights_only=True`. Checkpoints of
another format, as older versions of Stillhouse wrote, are passed over like damaged ones.
"""

import io
import json
import logging
import pickle
import re
import struct
import zipfile
import zlib
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from hashlib import sha256
from typing import Any

import torch

from common.errors import FileMissingError, StorageError
from common.storage import Location, Named, Written, locate

logger = logging.getLogger(__name__)

FORMAT = 2
STATE = "learner.pt"
MANIFEST = "manifest.json"
_NAME = re.compile(r"step-(\d+)(?:-(\d+))?")

_NO_STATE = (
    EOFError,
    LookupError,
    OSError,
    RuntimeError,
    TypeError,
    ValueError,
    pickle.UnpicklingError,
    struct.error,
    zipfile.BadZipFile,
    zlib.error,
)
"""What a file that is no state can raise on its way through zipfile and torch."""

Part = Callable[[Location], Written]
"""Writes one file of a checkpoint where it is told to."""


@dataclass(frozen=True, slots=True, eq=False)
class Checkpoint:
    """A checkpoint that was found whole."""

    folder: Location
    state: dict[str, Any]


class _DamagedError(Exception):
    """A folder that holds no whole checkpoint, and why."""


def save_checkpoint(
    directory: Named,
    state: dict[str, Any],
    *,
    step: int,
    keep: int,
    parts: Mapping[str, Part] | None = None,
) -> Location:
    """Write a checkpoint and remove all but the newest `keep` up to it.

    Later ones go too: this run went on from one before them, because they could not be read.

    Args:
        directory: where checkpoints lie; made where it is missing.
        state: tensors, numbers, text, and lists and dicts of them.
        step: learner step, the checkpoint's name.
        keep: checkpoints to keep.
        parts: its other files, by their names.

    Returns:
        Its folder.

    Raises:
        StorageError: it cannot be written; what was there before is as it was.
    """
    directory = locate(directory)
    names = [name for name in directory.names() if _NAME.fullmatch(name)]
    folder = directory / _new_name(names, step)
    try:
        _write(folder, {STATE: partial(_write_state, state), **(parts or {})})
    except StorageError:
        with suppress(StorageError):  # the next save tries again to clear it away
            folder.remove()
        raise
    try:
        _prune(directory, names, folder, keep)
    except StorageError as error:
        logger.warning("an old checkpoint is left: %s", error)
    return folder


def load_newest_checkpoint(directory: Named) -> Checkpoint | None:
    """Read the newest checkpoint that is whole, or return None where there is none.

    Each that is damaged is passed over with a warning.

    Args:
        directory: where checkpoints lie.

    Raises:
        StorageError: the place cannot be reached, so nobody knows what is there.
    """
    directory = locate(directory)
    for name in sorted(filter(_NAME.fullmatch, directory.names()), key=_age, reverse=True):
        folder = directory / name
        try:
            return Checkpoint(folder, _read(folder))
        except _DamagedError as error:
            logger.warning("checkpoint %s is damaged (%s); trying the one before", folder, error)
    return None


def _write(folder: Location, parts: Mapping[str, Part]) -> None:
    files = {name: write(folder / name) for name, write in parts.items()}
    for name, written in files.items():
        if (folder / name).num_bytes() != written.num_bytes:
            raise StorageError(f"{folder / name}: its size is not what was written; save again")
    manifest = {"format": FORMAT, "files": {name: list(found) for name, found in files.items()}}
    (folder / MANIFEST).write_text(json.dumps(manifest, indent=2) + "\n")


def _write_state(state: dict[str, Any], location: Location) -> Written:
    return location.write(lambda sink: torch.save(state, sink))


def _prune(directory: Location, names: list[str], newest: Location, keep: int) -> None:
    """Remove what is later than `newest`, what is beyond `keep`, and what was never finished."""
    kept = 1
    for name in sorted(names, key=_age, reverse=True):
        folder = directory / name
        whole = _age(name) < _age(newest.name) and (folder / MANIFEST).is_file()
        if whole and kept < keep:
            kept += 1
            continue
        (folder / MANIFEST).remove()  # from now on it is no checkpoint
        folder.remove()


def _read(folder: Location) -> dict[str, Any]:
    try:
        files = _manifest(folder)
        content = b""
        for name, expected in files.items():
            location = folder / name
            if location.num_bytes() != expected.num_bytes:
                raise _DamagedError(f"{name} has {location.num_bytes():,} bytes")
            if name == STATE:
                content = location.read_bytes()
                found = Written(len(content), sha256(content).hexdigest())
            else:
                found = location.checksum()
            if found != expected:
                raise _DamagedError(f"{name} differs from its checksum")
    except FileMissingError as error:
        raise _DamagedError(str(error)) from None
    except StorageError as error:
        if folder.is_local:  # one file, or one sector, cannot be read; the others may
            raise _DamagedError(str(error)) from None
        raise
    try:
        state: dict[str, Any] = torch.load(
            io.BytesIO(content), weights_only=True, map_location="cpu"
        )
    except _NO_STATE as error:
        reason = " ".join(str(error).split())[:200]
        raise _DamagedError(f"{STATE} holds no state: {reason}") from None
    return state


def _manifest(folder: Location) -> dict[str, Written]:
    """Return what the checkpoint's files should be."""
    try:
        text = (folder / MANIFEST).read_text()
    except FileMissingError:
        raise _DamagedError(
            "it has no manifest: its save was not finished, or an older version wrote it"
        ) from None
    try:
        manifest = json.loads(text)
        files = {str(name): Written(*found) for name, found in manifest["files"].items()}
        if manifest["format"] != FORMAT:
            raise _DamagedError(f"format {manifest['format']}, not {FORMAT}")
    except (AttributeError, LookupError, TypeError, ValueError):
        raise _DamagedError(f"{MANIFEST} is no manifest") from None
    if STATE not in files or any("/" in name for name in files):
        raise _DamagedError(f"{MANIFEST} names other files than a checkpoint has")
    return files


def _new_name(names: list[str], step: int) -> str:
    ages = [_age(name) for name in names]
    saved = max((again for found, again in ages if found == step), default=0)
    return f"step-{step:09d}" + (f"-{saved + 1}" if saved else "")


def _age(name: str) -> tuple[int, int]:
    """Return the step, and how often it was saved by then."""
    found = _NAME.fullmatch(name)
    assert found is not None, name
    return int(found[1]), int(found[2] or 1)
