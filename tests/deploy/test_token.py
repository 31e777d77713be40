"""A real head in token mode: who holds the token may join and submit, everybody else is refused."""

import hashlib
import json
import time
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest

from tests.deploy.ray_head import DEADLINE_S, RayHead, run_python, run_ray

TOKEN = hashlib.sha256(b"the head's").hexdigest()
OTHER = hashlib.sha256(b"another's").hexdigest()
IMPATIENT = {"RAY_NUM_REDIS_GET_RETRIES": "1"}
"""Ray asks a head that refuses it once, not twenty times."""

JOIN = """
import sys
from cluster.on_ray.backend import RayBackend
from common.errors import UserError
try:
    backend = RayBackend(address=sys.argv[1], num_cpus=1)
except UserError as error:
    sys.exit(f"refused: {error}")
backend.close()
print("joined")
"""

pytestmark = [pytest.mark.ray, pytest.mark.slow]


@pytest.fixture(scope="module")
def head(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RayHead]:
    with RayHead(tmp_path_factory.mktemp("head"), TOKEN) as head:
        yield head


@pytest.fixture(scope="module")
def worker(head: RayHead) -> Iterator[None]:
    """A worker's process, that of a job which waits."""
    name = submit(head, "sleep 600")
    wait_until(head, name, "RUNNING")
    yield
    assert head.ask(f"/api/jobs/{name}/stop", TOKEN, b"").status == 200
    wait_until(head, name, "STOPPED")


@pytest.fixture
def other_token(tmp_path: Path) -> Path:
    path = tmp_path / "other_token"
    path.write_text(OTHER)
    return path


def job(command: str) -> bytes:
    return json.dumps({"entrypoint": command}).encode()


def submit(head: RayHead, command: str) -> str:
    """Submit a job with the token, once the head's agent is there to take it; return its name."""
    deadline = time.monotonic() + DEADLINE_S
    while (answer := head.ask("/api/jobs/", TOKEN, job(command))).status == 500:
        assert "No available agent" in answer.text
        assert time.monotonic() < deadline, answer.text
        time.sleep(0.2)
    assert answer.status == 200, answer.text
    name: str = json.loads(answer.text)["submission_id"]
    return name


def wait_until(head: RayHead, name: str, status: str) -> None:
    """Wait for a job to get there."""
    deadline = time.monotonic() + DEADLINE_S
    while (state := json.loads(head.ask(f"/api/jobs/{name}", TOKEN).text))["status"] != status:
        assert state["status"] in ("PENDING", "RUNNING"), state
        assert time.monotonic() < deadline, state
        time.sleep(0.2)


@pytest.mark.parametrize(("token", "status"), [(None, 401), (OTHER, 403), ("", 403)])
@pytest.mark.parametrize("path", ["/api/jobs/", "/api/cluster_status", "/nodes?view=summary"])
def test_the_job_api_refuses_who_has_no_token(
    head: RayHead, path: str, token: str | None, status: int
) -> None:
    assert head.ask(path, token).status == status


def test_a_job_without_the_token_is_refused_and_one_with_it_runs(
    head: RayHead, tmp_path: Path
) -> None:
    forbidden, allowed = tmp_path / "forbidden", tmp_path / "allowed"
    for token, status in ((None, 401), (OTHER, 403)):
        assert head.ask("/api/jobs/", token, job(f"touch {forbidden}")).status == status
    name = submit(head, f"touch {allowed}")
    wait_until(head, name, "SUCCEEDED")
    assert allowed.exists()
    assert not forbidden.exists()
    listed = json.loads(head.ask("/api/jobs/", TOKEN).text)
    assert name in [each["submission_id"] for each in listed]


@pytest.mark.parametrize(
    "method",
    [
        "NodeInfoGcsService/GetAllNodeInfo",
        "NodeManagerService/GetSystemConfig",
        "ObjectManagerService/Pull",
        "CoreWorkerService/PushTask",
        "ReporterService/GetTraceback",
    ],
)
def test_no_process_of_ray_answers_a_call_without_the_token(
    head: RayHead, worker: None, method: str
) -> None:
    answers = {head.call(port, f"/ray.rpc.{method}") for port in head.ports()}
    no_such_method = {grpc.StatusCode.UNIMPLEMENTED, grpc.StatusCode.UNAVAILABLE}
    assert answers - no_such_method == {grpc.StatusCode.UNAUTHENTICATED}


def test_a_program_with_the_token_joins(head: RayHead) -> None:
    joined = run_python(JOIN, head.address, environment=head.environment(head.token_file))
    assert joined.stdout == "joined\n", joined.stderr


@pytest.mark.parametrize("holds", ["nothing", "another token"])
def test_a_program_without_the_token_is_refused_in_one_line(
    head: RayHead, other_token: Path, holds: str
) -> None:
    environment = head.environment(None if holds == "nothing" else other_token) | IMPATIENT
    refused = run_python(JOIN, head.address, environment=environment)
    assert refused.returncode == 1, refused.stdout
    [line] = [line for line in refused.stderr.splitlines() if line.startswith("refused: ")]
    assert "asks for its token" in line
    assert head.address in line


def test_a_node_without_the_token_does_not_join(head: RayHead, other_token: Path) -> None:
    environment = head.environment(other_token) | IMPATIENT
    refused = run_ray("start", f"--address={head.address}", environment=environment)
    assert refused.returncode != 0, refused.stdout
    assert head.num_nodes() == 1


def test_the_token_is_in_no_log(head: RayHead) -> None:
    files = [path for path in head.logs.rglob("*") if path.is_file()]
    assert len(files) > 5
    for path in files:
        assert TOKEN.encode() not in path.read_bytes(), path
