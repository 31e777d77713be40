"""Checkpoints of the learner: whole or not there, newest first, the last few kept.

A checkpoint is a directory `step-NNNNNNNNN` with `learner.pt`, written under another name, synced
to disk and renamed, so that a kill at any moment leaves the former one whole. It is read with
`weights_only=True`: nothing in it is run; and only after its checksums, which torch does not look
at, are found right.
"""

import logging
import os
import pickle
import shutil
import struct
import zipfile
import zlib
from pathlib import Path
from typing import Any

import torch

logger = logging.getLogger(__name__)

PREFIX = "step-"
FILE = "learner.pt"

_DAMAGE = (
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
"""What a damaged file can raise on its way through zipfile and torch."""


def save_checkpoint(directory: Path, state: dict[str, Any], *, step: int, keep: int) -> Path:
    """Write a checkpoint and remove all but the newest `keep` up to it.

    Later ones go too: this run went on from one before them, because they could not be read.

    Args:
        directory: where checkpoints lie; made where it is missing.
        state: tensors, numbers, text, and lists and dicts of them.
        step: learner step, the checkpoint's name.
        keep: checkpoints to keep.
    """
    target = directory / f"{PREFIX}{step:09d}"
    partial = directory / f".{target.name}.partial"
    for leftover in directory.glob(f".{PREFIX}*.partial"):
        shutil.rmtree(leftover)
    partial.mkdir(parents=True)
    with (partial / FILE).open("wb") as file:
        torch.save(state, file)
        file.flush()
        os.fsync(file.fileno())
    if target.exists():  # only one file changes places, so at no moment is there none
        os.replace(partial / FILE, target / FILE)
        partial.rmdir()
    else:
        partial.rename(target)
    paths = _newest_first(directory)
    newest = paths.index(target)
    for path in paths[:newest] + paths[newest + keep :]:
        shutil.rmtree(path)
    return target


def load_newest_checkpoint(directory: Path) -> dict[str, Any] | None:
    """Read the newest checkpoint that can be read, or return None where there is none.

    A damaged one is reported and passed over for the one before.
    """
    for path in _newest_first(directory):
        try:
            return _read(path / FILE)
        except _DAMAGE as error:
            logger.warning("checkpoint %s is damaged (%s); trying the one before", path, error)
    return None


def _read(path: Path) -> dict[str, Any]:
    with zipfile.ZipFile(path) as archive:
        if (damaged := archive.testzip()) is not None:
            raise zipfile.BadZipFile(f"{damaged} differs from its checksum")
    state: dict[str, Any] = torch.load(path, weights_only=True, map_location="cpu")
    return state


def _newest_first(directory: Path) -> list[Path]:
    return sorted(directory.glob(f"{PREFIX}*"), reverse=True)
