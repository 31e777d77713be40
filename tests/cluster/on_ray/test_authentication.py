import os
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from cluster.on_ray.authentication import protect_local_token


@pytest.fixture
def token(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the token of a user without one will lie."""
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path / ".ray" / "auth_token"


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_token_is_made_that_only_its_user_reads(token: Path) -> None:
    protect_local_token()
    assert mode(token) == 0o600
    assert len(bytes.fromhex(token.read_text())) == 32
    assert os.listdir(token.parent) == ["auth_token"]


def test_a_token_is_kept_and_narrowed(token: Path) -> None:
    token.parent.mkdir()
    token.write_text("kept")
    token.chmod(0o644)
    protect_local_token()
    assert token.read_text() == "kept"
    assert mode(token) == 0o600


def test_processes_that_start_together_use_one_token(token: Path) -> None:
    def start(_: int) -> str:
        protect_local_token()
        return token.read_text()

    with ThreadPoolExecutor(8) as pool:
        assert len(set(pool.map(start, range(64)))) == 1


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("RAY_AUTH_MODE", "disabled"),
        ("RAY_AUTH_TOKEN", "given"),
        ("RAY_AUTH_TOKEN_PATH", "/run/secrets/token"),
    ],
)
def test_what_the_environment_says_stands(
    token: Path, monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(name, value)
    protect_local_token()
    assert not token.exists()
