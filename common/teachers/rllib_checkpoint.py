"""Reading RLlib's checkpoints of the new API stack, without Ray and without running any of them.

A checkpoint is a folder of folders, each with what one part of RLlib saved: an RLModule saves
`module_state.pkl` (arrays by name) and `class_and_ctor_args.pkl` (its class and what it is made
from). What they mean is for `common.teachers.rllib_format`.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from common.errors import PolicyFileError
from common.teachers.inert_pickle import Forbidden, Inert, read_arrays, read_inert
from common.teachers.torch_state import State, plain_state

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
    observation_space: Inert
    action_space: Inert

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
    spaces = [arguments.get(name) for name in ("observation_space", "action_space")]
    if isinstance(config, Inert):
        config = config.attributes
    if not isinstance(config, dict) or not all(isinstance(space, Inert) for space in spaces):
        raise PolicyFileError(
            f"{folder / _ARGUMENTS_FILE}: does not tell spaces and model config; save the "
            f"checkpoint with Ray 2.40 or newer"
        )
    return RLModuleFiles(path, class_name, state, config, *spaces)


def _module_folders(path: Path) -> list[Path]:
    """Return the folders of RLModules, by the first way that leads to any."""
    for way in _WAYS:
        folder = path / way
        if _is_module(folder):
            return [folder]
        if not folder.is_dir():
            continue
        if found := sorted(inner for inner in folder.iterdir() if _is_module(inner)):
            return found
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
    try:
        loaded = read_arrays(_content(file))
    except Forbidden as error:
        raise PolicyFileError(
            f"{file}: holds {error} beside arrays, which could run code when read; get the teacher "
            f"from a source that you trust"
        ) from None
    # Damage can make the reader fail in any way.
    except Exception as error:
        raise _damaged(file, error) from None
    if isinstance(loaded, dict):
        loaded = {name: _tensor(array) for name, array in loaded.items()}
    return plain_state(loaded, name=str(file))


def _tensor(array: Any) -> Any:
    """Return an array as a tensor, and everything else as it is."""
    try:
        return torch.tensor(array)
    except (TypeError, ValueError, RuntimeError):
        return array


def _read_arguments(folder: Path) -> tuple[str, dict[str, Any]]:
    """Return the name of the RLModule's class and the keywords it is made from."""
    file = folder / _ARGUMENTS_FILE
    if not file.is_file():
        raise PolicyFileError(
            f"{file}: missing; it tells what the weights are, so put it beside {STATE_FILE}"
        )
    try:
        tree = read_inert(_content(file))
        made_by, (_, keywords) = tree["class"], tree["ctor_args_and_kwargs"]
        origin: str = made_by.origin
        return origin.rpartition(".")[2], dict(keywords)
    # Damage can make the reader fail in any way.
    except Exception as error:
        raise _damaged(file, error) from None


def _content(file: Path) -> bytes:
    if (size := file.stat().st_size) > _MAX_BYTES:
        raise ValueError(f"{size} bytes, more than a teacher may have")
    return file.read_bytes()


def _damaged(file: Path, error: Exception) -> PolicyFileError:
    reason = " ".join(f"{type(error).__name__}: {error}".split())
    return PolicyFileError(f"{file}: damaged or not of RLlib's ({reason:.200}); fetch it again")
