"""A Ray head of its own, in token mode, as deploy/ starts one; for the tests of who may join."""

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

import grpc
import psutil

DEADLINE_S = 120.0
_RAY = [sys.executable, "-c", "from ray.scripts.scripts import main; main()"]


@dataclass(frozen=True, slots=True)
class Answer:
    """What the job API said."""

    status: int
    text: str


class RayHead:
    """A head on loopback that asks for a token; everything of it ends with the block.

    Args:
        folder: where the token lies.
        token: what the head asks for.
        num_cpus: of the head node.
    """

    def __init__(self, folder: Path, token: str, *, num_cpus: int = 1) -> None:
        self.token_file = folder / "auth_token"
        self.token_file.touch(mode=0o600)
        self.token_file.write_text(token)
        self._token = token
        # Not the test's folder: the names of Ray's sockets would be too long.
        self._temporary = tempfile.TemporaryDirectory(prefix="sh-")
        self.logs = Path(self._temporary.name)
        gcs, dashboard, client, agent = free_ports(4)
        self.address = f"127.0.0.1:{gcs}"
        self.client_address = f"ray://127.0.0.1:{client}"
        self.url = f"http://127.0.0.1:{dashboard}"
        self._nodes = [
            self._start(
                "--head",
                f"--num-cpus={num_cpus}",
                f"--port={gcs}",
                "--dashboard-host=127.0.0.1",
                f"--dashboard-port={dashboard}",
                f"--ray-client-server-port={client}",
                f"--dashboard-agent-listen-port={agent}",
                f"--temp-dir={self.logs}",
            )
        ]

    def __enter__(self) -> Self:
        deadline = time.monotonic() + DEADLINE_S
        while time.monotonic() < deadline:
            assert self._nodes[0].poll() is None, "the head does not start"
            try:
                if self.ask("/api/jobs/", self._token).status == 200:
                    return self
            except OSError:
                pass
            time.sleep(0.2)
        raise TimeoutError("the head does not answer")

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        family = list(self.processes())
        for node in self._nodes:
            node.send_signal(signal.SIGTERM)
        for node in self._nodes:
            try:
                node.wait(30)
            except subprocess.TimeoutExpired:
                node.kill()
                node.wait()
        for process in psutil.wait_procs(family, timeout=10)[1]:
            process.kill()
        self._temporary.cleanup()

    def add_node(self, *, num_cpus: int) -> None:
        """Start one more node, which holds the token, and wait until the head knows it.

        Nodes of one machine that start together choose the same names for their sockets.
        """
        [agent] = free_ports(1)
        self._nodes.append(
            self._start(
                f"--address={self.address}",
                f"--num-cpus={num_cpus}",
                f"--dashboard-agent-listen-port={agent}",
            )
        )
        deadline = time.monotonic() + DEADLINE_S
        while self.num_nodes() < len(self._nodes):
            assert self._nodes[-1].poll() is None, "the node does not start"
            assert time.monotonic() < deadline, "the node does not join"
            time.sleep(0.2)

    def num_nodes(self) -> int:
        """Return how many nodes the head knows."""
        answer = json.loads(self.ask("/nodes?view=summary", self._token).text)
        return len(answer["data"]["summary"])

    def processes(self) -> Iterator[psutil.Process]:
        """Yield every process that the nodes started."""
        for node in self._nodes:
            with suppress(psutil.NoSuchProcess):
                yield from psutil.Process(node.pid).children(recursive=True)

    def environment(self, token_file: Path | None) -> dict[str, str]:
        """Return an environment for a process that holds this token file, or none."""
        mine = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
        mine["HOME"] = str(self.token_file.parent / "nobody")  # no token of the user's own
        if token_file is not None:
            mine |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(token_file)}
        return mine

    def ports(self) -> set[int]:
        """Return every port on which a process of the head listens."""
        found: set[int] = set()
        for process in self.processes():
            with suppress(psutil.NoSuchProcess):  # idle workers come and go
                connections = process.net_connections("tcp")
                found |= {c.laddr.port for c in connections if c.status == psutil.CONN_LISTEN}
        return found

    def _start(self, *options: str) -> subprocess.Popen[bytes]:
        """Start a node, deaf to Ctrl-C.

        In this session: Linux shares a machine out by sessions first, and a process that starts on
        one node would wait for the idle class of another node.
        """
        everywhere = ("--block", "--node-ip-address=127.0.0.1", "--disable-usage-stats")
        return subprocess.Popen(
            [*_RAY, "start", *everywhere, "--object-store-memory=100000000", *options],
            env=self.environment(self.token_file),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            process_group=0,
        )

    def call(self, port: int, method: str) -> grpc.StatusCode:
        """Call a method of Ray's own protocol, without a token and with an empty message."""
        with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
            try:
                channel.unary_unary(method)(b"", timeout=DEADLINE_S)
            except grpc.RpcError as error:
                return error.code()
        return grpc.StatusCode.OK

    def ask(self, path: str, token: str | None, body: bytes | None = None) -> Answer:
        """Ask the dashboard, which serves the job API; with a body, post it."""
        request = urllib.request.Request(self.url + path, data=body)
        if token is not None:
            request.add_header("Authorization", f"Bearer {token}")
        if body is not None:
            request.add_header("Content-Type", "application/json")
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                return Answer(answer.status, answer.read().decode())
        except urllib.error.HTTPError as error:
            with error:
                return Answer(error.code, error.read().decode())


def run_ray(*words: str, environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """Run Ray's own command line."""
    return run_python(
        "from ray.scripts.scripts import main; main()", *words, environment=environment
    )


def run_python(
    code: str, *words: str, environment: dict[str, str]
) -> subprocess.CompletedProcess[str]:
    """Run Python code in a process of its own."""
    return subprocess.run(
        [sys.executable, "-c", code, *words],
        env=environment,
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        check=False,
    )


@contextmanager
def _bound() -> Iterator[int]:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        yield listener.getsockname()[1]


def free_ports(count: int) -> list[int]:
    """Return ports that nobody uses, all different."""
    if count == 0:
        return []
    with _bound() as port:
        return [port, *free_ports(count - 1)]
