"""Datasets of made-up chunks, and a recipe for one of CartPole."""

from pathlib import Path
from typing import Any

from common.codec import encode
from common.dataset import DatasetWriter, Manifest
from common.policies.policy import Policy
from common.storage import Named, locate
from common.trajectory import TrajectoryChunk
from tests.builders import Kind, make_chunk, make_policy
from tests.cartpole import RECIPE, write_recipe

NUM_STEPS, NUM_ENVS = 8, 3
"""Of the chunks."""

_WITHOUT = {
    '[env]\nfamily = "gymnasium"\nid = "CartPole-v1"\n': "",
    '[teacher]\npath = "teacher.safetensors"': '[dataset]\npath = "data"',
    "num_envs_per_runner = 8\nunroll_length = 32\n": "",
}


def make_manifest(teacher: Policy, **changes: Any) -> Manifest:
    """Return a manifest without parts."""
    fields: dict[str, Any] = {
        "task": "toy/task",
        "environment": {"family": "gymnasium", "id": "toy/task"},
        "spaces": {},
        "behavior": {"name": "teacher"},
        "seed": 0,
        "teacher": teacher.spec.model_dump(mode="json"),
        "teacher_sha256": "",
        "unroll_length": NUM_STEPS,
        "num_envs": NUM_ENVS,
    }
    return Manifest.model_validate(fields | changes)


def make_chunks(num_chunks: int, kind: Kind = "vectors") -> list[TrajectoryChunk]:
    """Return chunks of one env runner's life; their rewards tell them apart."""
    size = {"num_steps": NUM_STEPS, "num_envs": NUM_ENVS}
    return [
        make_chunk(kind, sequence=number, task_id="toy/task", **size)
        for number in range(num_chunks)
    ]


def start_writer(place: Named, kind: Kind = "vectors", **options: Any) -> DatasetWriter:
    """Start a dataset whose parts are full with a few chunks."""
    teacher = make_policy(kind, has_value=True)
    limits = {"num_transitions": 10_000, "part_transitions": 50}
    return DatasetWriter(locate(place), make_manifest(teacher), teacher, **(limits | options))


def write_dataset(
    place: Named, num_chunks: int = 8, kind: Kind = "vectors", **options: Any
) -> list[TrajectoryChunk]:
    """Write a dataset and return its chunks."""
    chunks = make_chunks(num_chunks, kind)
    writer = start_writer(place, kind, **options)
    for chunk in chunks:
        writer.add(encode(chunk))
    writer.close()
    return chunks


def write_offline_recipe(folder: Path) -> Path:
    """Write CartPole's recipe with a `[dataset]` beside it in the place of all that it tells."""
    path = write_recipe(folder / "offline.toml")
    text = RECIPE
    for given, other in _WITHOUT.items():
        assert given in text
        text = text.replace(given, other)
    path.write_text(text, encoding="utf-8")
    return path
