"""An S3 server on this machine, in a process of its own: moto's, with no bucket in it."""

import os
import subprocess
import sys
import urllib.request

import pytest

_SERVER = """
import sys
from moto.server import ThreadedMotoServer
server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
server.start()
print(server.get_host_and_port()[1], flush=True)
sys.stdin.read()  # until this end of the pipe is closed
server.stop()
"""


class ObjectStore:
    """The server; `buckets` counts those that were made."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-W", "ignore", "-c", _SERVER],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=os.environ | {"PYTHONWARNINGS": "ignore"},
            text=True,
        )
        assert self._process.stdout is not None
        self.endpoint = f"http://127.0.0.1:{int(self._process.stdout.readline())}"
        self.buckets = 0

    def new_bucket(self) -> str:
        """Make a bucket and return its name."""
        self.buckets += 1
        name = f"bucket-{self.buckets}"
        request = urllib.request.Request(f"{self.endpoint}/{name}", method="PUT")
        with urllib.request.urlopen(request):
            return name

    def use(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Let this process, and those that it starts, take the server for S3."""
        monkeypatch.setenv("AWS_ENDPOINT_URL", self.endpoint)
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")

    def close(self) -> None:
        """End the process."""
        self._process.communicate(timeout=30)
