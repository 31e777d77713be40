"""The same promises on a disk and on an S3 server, and one line for whatever can go wrong."""

import io
import os
import pickle
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from common import filesystems, storage
from common.errors import ConfigError, FileMissingError, StorageError
from common.storage import Location, Written, locate

ABC = Written(3, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad")


@pytest.fixture(params=["disk", "s3"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Location:
    if request.param == "disk":
        return locate(tmp_path)
    return locate(request.getfixturevalue("bucket"))


def test_a_file_comes_back_as_it_was_written(place: Location) -> None:
    file = place / "deep" / "er" / "file.bin"
    assert file.write_bytes(b"abc") == ABC
    assert (file.read_bytes(), file.num_bytes(), file.checksum()) == (b"abc", 3, ABC)
    assert file.is_file()
    assert not file.is_dir()
    assert (place / "deep").is_dir()
    assert file.write_text("ε") == Written(2, file.checksum().sha256)
    assert file.read_text() == "ε"


def test_a_large_file_written_piece_by_piece_has_the_checksum_of_the_whole(place: Location) -> None:
    """Larger than what an object store takes in one part."""
    piece = bytes(range(256)) * 4096

    def fill(sink: io.RawIOBase) -> None:
        for _ in range(12):
            sink.write(piece)

    written = (place / "large").write(fill)
    assert written.num_bytes == 12 * len(piece)
    assert (place / "large").checksum() == written
    assert (place / "large").read_bytes() == 12 * piece


def test_a_folder_lists_what_lies_in_it(place: Location) -> None:
    folder = place / "folder"
    assert folder.names() == []
    for name in ("b", "a", "c/d"):
        (folder / name).write_bytes(b"x")
    assert folder.names() == ["a", "b", "c"]


def test_what_is_removed_is_gone(place: Location) -> None:
    folder = place / "folder"
    for name in ("a", "c/d"):
        (folder / name).write_bytes(b"x")
    (folder / "a").remove()
    assert folder.names() == ["c"]
    folder.remove()
    assert not folder.exists()
    folder.remove()


def test_what_is_not_there_is_not_there(place: Location) -> None:
    missing = place / "nowhere" / "file"
    assert not missing.exists()
    assert not missing.is_file()
    for read in (missing.read_bytes, missing.read_text, missing.checksum, missing.num_bytes):
        with pytest.raises(FileMissingError, match=r"nowhere/file: no such file$"):
            read()


def test_a_file_that_fails_halfway_leaves_the_former_one(place: Location) -> None:
    """An error of the file is found whatever its writer makes of it."""
    file = place / "file"
    file.write_bytes(b"former")

    class Broken(io.RawIOBase):
        def write(self, data: bytes) -> int:
            raise OSError(28, "No space left on device")

    def fill(sink: storage._Sink) -> None:
        sink._file = Broken()
        assert sink.write(b"half") == 4
        assert sink.write(b"of it") == 5

    with pytest.raises(StorageError, match=r"file: cannot be written .*No space left on device"):
        file.write(fill)
    if place.is_local:
        assert file.read_bytes() == b"former"
        assert place.names() == ["file"]


def test_a_full_disk_leaves_the_former_file_and_no_other(tmp_path: Path) -> None:
    file = locate(tmp_path / "file")
    file.write_bytes(b"former")
    (tmp_path / "file.partial").symlink_to("/dev/full")
    with pytest.raises(StorageError) as caught:
        file.write_bytes(b"new")
    assert str(caught.value) == f"{file}: cannot be written (No space left on device)"
    assert (file.read_bytes(), os.listdir(tmp_path)) == (b"former", ["file"])
    file.write_bytes(b"new")
    assert file.read_bytes() == b"new"


def test_a_place_travels_between_processes(bucket: str) -> None:
    file = locate(bucket) / "folder" / "file"
    copy = pickle.loads(pickle.dumps(file))
    assert copy == file
    file.write_bytes(b"abc")
    assert copy.read_bytes() == b"abc"


def test_names_are_kept_for_messages_and_places_are_compared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    short, long = locate("runs/a"), locate(tmp_path / "runs" / "a")
    assert (str(short), short.path) == ("runs/a", str(tmp_path / "runs" / "a"))
    assert short == long == locate(f"file://{tmp_path}/runs/a") == locate(long)
    monkeypatch.chdir("/")
    short.write_bytes(b"abc")
    assert long.read_bytes() == b"abc"
    assert str(short / "b.c") == "runs/a/b.c"
    assert str((short / "b.c").with_suffix(".json")) == "runs/a/b.json"
    assert locate("s3://b/k/").path == "b/k"
    assert locate("s3://b/").path == "b"
    assert locate("gs://b/k d").path == locate("gs://b/k%20d").path == "b/k d"
    assert (locate("s3://b") / "k.x").with_suffix(".y") == locate("s3://b/k.y")
    assert (locate("s3://b/k") / "x").name == "x"


@pytest.mark.parametrize(
    ("uri", "words"),
    [
        ("s3://AKIA:hunter2@bucket/x", ["s3://bucket/x", "AWS_SECRET_ACCESS_KEY"]),
        ("gs://anonymous@bucket/x", ["gs://bucket/x", "credentials"]),
        ("s3://bucket/x?endpoint_override=hunter2", ["s3://bucket/x", "AWS_ENDPOINT_URL"]),
        ("s3://bucket/x#hunter2", ["s3://bucket/x"]),
        ("ftp://host/x", ["ftp", "s3"]),
        ("s3:///x", ["s3:///x", "bucket"]),
        ("s3:/bucket/x", ["two slashes"]),
        ("file://host/x", ["file:///path"]),
    ],
)
def test_a_uri_that_is_more_or_less_than_a_place_is_refused(uri: str, words: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        locate(uri)
    assert "hunter2" not in str(caught.value)
    for word in words:
        assert word in str(caught.value)


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("AWS_ENDPOINT_URL", "localhost:9000", "http://host:port"),
        ("AWS_SECRET_ACCESS_KEY", "", "set both, or none"),
    ],
)
def test_an_environment_that_cannot_be_right_is_refused(
    name: str, value: str, words: str, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(ConfigError, match=words):
        locate(bucket).names()


def assert_one_line(error: BaseException, *words: str) -> None:
    assert "\n" not in str(error)
    for word in words:
        assert word in str(error)


def test_a_missing_bucket_gets_one_line(bucket: str) -> None:
    nowhere = locate("s3://no-such-bucket/run")
    for use in (lambda: (nowhere / "file").write_bytes(b"x"), nowhere.names):
        try:
            assert use() == []  # an empty answer is right as well: nothing is there
        except StorageError as error:
            assert_one_line(error, "s3://no-such-bucket/run", "there is no bucket 'no-such-bucket'")
    with pytest.raises(StorageError, match="there is no bucket 'no-such-bucket'; create it"):
        (nowhere / "file").write_bytes(b"x")


class Refusing(BaseHTTPRequestHandler):
    """Answers everything as S3 answers a key that it does not know."""

    def refuse(self) -> None:
        size = int(self.headers.get("Content-Length") or 0)
        self.rfile.read(size)
        body = (
            b"<?xml version='1.0' encoding='UTF-8'?><Error><Code>InvalidAccessKeyId</Code>"
            b"<Message>The AWS Access Key Id you provided does not exist in our records."
            b"</Message></Error>"
        )
        self.send_response(403)
        self.send_header("Content-Type", "application/xml")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    do_GET = do_HEAD = do_PUT = do_POST = refuse

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def refusing(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Refusing)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    use_endpoint(monkeypatch, server.server_port)
    yield
    server.shutdown()
    thread.join()
    server.server_close()


def use_endpoint(monkeypatch: pytest.MonkeyPatch, port: int) -> None:
    monkeypatch.setattr(filesystems, "S3_MAX_ATTEMPTS", 1)
    monkeypatch.setattr(filesystems, "S3_CONNECT_TIMEOUT_S", 1.0)
    monkeypatch.setattr(filesystems, "S3_REQUEST_TIMEOUT_S", 1.0)
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{port}")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "wrong")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")


@pytest.mark.parametrize("use", ["names", "exists", "read_bytes", "write"])
def test_wrong_credentials_get_one_line(use: str, refusing: None) -> None:
    with pytest.raises(StorageError) as caught:
        do(locate("s3://bucket/run"), use)
    assert not isinstance(caught.value, FileMissingError)
    assert_one_line(caught.value, "s3://bucket/run", "access denied", "AWS_ACCESS_KEY_ID")


@pytest.mark.parametrize("use", ["names", "write"])
@pytest.mark.parametrize("there", ["nobody", "somebody who is silent"])
def test_no_answer_gets_one_line(there: str, use: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
        if there == "nobody":
            listening.close()
        use_endpoint(monkeypatch, port)
        with pytest.raises(StorageError) as caught:
            do(locate("s3://bucket/run"), use)
    assert_one_line(caught.value, "s3://bucket/run", f"no answer from http://127.0.0.1:{port}")


def do(location: Location, use: str) -> None:
    if use == "write":
        location.write_bytes(b"x")
    else:
        getattr(location, use)()
