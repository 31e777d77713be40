"""Serves the live page of one run, on this machine's loopback, to whoever has the token.

The token comes in the address that the command prints. The first request with it gets a cookie
that only this page's own requests carry (`SameSite=Strict`), so that no other site, open in the
same browser, can steer the run. A request for another host name is refused too: a name that
somebody makes point to 127.0.0.1 is not this machine's.
"""

import asyncio
import hmac
import logging
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from importlib.resources import files
from importlib.resources.abc import Traversable
from typing import Any, Protocol

from aiohttp import web
from pydantic import ValidationError

from cluster.board import Wanted
from common.errors import StillhouseError
from common.threads import give_way

logger = logging.getLogger(__name__)

HOST = "127.0.0.1"
PAGE = files("cluster.live") / "page"
BOUNDARY = "picture"

ASSETS = {
    "/live.css": (PAGE, "text/css"),
    "/live.js": (PAGE, "text/javascript"),
    "/draw.js": (files("cluster.report") / "templates", "text/javascript"),
}
"""By their paths: where they lie, and of what type they are."""

HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": (
        "default-src 'none'; connect-src 'self'; img-src 'self' data:; script-src 'self'; "
        "style-src 'self' 'unsafe-inline'; frame-ancestors 'none'; form-action 'none'"
    ),  # plotly.js writes styles into the page
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}

Pictures = Generator[bytes | None]
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class LiveRun(Protocol):
    """A run as the page shows it. Its methods may wait, and are called from threads."""

    def state(self) -> dict[str, Any]:
        """Return how the run is now."""

    def charts(self) -> dict[str, Any]:
        """Return its curves as plotly's figures, and which colours stand for which in the dark."""

    def want(self, **changes: object) -> None:
        """Write down what is wanted of the run.

        Raises:
            StillhouseError: it cannot be had.
        """


class LiveServer:
    """The page and what it asks for.

    Args:
        run: what is shown.
        pictures: starts games to be watched, as JPEG files in their own time; None for no news.
        plotly: the source of plotly.js.
        token: what a first request must bring; a new one by default.
    """

    def __init__(
        self,
        run: LiveRun,
        *,
        pictures: Callable[[], Pictures],
        plotly: str,
        token: str | None = None,
    ) -> None:
        self.token = token or secrets.token_urlsafe(32)
        self._run = run
        self._pictures = pictures
        self._plotly = plotly
        self._port = 0

    @property
    def url(self) -> str:
        """The page's address, token included."""
        return f"http://{HOST}:{self._port}/?token={self.token}"

    @asynccontextmanager
    async def serving(self, port: int = 0) -> AsyncIterator[None]:
        """Serve in here.

        Args:
            port: of loopback; 0 for one that is free.

        Raises:
            OSError: the port is taken.
        """
        app = web.Application(middlewares=[self._guard])
        app.router.add_get("/", self._page)
        app.router.add_get("/plotly.js", self._library)
        app.router.add_get("/state", self._state)
        app.router.add_get("/charts", self._charts)
        app.router.add_get("/game", self._game)
        app.router.add_post("/want", self._want)
        for path in ASSETS:
            app.router.add_get(path, self._asset)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
        await runner.setup()
        try:
            site = web.TCPSite(runner, HOST, port)
            await site.start()
            self._port = runner.addresses[0][1]
            yield
        finally:
            await runner.cleanup()

    @property
    def _cookie(self) -> str:
        # Cookies belong to a host, whatever the port: two pages must not take each other's.
        return f"stillhouse-{self._port}"

    @web.middleware
    async def _guard(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        if request.host not in (f"{HOST}:{self._port}", f"localhost:{self._port}"):
            raise web.HTTPForbidden(text="not the address that was printed\n", headers=HEADERS)
        given = request.query.get("token")
        brought = request.cookies.get(self._cookie, "") if given is None else given
        if not hmac.compare_digest(brought.encode(), self.token.encode()):
            raise web.HTTPUnauthorized(
                text="open the address that stillhouse watch --web printed, token included\n",
                headers=HEADERS,
            )
        response = await handler(request)
        if not response.prepared:
            response.headers.update(HEADERS)
        return response

    async def _page(self, request: web.Request) -> web.StreamResponse:
        if "token" in request.query:  # out of the address bar, the history and the screenshots
            response = web.Response(status=303, headers={"Location": "/"})
            response.set_cookie(self._cookie, self.token, httponly=True, samesite="Strict")
            return response
        return web.Response(text=_read(PAGE, "index.html"), content_type="text/html")

    async def _asset(self, request: web.Request) -> web.StreamResponse:
        folder, content_type = ASSETS[request.path]
        return web.Response(text=_read(folder, request.path[1:]), content_type=content_type)

    async def _library(self, request: web.Request) -> web.StreamResponse:
        return web.Response(text=self._plotly, content_type="text/javascript")

    async def _state(self, request: web.Request) -> web.StreamResponse:
        return await _answered(self._run.state)

    async def _charts(self, request: web.Request) -> web.StreamResponse:
        return await _answered(self._run.charts)

    async def _want(self, request: web.Request) -> web.StreamResponse:
        if request.content_type != "application/json":
            raise web.HTTPUnsupportedMediaType(text="JSON is wanted\n", headers=HEADERS)
        try:
            wanted = Wanted.model_validate_json(await request.read())
        except ValidationError as error:
            return web.json_response({"error": str(error)}, status=400)
        changes = wanted.model_dump(exclude_unset=True)

        def want() -> dict[str, Any]:
            self._run.want(**changes)
            return self._run.state()

        return await _answered(want)

    async def _game(self, request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(
            headers=HEADERS | {"Content-Type": f"multipart/x-mixed-replace; boundary={BOUNDARY}"}
        )
        await response.prepare(request)
        # One thread plays, so that what ends the games comes after the picture under way.
        player = ThreadPoolExecutor(1, "live-game", initializer=give_way)
        loop, pictures = asyncio.get_running_loop(), self._pictures()
        try:
            picture: bytes | None = None
            while picture != b"":
                picture = await loop.run_in_executor(player, next, pictures, b"")
                if picture is not None:
                    await response.write(_part(picture))
        except ConnectionError:  # nobody watches any more
            pass
        except StillhouseError as error:
            logger.warning("no game is shown: %s", error)
        finally:
            player.submit(pictures.close)
            player.shutdown(wait=False)
        return response


def _part(picture: bytes) -> bytes:
    """Return a picture as the next of a stream; the empty one only ends that before it."""
    head = f"--{BOUNDARY}\r\nContent-Type: image/jpeg\r\nContent-Length: {len(picture)}\r\n\r\n"
    return head.encode() + picture + b"\r\n"


async def _answered(ask: Callable[[], Any]) -> web.StreamResponse:
    """Return what a run answers, as JSON, without holding the others up."""
    try:
        return web.json_response(await asyncio.to_thread(ask))
    except StillhouseError as error:
        return web.json_response({"error": str(error)}, status=409)


def _read(folder: Traversable, name: str) -> str:
    return (folder / name).read_text(encoding="utf-8")
