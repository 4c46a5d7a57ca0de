"""Open mode: anyone may play any role without a token, and every answer says so.

Who plays is `plugvault.opcp.rights`' work; this makes it loud, and serves the paths that clients
of 2018's quick start use, which knew no tokens. There a provisioning certificate was answered
with 201. That quick start's POST of an installation gave all contracts of a vehicle; here it
gives one, as OPCP does now.
"""

from starlette.types import ASGIApp, Message, Receive, Scope, Send

HEADER = "X-Open-Mode"
WARNING = "OPEN MODE: anyone may play any role without a token"
PREFIX = "/HubjectWS/webresources"
_CREATED = ("PUT", "/v1/oem/provCerts")


class OpenMode:
    """ASGI middleware: a header on every answer, and the old prefix taken off paths."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        old = scope["path"].startswith(f"{PREFIX}/")
        if old:
            path = scope["path"].removeprefix(PREFIX)
            scope = {**scope, "path": path, "raw_path": path.encode()}

        async def loud(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [
                    *message.get("headers", ()),
                    (HEADER.encode(), WARNING.encode()),
                ]
                if old and (scope["method"], scope["path"]) == _CREATED:
                    message["status"] = {200: 201}.get(message["status"], message["status"])
            await send(message)

        await self._app(scope, receive, loud)
