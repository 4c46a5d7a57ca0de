"""Refuse bodies that are too large before they are read into memory."""

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from plugvault.opcp.errors import answer

LIMIT = 65_536  # bytes: the largest body, a signed bundle as base64 of XML, has about 9,000
DIGITS = 20  # of a `Content-Length`: Python refuses to read thousands of them


class BodyLimit:
    """ASGI middleware: 413 for a body over LIMIT bytes, whether `Content-Length` states its length
    or not. The application gets each body in one piece."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        announced = dict(scope["headers"]).get(b"content-length", b"0")
        if not announced.isdigit() or len(announced) > DIGITS or int(announced) > LIMIT:
            await self._refuse(scope, receive, send)
            return
        body, more = bytearray(), True
        while more:
            message = await receive()
            if message["type"] != "http.request":
                return  # the client went away
            body += message.get("body", b"")
            if len(body) > LIMIT:
                await self._refuse(scope, receive, send)
                return
            more = message.get("more_body", False)
        whole: list[Message] = [{"type": "http.request", "body": bytes(body)}]

        async def replay() -> Message:
            return whole.pop() if whole else await receive()

        await self._app(scope, replay, send)

    async def _refuse(self, scope: Scope, receive: Receive, send: Send) -> None:
        refusal = answer(413, [f"The body is larger than {LIMIT} bytes."])
        await refusal(scope, receive, send)
