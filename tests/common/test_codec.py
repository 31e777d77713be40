import dataclasses
import json
import zlib
from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pytest

from common import codec
from common.codec import WIRE_VERSION, CodecError, EncodedChunk, decode, encode
from common.frames import FrameObservations
from common.trajectory import UNLABELLED, TrajectoryChunk
from tests.builders import make_chunk

KINDS = ["frames", "vectors"]
LABELS = {"teacher_dist_inputs", "teacher_value"}


def arrays_of(chunk: TrajectoryChunk) -> dict[str, np.ndarray]:
    """Return every array of a chunk by name."""
    named = {field.name: getattr(chunk, field.name) for field in dataclasses.fields(chunk)}
    observations = named.pop("observations")
    named |= {f.name: getattr(observations, f.name) for f in dataclasses.fields(observations)}
    return {name: value for name, value in named.items() if isinstance(value, np.ndarray)}


def scalars_of(chunk: TrajectoryChunk) -> list[object]:
    versions = (chunk.policy_version, chunk.teacher_version)
    return [chunk.chunk_id, chunk.task_id, chunk.steps_before, *versions]


def with_payload(encoded: EncodedChunk, payload: np.ndarray, *, resealed: bool) -> EncodedChunk:
    checksum = zlib.crc32(payload.tobytes()) if resealed else encoded.checksum
    return dataclasses.replace(encoded, payload=payload, checksum=checksum)


def damages(payload: np.ndarray) -> Iterator[np.ndarray]:
    """Yield the payload with one byte changed, at many places, and cut at many places."""
    for place in range(0, len(payload), 17):
        for flip in (0x01, 0xFF):
            damaged = payload.copy()
            damaged[place] ^= flip
            yield damaged
    for length in range(0, len(payload), 61):
        yield payload[:length].copy()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("has_value", [True, False])
@pytest.mark.parametrize("dist", ["logits", "q_values"])
def test_a_chunk_comes_back_as_it_was(kind, has_value, dist):
    chunk = make_chunk(kind, sequence=7, has_value=has_value, dist=dist)
    encoded = encode(chunk)
    back = decode(encoded)
    assert scalars_of(back) == scalars_of(chunk)
    assert type(back.observations) is type(chunk.observations)
    assert (back.teacher_value is not None) == has_value
    given, found = arrays_of(chunk), arrays_of(back)
    assert given.keys() == found.keys()
    for name, array in given.items():
        assert found[name].dtype == array.dtype, name
        np.testing.assert_array_equal(found[name], array, err_msg=name)
    if isinstance(back.observations, FrameObservations):
        assert back.observations.stack == chunk.observations.stack


@pytest.mark.parametrize("kind", KINDS)
def test_a_chunk_without_labels_comes_back_without_and_is_smaller(kind):
    labelled = make_chunk(kind, sequence=7)
    chunk = dataclasses.replace(
        labelled, teacher_version=UNLABELLED, teacher_dist_inputs=None, teacher_value=None
    )
    encoded = encode(chunk)
    back = decode(encoded)
    assert scalars_of(back) == scalars_of(chunk)
    given, found = arrays_of(chunk), arrays_of(back)
    assert given.keys() == found.keys() == arrays_of(labelled).keys() - LABELS
    for name, array in given.items():
        np.testing.assert_array_equal(found[name], array, err_msg=name)
    with pa.ipc.open_stream(pa.py_buffer(encoded.payload)) as reader:
        assert not LABELS & set(reader.schema.names)
    assert encoded.num_bytes < encode(labelled).num_bytes


def test_a_chunk_that_lost_its_labels_is_refused(monkeypatch):
    monkeypatch.setattr(codec, "_LABEL_ARRAYS", ())
    with pytest.raises(CodecError, match="teacher_version = 0 of a chunk without labels"):
        decode(encode(make_chunk()))


def test_a_shard_learns_id_transitions_and_size_without_decoding():
    chunk = make_chunk(sequence=9, end_share=0.4)
    encoded = encode(chunk)
    assert (encoded.chunk_id, encoded.num_transitions) == (chunk.chunk_id, chunk.num_transitions)
    assert 0 < chunk.num_transitions < chunk.valid.size
    assert encoded.num_bytes == len(encoded.payload)


@pytest.mark.parametrize("kind", KINDS)
def test_decoded_arrays_are_read_only(kind):
    for name, array in arrays_of(decode(encode(make_chunk(kind)))).items():
        assert not array.flags.writeable, name


def test_planes_that_hardly_change_along_time_compress():
    chunk = make_chunk("frames", num_steps=64, num_envs=1, end_share=0.0)
    assert isinstance(chunk.observations, FrameObservations)
    planes = np.zeros_like(chunk.observations.planes)
    planes[:, 3, 4] = np.arange(len(planes))
    still = dataclasses.replace(chunk.observations, planes=planes)
    saved = (
        encode(chunk).num_bytes - encode(dataclasses.replace(chunk, observations=still)).num_bytes
    )
    assert saved > 0.9 * planes.nbytes


@pytest.mark.parametrize("kind", KINDS)
def test_damaged_bytes_are_refused(kind):
    encoded = encode(make_chunk(kind))
    for payload in damages(encoded.payload):
        with pytest.raises(CodecError, match="damaged"):
            decode(with_payload(encoded, payload, resealed=False))


@pytest.mark.parametrize("kind", KINDS)
def test_bytes_that_are_foreign_raise_nothing_but_codec_errors(kind):
    """Even where their checksum is right, as bytes of another program's would be."""
    encoded = encode(make_chunk(kind))
    refused = 0
    for payload in damages(encoded.payload):
        try:
            decode(with_payload(encoded, payload, resealed=True))
        except CodecError:
            refused += 1
    assert refused > 10


def stream(columns: dict[str, pa.Array], header: object) -> np.ndarray:
    metadata = None if header is None else {"stillhouse": json.dumps(header)}
    schema = pa.schema([(name, column.type) for name, column in columns.items()], metadata=metadata)
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, schema) as writer:
        if columns:
            writer.write_batch(pa.record_batch(list(columns.values()), schema=schema))
    return np.frombuffer(sink.getvalue(), np.uint8)


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        (stream({}, None), "no chunk"),
        (stream({}, {"version": WIRE_VERSION, "shapes": {}}), "no chunk"),
        (stream({"x": pa.array([1])}, {"version": WIRE_VERSION, "shapes": {"x": [1]}}), "no chunk"),
        (stream({"x": pa.array([1])}, {"version": WIRE_VERSION, "shapes": {}}), "no chunk"),
        (stream({"x": pa.array([1])}, {"version": WIRE_VERSION + 1}), "wire version"),
        (stream({"x": pa.array([1])}, ["version"]), "no chunk"),
        (np.frombuffer(b"something else", np.uint8), "no chunk"),
    ],
    ids=["no header", "no batch", "no list", "no columns", "version", "list", "no stream"],
)
def test_other_arrow_streams_are_refused(payload, reason):
    with pytest.raises(CodecError, match=reason):
        decode(with_payload(encode(make_chunk()), payload, resealed=True))


def test_vectors_as_actions_come_back():
    actions = np.random.default_rng(0).normal(size=(8, 3, 2)).astype(np.float32)
    labels = np.random.default_rng(1).normal(size=(8, 3, 4)).astype(np.float32)
    back = decode(encode(make_chunk(actions=actions, teacher_dist_inputs=labels)))
    np.testing.assert_array_equal(back.actions, actions)
    np.testing.assert_array_equal(back.labels, labels)
    assert (back.actions.dtype, back.labels.dtype) == (np.float32, np.float32)
