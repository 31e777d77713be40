"""A dataset written and read again, on a disk and on an S3 server; and every kind of damage."""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from common.codec import encode
from common.dataset import Dataset, open_dataset, reader
from common.errors import ConfigError, DatasetError
from common.storage import Location, locate
from tests.builders import make_policy
from tests.common.dataset.test_table import assert_same
from tests.datasets import NUM_ENVS, NUM_STEPS, make_chunks, start_writer, write_dataset

PART = "task=toy%2Ftask/part-00000.parquet"


NOTHING = dict.fromkeys(("chunks", "rows", "transitions", "episodes", "num_bytes"), 0)


@pytest.fixture(params=["disk", "s3"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Location:
    if request.param == "disk":
        return locate(tmp_path) / "data"
    return locate(request.getfixturevalue("bucket")) / "data"


def test_what_was_written_is_read(place: Location) -> None:
    chunks = write_dataset(place)
    dataset = open_dataset(place)
    dataset.verify()
    assert len(dataset) == 8
    for number, chunk in enumerate(chunks):
        assert_same(dataset.read(number), chunk)
    assert place.names() == [
        "dataset.json",
        "task=toy%2Ftask",
        "teacher.json",
        "teacher.safetensors",
    ]
    teacher = make_policy(has_value=True)
    assert dataset.teacher().spec == teacher.spec
    told = dataset.manifest
    assert len(told.parts) == 3
    assert sum(part.chunks for part in told.parts) == told.chunks == 8
    assert told.rows == 8 * NUM_STEPS * NUM_ENVS
    assert told.transitions == sum(chunk.num_transitions for chunk in chunks)
    assert told.episodes == sum(
        int(((chunk.terminated | chunk.truncated) & chunk.valid).sum()) for chunk in chunks
    )
    dataset.close()


def test_frames_are_read_as_they_were_written(tmp_path: Path) -> None:
    chunks = write_dataset(tmp_path, kind="frames")
    dataset = open_dataset(tmp_path)
    dataset.verify()
    for number, chunk in enumerate(chunks):
        assert_same(dataset.read(number), chunk)


def test_pandas_reads_the_folder_of_parts(tmp_path: Path) -> None:
    chunks = write_dataset(tmp_path)
    rows = pd.read_parquet(tmp_path / "task=toy%2Ftask")
    assert len(rows) == 8 * NUM_STEPS * NUM_ENVS
    assert rows["sequence"].nunique() == 8 * NUM_ENVS
    assert (rows.groupby("sequence")["step"].diff().dropna() == 1).all()
    wanted = np.concatenate([chunk.rewards[:, 1] for chunk in chunks])
    one_copy = rows[rows["env_copy"] == 1].sort_values(["chunk", "step"])
    np.testing.assert_array_equal(one_copy["reward"], wanted)
    assert rows["valid"].sum() == sum(chunk.num_transitions for chunk in chunks)


def test_parts_are_zstd_and_carry_their_version(tmp_path: Path) -> None:
    write_dataset(tmp_path)
    metadata = pq.ParquetFile(tmp_path / PART).metadata
    assert metadata.row_group(0).column(0).compression == "ZSTD"
    about = json.loads(pq.read_schema(tmp_path / PART).metadata[b"stillhouse"])
    assert (about["format"], about["version"]) == ("stillhouse/dataset", 1)


def test_a_recording_that_is_killed_leaves_its_whole_parts(tmp_path: Path) -> None:
    chunks = make_chunks(8)
    writer = start_writer(tmp_path)
    for chunk in chunks:
        writer.add(encode(chunk))
    dataset = open_dataset(tmp_path)
    dataset.verify()
    assert 2 <= len(dataset) < 8
    assert_same(dataset.read(len(dataset) - 1), chunks[len(dataset) - 1])


def test_chunks_that_come_twice_or_too_late_are_dropped(tmp_path: Path) -> None:
    chunks = make_chunks(4)
    writer = start_writer(tmp_path, num_transitions=chunks[0].num_transitions + 1)
    for chunk in (chunks[0], chunks[0], chunks[2], chunks[1], chunks[3]):
        writer.add(encode(chunk))
    assert writer.full
    writer.close()
    dataset = open_dataset(tmp_path)
    assert [dataset.read(number).chunk_id.sequence for number in range(len(dataset))] == [0, 2]


def test_chunks_of_a_part_are_in_the_order_of_time(tmp_path: Path) -> None:
    chunks = make_chunks(3)
    writer = start_writer(tmp_path, part_transitions=10_000)
    for number in (2, 0, 1):
        writer.add(encode(chunks[number]))
    writer.close()
    dataset = open_dataset(tmp_path)
    assert [dataset.read(number).chunk_id.sequence for number in range(3)] == [0, 1, 2]


def test_where_nothing_came_nothing_is_left(tmp_path: Path) -> None:
    writer = start_writer(tmp_path / "data")
    assert writer.close().parts == ()
    assert list((tmp_path / "data").iterdir()) == []


def test_a_share_is_held_out_the_same_for_everyone(tmp_path: Path) -> None:
    write_dataset(tmp_path, 20)
    split = open_dataset(tmp_path).split(0.2)
    assert len(split.held_out) == 4
    assert sorted([*split.training, *split.held_out]) == list(range(20))
    assert open_dataset(tmp_path).split(0.2) == split
    assert len(open_dataset(tmp_path).split(0.001).held_out) == 1
    assert len(open_dataset(tmp_path).split(0.999).training) == 1


def test_of_one_chunk_none_can_be_held_out(tmp_path: Path) -> None:
    write_dataset(tmp_path, 1)
    with pytest.raises(ConfigError, match="one chunk"):
        open_dataset(tmp_path).split(0.05)


def manifest_with(**changes: object) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        path = folder / "dataset.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | changes))

    return damage


def with_content(name: str, content: bytes) -> Callable[[Path], None]:
    return lambda folder: (folder / name).write_bytes(content) and None


def without(name: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).unlink()


def flipped(folder: Path) -> None:
    content = bytearray((folder / PART).read_bytes())
    content[len(content) // 2] ^= 1
    (folder / PART).write_bytes(content)


def cut(folder: Path) -> None:
    (folder / PART).write_bytes((folder / PART).read_bytes()[:-9])


def resealed(folder: Path, path: Path) -> None:
    """Put another file in a part's place, and its checksum into the manifest."""
    shutil.copy(path, folder / PART)
    written = locate(folder / PART).checksum()
    tree = json.loads((folder / "dataset.json").read_text())
    tree["num_bytes"] += written.num_bytes - tree["parts"][0]["num_bytes"]
    tree["parts"][0] |= {"num_bytes": written.num_bytes, "sha256": written.sha256}
    (folder / "dataset.json").write_text(json.dumps(tree))


def foreign_part(folder: Path) -> None:
    pd.DataFrame({"x": [1, 2]}).to_parquet(folder / "x.parquet")
    resealed(folder, folder / "x.parquet")


def no_parquet(folder: Path) -> None:
    (folder / "x").write_bytes(b"PAR1 but nothing more")
    resealed(folder, folder / "x")


def other_columns(folder: Path) -> None:
    write_dataset(folder / "other", kind="frames")
    resealed(folder, folder / "other" / PART)


def other_number_of_rows(folder: Path) -> None:
    write_dataset(folder / "other", 1)
    resealed(folder, folder / "other" / PART)


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (without("dataset.json"), "no dataset"),
        (with_content("dataset.json", b"{"), "no JSON"),
        (with_content("dataset.json", b"[]"), "not a dataset"),
        (manifest_with(format="other"), "not a dataset"),
        (manifest_with(version=2), "version 2.*reads version 1"),
        (manifest_with(rows="many"), "rows"),
        (manifest_with(chunks=9), "chunks = 9, and its parts have 8"),
        (manifest_with(surprise=1), "surprise"),
        (manifest_with(parts=[{"path": "../../etc/passwd"}]), "parts.0.path"),
        (manifest_with(parts=[], **NOTHING), "empty"),
        (flipped, "part-00000.parquet: damaged.*checksum"),
        (cut, "part-00000.parquet: damaged.*checksum"),
        (without(PART), "part-00000.parquet: missing"),
        (foreign_part, "part-00000.parquet: damaged"),
        (no_parquet, "part-00000.parquet: damaged"),
        (other_columns, "damaged"),
        (other_number_of_rows, "rows"),
        (without("teacher.safetensors"), "teacher.safetensors: missing"),
        (with_content("teacher.safetensors", b"x"), "teacher.safetensors: damaged"),
    ],
)
def test_damage_is_found_in_one_line(
    damage: Callable[[Path], None], says: str, tmp_path: Path
) -> None:
    folder = tmp_path / "data"
    write_dataset(folder)
    damage(folder)
    with pytest.raises(DatasetError) as caught:
        open_dataset(folder).verify()
    assert re.search(says, str(caught.value))
    assert len(str(caught.value).splitlines()) == 1


def test_few_parts_are_open_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reader, "OPEN_PARTS", 2)
    chunks = write_dataset(tmp_path, 8, part_transitions=1)
    dataset = open_dataset(tmp_path)
    dataset.verify()
    for number in (0, 7, 3, 0, 5, 7):
        assert_same(dataset.read(number), chunks[number])
        assert len(dataset._files) <= 2


def test_what_breaks_later_is_one_line_too(tmp_path: Path) -> None:
    write_dataset(tmp_path)
    dataset: Dataset = open_dataset(tmp_path)
    (tmp_path / PART).write_bytes(b"gone")
    with pytest.raises(DatasetError, match=r"part-00000.parquet: cannot be read") as caught:
        dataset.read(0)
    assert len(str(caught.value).splitlines()) == 1
