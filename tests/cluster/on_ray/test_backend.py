"""The backend on a fake Ray: which clusters it takes, and how it shares out episodes."""

import socket
from typing import Any

import numpy as np
import pytest

from actors.evaluator import EvaluationResult
from cluster.on_ray import backend as ray_backend
from cluster.on_ray.backend import RayBackend, _together
from cluster.session import EvaluationJob
from common.errors import ConfigError, ResourceError, RunFailedError
from tests.cluster.fake_ray import Call, FakeCluster, Ray, assert_one_line, task_error


def test_a_cluster_that_is_too_small_is_refused_before_anything_starts(
    cluster: FakeCluster, fake_ray: Ray
) -> None:
    fake_ray.resources = {"CPU": 1.0}
    with pytest.raises(ResourceError, match=r"asks for 1.9 CPUs .* there are 1;"):
        cluster.start()
    assert cluster.all == []


@pytest.mark.parametrize(
    "error", [ConnectionError("nobody\nthere"), RuntimeError("other version"), ValueError("what?")]
)
def test_a_cluster_that_cannot_be_used_is_a_mistake(error: Exception, fake_ray: Ray) -> None:
    def init(**options: Any) -> None:
        assert options["address"] == "auto"
        raise error

    fake_ray.initialized = False
    fake_ray.init = init
    with pytest.raises(ResourceError, match="--address auto: cannot use a Ray cluster") as caught:
        RayBackend(address="auto", num_cpus=2)
    assert_one_line(caught.value)


def test_an_address_where_nobody_listens_is_found_before_ray_looks_for_minutes(
    fake_ray: Ray,
) -> None:
    def init(**options: Any) -> None:
        raise AssertionError("Ray was asked")

    fake_ray.initialized = False
    fake_ray.init = init
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # and does not listen
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(ResourceError, match=f"--address {address}: .*ConnectionRefused"):
            RayBackend(address=address, num_cpus=2)


def test_an_address_where_somebody_listens_is_left_to_ray(fake_ray: Ray) -> None:
    asked: list[str] = []
    fake_ray.initialized = False
    fake_ray.init = lambda **options: asked.append(options["address"])
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
        RayBackend(address=address, num_cpus=2)
    RayBackend(address="ray://127.0.0.1:1", num_cpus=2)
    assert asked == [address, "ray://127.0.0.1:1"]


def test_a_ray_that_does_not_start_here_is_no_mistake(fake_ray: Ray) -> None:
    def init(**options: Any) -> None:
        assert (options["address"], options["num_cpus"]) == ("local", 2)
        raise OSError("no space")

    fake_ray.initialized = False
    fake_ray.init = init
    with pytest.raises(RunFailedError, match=r"does not start .*\(OSError: no space\)"):
        RayBackend(address=None, num_cpus=2)


class Play:
    """Stands for the task that plays a share of the episodes."""

    def __init__(self, *answers: Any) -> None:
        self.answers = list(answers)
        self.asked: list[tuple[int, int, int]] = []

    def remote(self, recipe: str, policy: Any, reference: Any, *numbers: int) -> Call:
        self.asked.append(numbers)
        answer = self.answers.pop(0)
        return Call(lambda: answer)


def result(*returns: float, observations: int = 0, **changes: Any) -> EvaluationResult:
    fields: dict[str, Any] = {
        "returns": returns,
        "lengths": tuple(int(value) for value in returns),
        "num_compared": 0,
        "greedy_agreement": None,
        "value_error": None,
        "value_scale": None,
        "observations": np.full((observations, 4), sum(returns), np.float32),
    }
    return EvaluationResult(**(fields | changes))


def test_episodes_are_shared_out_and_none_is_played_twice(
    cluster: FakeCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = cluster.prepared("evaluation.num_workers=3").config
    play = Play(result(1.0), result(2.0), result(3.0))
    monkeypatch.setattr(ray_backend, "RAY_PLAY", play)
    job = EvaluationJob(policy=None, reference=None, num_episodes=8, seed=5, num_observations=10)
    merged = RayBackend(address=None, num_cpus=2).evaluate(config, job)
    assert merged.returns == (1.0, 2.0, 3.0)
    episodes, seeds, observations = zip(*play.asked, strict=True)
    assert episodes == (3, 3, 2)
    assert len(set(seeds)) == 3
    assert observations == (4, 4, 4)


def test_fewer_episodes_than_workers_leave_no_worker_without(
    cluster: FakeCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = cluster.prepared("evaluation.num_workers=3").config
    play = Play(result(1.0), result(2.0))
    monkeypatch.setattr(ray_backend, "RAY_PLAY", play)
    job = EvaluationJob(policy=None, reference=None, num_episodes=2, seed=0)
    RayBackend(address=None, num_cpus=2).evaluate(config, job)
    assert [episodes for episodes, _, _ in play.asked] == [1, 1]


@pytest.mark.parametrize(
    ("raised", "message"),
    [
        (task_error(ValueError("bad")), "an evaluation failed: ValueError: bad"),
        (task_error(ConfigError("no such ROM")), "no such ROM"),
    ],
)
def test_an_evaluation_that_fails_is_told_in_one_line(
    raised: Exception, message: str, cluster: FakeCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = cluster.prepared().config
    monkeypatch.setattr(ray_backend, "RAY_PLAY", Play(result(1.0), raised))
    job = EvaluationJob(policy=None, reference=None, num_episodes=2, seed=0)
    with pytest.raises((RunFailedError, ConfigError)) as caught:
        RayBackend(address=None, num_cpus=2).evaluate(config, job)
    assert str(caught.value) == message


def test_shares_are_put_together_in_order() -> None:
    merged = _together([result(1.0, 2.0, observations=2), result(3.0, observations=1)])
    assert merged.returns == (1.0, 2.0, 3.0)
    assert merged.lengths == (1, 2, 3)
    assert merged.observations.tolist() == [[3.0] * 4] * 3


def test_means_are_weighted_by_the_states_compared() -> None:
    merged = _together(
        [
            result(1.0, num_compared=300, greedy_agreement=1.0, value_error=0.0, value_scale=1.0),
            result(1.0, num_compared=100, greedy_agreement=0.6, value_error=2.0, value_scale=3.0),
        ]
    )
    assert merged.num_compared == 400
    assert merged.greedy_agreement == pytest.approx(0.9)
    assert merged.value_error == pytest.approx(0.5)
    assert merged.value_scale == pytest.approx(1.5)


def test_a_share_without_a_figure_has_no_weight_in_its_mean() -> None:
    merged = _together(
        [
            result(1.0, num_compared=100, greedy_agreement=0.5, value_error=None),
            result(1.0, num_compared=300, greedy_agreement=0.9, value_error=0.25),
            result(1.0, num_compared=0, greedy_agreement=None),
        ]
    )
    assert merged.num_compared == 400
    assert merged.greedy_agreement == pytest.approx(0.8)
    assert merged.value_error == 0.25


def test_without_a_comparison_there_are_no_means() -> None:
    merged = _together([result(1.0), result(2.0)])
    assert merged.num_compared == 0
    assert (merged.greedy_agreement, merged.value_error, merged.value_scale) == (None, None, None)
