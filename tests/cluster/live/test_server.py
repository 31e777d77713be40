"""The live page's server, asked over real connections on loopback."""

import asyncio
from collections.abc import Awaitable, Callable, Generator
from typing import Any

import aiohttp
import pytest

from cluster.live.server import LiveServer
from common.errors import ResourceError


class Run:
    """A run that remembers what was wanted of it."""

    def __init__(self) -> None:
        self.wanted: list[dict[str, object]] = []

    def state(self) -> dict[str, Any]:
        return {"name": "a", "asked": len(self.wanted)}

    def charts(self) -> dict[str, Any]:
        return {"charts": [{"title": "loss"}], "dark": {}}

    def want(self, **changes: object) -> None:
        if changes.get("num_env_runners") == 1:
            raise ResourceError("--env-runners 1: a needs at least 2")
        self.wanted.append(changes)


def pictures() -> Generator[bytes | None]:
    yield from (b"first", None, b"second")


Visit = Callable[[aiohttp.ClientSession, LiveServer, Run], Awaitable[None]]


def visited(visit: Visit) -> None:
    """Serve a run, and let `visit` ask for what it likes."""

    async def serve() -> None:
        run = Run()
        server = LiveServer(run, pictures=pictures, plotly="// plotly")
        jar = aiohttp.CookieJar(unsafe=True)  # cookies of an address that is no name
        async with server.serving(), aiohttp.ClientSession(cookie_jar=jar) as session:
            await visit(session, server, run)

    asyncio.run(serve())


def base(server: LiveServer) -> str:
    return server.url.partition("/?")[0]


@pytest.mark.parametrize(
    "path", ["/", "/state", "/charts", "/game", "/plotly.js", "/live.js", "/live.css", "/draw.js"]
)
def test_without_the_token_nothing_is_given(path: str) -> None:
    async def visit(session: aiohttp.ClientSession, server: LiveServer, run: Run) -> None:
        for suffix in ("", "?token=", "?token=wrong", f"?token={server.token[:-1]}"):
            async with session.get(base(server) + path + suffix) as response:
                assert response.status == 401, suffix

    visited(visit)


def test_without_the_token_nothing_is_wanted() -> None:
    async def visit(session: aiohttp.ClientSession, server: LiveServer, run: Run) -> None:
        async with session.post(f"{base(server)}/want", json={"stop": True}) as response:
            assert response.status == 401
        assert run.wanted == []

    visited(visit)


def test_the_address_with_the_token_opens_the_page_and_leaves_the_address_bar() -> None:
    async def visit(session: aiohttp.ClientSession, server: LiveServer, run: Run) -> None:
        async with session.get(server.url) as response:
            assert response.status == 200
            assert response.url.query_string == ""
            assert "<title>Stillhouse</title>" in await response.text()
            assert "default-src 'none'" in response.headers["Content-Security-Policy"]
        for path, kind in (
            ("/live.js", "text/javascript"),
            ("/draw.js", "text/javascript"),
            ("/live.css", "text/css"),
        ):
            async with session.get(base(server) + path) as response:
                assert response.content_type == kind
                assert response.headers["X-Content-Type-Options"] == "nosniff"
        async with session.get(f"{base(server)}/plotly.js") as response:
            assert await response.text() == "// plotly"
        async with session.get(f"{base(server)}/state") as response:
            assert await response.json() == {"name": "a", "asked": 0}
        async with session.get(f"{base(server)}/charts") as response:
            assert (await response.json())["charts"] == [{"title": "loss"}]

    visited(visit)


def test_the_cookie_is_for_this_page_alone() -> None:
    async def visit(session: aiohttp.ClientSession, server: LiveServer, run: Run) -> None:
        async with session.get(server.url, allow_redirects=False) as response:
            (cookie,) = response.cookies.values()
        assert cookie["httponly"]
        assert cookie["samesite"] == "Strict"
        assert base(server).rpartition(":")[2] in cookie.key

    visited(visit)


def test_a_foreign_name_for_this_machine_is_refused() -> None:
    async def visit(session: aiohttp.ClientSession, server: LiveServer, run: Run) -> None:
        headers = {"Host": "attacker.example"}
        async with session.get(server.url, headers=headers) as response:
            assert response.status == 403

    visited(visit)


def test_what_is_wanted_reaches_the_run() -> None:
    async def visit(session: aiohttp.ClientSession, server: LiveServer, run: Run) -> None:
        await session.get(server.url)
        for changes in ({"num_env_runners": 3}, {"paused": True}, {"stop": True}):
            async with session.post(f"{base(server)}/want", json=changes) as response:
                assert response.status == 200
        assert run.wanted == [{"num_env_runners": 3}, {"paused": True}, {"stop": True}]

    visited(visit)


@pytest.mark.parametrize(
    ("sent", "status", "words"),
    [
        ({"num_env_runners": 1}, 409, "a needs at least 2"),
        ({"num_env_runners": "many"}, 400, "num_env_runners"),
        ({"delete": True}, 400, "delete"),
    ],
)
def test_what_cannot_be_had_is_said(sent: dict[str, Any], status: int, words: str) -> None:
    async def visit(session: aiohttp.ClientSession, server: LiveServer, run: Run) -> None:
        await session.get(server.url)
        async with session.post(f"{base(server)}/want", json=sent) as response:
            assert response.status == status
            assert words in (await response.json())["error"]
        assert run.wanted == []

    visited(visit)


def test_a_form_of_another_site_is_no_wish() -> None:
    async def visit(session: aiohttp.ClientSession, server: LiveServer, run: Run) -> None:
        await session.get(server.url)
        async with session.post(f"{base(server)}/want", data='{"stop": true}') as response:
            assert response.status == 415
        assert run.wanted == []

    visited(visit)


def test_the_game_comes_picture_by_picture() -> None:
    async def visit(session: aiohttp.ClientSession, server: LiveServer, run: Run) -> None:
        await session.get(server.url)
        async with session.get(f"{base(server)}/game") as response:
            assert response.content_type == "multipart/x-mixed-replace"
            body = await response.read()
        assert body.count(b"--picture\r\n") == 3, "the last only ends the one before"
        assert body.index(b"first") < body.index(b"second")

    visited(visit)
