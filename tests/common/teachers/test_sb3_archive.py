import io
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from common.errors import PolicyFileError
from common.teachers import load_teacher, sb3_archive

STATE = {
    "q_net.q_net.0.weight": torch.ones(7, 5),
    "q_net.q_net.0.bias": torch.ones(7),
    "q_net.q_net.2.weight": torch.ones(3, 7),
    "q_net.q_net.2.bias": torch.ones(3),
}


def saved(state: object, *, new_format: bool = True) -> bytes:
    buffer = io.BytesIO()
    torch.save(state, buffer, _use_new_zipfile_serialization=new_format)
    return buffer.getvalue()


def write(folder: Path, weights: bytes, data: bytes = b"{}") -> Path:
    path = folder / "teacher.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("data", data)
        archive.writestr("policy.pth", weights)
    return path


def refusal(path: Path) -> str:
    with pytest.raises(PolicyFileError) as caught:
        load_teacher(path)
    message = str(caught.value)
    assert "\n" not in message
    assert message.startswith(str(path))
    return message


def test_the_version_may_be_missing(tmp_path: Path) -> None:
    path = write(tmp_path, saved(STATE))
    assert load_teacher(path).spec.provenance["version"] == "not stated"


@pytest.mark.parametrize(
    ("name", "tensor"),
    [
        ("q_net.q_net.0.weight", torch.tensor(1.0)),
        ("q_net.q_net.0.weight", torch.zeros(1).expand(10**6, 10**6)),
        ("q_net.q_net.0.weight", torch.zeros(7, 5, dtype=torch.int64)),
        ("q_net.q_net.0.weight", torch.zeros(0, 5)),
        ("q_net.q_net.0.weight", torch.zeros(7, 5, device="meta")),
        ("q_net.q_net.0.weight", torch.zeros(7, 5).to_sparse()),
        ("q_net.q_net.0.weight", 3),
        ("q_net.\n", torch.zeros(3)),
    ],
    ids=["scalar", "repeated", "integer", "hollow", "meta", "sparse", "number", "name"],
)
def test_tensors_that_are_not_ordinary(tmp_path: Path, name: str, tensor: object) -> None:
    assert "is not an ordinary float tensor" in refusal(write(tmp_path, saved({name: tensor})))


@pytest.mark.parametrize("state", [[], {}, torch.zeros(3)])
def test_a_policy_file_without_a_state_dict(tmp_path: Path, state: object) -> None:
    assert "policy.pth is not a state dict" in refusal(write(tmp_path, saved(state)))


class Hostile:
    """Touches a file when it is unpickled."""

    def __init__(self, touched: Path) -> None:
        self.touched = touched

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.touched,)


@pytest.mark.parametrize("new_format", [True, False], ids=["zip", "legacy"])
def test_code_in_the_weights_is_not_run(tmp_path: Path, new_format: bool) -> None:
    touched = tmp_path / "touched"
    weights = saved(STATE | {"extra": Hostile(touched)}, new_format=new_format)
    path = write(tmp_path, weights)
    assert "could run code when read" in refusal(path)
    assert not touched.exists()
    # The payload works where weights are read carelessly.
    torch.load(io.BytesIO(weights), weights_only=False)
    assert touched.exists()


@pytest.mark.parametrize("member", ["data", "policy.pth"])
def test_a_member_that_unpacks_to_too_much(
    tmp_path: Path, member: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path, saved(STATE))
    monkeypatch.setitem(sb3_archive._MAX_BYTES, member, 1)
    assert f"{member} unpacks to" in refusal(path)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.99])
def test_a_truncated_zip(tmp_path: Path, share: float) -> None:
    path = write(tmp_path, saved(STATE))
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    assert "a truncated zip" in refusal(path)


def test_damage_within_never_gets_out_as_another_error(tmp_path: Path) -> None:
    path = write(tmp_path, saved(STATE))
    content = path.read_bytes()
    rng = np.random.default_rng(0)
    messages = []
    for _ in range(200):
        damaged = np.frombuffer(content, np.uint8).copy()
        damaged[rng.integers(0, len(damaged), 4)] = rng.integers(0, 256, 4)
        path.write_bytes(damaged.tobytes())
        try:
            load_teacher(path)
        except PolicyFileError as error:
            messages.append(str(error))
    assert len(messages) > 100
    assert not any("\n" in message for message in messages)


@pytest.mark.parametrize("weights", [b"", b"hello world"])
def test_weights_of_another_kind(tmp_path: Path, weights: bytes) -> None:
    assert "damaged or not a Stable-Baselines3 zip" in refusal(write(tmp_path, weights))


@pytest.mark.parametrize("data", [b"{", b"\xff\xfe", b"[" * 100_000])
def test_attributes_that_are_not_json(tmp_path: Path, data: bytes) -> None:
    path = write(tmp_path, saved(STATE), data)
    assert "damaged or not a Stable-Baselines3 zip" in refusal(path)
