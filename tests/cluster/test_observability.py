"""What a run on Ray shows to those who watch it, and the dashboard that is drawn from it."""

import copy
import json
import re
import time
import urllib.request
from pathlib import Path
from typing import Any

import pytest
import ray
import yaml
from prometheus_client.parser import text_string_to_metric_families

from cluster.monitor import Monitor
from cluster.on_ray.backend import RayBackend
from cluster.prepare import prepare
from cluster.run_directory import create_run_directory
from cluster.run_log import RunLog
from cluster.spool import Spool
from tests.cartpole import cartpole_teacher, load_config
from tests.cluster.test_run_log import Screen

DASHBOARDS = Path(__file__).resolve().parents[2] / "deploy" / "dashboards"
DASHBOARD: dict[str, Any] = json.loads((DASHBOARDS / "stillhouse.json").read_text())
WAIT_S = 120.0

Series = dict[str, set[str]]
"""Names that Prometheus would know, each with the labels of its series."""


def expressions(dashboard: dict[str, Any]) -> list[tuple[str, str]]:
    """Return (where, PromQL) of all panels and variables."""
    found = [
        (f"panel {panel['title']}", target["expr"])
        for panel in dashboard["panels"]
        for target in panel["targets"]
    ]
    for variable in dashboard["templating"]["list"]:
        if variable["type"] == "query":
            found.append((f"variable {variable['name']}", variable["query"]["query"]))
    return found


def grouped_by(expression: str) -> set[str]:
    """Return the labels that a PromQL expression keeps."""
    kept = re.findall(r"by \(([^)]*)\)", expression)
    return {label.strip() for labels in kept for label in labels.split(",")}


def faults(dashboard: dict[str, Any], exported: Series) -> list[str]:
    """Return what a dashboard asks for and a run does not export."""
    found = []
    for where, expression in expressions(dashboard):
        selected = re.findall(r"([A-Za-z_:][\w:]*)\s*\{", expression)
        selected += re.findall(r"label_values\(\s*([\w:]+)", expression)
        if not selected:
            found.append(f"{where}: {expression!r} selects no metric")
        labels = grouped_by(expression)
        labels |= set(re.findall(r"([A-Za-z_]\w*)\s*=~", expression))
        for name in selected:
            if name not in exported:
                found.append(f"{where}: {name} is not exported")
            else:
                found += [
                    f"{where}: {name} has no label {label}"
                    for label in sorted(labels - exported[name])
                ]
    for panel in dashboard["panels"]:
        for target in panel["targets"]:
            shown = set(re.findall(r"\{\{(\w+)\}\}", target["legendFormat"]))
            if not shown <= (by := grouped_by(target["expr"])):
                found.append(f"panel {panel['title']}: legend shows {sorted(shown - by)}")
    return found


def scrape(port: int) -> Series:
    """Return what a node's agent exports now."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
        text = answer.read().decode()
    exported: Series = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            exported.setdefault(sample.name, set()).update(sample.labels)
    return exported


@pytest.mark.ray
@pytest.mark.slow
def test_a_run_on_ray_exports_what_the_dashboard_shows_and_its_actors_are_heard(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_metrics_report_interval_ms", "1000")
    config = load_config(
        tmp_path, "total_env_steps=10_000_000", "behavior.name=student", "watchdog.after_s=600"
    )
    preparation = prepare(config, num_cpus=2, num_gpus=0)
    directory = create_run_directory(tmp_path / "run", config)
    damaged = directory.checkpoints / "step-000000007"
    (damaged / "manifest.json").write_bytes(b"{}")
    (damaged / "learner.pt").write_bytes(b"not a checkpoint")
    spool, screen = Spool(directory), Screen()
    backend = RayBackend(address=None, num_cpus=2)
    try:
        with RunLog(spool.log, config, screen) as log:
            monitor = Monitor(
                preparation,
                spool,
                log,
                backend.exporter(config),
                teacher_return=500.0,
                random_return=20.0,
            )
            session = backend.distil(preparation, cartpole_teacher(), directory.checkpoints)
            try:
                (node,) = ray.nodes()
                deadline = time.monotonic() + WAIT_S
                while True:
                    monitor.take(session.poll())
                    exported = scrape(node["MetricsExportPort"])
                    if not (lacking := faults(DASHBOARD, exported)) and screen.said:
                        break
                    assert time.monotonic() < deadline, (lacking, screen.said)
            finally:
                session.abort()
    finally:
        backend.close()

    planted = copy.deepcopy(DASHBOARD)
    target = planted["panels"][0]["targets"][0]
    target["expr"] = target["expr"].replace("learner_env_steps", "learner_env_step", 1)
    assert faults(planted, exported) == [
        "panel Progress: ray_stillhouse_learner_env_step is not exported"
    ]
    planted = copy.deepcopy(DASHBOARD)
    target = planted["panels"][0]["targets"][0]
    target["expr"] = target["expr"].replace("by (run)", "by (runner)", 1)
    assert "panel Progress: ray_stillhouse_learner_env_steps has no label runner" in faults(
        planted, exported
    )

    assert re.fullmatch(
        r"warning: checkpoint .*step-000000007 is damaged .*; trying the one before \(learner 0\)",
        screen.said[0],
    )
    lines = [json.loads(line) for line in directory.log.read_text().splitlines()]
    (warning,) = [line for line in lines if line["level"] == "warning"]
    assert (warning["actor"], warning["logger"]) == ("learner 0", "learners.checkpoint")
    assert (warning["run"], warning["task"]) == ("balance", "CartPole-v1")


def test_the_dashboard_is_one_that_grafana_reads() -> None:
    assert DASHBOARD["schemaVersion"] == 42
    assert DASHBOARD["uid"]
    variables = {variable["name"]: variable for variable in DASHBOARD["templating"]["list"]}
    assert (variables["datasource"]["type"], variables["datasource"]["query"]) == (
        "datasource",
        "prometheus",
    )
    assert variables["run"]["multi"]
    panels = DASHBOARD["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    source = {"type": "prometheus", "uid": "${datasource}"}
    places = set()
    for panel in panels:
        assert panel["datasource"] == source
        assert all(target["datasource"] == source for target in panel["targets"])
        assert len({target["refId"] for target in panel["targets"]}) == len(panel["targets"])
        place = panel["gridPos"]
        assert 0 <= place["x"] <= 24 - place["w"]
        covered = {
            (place["x"] + x, place["y"] + y) for x in range(place["w"]) for y in range(place["h"])
        }
        assert not covered & places, f"{panel['title']} lies on another panel"
        places |= covered
    for where, expression in expressions(DASHBOARD):
        assert expression.count("(") == expression.count(")"), where
        assert where.startswith("variable") or '{run=~"$run"}' in expression, where


def test_prometheus_reads_the_file_that_rays_head_writes() -> None:
    from ray._private.ray_constants import PROMETHEUS_SERVICE_DISCOVERY_FILE

    (job,) = yaml.safe_load((DASHBOARDS / "prometheus.yml").read_text())["scrape_configs"]
    (discovery,) = job["file_sd_configs"]
    (path,) = discovery["files"]
    assert path == f"/tmp/ray/{PROMETHEUS_SERVICE_DISCOVERY_FILE}"
