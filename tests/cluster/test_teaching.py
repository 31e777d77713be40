from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from cluster.progress import PlainReporter
from cluster.teaching import train_teacher_for
from tests.cartpole import load_config


@pytest.mark.ray
@pytest.mark.parametrize("started", [False, True])
def test_rllib_has_a_ray_of_this_process_whoever_starts_it(
    started: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import ray

    from cluster.ray_connection import start_here
    from learners import rllib_teacher
    from learners.teach_config import TeachConfig

    def train(*args: Any, **kwargs: Any) -> Any:
        seen.append((ray.is_initialized(), ray.cluster_resources()["CPU"]))
        return "teacher"

    seen: list[tuple[bool, float]] = []
    monkeypatch.setattr(rllib_teacher, "train_teacher", train)
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")  # a cluster that nobody asked for
    config = load_config(tmp_path).model_copy(update={"teach": TeachConfig()})
    if started:
        start_here(num_cpus=2)
    try:
        assert train_teacher_for(config, PlainReporter(Console(quiet=True))) == ("teacher", False)
        assert ray.is_initialized() == started
    finally:
        ray.shutdown()
    assert seen == [(True, 2.0 if started else 1.0)]
