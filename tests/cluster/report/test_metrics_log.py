import json
from typing import Any

import numpy as np
import pytest

from cluster.report.metrics_log import Curve, read_metrics, thinned


def content(*lines: Any) -> bytes:
    return b"".join(json.dumps(line).encode() + b"\n" for line in lines)


def test_figures_come_back_as_curves_with_what_is_missing_left_out() -> None:
    log = read_metrics(
        content(
            {"learner/env_steps": 0, "time/elapsed_s": 1.0},
            {"learner/env_steps": 10, "time/elapsed_s": 2.0, "learner/loss": 0.5},
            {"learner/env_steps": 20, "time/elapsed_s": 3.0, "learner/loss": 0.25},
        )
    )
    loss = log.over_steps("learner/loss")
    assert (loss.x.tolist(), loss.y.tolist()) == ([10, 20], [0.5, 0.25])
    assert log.over_time("learner/loss").x.tolist() == [2.0, 3.0]
    assert (log.last("learner/loss"), log.mean("learner/loss")) == (0.25, 0.375)
    assert (log.last("other"), log.mean("other"), len(log.over_steps("other"))) == (None, None, 0)


@pytest.mark.parametrize("damage", [b'{"learner/env_st', b"[1, 2]\n", b"\xff\xfe\n", b"7\n"])
def test_damaged_lines_are_counted_and_left_out(damage: bytes) -> None:
    log = read_metrics(content({"learner/env_steps": 1}) + damage)
    assert (log.num_rows, log.num_damaged) == (1, 1)
    assert log.last("learner/env_steps") == 1


def test_nothing_is_no_curve() -> None:
    log = read_metrics(b"")
    assert len(log.over_steps("learner/loss")) == len(log.over_time("learner/loss")) == 0
    assert log.seconds().size == 0


def test_a_resumed_run_takes_steps_twice_and_the_second_time_counts() -> None:
    steps, seconds = [0, 10, 20, 30, 15, 25, 35], [1, 2, 3, 4, 1, 2, 3]
    log = read_metrics(
        content(
            *(
                {"learner/env_steps": step, "time/elapsed_s": second, "learner/loss": index}
                for index, (step, second) in enumerate(zip(steps, seconds, strict=True))
            )
        )
    )
    loss = log.over_steps("learner/loss")
    assert loss.x.tolist() == [0, 10, 15, 25, 35]
    assert loss.y.tolist() == [0, 1, 4, 5, 6]
    assert log.seconds().tolist() == [1, 2, 3, 4, 5, 6, 7]
    assert log.over_time("learner/loss").y.tolist() == list(range(7))


def test_a_long_curve_is_thinned_to_its_extremes() -> None:
    y = np.sin(np.arange(50_000) / 900)
    y[31_234], y[777] = 5.0, -5.0
    curve = thinned(Curve(np.arange(50_000.0), y), 400)
    assert len(curve) <= 402
    assert np.diff(curve.x).min() > 0
    assert (curve.x[0], curve.x[-1]) == (0, 49_999)
    assert {5.0, -5.0} <= set(curve.y.tolist())
    assert curve.y.tolist() == y[curve.x.astype(int)].tolist()


def test_a_short_curve_stays_as_it_is() -> None:
    curve = Curve(np.arange(400.0), np.arange(400.0))
    assert thinned(curve, 400) is curve
