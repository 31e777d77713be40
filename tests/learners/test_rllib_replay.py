"""RLlib takes seconds to import, which tests that are deselected should not cost."""

import io
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pytest

Kind = Literal["vectors", "frames"]
LENGTH, STACK = 6, 4


def observations(kind: Kind, length: int) -> list[npt.NDArray[Any]]:
    """Return vectors that tell their step, or stacks of frames that tell theirs."""
    if kind == "vectors":
        return [np.float32([t]) for t in range(length + 1)]
    planes = np.zeros((length + STACK, 2, 2), np.uint8)
    planes[STACK - 1 :] += np.arange(length + 1, dtype=np.uint8)[:, None, None]
    return [planes[t : t + STACK] for t in range(length + 1)]


def step_of(observation: npt.NDArray[Any]) -> int:
    """Return which step an observation tells, and hold a stack against what it should be."""
    if observation.ndim == 1:
        return int(observation[0])
    newest = int(observation[-1, 0, 0])
    shown = [max(0, newest - age) for age in reversed(range(STACK))]
    assert observation[:, 0, 0].tolist() == shown
    return newest


def episode(kind: Kind, end: str = "running", *, length: int = LENGTH) -> Any:
    from ray.rllib.env.single_agent_episode import SingleAgentEpisode

    return SingleAgentEpisode(
        observations=observations(kind, length),
        actions=[t % 2 for t in range(length)],
        rewards=[10.0**t for t in range(length)],
        terminated=end == "terminated",
        truncated=end == "truncated",
        len_lookback_buffer=0,
    )


def replay(capacity: int = 100) -> Any:
    from learners.rllib_replay import NStepEpisodeReplayBuffer

    return NStepEpisodeReplayBuffer(capacity, seed=0)


def steps_in(buffer: Any) -> set[int]:
    drawn = buffer.sample(300, n_step=1, gamma=1.0)
    return {step_of(transition.get_observations(0)) for transition in drawn}


@pytest.mark.parametrize("kind", ["vectors", "frames"])
@pytest.mark.parametrize("end", ["terminated", "truncated", "running"])
def test_n_step_transitions_end_where_their_episode_ends(end: str, kind: Kind) -> None:
    n_step, gamma = 3, 0.9
    buffer = replay()
    buffer.add([episode(kind, end).to_numpy()])
    seen = set()
    for transition in buffer.sample(200, n_step=n_step, gamma=gamma, beta=None):
        t = step_of(transition.get_observations(0))
        stop = min(t + n_step, LENGTH)
        seen.add(t)
        assert len(transition) == 1
        assert step_of(transition.get_observations(-1)) == stop
        assert transition.get_actions(0) == t % 2
        expected = sum(gamma ** (k - t) * 10.0**k for k in range(t, stop))
        assert transition.get_rewards(0) == pytest.approx(expected)
        assert transition.get_extra_model_outputs("n_step", 0) == stop - t
        assert transition.is_terminated == (end == "terminated" and stop == LENGTH)
        assert transition.is_truncated == (end == "truncated" and stop == LENGTH)
    assert seen == set(range(LENGTH))


@pytest.mark.parametrize("kind", ["vectors", "frames"])
def test_pieces_of_an_episode_become_one(kind: Kind) -> None:
    whole, buffer = episode(kind, "terminated"), replay()
    for start, stop in ((0, 2), (2, 3), (3, LENGTH)):
        piece = whole[start:stop]
        piece.is_terminated = stop == LENGTH
        buffer.add([piece.to_numpy()])
    assert len(buffer) == LENGTH
    for transition in buffer.sample(100, n_step=LENGTH, gamma=1.0):
        t = step_of(transition.get_observations(0))
        assert step_of(transition.get_observations(-1)) == LENGTH
        assert transition.get_rewards(0) == sum(10.0**k for k in range(t, LENGTH))
        assert transition.is_terminated


@pytest.mark.parametrize("kind", ["vectors", "frames"])
def test_a_replay_that_is_full_forgets_its_oldest_steps(kind: Kind) -> None:
    buffer = replay(capacity=8)
    buffer.add([episode(kind, "terminated", length=5), episode(kind, "terminated", length=6)])
    assert len(buffer) == 8
    drawn = buffer.sample(300, n_step=9, gamma=1.0)
    left = {(step_of(one.get_observations(0)), step_of(one.get_observations(-1))) for one in drawn}
    assert left == {(3, 5), (4, 5), *((t, 6) for t in range(6))}


@pytest.mark.parametrize("kind", ["vectors", "frames"])
@pytest.mark.parametrize("capacity", [8, 100])
def test_a_replay_is_read_back_as_it_was_written(kind: Kind, capacity: int) -> None:
    buffer, again, file = replay(capacity), replay(capacity), io.BytesIO()
    buffer.add([episode(kind, "terminated", length=5), episode(kind, length=6)])
    written = _Kept(file)
    buffer.write(written)
    again.read(pa.BufferReader(file.getvalue()))
    assert len(again) == len(buffer) == min(capacity, 11)
    settings = {"n_step": 2, "gamma": 0.5}
    for one, other in zip(
        buffer.sample(100, **settings), again.sample(100, **settings), strict=True
    ):
        for ask in ("get_observations", "get_actions", "get_rewards"):
            np.testing.assert_equal(getattr(one, ask)(), getattr(other, ask)())
        assert one.is_terminated == other.is_terminated
    # Both forget the same steps next.
    for full in (buffer, again):
        full.add([episode(kind, "terminated", length=min(capacity, 6))])
    assert steps_in(buffer) == steps_in(again)


def test_an_empty_replay_is_written_and_read() -> None:
    file, again = io.BytesIO(), replay()
    replay().write(_Kept(file))
    again.read(pa.BufferReader(file.getvalue()))
    assert len(again) == 0


class _Kept(io.RawIOBase):
    """Passes on what is written, and leaves the file open."""

    def __init__(self, file: io.BytesIO) -> None:
        self._file = file

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        return self._file.write(data)
