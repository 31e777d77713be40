"""The statistics of Stable-Baselines3's VecNormalize: a pickle that the RL Zoo keeps beside a zip.

Of the pickle only numbers are read: mean, variance, clip and epsilon of the observations. All its
other objects (spaces, random states) are replaced by what does nothing.
"""

import re

import numpy as np

from common.errors import PolicyFileError
from common.policies.spec import Normalizer
from common.teachers.safe_pickle import NUMPY_ARRAYS, Inert, Names, read_pickle
from common.teachers.sb3_archive import SB3Archive

_FILES = ("vecnormalize.pkl", "vec_normalize.pkl")
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


def read_normalizer(archive: SB3Archive) -> Normalizer | None:
    """Return how the teacher's observations were normalised, None where they were not.

    Raises:
        PolicyFileError: they were and the statistics are missing, foreign or damaged.
    """
    config = archive.zoo_text("config.yml")
    if _NOT_ASKED.search(config):
        return None
    for name in _FILES:
        if (data := archive.zoo_bytes(name)) is not None:
            return _from_pickle(data, f"{archive.path.parent}: {name} of {archive.path.name}")
    if _ASKED.search(config):
        raise archive.refusal(
            f"trained on observations normalised by VecNormalize, and its statistics are missing; "
            f"put {_FILES[0]} beside it"
        )
    return None


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
