import json
from pathlib import Path

import pytest

from cluster.on_ray.detached import take_teacher_along
from cluster.run_directory import (
    RunDirectory,
    check_new_directory,
    create_run_directory,
    kept_teacher,
    open_run_directory,
    read_evaluation,
    save_recipe,
    write_json,
)
from common.errors import ConfigError, RunDirectoryError, StorageError
from common.storage import locate
from tests.cartpole import cartpole_teacher, load_config


def test_everything_lies_in_the_directory_under_the_documented_name(tmp_path: Path) -> None:
    directory = RunDirectory(tmp_path)
    names = {
        "recipe": "recipe.toml",
        "metrics": "metrics.jsonl",
        "log": "log.jsonl",
        "tensorboard": "tensorboard",
        "checkpoints": "checkpoints",
        "teacher": "teacher.safetensors",
        "student": "student.safetensors",
        "onnx": "student.onnx",
        "evaluation": "evaluation.json",
        "disagreements": "disagreements.json",
        "versions": "versions.json",
        "games": "games",
        "report": "report.html",
    }
    for attribute, name in names.items():
        assert getattr(directory, attribute) == locate(tmp_path / name)
    assert RunDirectory("s3://bucket/run").onnx == locate("s3://bucket/run/student.onnx")


def test_a_new_run_directory_holds_its_recipe_and_opens_again(tmp_path: Path) -> None:
    config = load_config(tmp_path)
    path = tmp_path / "deep" / "run"
    directory = create_run_directory(path, config)
    assert [entry.name for entry in path.iterdir()] == ["recipe.toml"]
    assert open_run_directory(path, []) == (directory, config)


def test_an_empty_folder_will_do(tmp_path: Path) -> None:
    config = load_config(tmp_path)
    (tmp_path / "run").mkdir()
    assert create_run_directory(tmp_path / "run", config).recipe.is_file()


@pytest.mark.parametrize("content", ["recipe.toml", ".hidden"])
def test_a_folder_that_holds_something_is_refused_and_left_alone(
    content: str, tmp_path: Path
) -> None:
    config = load_config(tmp_path)
    taken = tmp_path / "taken"
    taken.mkdir()
    (taken / content).write_text("precious")
    with pytest.raises(RunDirectoryError, match=r"taken: not an empty folder; .*--run-dir"):
        create_run_directory(taken, config)
    assert [(path.name, path.read_text()) for path in taken.iterdir()] == [(content, "precious")]


def test_a_file_in_the_place_of_the_folder_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    with pytest.raises(RunDirectoryError, match="not an empty folder"):
        check_new_directory(file)


def test_a_place_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    config = load_config(tmp_path)
    (tmp_path / "file").touch()
    with pytest.raises(
        StorageError, match=r"run/recipe\.toml: cannot be written \(Not a directory"
    ):
        create_run_directory(tmp_path / "file" / "run", config)


def test_a_folder_without_a_run_is_not_opened(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(RunDirectoryError, match=r"no run directory .*recipe.toml"):
            open_run_directory(path, [])


def test_overrides_change_a_run_that_is_opened_but_not_its_recipe(tmp_path: Path) -> None:
    config = load_config(tmp_path)
    directory = create_run_directory(tmp_path / "run", config)
    before = directory.recipe.read_bytes()
    _, changed = open_run_directory(directory.path, ["total_env_steps=77"])
    assert changed == config.model_copy(update={"total_env_steps": 77})
    assert directory.recipe.read_bytes() == before
    with pytest.raises(ConfigError, match="total_env_steps = 0"):
        open_run_directory(directory.path, ["total_env_steps=0"])


def test_json_is_written_and_replaced(tmp_path: Path) -> None:
    path = tmp_path / "evaluation.json"
    write_json(path, {"a": 1})
    write_json(path, {"share": None, "name": "ε"})
    assert json.loads(path.read_text(encoding="utf-8")) == {"share": None, "name": "ε"}
    assert list(tmp_path.iterdir()) == [path]


def test_what_is_no_json_leaves_the_former_file(tmp_path: Path) -> None:
    path = tmp_path / "evaluation.json"
    write_json(path, {"a": 1})
    with pytest.raises(ValueError, match="nan"):
        write_json(path, {"a": float("nan")})
    assert json.loads(path.read_text()) == {"a": 1}
    assert list(tmp_path.iterdir()) == [path]


def test_a_kill_while_json_is_written_leaves_the_former_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "evaluation.json"
    write_json(path, {"a": 1})

    def killed(source: object, target: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("common.storage.os.replace", killed)
    with pytest.raises(KeyboardInterrupt):
        write_json(path, {"a": 2})
    assert json.loads(path.read_text()) == {"a": 1}


def test_scores_that_are_not_there_are_none_and_damaged_ones_get_one_line(tmp_path: Path) -> None:
    directory = RunDirectory(tmp_path)
    assert read_evaluation(directory) == {}
    write_json(directory.evaluation, {"a": 1})
    assert read_evaluation(directory) == {"a": 1}
    for content in (b"", b"{half of", b"[1]", b"\xff"):
        directory.evaluation.write_bytes(content)
        with pytest.raises(RunDirectoryError, match=r"evaluation\.json: damaged .*remove it"):
            read_evaluation(directory)


def test_a_run_directory_on_an_object_store(bucket: str, tmp_path: Path) -> None:
    config = load_config(tmp_path)
    directory = create_run_directory(f"{bucket}/runs/a", config)
    assert open_run_directory(f"{bucket}/runs/a", []) == (directory, config)
    with pytest.raises(RunDirectoryError, match=rf"{bucket}/runs/a: not an empty folder; .*--run"):
        check_new_directory(f"{bucket}/runs/a")
    with pytest.raises(RunDirectoryError, match="not an empty folder"):
        check_new_directory(f"{bucket}/runs/a/recipe.toml")
    check_new_directory(f"{bucket}/runs/b")
    with pytest.raises(RunDirectoryError, match=rf"{bucket}/runs/b: no run directory"):
        open_run_directory(f"{bucket}/runs/b", [])
    with pytest.raises(StorageError, match="there is no bucket 'no-such-bucket'; create it"):
        create_run_directory("s3://no-such-bucket/runs/a", config)


@pytest.mark.parametrize("where", ["disk", "s3"])
def test_a_teacher_taken_along_is_the_runs_own(
    where: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """A detached run finds it wherever it starts again, and the recipe's own file may be gone."""
    place = tmp_path / "run" if where == "disk" else f"{request.getfixturevalue('bucket')}/run"
    config = load_config(tmp_path, "teacher.normalizer=stats.pkl")
    directory = create_run_directory(place, config)
    assert kept_teacher(directory, config) is None
    teacher = cartpole_teacher()
    save_recipe(directory, take_teacher_along(directory, config, teacher))
    directory, config = open_run_directory(directory.path.absolute, [])
    assert config.teacher is not None
    assert config.teacher.path == directory.teacher.absolute
    assert config.teacher.normalizer is None  # it lies in the copy
    kept = kept_teacher(directory, config)
    assert kept is not None
    assert kept.spec == teacher.spec
    assert take_teacher_along(directory, config, kept) is config
