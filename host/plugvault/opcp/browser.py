"""Requests that a foreign web page makes a browser send: they are refused.

Every web page in a developer's browser can reach a server on the same machine. The browser posts
a form of a foreign page without a question [Fetch, "simple" requests]. With DNS rebinding, a name
with an address that changes to this machine's, the page can read the answers as well. Browsers
state the origin of a request and the server's name. Other programs leave most of it out. So a
request is refused

    for a Host              that is no name of this server
    for an Origin           other than this server
    for a Sec-Fetch-Site    of "cross-site"

This holds for every call and every page, with and without access tokens.
"""

import re
from collections.abc import Iterable
from ipaddress import ip_address
from urllib.parse import urlsplit

from starlette.types import ASGIApp, Receive, Scope, Send

from plugvault.opcp.errors import answer

FOREIGN_HOST = "This server has another name: start it with this name in --url."
FOREIGN_PAGE = "The request comes from a page of another origin; open this address directly."

_LOOPBACK = ("localhost", "127.0.0.1", "::1")
_HOST = re.compile(rb"(?:\[([0-9A-Fa-f:.]{2,45})\]|([0-9A-Za-z_.-]{1,253}))(?::[0-9]{1,5})?")


class OwnPages:
    """ASGI middleware. `url`: of this server for its clients; `hosts`: further names."""

    def __init__(self, app: ASGIApp, url: str, hosts: Iterable[str] = ()) -> None:
        self._app = app
        at = urlsplit(url)
        self._names = {*map(str.lower, hosts), (at.hostname or "").lower(), *_LOOPBACK}
        self._at = at.netloc.lower().encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        refusal = self._refusal(scope)
        if refusal:
            await answer(403, [refusal])(scope, receive, send)
            return
        await self._app(scope, receive, send)

    def _refusal(self, scope: Scope) -> str:
        hosts = [value for name, value in scope["headers"] if name == b"host"]
        if not all(self._is_own(host, scope) for host in hosts):
            return FOREIGN_HOST
        for name, value in scope["headers"]:
            if name == b"sec-fetch-site" and value.lower() == b"cross-site":
                return FOREIGN_PAGE
            if name == b"origin":
                place = value.lower().partition(b"://")[2]
                if place != self._at and place not in map(bytes.lower, hosts):
                    return FOREIGN_PAGE
        return ""

    def _is_own(self, host: bytes, scope: Scope) -> bool:
        match = _HOST.fullmatch(host)
        if not match:
            return False
        name = (match[1] or match[2]).decode().lower().removesuffix(".")
        if name in self._names or name.endswith(".localhost"):  # [RFC 6761, 6.3]
            return True
        try:
            address = ip_address(name)
        except ValueError:
            return False
        server = scope.get("server") or ("",)
        return address.is_loopback or name == server[0]  # the address of this connection
