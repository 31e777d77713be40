import json
from pathlib import Path

import pytest

from cluster.report.comparison import OF_LATENCIES
from tests.cluster.report.made_runs import RECIPE, evaluation, log_line, task_scores, write_made_run
from tests.commands import Stillhouse, assert_refused


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """Return a folder with a good run, a stopped one of the same name, and one of two tasks."""
    write_made_run(tmp_path / "good", scores=evaluation())
    write_made_run(tmp_path / "stopped", log=log_line("the run ends"))
    two = evaluation(light=task_scores(1.0), heavy=task_scores(0.5))
    write_made_run(tmp_path / "two", recipe=RECIPE.replace("made", "both"), scores=two)
    return tmp_path


def test_runs_side_by_side_as_json(runs: Path, stillhouse: Stillhouse) -> None:
    answer = stillhouse("compare", "good", "stopped", "two", "--json")
    assert answer.returncode == 0, answer.stderr
    rows = json.loads(answer.stdout)
    assert [row["name"] for row in rows] == ["good", "stopped", "both, light", "both, heavy"]
    assert [row["state"] for row in rows] == ["evaluated", "stopped", "evaluated", "evaluated"]
    assert rows[0]["scores"]["share_of_teacher"] == 0.98
    assert rows[0]["student"]["bytes"] == 1_000
    assert rows[1]["scores"] is None
    assert rows[0]["env_steps"] == 9_800


def test_the_page_has_table_and_plot(
    runs: Path, stillhouse: Stillhouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "120")
    answer = stillhouse("compare", "good", "stopped", "--out", "compare.html")
    assert answer.returncode == 0, answer.stderr
    size = (runs / "compare.html").stat().st_size
    assert answer.stdout.startswith(f"compare.html: {size:,} bytes\n")
    assert "98.0 % (96.0 to 100.0) │    30 │ 490.40" in answer.stdout
    assert "stopped" in answer.stdout
    assert OF_LATENCIES in answer.stdout
    assert "recipes differ" not in answer.stdout
    page = (runs / "compare.html").read_text()
    assert "2 students compared" in page
    assert 'data-chart="cost-bytes"' in page
    assert OF_LATENCIES in page
    assert "recipes differ" not in page


def test_what_differs_between_the_recipes_is_shown(
    runs: Path, stillhouse: Stillhouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only that; a run whose recipe cannot be read has nothing to compare."""
    monkeypatch.setenv("COLUMNS", "120")
    other = RECIPE.replace("objective.kl", "objective.jsd").replace("10_000", "20_000")
    network = '[student.network]\nname = "mlp"\nhidden = '
    write_made_run(runs / "small", recipe=f"{RECIPE}{network}[16]\n")
    write_made_run(runs / "large", recipe=f"{other}{network}[64, 64]\n")
    write_made_run(runs / "broken", recipe="[")
    ask = ("compare", "small", "large", "broken")
    small, large, broken = (
        row["settings"] for row in json.loads(stillhouse(*ask, "--json").stdout)
    )
    kl = {"temperature": "auto"}
    assert small == {
        "total_env_steps": 10_000,
        "objective.kl": kl,
        "objective.jsd": None,
        "student.network.hidden": [16],
    }
    assert (large["objective.kl"], large["objective.jsd"]) == (None, kl)
    assert broken == {}
    answer = stillhouse(*ask, "--out", "compare.html")
    for words in ("student.network.hidden = [64, 64]", "objective.kl = {temperature = auto}"):
        assert words in answer.stdout
    assert "mlp" not in answer.stdout
    page = (runs / "compare.html").read_text()
    assert '<th scope="row">student.network.hidden</th><td>[16]</td><td>[64, 64]</td>' in page


def test_runs_of_one_name_are_told_apart(runs: Path, stillhouse: Stillhouse) -> None:
    """By their folders, and by their paths where these are called alike, too."""
    for place in ("here/run", "there/run"):
        write_made_run(runs / place)
    ask = ("compare", "good", "here/run", "there/run", "--json")
    names = [row["name"] for row in json.loads(stillhouse(*ask).stdout)]
    assert names == ["good", str(runs / "here/run"), str(runs / "there/run")]


def test_a_sweep_stands_for_its_runs(runs: Path, stillhouse: Stillhouse) -> None:
    candidates = [{"name": "hidden = [16]", "run_dir": str(runs / "good")}]
    (runs / "sweep.json").write_text(json.dumps({"candidates": candidates}))
    (row,) = json.loads(stillhouse("compare", ".", "--json").stdout)
    assert (row["name"], row["run_dir"]) == ("hidden = [16]", str(runs / "good"))
    (runs / "sweep.json").write_text("{}")
    assert_refused(stillhouse("compare", "."), "sweep.json", "damaged")


def test_no_run_is_a_mistake(runs: Path, stillhouse: Stillhouse) -> None:
    assert_refused(stillhouse("compare", "good", "nothing"), "nothing: no run directory")
    assert_refused(stillhouse("compare", "good", "--out", "no/where.html"), "no/where.html")
    assert_refused(stillhouse("report", "nothing"), "nothing: no run directory")


def test_a_report_is_written_into_its_run_or_elsewhere(runs: Path, stillhouse: Stillhouse) -> None:
    answer = stillhouse("report", "good")
    assert answer.returncode == 0, answer.stderr
    assert "good/report.html" in answer.stdout
    page = (runs / "good" / "report.html").read_text()
    assert "Good enough" in page
    assert stillhouse("report", "stopped", "--out", "other.html").returncode == 0
    assert "No verdict" in (runs / "other.html").read_text()
    assert not (runs / "stopped" / "report.html").exists()
