"""A learner that goes on from a checkpoint with the replay, against one that never stopped.

Both are handed the same chunks at the same moments, so that their weights must be the same to the
bit. The recipe's student and chunks of real play make it a small distillation of CartPole.
"""

import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from common.codec import decode
from common.policies.inference import InferencePolicy
from common.replay.sampler_config import FreshFirst, Prioritized
from common.replay.shard import ReplayShard
from common.storage import Location, Written, locate
from learners import trainer as trainer_module
from learners.checkpoint import Part, save_checkpoint
from learners.feed import PrefetchFeed, ShardReader
from learners.labeller import Labeller
from learners.saved_replay import WINDOW, SavedReplay
from tests.builders import make_policy
from tests.learners.training_parts import BATCH, Parts, chunks


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"kind": "frames"},
        {"num_shards": 2},
        {"window": 100},
        {"window": 100, "capacity": 150, "kind": "frames"},
        {"window": 100, "sampler": FreshFirst()},
        {"window": 100, "sampler": Prioritized(), "num_shards": 2},
        {"capacity": 60, "window": 60},
    ],
    ids=str,
)
def test_a_run_that_was_stopped_learns_the_same_as_one_that_was_not(
    settings: dict, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    whole = chunks(16, settings.get("kind", "vectors"))
    straight = Parts(tmp_path / "straight", **settings)
    straight.run(whole)
    shards = settings.get("num_shards", 1)
    start = 0
    for stop in (*(stop - stop % shards for stop in (5, 11, 12)), len(whole)):
        parts = Parts(tmp_path / "stopped", **settings)
        parts.run(whole[start:stop])
        parts.trainer.close()
        assert parts.trainer.unsaved is None
        start = stop
    for name, array in straight.weights().items():
        np.testing.assert_array_equal(array, parts.weights()[name], err_msg=name)
    assert parts.counters() == straight.counters()
    assert straight.learner.learner_steps > 30
    assert caplog.messages == []


def test_without_the_replay_a_run_goes_on_with_another_order(tmp_path: Path) -> None:
    """So the test above shows something."""
    whole = chunks(16)
    straight, first = Parts(tmp_path / "a"), Parts(tmp_path / "b", saves=False)
    straight.run(whole)
    first.run(whole[:6])
    first.trainer.close()
    second = Parts(tmp_path / "b", saves=False)
    assert second.trainer.stats().env_steps == first.trainer.stats().env_steps
    second.run(whole[6:])
    other = second.weights()
    assert any(not np.array_equal(array, other[n]) for n, array in straight.weights().items())


def test_stored_chunks_without_labels_are_labelled_again(tmp_path: Path) -> None:
    labeller = Labeller(InferencePolicy(make_policy(seed=9)), micro_batch_size=8)
    whole = chunks(10, labelled=False)
    straight = Parts(tmp_path / "a", labeller=labeller)
    straight.run(whole)
    first = Parts(tmp_path / "b", labeller=labeller)
    first.run(whole[:5])
    first.trainer.close()
    second = Parts(tmp_path / "b", labeller=labeller)
    second.run(whole[5:])
    for name, array in straight.weights().items():
        np.testing.assert_array_equal(array, second.weights()[name])


def test_a_checkpoint_of_an_interval_is_of_one_moment(tmp_path: Path) -> None:
    """What is inserted and trained while it is written is not in it."""
    whole = chunks(12)
    parts = Parts(tmp_path)
    parts.run(whole[:6])
    parts.trainer.save()
    counters = parts.counters()
    parts.run(whole[6:])
    parts.trainer.wait_until_saved()
    resumed = Parts(tmp_path)
    assert resumed.counters() | {"window_size": 0} == counters | {"window_size": 0}
    resumed.run(whole[6:])
    for name, array in parts.weights().items():
        np.testing.assert_array_equal(array, resumed.weights()[name])


def test_a_learner_that_starts_again_beside_living_shards_goes_on_with_what_is_new(
    tmp_path: Path,
) -> None:
    whole = chunks(12)
    parts = Parts(tmp_path)
    parts.run(whole[:6])
    parts.trainer.save()
    parts.trainer.wait_until_saved()
    parts.run(whole[6:9])
    again = Parts(tmp_path)
    again.shards[:] = parts.shards
    for reader in again.trainer._feed._readers:
        reader._source = parts.shards[0]
    again.run(whole[9:])
    inserted = parts.shards[0].stats().inserted
    assert again.learner.env_steps == inserted == sum(chunk.num_transitions for chunk in whole)


@pytest.mark.parametrize(
    ("settings", "words"),
    [({"num_shards": 2}, "holds a replay of 1 shards, and there are 2 shards now")],
)
def test_a_replay_that_does_not_fit_is_left_out_and_told(
    settings: dict, words: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    first = Parts(tmp_path)
    first.run(chunks(6))
    first.trainer.close()
    second = Parts(tmp_path, **settings)
    (warning,) = caplog.messages
    assert words in warning
    assert second.trainer.stats().env_steps == first.trainer.stats().env_steps
    second.run(chunks(6))
    assert second.learner.learner_steps > first.learner.learner_steps


def test_a_checkpoint_without_a_replay_can_be_gone_on_with(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    first = Parts(tmp_path, saves=False)
    first.run(chunks(6))
    first.trainer.close()
    second = Parts(tmp_path)
    (warning,) = caplog.messages
    assert "holds no replay" in warning
    second.run(chunks(6))
    assert second.learner.learner_steps > first.learner.learner_steps


@pytest.mark.parametrize("changes", [{"window": 60}, {"sampler": Prioritized()}], ids=str)
def test_a_window_of_another_size_or_sampler_takes_what_it_can(
    changes: dict, tmp_path: Path
) -> None:
    first = Parts(tmp_path)
    first.run(chunks(6))
    first.trainer.close()
    second = Parts(tmp_path, **changes)
    assert 0 < second.learner.window_size <= first.learner.window_size
    second.run(chunks(3))
    assert second.learner.learner_steps > first.learner.learner_steps


@pytest.mark.parametrize("file", [WINDOW, "shard-0.arrow"])
def test_a_damaged_replay_makes_a_damaged_checkpoint(
    file: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    parts = Parts(tmp_path)
    parts.run(chunks(4))
    parts.trainer.close()
    before = parts.trainer.stats().learner_steps
    parts.run(chunks(8)[4:])
    parts.trainer.close()
    newest = max(tmp_path.iterdir())
    whole = bytearray((newest / file).read_bytes())
    whole[len(whole) // 2] ^= 1
    (newest / file).write_bytes(whole)
    resumed = Parts(tmp_path)
    assert resumed.trainer.stats().learner_steps == before
    assert "differs from its checksum" in caplog.messages[0]


def test_what_waits_in_the_queue_of_a_prefetch_feed_is_not_lost(tmp_path: Path) -> None:
    """The learner's threads read ahead; a checkpoint is of what the learner has received."""
    shard = Parts(tmp_path).shards[0]
    feed = PrefetchFeed([ShardReader(shard, num_samples=BATCH, keep_encoded=True)])
    for chunk in chunks(3):
        shard.insert(chunk)
    feed.open()
    item = feed.get(30.0)
    assert item is not None
    write, states = shard.save(), feed.states()
    feed.close()
    write(locate(tmp_path / "shard"))
    resumed = ReplayShard(capacity=10_000, limits=shard._limits)
    (state,) = states
    read = {name: state[name] for name in ("epoch", "granted", "cursor")}
    resumed.load(locate(tmp_path / "shard"), **read)
    assert resumed.stats().sampled == item.granted == BATCH
    reader = ShardReader(resumed, num_samples=BATCH)
    reader.load_state(state)
    again = reader.read()
    assert again is not None
    assert (again.chunks, again.granted) == ([], BATCH)
    assert [decode(chunk).chunk_id for chunk in item.encoded] == [
        chunk.chunk_id for chunk in item.chunks
    ]


class OneSnapshot:
    """A shard that keeps one snapshot at a time, as its actor does."""

    def __init__(self, shard: ReplayShard) -> None:
        self.shard = shard
        self.taken: Part | None = None

    def save(self) -> Part:
        self.taken = self.shard.save()
        return self.write

    def write(self, location: Location) -> Written:
        taken, self.taken = self.taken, None
        assert taken is not None, "another save took this snapshot's place"
        return taken(location)

    def load(self, location: Location, *, epoch: str | None, granted: int, cursor: int) -> bool:
        return self.shard.load(location, epoch=epoch, granted=granted, cursor=cursor)


def test_the_last_checkpoint_waits_for_the_one_under_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    parts = Parts(tmp_path)
    parts.trainer._replay = SavedReplay([OneSnapshot(shard) for shard in parts.shards])
    parts.run(chunks(6))
    go_on = threading.Event()

    def slow(*args: Any, **kwargs: Any) -> object:
        assert go_on.wait(30.0)
        return save_checkpoint(*args, **kwargs)

    monkeypatch.setattr(trainer_module, "save_checkpoint", slow)
    parts.trainer.save()
    timer = threading.Timer(0.05, go_on.set)
    timer.start()
    parts.trainer.close()
    timer.join()
    assert parts.trainer.unsaved is None
    resumed = Parts(tmp_path)
    assert resumed.counters() | {"window_size": 0} == parts.counters() | {"window_size": 0}
