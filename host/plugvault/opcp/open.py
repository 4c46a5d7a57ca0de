"""Open mode: a client needs no token for any role, and every answer has a warning.

`plugvault.opcp.rights` accepts the calls. This middleware adds the warning and serves the paths of
the quick start of 2018, which had no tokens and answered a provisioning certificate with 201. Its
POST of an installation returned all contracts of a vehicle; here it returns one, as OPCP does now.
"""

from starlette.types import ASGIApp, Message, Receive, Scope, Send

HEADER = "X-Open-Mode"
WARNING = "OPEN MODE: anyone may play any role without a token"
PREFIX = "/HubjectWS/webresources"
_CREATED = ("PUT", "/v1/oem/provCerts")


class OpenMode:
    """ASGI middleware: a warning in a header of every answer, and the prefix of the old paths
    removed."""

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

        async def send_with_warning(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [
                    *message.get("headers", ()),
                    (HEADER.encode(), WARNING.encode()),
                ]
                if old and (scope["method"], scope["path"]) == _CREATED:
                    message["status"] = {200: 201}.get(message["status"], message["status"])
            await send(message)

        await self._app(scope, receive, send_with_warning)
