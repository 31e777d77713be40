"""The manifest of a dataset, `dataset.json`: what was recorded, and what makes damage visible."""

import json
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError, model_validator

from common.config import StrictModel
from common.dataset.table import FORMAT, VERSION
from common.errors import DatasetError, FileMissingError
from common.storage import Location

NAME = "dataset.json"
TEACHER = "teacher.safetensors"

_SUMS = ("chunks", "rows", "transitions", "episodes", "num_bytes")
"""What a manifest tells of all parts together."""


class Part(StrictModel):
    """A file of rows."""

    path: Annotated[str, Field(pattern=r"^task=[^/]+/part-\d{5,}\.parquet$")]
    """Within the dataset."""
    chunks: int = Field(ge=1)
    rows: int = Field(ge=1)
    transitions: int = Field(ge=0)
    """Valid rows."""
    episodes: int = Field(ge=0)
    """That ended in it."""
    num_bytes: int
    sha256: str


class Manifest(StrictModel):
    """Everything that is said of a dataset."""

    format: Literal["stillhouse/dataset"] = FORMAT
    version: Literal[1] = VERSION
    task: str
    environment: dict[str, Any]
    """The recipe's `[env]` without `trust`."""
    spaces: dict[str, Any]
    """Observations and actions, as the environment's specification has them."""
    behavior: dict[str, Any]
    """The recipe's `[behavior]`: who acted."""
    seed: int
    teacher: dict[str, Any]
    """Its specification; its weights are in `teacher.safetensors`."""
    teacher_sha256: str
    unroll_length: int = Field(ge=1)
    """Steps of a sequence (T)."""
    num_envs: int = Field(ge=1)
    """Sequences of a chunk (N)."""
    chunks: int = 0
    rows: int = 0
    transitions: int = 0
    """Valid rows of all parts."""
    episodes: int = 0
    num_bytes: int = 0
    parts: tuple[Part, ...] = ()

    @model_validator(mode="after")
    def _sums(self) -> "Manifest":
        for name in _SUMS:
            if (told := getattr(self, name)) != (found := self._sum(name)):
                raise ValueError(f"{name} = {told}, and its parts have {found}")
        return self

    def _sum(self, name: str) -> int:
        return sum(getattr(part, name) for part in self.parts)

    def with_part(self, part: Part) -> "Manifest":
        """Return the same with one part more."""
        sums = {name: getattr(self, name) + getattr(part, name) for name in _SUMS}
        return self.model_copy(update={"parts": (*self.parts, part), **sums})


def write_manifest(location: Location, manifest: Manifest) -> None:
    """Write it into the dataset at `location`, over the one before.

    Raises:
        StorageError: it cannot be written.
    """
    (location / NAME).write_text(manifest.model_dump_json(indent=2) + "\n")


def read_manifest(location: Location) -> Manifest:
    """Read the manifest of the dataset at `location`.

    Raises:
        DatasetError: there is none, or it is of something else, another version, or empty.
        StorageError: the place cannot be read.
    """
    try:
        content = (location / NAME).read_bytes()
    except FileMissingError:
        raise DatasetError(
            f"{location}: no dataset (it has no {NAME}); make one with stillhouse record RECIPE "
            f"--out {location}"
        ) from None
    try:
        tree = json.loads(content)
    except ValueError:
        raise DatasetError(f"{location / NAME}: damaged, it is no JSON; record again") from None
    if not isinstance(tree, dict) or tree.get("format") != FORMAT:
        raise DatasetError(f"{location / NAME}: not a dataset of Stillhouse's")
    if (version := tree.get("version")) != VERSION:
        raise DatasetError(
            f"{location}: a dataset of version {version}, and this Stillhouse reads version "
            f"{VERSION}; read it with the one that wrote it, or record again"
        )
    try:
        manifest = Manifest.model_validate(tree)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(map(str, first["loc"]))
        reason = first["msg"].removeprefix("Value error, ")
        problem = f"{where}: {reason}" if where else reason
        raise DatasetError(f"{location / NAME}: damaged ({problem}); record again") from None
    if not manifest.transitions:
        raise DatasetError(f"{location}: the dataset is empty; record again")
    return manifest
