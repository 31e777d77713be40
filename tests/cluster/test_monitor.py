"""What is said of snapshots; what is recorded of them is in `test_telemetry.py`."""

from dataclasses import replace
from pathlib import Path

from cluster.monitor import Monitor
from cluster.prepare import prepare
from cluster.run_directory import create_run_directory
from cluster.run_log import RunLog
from cluster.spool import Spool
from tests.cartpole import load_config
from tests.cluster.snapshots import COLLECTOR, SNAPSHOT
from tests.cluster.test_run_log import Screen


def test_a_full_object_store_is_said(tmp_path: Path) -> None:
    config = load_config(tmp_path)
    spool, screen = Spool(create_run_directory(tmp_path / "run", config)), Screen()
    with RunLog(spool.log, config, screen) as log:
        monitor = Monitor(
            prepare(config, num_cpus=2, num_gpus=0),
            spool,
            log,
            lambda figures, snapshot: None,
            teacher_return=500.0,
            random_return=20.0,
        )
        for waited_s in (0.0, 1.0, 2.0):
            collector = replace(COLLECTOR, store_wait_s=waited_s)
            monitor.take(replace(SNAPSHOT, collectors=(collector,)))
    spool.close()
    (line,) = screen.said
    assert "the object store of a node is full" in line
