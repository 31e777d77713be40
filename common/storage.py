"""Files and folders by name: a local path, or a URI of any filesystem that pyarrow reaches.

A file appears whole or not at all. On a local disk it is written under another name, synced and
renamed; on an object store a put does that by itself. What several files make together (a
checkpoint) counts by the last of them.

Nobody waits here for anything but the disk or the network. How a cloud is reached is for
`common.filesystems`.
"""

import hashlib
import io
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO, NamedTuple, cast
from urllib.parse import unquote, urlsplit

import pyarrow as pa
from pyarrow import fs

from common.errors import ConfigError, FileMissingError, StorageError
from common.filesystems import LOCAL, local_filesystem, reason_of, remote_filesystem

_SCHEMES = ("file", "s3", "gs", "gcs", "abfs", "abfss", "hdfs", "viewfs")
_READ_BYTES = 2**20


class Written(NamedTuple):
    """What a file holds: enough to find it damaged later."""

    num_bytes: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Location:
    """A file or a folder that may be there or not. It travels between processes."""

    text: str = field(compare=False)
    """As it was named, for messages."""
    scheme: str
    """`LOCAL`, or the URI's."""
    path: str
    """Within its filesystem: absolute on a local disk, bucket and key on an object store."""

    def __str__(self) -> str:
        return self.text

    def __truediv__(self, name: str) -> "Location":
        """Return a file or folder in this folder."""
        text = f"{self.text.rstrip('/')}/{name}"
        return Location(text, self.scheme, f"{self.path.rstrip('/')}/{name}")

    @property
    def absolute(self) -> str:
        """Its name, which means the same from every working directory."""
        return self.path if self.is_local else self.text

    @property
    def is_local(self) -> bool:
        """Whether it lies on a disk of this machine."""
        return self.scheme == LOCAL

    @property
    def name(self) -> str:
        """The last part of the path."""
        return PurePosixPath(self.path).name

    def with_suffix(self, suffix: str) -> "Location":
        """Return the file beside this one whose name ends otherwise, for example in ".json"."""
        name = PurePosixPath(self.name).with_suffix(suffix).name
        text, path = (part[: len(part) - len(self.name)] + name for part in (self.text, self.path))
        return Location(text, self.scheme, path)

    def exists(self) -> bool:
        """Return whether there is a file or a folder."""
        return self._info().type is not fs.FileType.NotFound

    def is_file(self) -> bool:
        """Return whether there is a file."""
        return self._info().type is fs.FileType.File

    def is_dir(self) -> bool:
        """Return whether there is a folder; on an object store, something under this name."""
        return self._info().type is fs.FileType.Directory

    def num_bytes(self) -> int:
        """Return a file's size.

        Raises:
            FileMissingError: there is no file.
        """
        info = self._info()
        if info.type is not fs.FileType.File:
            raise FileMissingError(f"{self}: no such file")
        return int(info.size)

    def names(self) -> list[str]:
        """Return the names of what lies in this folder, sorted; none where there is no folder."""
        with _one_line(self, "read"):
            selector = fs.FileSelector(self.path, allow_not_found=True)
            return sorted(info.base_name for info in self._filesystem().get_file_info(selector))

    def read_bytes(self) -> bytes:
        """Return a file's content.

        Raises:
            FileMissingError: there is no file.
            StorageError: it cannot be read.
        """
        with _one_line(self, "read"):
            if self.is_local:
                return Path(self.path).read_bytes()
            with self._filesystem().open_input_file(self.path) as file:
                content: bytes = file.read()
                return content

    def read_text(self) -> str:
        """Return a file's content as UTF-8.

        Raises:
            FileMissingError: there is no file.
            StorageError: it cannot be read, or is no text.
        """
        try:
            return self.read_bytes().decode()
        except UnicodeDecodeError as error:
            raise StorageError(f"{self}: not UTF-8 text ({error.reason})") from None

    def open(self) -> Any:
        """Return a file of pyarrow's to read from, at any place in it.

        Raises:
            FileMissingError: there is no file.
            StorageError: it cannot be read.
        """
        with _one_line(self, "read"):
            return self._filesystem().open_input_file(self.path)

    def checksum(self) -> Written:
        """Read a file through and return its size and checksum.

        Raises:
            FileMissingError: there is no file.
            StorageError: it cannot be read.
        """
        digest, num_bytes = hashlib.sha256(), 0
        with _one_line(self, "read"), self._filesystem().open_input_file(self.path) as file:
            while part := file.read(_READ_BYTES):
                digest.update(part)
                num_bytes += len(part)
        return Written(num_bytes, digest.hexdigest())

    def write_text(self, text: str) -> Written:
        """Write a file as UTF-8, as `write_bytes` does."""
        return self.write_bytes(text.encode())

    def write_bytes(self, content: bytes) -> Written:
        """Write a file whole, or leave what was there before.

        Raises:
            StorageError: it cannot be written.
        """
        return self.write(lambda sink: sink.write(content))

    def write(self, fill: Callable[[BinaryIO], object]) -> Written:
        """Write a file piece by piece; folders that are missing on a local disk are made.

        On an object store, an error in `fill` itself may leave a file with half of the content.

        Args:
            fill: writes the content to what it is given.

        Raises:
            StorageError: it cannot be written.
        """
        with _one_line(self, "written"):
            return self._write_local(fill) if self.is_local else self._put(fill)

    def remove(self) -> None:
        """Remove a file, or a folder with everything in it; nothing where there is none.

        Raises:
            StorageError: it cannot be removed.
        """
        kind = self._info().type
        with _one_line(self, "removed"):
            if kind is fs.FileType.Directory:
                self._filesystem().delete_dir(self.path)
            elif kind is not fs.FileType.NotFound:
                self._filesystem().delete_file(self.path)

    def _info(self) -> Any:
        with _one_line(self, "read"):
            return self._filesystem().get_file_info(self.path)

    def _filesystem(self) -> Any:
        """Return the filesystem; a process makes one for each place and keeps it."""
        if self.is_local:
            return local_filesystem()
        authority = (
            self.path.split("/", 1)[0] if self.scheme == "s3" else urlsplit(self.text).netloc
        )
        return remote_filesystem(self.scheme, authority)

    def _write_local(self, fill: Callable[[BinaryIO], object]) -> Written:
        path = Path(self.path)
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(f"{path.name}.partial")
        try:
            with partial.open("wb") as file:
                sink = _Sink(file)
                fill(cast(BinaryIO, sink))
                sink.check()
                file.flush()
                os.fsync(file.fileno())
            os.replace(partial, path)
        except BaseException:
            partial.unlink(missing_ok=True)
            raise
        return sink.written()

    def _put(self, fill: Callable[[BinaryIO], object]) -> Written:
        with self._filesystem().open_output_stream(self.path) as file:
            sink = _Sink(file)
            fill(cast(BinaryIO, sink))
            sink.check()
        return sink.written()


Named = str | Path | Location
"""How a place may be given."""


def locate(name: Named) -> Location:
    """Return the place of this name.

    Args:
        name: a local path (relative ones are to the working directory), or a URI.

    Raises:
        ConfigError: a URI that names no place, or that holds more than a place.
    """
    if isinstance(name, Location):
        return name
    text = str(name)
    if "://" not in text:
        if re.match(rf"({'|'.join(_SCHEMES)}):/", text):
            raise ConfigError(f"{text}: a URI has two slashes, as in s3://bucket/folder")
        return Location(text, LOCAL, os.path.abspath(text))
    parts = urlsplit(text)
    bare = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"
    if parts.scheme not in _SCHEMES:
        raise ConfigError(
            f"{bare}: unknown scheme {parts.scheme!r}; give a local path, or a URI of "
            f"{', '.join(_SCHEMES[:4])}"
        )
    if "@" in parts.netloc:
        raise ConfigError(
            f"{bare}: credentials stand in the URI; take them out and set AWS_ACCESS_KEY_ID and "
            f"AWS_SECRET_ACCESS_KEY, or what its cloud reads, in the environment"
        )
    if parts.query or parts.fragment:
        raise ConfigError(
            f"{bare}: more follows this in the URI; take it out and set AWS_ENDPOINT_URL, "
            f"AWS_REGION, or what its cloud reads, in the environment"
        )
    path = unquote(parts.path)
    if parts.scheme == LOCAL:
        if parts.netloc not in ("", "localhost"):
            raise ConfigError(f"{text}: a file on another machine; write file:///path")
        return Location(text, LOCAL, os.path.abspath(path))
    if not parts.netloc:
        raise ConfigError(f"{text}: names no bucket; write {parts.scheme}://bucket/folder")
    if parts.scheme in ("s3", "gs", "gcs"):
        return Location(text, parts.scheme, f"{parts.netloc}{path}".rstrip("/"))
    with _one_line(Location(text, parts.scheme, path), "read"):
        return Location(text, parts.scheme, fs.FileSystem.from_uri(text)[1])


class _Sink(io.RawIOBase):
    """Passes on what is written, with its size and checksum.

    The first error is kept, and what follows it is dropped: writers in C++ turn an error of their
    file into one of their own.
    """

    def __init__(self, file: Any) -> None:
        self._file = file
        self._digest = hashlib.sha256()
        self._num_bytes = 0
        self._error: OSError | None = None

    def writable(self) -> bool:
        """Return that it is."""
        return True

    def write(self, data: Any) -> int:
        """Write all of `data`, unless an earlier write failed."""
        size = memoryview(data).nbytes
        if self._error is None:
            try:
                self._file.write(data)
            except OSError as error:
                self._error = error
            self._digest.update(data)
            self._num_bytes += size
        return size

    def check(self) -> None:
        """Raise the error of the first write that failed."""
        if self._error is not None:
            raise self._error

    def written(self) -> Written:
        """Return what was written."""
        return Written(self._num_bytes, self._digest.hexdigest())


@contextmanager
def _one_line(location: Location, what: str) -> Iterator[None]:
    """Turn what the operating system or a cloud says into one line."""
    try:
        yield
    except (OSError, pa.ArrowException) as error:
        text = " ".join(str(error).split())
        if isinstance(error, FileNotFoundError) and what == "read" and "BUCKET" not in text:
            raise FileMissingError(f"{location}: no such file") from None
        reason = reason_of(error, location.scheme, location.path)
        raise StorageError(f"{location}: cannot be {what} ({reason})") from None
