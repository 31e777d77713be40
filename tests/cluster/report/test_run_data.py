import json
from pathlib import Path

import pytest

from cluster.report.games import MOST_BYTES
from cluster.report.run_data import read_run
from common.errors import RunDirectoryError
from common.storage import locate
from tests.cluster.report.made_runs import (
    RECIPE,
    disagreements,
    evaluation,
    log_line,
    write_made_run,
)


def test_everything_is_read(tmp_path: Path) -> None:
    write_made_run(tmp_path, scores=evaluation(), found=disagreements())
    resolved = {"objective": {"kl": {"temperature": 0.45}}, "actors": {"num_env_runners": 2}}
    (tmp_path / "groundwork.json").write_text(json.dumps({"resolved": resolved}))
    run = read_run(tmp_path)
    assert (run.name, run.tasks, run.terms) == ("made", ("CartPole-v1",), ("kl",))
    assert (run.total_env_steps, run.required_share, run.seconds) == (10_000, 0.9, 49.0)
    assert run.resolved == {"objective.kl.temperature": "0.45"}
    assert run.results is not None
    assert run.results.student.bytes == 1_000
    assert list(run.disagreements) == ["CartPole-v1"]
    assert run.state.state == "evaluated"
    assert run.notes == ()


def test_a_run_of_which_only_the_recipe_is_there(tmp_path: Path) -> None:
    (tmp_path / "recipe.toml").write_text(RECIPE)
    run = read_run(tmp_path)
    assert (run.results, run.metrics.num_rows, run.seconds) == (None, 0, 0.0)
    assert (run.state.state, run.games, run.starts, run.notes) == ("open", (), (), ())


def test_a_folder_without_a_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RunDirectoryError, match="no run directory"):
        read_run(tmp_path)


def test_what_is_damaged_is_noted_and_left_out(tmp_path: Path) -> None:
    write_made_run(tmp_path, recipe="name = ")
    (tmp_path / "evaluation.json").write_text('{"tasks": 3}')
    (tmp_path / "disagreements.json").write_text("{")
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"learner/env')
    run = read_run(tmp_path)
    assert run.results is None
    assert run.metrics.num_rows == 50
    notes = " ".join(run.notes)
    for name in ("recipe.toml", "evaluation.json", "disagreements.json", "1 damaged lines"):
        assert name in notes


def test_several_tasks_are_known_before_any_was_scored(tmp_path: Path) -> None:
    recipe = 'name = "two"\n[[tasks]]\nname = "light"\n[[tasks]]\nname = "heavy"\n'
    write_made_run(tmp_path, recipe=recipe)
    (tmp_path / "tasks" / "heavy").mkdir(parents=True)
    assert read_run(tmp_path).tasks == ("light", "heavy")


def test_games_are_part_of_it_where_they_fit(tmp_path: Path) -> None:
    write_made_run(tmp_path, log=log_line("the run starts"))
    games = tmp_path / "games"
    games.mkdir()
    (games / "a.mp4").write_bytes(b"video")
    (games / "a.json").write_text('{"seed": 3, "return_teacher": 21.0, "steps": "many"}')
    (games / "b.mp4").write_bytes(bytes(MOST_BYTES))
    (games / "notes.txt").write_text("not a game")
    first, second = read_run(tmp_path).games
    assert first.source == "data:video/mp4;base64,dmlkZW8="
    assert first.facts == {"seed": 3, "return_teacher": 21.0}
    assert (second.name, second.source, second.num_bytes, second.facts) == (
        "b",
        None,
        MOST_BYTES,
        {},
    )


def test_a_run_on_an_object_store_is_read_alike(bucket: str, tmp_path: Path) -> None:
    write_made_run(tmp_path, scores=evaluation(), found=disagreements())
    for file in tmp_path.iterdir():
        (locate(bucket) / "run" / file.name).write_bytes(file.read_bytes())
    run = read_run(f"{bucket}/run")
    assert run.path == f"{bucket}/run"
    assert run.results == read_run(tmp_path).results
    assert run.metrics.num_rows == 50
