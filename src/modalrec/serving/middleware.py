"""Around every request: a limit of its body, and what is counted of it."""

import time

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from modalrec.serving.metrics import Meters
from modalrec.serving.problems import Refused


class BodyLimit:
    """Refuses longer bodies, by what they say of themselves and by what comes."""

    def __init__(self, app: ASGIApp, max_bytes: int) -> None:
        self.app = app
        self.max_bytes = max_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes the request on, its body measured."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        said = dict(scope["headers"]).get(b"content-length", b"0")
        came = int(said) if said.isdigit() else 0

        async def measured() -> Message:
            nonlocal came
            self._check(came)
            message = await receive()
            if not said.isdigit() or said == b"0":
                came += len(message.get("body", b""))
                self._check(came)
            return message

        await self.app(scope, measured, send)

    def _check(self, came: int) -> None:
        if came > self.max_bytes:
            detail = f"the body has {came:,} bytes or more, at most {self.max_bytes:,} are read"
            raise Refused(413, detail, "send fewer histories in a request, or shorter ones")


class Measured:
    """Counts requests and times them, by route and status."""

    def __init__(self, app: ASGIApp, meters: Meters) -> None:
        self.app = app
        self.meters = meters

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes the request on and looks at the clock."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        begin, status = time.perf_counter(), 500

        async def noted(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self.app(scope, receive, noted)
        finally:
            # By its pattern: addresses that do not exist would fill the registry.
            route = getattr(scope.get("route"), "path", "none")
            self.meters.requests.labels(route, str(status)).inc()
            self.meters.seconds.labels(route).observe(time.perf_counter() - begin)
