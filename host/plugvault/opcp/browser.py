"""What a browser may be made to ask: nothing for a page of somebody else's.

A server on a developer's machine is within reach of every web page in his browser. A form of a
foreign page is posted here without asking [Fetch, "simple" requests], and a name whose address
changes to this machine's lets that page read the answers as well (DNS rebinding). Browsers say
where a request comes from, and by which name they know this server; programs, which no page
steers, leave most of it out. So a request is refused

    by its Host             that is no name of this server
    by its Origin           that is another than this server's own
    by its Sec-Fetch-Site   that says "cross-site"

Every call, every page, with access tokens and without.
"""

import re
from collections.abc import Iterable
from ipaddress import ip_address
from urllib.parse import urlsplit

from starlette.types import ASGIApp, Receive, Scope, Send

from plugvault.opcp.errors import answer

FOREIGN_HOST = "This server has another name: start it with the --url that it is called by."
FOREIGN_PAGE = "A page of another origin asks; open this address by itself."

_LOOPBACK = ("localhost", "127.0.0.1", "::1")
_HOST = re.compile(rb"(?:\[([0-9A-Fa-f:.]{2,45})\]|([0-9A-Za-z_.-]{1,253}))(?::[0-9]{1,5})?")


class OwnPages:
    """ASGI middleware. `url`: what clients call this server by; `hosts`: further names."""

    def __init__(self, app: ASGIApp, url: str, hosts: Iterable[str] = ()) -> None:
        self._app = app
        at = urlsplit(url)
        self._names = {*map(str.lower, hosts), (at.hostname or "").lower(), *_LOOPBACK}
        self._at = at.netloc.lower().encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        words = self._refused(scope)
        if words:
            await answer(403, [words])(scope, receive, send)
            return
        await self._app(scope, receive, send)

    def _refused(self, scope: Scope) -> str:
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
        return address.is_loopback or name == server[0]  # the very address that was called
