import json
import threading
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from common.codec import EncodedChunk, decode, encode
from common.errors import StorageError
from common.replay import snapshot as module
from common.replay.rate_limiter import RateLimits
from common.replay.shard import ReplaySample, ReplayShard
from common.replay.snapshot import FORMAT, Snapshot, read_snapshot
from common.storage import Location, locate
from tests.builders import make_chunk

CHUNKS = [encode(make_chunk(sequence=sequence, num_steps=4)) for sequence in range(12)]
LIMITS = RateLimits(samples_per_insert=2.0, min_size_to_sample=10, error_buffer=60.0)
LONG_S = 30.0


def make_shard(limits: RateLimits = LIMITS, *, capacity: int = 70, seed: int = 0) -> ReplayShard:
    return ReplayShard(capacity=capacity, limits=limits, revisits=1, seed=(seed,))


def same(a: EncodedChunk, b: EncodedChunk) -> bool:
    fields = (a.chunk_id, a.num_transitions, a.checksum) == (
        b.chunk_id,
        b.num_transitions,
        b.checksum,
    )
    return fields and np.array_equal(a.payload, b.payload)


@pytest.mark.parametrize("count", [0, 1, 5, 12])
def test_chunks_come_back_as_they_were_and_own_their_memory(
    count: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_CHUNKS_PER_BATCH", 5)
    header = {"epoch": "a", "rng": np.random.default_rng(3).bit_generator.state}
    location = locate(tmp_path / "snapshot")
    written = Snapshot(header, CHUNKS[:count]).write(location)
    assert written == location.checksum()
    found = read_snapshot(location)
    assert found.header == header
    assert len(found.chunks) == count
    for chunk, former in zip(found.chunks, CHUNKS, strict=False):
        assert same(chunk, former)
        assert chunk.payload.flags.owndata
        decode(chunk)


@pytest.mark.parametrize("how", ["empty", "half", "text", "no header", "other format"])
def test_what_is_no_snapshot_gets_one_line(how: str, tmp_path: Path) -> None:
    location = locate(tmp_path / "snapshot")
    Snapshot({}, CHUNKS[:3]).write(location)
    whole = location.read_bytes()
    match how:
        case "empty":
            location.write_bytes(b"")
        case "half":
            location.write_bytes(whole[: len(whole) // 2])
        case "text":
            location.write_text("no snapshot")
        case "no header":
            location.write_bytes(whole.replace(b"stillhouse", b"stillhous3"))
        case "other format":
            header = json.dumps({"format": FORMAT}).encode()
            other = json.dumps({"format": FORMAT + 1}).encode()
            location.write_bytes(whole.replace(header, other))
    with pytest.raises(StorageError) as caught:
        read_snapshot(location)
    assert str(location) in str(caught.value)
    assert "\n" not in str(caught.value)


def use(shard: ReplayShard, chunks: list[EncodedChunk], cursor: int) -> list[ReplaySample]:
    """Insert and sample in turn as far as the shard lets; return all answers."""
    answers = []
    for chunk in chunks:
        assert shard.can_insert()
        shard.insert(chunk)
        while (answer := shard.sample(cursor=cursor, num_samples=7)) is not None:
            cursor = answer.cursor
            answers.append(answer)
    return answers


def seen(answers: list[ReplaySample]) -> list[tuple[object, ...]]:
    return [
        (
            answer.granted,
            answer.epoch,
            answer.cursor,
            [chunk.chunk_id for chunk in answer.chunks],
            {number: chunk.chunk_id for number, chunk in answer.revisited.items()},
        )
        for answer in answers
    ]


def test_a_shard_that_goes_on_from_its_snapshot_answers_as_it_would_have(tmp_path: Path) -> None:
    shard, resumed = make_shard(), make_shard(seed=9)
    before = use(shard, CHUNKS[:8], 0)
    location = locate(tmp_path / "shard")
    shard.save()(location)
    granted = sum(answer.granted for answer in before)
    assert granted == shard.stats().sampled
    assert resumed.load(location, epoch=shard.epoch, granted=granted, cursor=before[-1].cursor)
    assert resumed.stats() == shard.stats()
    cursor = before[-1].cursor
    expected, found = (use(either, CHUNKS[8:], cursor) for either in (shard, resumed))
    assert seen(found) == seen(expected)
    assert any(answer.revisited for answer in found)
    assert resumed.stats() == shard.stats()
    assert shard.stats().transitions < shard.stats().inserted, "nothing was dropped"


def test_samples_that_never_arrived_are_granted_again(tmp_path: Path) -> None:
    shard, resumed, other = make_shard(), make_shard(), make_shard()
    use(shard, CHUNKS[:4], 0)
    location = locate(tmp_path / "shard")
    shard.save()(location)
    assert resumed.load(location, epoch=shard.epoch, granted=shard.stats().sampled - 14, cursor=0)
    assert resumed.stats().sampled == shard.stats().sampled - 14
    assert other.load(location, epoch="a former life", granted=3, cursor=0)
    assert other.stats().sampled == shard.stats().sampled


def test_a_snapshot_is_of_the_moment_when_it_was_taken(tmp_path: Path) -> None:
    shard = make_shard()
    use(shard, CHUNKS[:3], 0)
    write, then = shard.save(), shard.stats()
    use(shard, CHUNKS[3:], 3)
    write(locate(tmp_path / "shard"))
    resumed = make_shard()
    resumed.load(locate(tmp_path / "shard"), epoch=shard.epoch, granted=then.sampled, cursor=3)
    assert resumed.stats() == then


def test_inserts_and_samples_go_on_while_a_snapshot_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The thread that writes stands still in the middle; nothing else waits for it."""
    shard = make_shard()
    use(shard, CHUNKS[:3], 0)
    writing, go_on = threading.Event(), threading.Event()
    record_batch = pa.record_batch

    def slow(*args: object, **kwargs: object) -> object:
        writing.set()
        assert go_on.wait(LONG_S)
        return record_batch(*args, **kwargs)

    monkeypatch.setattr(pa, "record_batch", slow)
    location = locate(tmp_path / "shard")
    thread = threading.Thread(target=shard.save(), args=(location,))
    thread.start()
    assert writing.wait(LONG_S)
    answers = use(shard, CHUNKS[3:], 3)
    assert sum(len(answer.chunks) for answer in answers) == len(CHUNKS) - 3
    go_on.set()
    thread.join(LONG_S)
    assert [chunk.chunk_id.sequence for chunk in read_snapshot(location).chunks] == [0, 1, 2]


def test_what_the_learner_has_not_received_is_unseen_again(tmp_path: Path) -> None:
    """An answer may have been under way; another life of the shard has handed out nothing."""
    shard = make_shard()
    use(shard, CHUNKS[:4], 0)
    location = locate(tmp_path / "shard")
    shard.save()(location)
    for epoch, cursor, left in ((shard.epoch, 3, 1), ("a former life", 3, 4)):
        resumed = make_shard()
        resumed.load(location, epoch=epoch, granted=0, cursor=cursor)
        unseen = sum(chunk.num_transitions for chunk in CHUNKS[4 - left : 4])
        assert sum(resumed.stats().unseen.values()) == unseen


def test_a_shard_that_holds_chunks_keeps_them(tmp_path: Path) -> None:
    location = locate(tmp_path / "shard")
    former = make_shard()
    former.insert(CHUNKS[0])
    former.save()(location)
    shard = make_shard()
    shard.insert(CHUNKS[1])
    before = (shard.epoch, shard.stats())
    assert not shard.load(location, epoch=former.epoch, granted=0, cursor=0)
    assert (shard.epoch, shard.stats()) == before


def test_new_runners_may_use_the_ids_of_former_ones(tmp_path: Path) -> None:
    """A resumed run's env runners count their chunks from 0 again, and these are new chunks."""
    location: Location = locate(tmp_path / "shard")
    former, resumed = make_shard(), make_shard()
    former.insert(CHUNKS[0])
    former.save()(location)
    resumed.load(location, epoch=None, granted=0, cursor=0)
    assert resumed.insert(CHUNKS[0])
    assert resumed.stats().duplicates == 0


def test_a_smaller_shard_keeps_the_newest(tmp_path: Path) -> None:
    location = locate(tmp_path / "shard")
    former = make_shard(capacity=10**6)
    for chunk in CHUNKS:
        former.insert(chunk)
    former.save()(location)
    small = make_shard(capacity=30)
    small.load(location, epoch=None, granted=0, cursor=0)
    stats = small.stats()
    assert stats.transitions <= 30 < stats.inserted
    answer = small.sample(cursor=0, num_samples=1)
    assert answer is not None
    assert answer.cursor == len(CHUNKS)
    assert same(answer.chunks[-1], CHUNKS[-1])


@pytest.mark.parametrize("ratio", [0.5, 8.0])
def test_under_another_ratio_training_leads_by_as_many_samples_as_before(
    ratio: float, tmp_path: Path
) -> None:
    """Else a resumed run would train for long, or collect for long, before it did both again."""
    location = locate(tmp_path / "shard")
    former = make_shard()
    answers = use(former, CHUNKS[:6], 0)
    former.save()(location)
    limits = RateLimits(samples_per_insert=ratio, min_size_to_sample=10, error_buffer=200.0)
    shard = make_shard(limits)
    granted = sum(answer.granted for answer in answers)
    shard.load(location, epoch=former.epoch, granted=granted, cursor=0)
    then, now = former.stats(), shard.stats()
    lead = then.sampled - 2.0 * (then.inserted - 10)
    assert now.sampled - ratio * (now.inserted - 10) == pytest.approx(lead, abs=0.5)
