"""Teachers that would make a file when they are read carelessly: each is refused in one line."""

import base64
import io
import json
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from common.errors import PolicyFileError
from common.teachers import load_teacher
from tests.common.teachers.sb3_files import DATA, q_network
from tests.programs import Linear, torch_export_bytes, torchscript_bytes


class Hostile:
    """Touches a file when it is unpickled."""

    def __init__(self, touched: Path) -> None:
        self.touched = touched

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.touched,)


class HostileScript(torch.nn.Module):
    """Writes a file when it is read as TorchScript."""

    def __init__(self, touched: str) -> None:
        super().__init__()
        self.touched = touched

    def forward(self, observation: torch.Tensor) -> torch.Tensor:
        return observation

    @torch.jit.export
    def __getstate__(self) -> tuple[str, bool]:
        return self.touched, self.training

    @torch.jit.export
    def __setstate__(self, state: tuple[str, bool]) -> None:
        self.touched = state[0]
        self.training = state[1]
        torch.save(torch.zeros(1), state[0])


def saved(value: object) -> bytes:
    buffer = io.BytesIO()
    torch.save(value, buffer)
    return buffer.getvalue()


def sb3(folder: Path, weights: bytes, data: dict[str, Any]) -> Path:
    path = folder / "teacher.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("policy.pth", weights)
        archive.writestr("data", json.dumps(data))
    return path


def sb3_weights(folder: Path, touched: Path) -> Path:
    return sb3(folder, saved(q_network() | {"extra": Hostile(touched)}), DATA)


def cleanrl(folder: Path, touched: Path) -> Path:
    path = folder / "teacher.cleanrl_model"
    state = {"network.0.weight": torch.ones(3, 4), "network.0.bias": Hostile(touched)}
    path.write_bytes(saved(state))
    return path


def rllib(folder: Path, state: object, arguments: object) -> Path:
    path = folder / "checkpoint"
    path.mkdir()
    (path / "module_state.pkl").write_bytes(pickle.dumps(state))
    (path / "class_and_ctor_args.pkl").write_bytes(pickle.dumps(arguments))
    return path


def rllib_state(folder: Path, touched: Path) -> Path:
    return rllib(folder, {"pi.net.mlp.0.weight": Hostile(touched)}, {})


def rllib_arguments(folder: Path, touched: Path) -> Path:
    arguments = {"class": Hostile(touched), "ctor_args_and_kwargs": ((), {})}
    state = {"pi.net.mlp.0.weight": torch.ones(3, 4).numpy()}
    return rllib(folder, state, arguments)


def torch_export(folder: Path, touched: Path) -> Path:
    good, path = io.BytesIO(torch_export_bytes(Linear())), folder / "teacher.pt2"
    with zipfile.ZipFile(good) as before, zipfile.ZipFile(path, "w") as after:
        for name in before.namelist():
            inputs = "sample_inputs/" in name
            after.writestr(name, saved((Hostile(touched),)) if inputs else before.read(name))
    return path


def torchscript(folder: Path, touched: Path) -> Path:
    path = folder / "teacher.pt"
    # Scripting does not run __setstate__; reading does.
    path.write_bytes(torchscript_bytes(HostileScript(str(touched))))
    return path


HOSTILE: dict[str, Callable[[Path, Path], Path]] = {
    "sb3 weights": sb3_weights,
    "cleanrl": cleanrl,
    "rllib state": rllib_state,
    "rllib arguments": rllib_arguments,
    "torch_export": torch_export,
    "torchscript": torchscript,
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_teacher_is_refused_in_one_line_and_runs_nothing(
    name: str, tmp_path: Path
) -> None:
    touched = tmp_path / "touched"
    path = HOSTILE[name](tmp_path, touched)
    assert not touched.exists()
    with pytest.raises(PolicyFileError) as caught:
        load_teacher(path)
    message = str(caught.value)
    assert "\n" not in message
    assert message.startswith(str(path))
    assert not touched.exists()


def test_python_objects_in_the_attributes_of_a_zip_are_not_read(tmp_path: Path) -> None:
    touched = tmp_path / "touched"
    pickled = base64.b64encode(pickle.dumps(Hostile(touched))).decode()
    space = {":type:": "<class 'gymnasium.spaces.box.Box'>", ":serialized:": pickled}
    data = DATA | {"observation_space": space | {"dtype": "float32", "_shape": [5]}}
    assert load_teacher(sb3(tmp_path, saved(q_network()), data)).spec.num_actions == 3
    assert not touched.exists()


@pytest.mark.parametrize("name", ["rllib state", "rllib arguments", "cleanrl", "sb3 weights"])
def test_trust_changes_nothing_where_no_code_is_needed(name: str, tmp_path: Path) -> None:
    touched = tmp_path / "touched"
    path = HOSTILE[name](tmp_path, touched)
    with pytest.raises(PolicyFileError):
        load_teacher(path, trust=True)
    assert not touched.exists()


@pytest.mark.parametrize("name", ["torch_export", "torchscript"])
def test_the_danger_is_real_where_trust_is_asked_for(name: str, tmp_path: Path) -> None:
    touched = tmp_path / "touched"
    path = HOSTILE[name](tmp_path, touched)
    path.with_suffix(".json").write_text('{"observation": {"shape": [4]}, "dist": "logits"}')
    load_quietly(path)
    assert touched.exists()


def load_quietly(path: Path) -> None:
    """Read a trusted teacher; whether it is one does not matter."""
    try:
        load_teacher(path, trust=True)
    except PolicyFileError:
        return
