"""Reading RLlib's checkpoints of the new API stack, without Ray and without running any of them.

A checkpoint is a folder of folders, each with what one part of RLlib saved: an RLModule saves
`module_state.pkl` (arrays by name) and `class_and_ctor_args.pkl` (its class and what it is made
from). What they mean is for `common.teachers.rllib_format`.
"""

import collections
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from common.errors import PolicyFileError
from common.teachers.safe_pickle import NUMPY_ARRAYS, Inert, Names, read_pickle
from common.teachers.torch_state import State, plain_state

SUPPORTED = (
    "supported are the default modules of PPO, IMPALA, APPO and DQN on vectors, and on frames with "
    'relu, conv_filters of "valid" padding and one of head_fcnet_hiddens; every other one as '
    "package.module:function with teacher.trust = true, or as ONNX"
)
"""What is understood of them, for an error."""
STATE_FILE = "module_state.pkl"
_MSGPACK_STATE_FILE = "module_state.msgpack"
_ARGUMENTS_FILE = "class_and_ctor_args.pkl"
_WAYS = ("", "rl_module", "learner_group/learner/rl_module", "learner/rl_module")
"""From a folder that is given to the RLModules in it."""
_CONNECTORS = "env_runner/env_to_module_connector"
_MAX_BYTES = 2 * 2**30
_PLAIN_CONNECTORS = {
    "AddObservationsFromEpisodesToBatch",
    "AddStatesFromEpisodesToBatch",
    "AddTimeDimToBatchAndZeroPad",
    "AgentToModuleMapping",
    "BatchIndividualItems",
    "NumpyToTensor",
}
"""What RLlib does to every observation, and what leaves its numbers as they are."""


class InertObject(Inert):
    """Stands for an object of a class of RLlib's or Gymnasium's, and knows which."""

    origin = ""
    """Of the class, as `module.name`."""

    def __new__(cls, *arguments: Any, **named: Any) -> "InertObject":
        """Make one as a pickle does, without `__init__`."""
        made = super().__new__(cls)
        made.attributes = {}
        return made

    def __call__(self, *arguments: Any, **named: Any) -> "InertObject":
        """Do nothing, where the pickle takes it for a function."""
        return self


class _EveryName(dict[tuple[str, str], Any]):
    """Lets a pickle name whatever it likes, which does nothing."""

    def __contains__(self, name: object) -> bool:
        return True

    def __missing__(self, name: tuple[str, str]) -> type[InertObject]:
        return type("InertObject", (InertObject,), {"origin": ".".join(name)})


_ARRAYS: Names = {("collections", "OrderedDict"): collections.OrderedDict, **NUMPY_ARRAYS}


@dataclass(frozen=True, slots=True, eq=False)
class RLModuleFiles:
    """What is read from an RLModule's folder."""

    path: Path
    """As it was given."""
    class_name: str
    """For example `DefaultPPOTorchRLModule`."""
    state: State
    """The tensors by name, float32, on the CPU."""
    model_config: dict[str, Any]
    """RLlib's model configuration, the algorithm's additions included."""
    observation_space: InertObject
    action_space: InertObject

    def refusal(self, text: str) -> PolicyFileError:
        """Return an error that names the checkpoint."""
        return PolicyFileError(f"{self.path}: {text}")


def is_rllib(path: Path) -> bool:
    """Tell whether a folder is a checkpoint of RLlib's, or lies in one."""
    return path.is_dir() and bool(_module_folders(path))


def read_rl_module(path: Path) -> RLModuleFiles:
    """Read the RLModule of a checkpoint.

    Args:
        path: of the checkpoint of an algorithm, of its RLModules, or of one RLModule.

    Raises:
        PolicyFileError: there is none or more than one, it is damaged, holds more than arrays, or
            its observations are changed on their way to it.
    """
    folders = _module_folders(path) if path.is_dir() else []
    if not folders:
        raise PolicyFileError(
            f"{path}: damaged or not a checkpoint of RLlib's new API stack (no {STATE_FILE}); give "
            f"the folder that save_to_path wrote"
        )
    if len(folders) > 1:
        names = ", ".join(folder.name for folder in folders)
        raise PolicyFileError(f"{path}: holds several policies ({names}); give the folder of one")
    (folder,) = folders
    _refuse_connectors(path)
    state = _read_state(folder)
    class_name, arguments = _read_arguments(folder)
    config = arguments.get("model_config")
    observation, action = arguments.get("observation_space"), arguments.get("action_space")
    if isinstance(config, InertObject):
        config = config.attributes
    if not (
        isinstance(config, dict)
        and isinstance(observation, InertObject)
        and isinstance(action, InertObject)
    ):
        raise PolicyFileError(
            f"{folder / _ARGUMENTS_FILE}: does not tell spaces and model config; save the "
            f"checkpoint with Ray 2.40 or newer"
        )
    return RLModuleFiles(path, class_name, state, config, observation, action)


def _module_folders(path: Path) -> list[Path]:
    """Return the folders of RLModules, by the first way that leads to any."""
    for way in _WAYS:
        folder = path / way
        if not folder.is_dir():
            continue
        # The folder of several modules has a state of its own, without arrays.
        if found := sorted(inner for inner in folder.iterdir() if _is_module(inner)):
            return found
        if _is_module(folder):
            return [folder]
    return []


def _is_module(folder: Path) -> bool:
    return any((folder / name).is_file() for name in (STATE_FILE, _MSGPACK_STATE_FILE))


def _refuse_connectors(path: Path) -> None:
    """Refuse a policy whose observations are changed before it sees them, where that is told."""
    folder = path / _CONNECTORS
    if not folder.is_dir():
        return
    for connector in sorted(inner.name for inner in folder.iterdir() if inner.is_dir()):
        if connector not in _PLAIN_CONNECTORS:
            raise PolicyFileError(
                f"{path}: its observations go through the connector {connector}, which is not "
                f"supported; give a teacher without it, or one as package.module:function"
            )


def _read_state(folder: Path) -> State:
    file = folder / STATE_FILE
    if not file.is_file():
        raise PolicyFileError(
            f"{folder / _MSGPACK_STATE_FILE}: msgpack is not supported; save the checkpoint "
            f"without use_msgpack"
        )
    loaded = read_pickle(_content(file), allowed=_ARRAYS, source=str(file))
    if isinstance(loaded, dict):
        loaded = {name: as_tensor(array) for name, array in loaded.items()}
    return plain_state(loaded, name=str(file))


def as_tensor(array: Any) -> Any:
    """Return an array as a tensor, and everything else as it is."""
    try:
        return torch.tensor(np.asarray(array))
    except Exception:  # an array may be of anything, and its parts too
        return array


def _read_arguments(folder: Path) -> tuple[str, dict[str, Any]]:
    """Return the name of the RLModule's class and the keywords it is made from."""
    file = folder / _ARGUMENTS_FILE
    if not file.is_file():
        raise PolicyFileError(
            f"{file}: missing; it tells what the weights are, so put it beside {STATE_FILE}"
        )
    tree = read_pickle(_content(file), allowed=_EveryName(NUMPY_ARRAYS), source=str(file))
    try:
        made_by, (_, keywords) = tree["class"], tree["ctor_args_and_kwargs"]
        origin: str = made_by.origin
        return origin.rpartition(".")[2], dict(keywords)
    except (AttributeError, LookupError, TypeError, ValueError):
        raise PolicyFileError(
            f"{file}: does not tell a class and its arguments; fetch it again"
        ) from None


def _content(file: Path) -> bytes:
    if (size := file.stat().st_size) > _MAX_BYTES:
        raise PolicyFileError(f"{file}: {size} bytes, more than a teacher may have")
    return file.read_bytes()
