"""The statistics of Stable-Baselines3's VecNormalize: a pickle that lies beside a zip.

Of the pickle only numbers are read: mean, variance, clip and epsilon of the observations. All its
other objects (spaces, random states) are replaced by what does nothing.

A zip does not tell whether its policy was trained in VecNormalize. Without its statistics such a
policy plays badly, so what is used is said, and so is what could have been.
"""

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np

from common.errors import PolicyFileError
from common.policies.spec import Normalizer
from common.teachers.safe_pickle import NUMPY_ARRAYS, Inert, Names, read_pickle
from common.teachers.sb3_archive import SB3Archive

_FILES = ("vecnormalize.pkl", "vec_normalize.pkl")
_CHECKPOINT = re.compile(r"(.+)_(\d+_steps)")
"""How SB3's CheckpointCallback calls a zip: by a prefix and env steps."""
_NAMED = 3
"""Files that a line names; of more, it gives the number."""
_PLACE = "stable_baselines3.common"
_ALLOWED: Names = {
    **NUMPY_ARRAYS,
    (f"{_PLACE}.vec_env.vec_normalize", "VecNormalize"): Inert,
    (f"{_PLACE}.running_mean_std", "RunningMeanStd"): Inert,
    ("gym", "*"): Inert,
    ("gymnasium", "*"): Inert,
    ("numpy.random", "*"): Inert,
}
_ASKED = re.compile(r"^[ -]*\bnormalize(?::|\n *-)", re.MULTILINE)
_NOT_ASKED = re.compile(r"\bnormalize\W+(?:false|null)\b|\bnorm_obs\W+false\b", re.IGNORECASE)


def read_normalizer(
    archive: SB3Archive, named: Path | None, say: Callable[[str], None]
) -> Normalizer | None:
    """Return how the teacher's observations were normalised, None where they were not.

    Args:
        archive: the teacher's.
        named: the file of the statistics, or None to look for it beside the zip.
        say: told which file is used, or which ones were left unread.

    Raises:
        PolicyFileError: they were and the statistics are missing, foreign or damaged.
    """
    config = archive.zoo_text("config.yml")
    if named is None and _NOT_ASKED.search(config):
        return None
    file = named or _beside(archive)
    if file is not None:
        found = _from_file(file, "" if named is None else "teacher.normalizer = ")
        how = "not normalised (norm_obs = False)" if found is None else "normalised"
        say(f"{archive.path}: its observations are {how}, as {file} says")
        return found
    if _ASKED.search(config):
        raise archive.refusal(
            f"trained on observations normalised by VecNormalize, and its statistics are missing; "
            f"put {_FILES[0]} beside it, or name them with teacher.normalizer"
        )
    if unread := _others(archive.path):
        say(
            f"{archive.path}: its observations are not normalised; {unread} was not read: where "
            f"it was trained in VecNormalize, name the file of its statistics with "
            f"teacher.normalizer, or call it {_FILES[0]}"
        )
    return None


def _beside(archive: SB3Archive) -> Path | None:
    """Return the file of the statistics, by the names that Stable-Baselines3 and its Zoo give."""
    names: tuple[str, ...] = _FILES
    if saved := _CHECKPOINT.fullmatch(archive.path.stem):
        names = (f"{saved[1]}_vecnormalize_{saved[2]}.pkl", *names)
    return next((file for name in names if (file := archive.zoo_file(name)) is not None), None)


def _others(path: Path) -> str:
    """Return the names of what could be the statistics of a zip, "" where there is nothing.

    The RL Zoo's `best_model.zip` has them in a folder that is called as the environment is.
    """
    folder = path.parent
    found = sorted([*folder.glob("*.pkl"), *folder.glob(f"*/{_FILES[0]}")])
    names = [str(file.relative_to(folder)) for file in found[:_NAMED]]
    more = [f"{len(found) - _NAMED} more"] if len(found) > _NAMED else []
    return " or ".join([*names, *more])


def _from_file(file: Path, key: str) -> Normalizer | None:
    """Read the statistics; `key` names the recipe's key, where that named the file."""
    try:
        data = file.read_bytes()
    except OSError as error:
        raise PolicyFileError(
            f"{key}{file}: cannot be read ({error.strerror}); give the file that VecNormalize's "
            f"save wrote for the teacher"
        ) from None
    return _from_pickle(data, f"{key}{file}")


def _from_pickle(data: bytes, source: str) -> Normalizer | None:
    found = read_pickle(data, allowed=_ALLOWED, source=source)
    try:
        state = found.attributes
        if state["norm_obs"] is False:
            return None
        rms = state["obs_rms"].attributes
        mean, variance = (np.asarray(rms[name], np.float64) for name in ("mean", "var"))
        std = np.sqrt(variance + float(state["epsilon"]))
        if mean.ndim != 1 or mean.shape != std.shape:
            raise ValueError(f"statistics of shape {mean.shape}")
        return Normalizer(
            mean=tuple(mean.tolist()), std=tuple(std.tolist()), clip=float(state["clip_obs"])
        )
    except (AttributeError, LookupError, TypeError, ValueError) as error:
        reason = str(error).partition("\n")[0]
        raise PolicyFileError(
            f"{source}: not the statistics of observation vectors ({type(error).__name__}: "
            f"{reason}); give the file that came with the teacher"
        ) from None
