import json
import pickle
import zipfile
from pathlib import Path
from typing import get_args

import pytest
import torch

from cluster.recipe.config import TeacherConfig
from common.errors import ConfigError, PolicyFileError
from common.networks import MLPSpec
from common.policies.policy import new_policy, save_policy
from common.policies.spec import ObservationSpec, PolicySpec
from common.teachers import TEACHER_FORMATS, load_teacher

FILE_FORMATS = [name for name in TEACHER_FORMATS if name != "factory"]
PNG = b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR" + bytes(64)


def refusal(path: Path, *, format: str = "auto") -> str:
    with pytest.raises(PolicyFileError) as caught:
        load_teacher(path, format=format)
    message = str(caught.value)
    assert "\n" not in message
    assert str(path.with_suffix("")) in message
    return message


def save_small_policy(path: Path) -> PolicySpec:
    spec = PolicySpec(
        name="small",
        network=MLPSpec(hidden=(4,)),
        observation=ObservationSpec(shape=(3,), dtype="float32"),
        num_actions=2,
    )
    save_policy(new_policy(spec, seed=0), path)
    return spec


def test_auto_finds_a_policy_by_content_whatever_the_files_suffix(tmp_path: Path) -> None:
    spec = save_small_policy(tmp_path / "p.safetensors")
    (tmp_path / "p.safetensors").rename(tmp_path / "p.weights")
    assert load_teacher(tmp_path / "p.weights").spec == spec


def test_an_unknown_format_lists_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="'tf': unknown format; allowed: auto, safetensors, sb3"):
        load_teacher(tmp_path / "x", format="tf")


def test_a_recipe_can_name_every_format() -> None:
    annotation = TeacherConfig.model_fields["format"].annotation
    assert set(get_args(annotation)) == {"auto", *TEACHER_FORMATS}


def test_a_missing_file(tmp_path: Path) -> None:
    assert "no such file" in refusal(tmp_path / "missing.zip")


def test_a_name_without_the_ending_that_stable_baselines3_adds(tmp_path: Path) -> None:
    meant = f"(did you mean {tmp_path / 'cartpole'}.zip?)"
    assert meant not in refusal(tmp_path / "cartpole")
    (tmp_path / "cartpole.zip").touch()
    assert meant in refusal(tmp_path / "cartpole")
    (tmp_path / "cartpole").mkdir()  # as the RL Zoo's beside its zips
    assert meant in refusal(tmp_path / "cartpole")


def test_a_directory(tmp_path: Path) -> None:
    assert "a directory" in refusal(tmp_path)


@pytest.mark.parametrize("format", ["auto", *FILE_FORMATS])
def test_an_empty_file(tmp_path: Path, format: str) -> None:
    path = tmp_path / "empty.safetensors"
    path.touch()
    assert "the file is empty" in refusal(path, format=format)


@pytest.mark.parametrize("suffix", [".safetensors", ".zip"])
@pytest.mark.parametrize(
    ("content", "guess"),
    [
        (PNG, "a file of another kind"),
        (b"just some text, longer than a header\n" * 10, "a file of another kind"),
        (b"{", "a file of another kind"),
        (b"body100 { margin: 0 }\n", "a file of another kind"),
        (pickle.dumps({"policy": [1, 2, 3]}), "a pickle"),
        (b"PK\x03\x04" + bytes(60), "a truncated zip"),
    ],
    ids=["png", "text", "brace", "style-sheet", "pickle", "zip-head"],
)
def test_a_foreign_file_is_refused_whatever_its_name(
    tmp_path: Path, suffix: str, content: bytes, guess: str
) -> None:
    path = tmp_path / f"teacher{suffix}"
    path.write_bytes(content)
    message = refusal(path)
    assert guess in message
    assert "give one of: a .safetensors file" in message


@pytest.mark.parametrize("format", FILE_FORMATS)
def test_every_format_refuses_a_foreign_file_when_it_is_forced(tmp_path: Path, format: str) -> None:
    path = tmp_path / "teacher.bin"
    path.write_bytes(PNG)
    assert "damaged or not a" in refusal(path, format=format)


def test_a_zip_of_something_else(tmp_path: Path) -> None:
    path = tmp_path / "photos.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("photo.txt", "cheese")
    assert "a zip of something else" in refusal(path)


def test_a_spec_that_its_network_cannot_have_is_one_line(tmp_path: Path) -> None:
    path = tmp_path / "p.safetensors"
    save_small_policy(path)
    tree = json.loads(path.with_suffix(".json").read_text())
    tree["observation"]["shape"] = [3, 3]
    path.with_suffix(".json").write_text(json.dumps(tree))
    assert "its parts do not fit together (mlp takes vectors" in refusal(path)


def test_the_teacher_is_in_float32(tmp_path: Path) -> None:
    path = tmp_path / "p.safetensors"
    spec = PolicySpec(
        name="half",
        network=MLPSpec(hidden=(4,)),
        observation=ObservationSpec(shape=(3,), dtype="float32"),
        num_actions=2,
    )
    save_policy(new_policy(spec, seed=0), path, dtype=torch.float16)
    assert {p.dtype for p in load_teacher(path).network.parameters()} == {torch.float32}
