"""The receiver of webhook deliveries: it accepts a delivery only with a right HMAC.

OPCP signs with HMAC-SHA256 over the raw body and sends the same value under three header names.
The answers are 200: accepted; 409: the contract is rejected, do not try again; 503: try again.
"""

import hashlib
import hmac
import json
import logging
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from evcc.errors import EvccError
from plugvault import json_file
from plugvault.roles.state_file import EventError

log = logging.getLogger("plugvault.roles.receiver")

LIMIT = 65_536  # bytes of a delivery
DIGITS = 20  # of a `Content-Length`: Python refuses to read thousands of them
TIMEOUT = 10.0  # seconds without data from a sender
HEADERS = ("payload-signature", "x-hubject-signature", "x-operator-signature")

Take = Callable[[Mapping[str, Any]], str]


def is_signed(secret: str, body: bytes, headers: Mapping[str, str]) -> bool:
    """Whether one of the signature headers is right, and none of them wrong.

    `secret`: as the pool gave it; `headers`: by lower-case name.
    """
    expected = hmac.new(secret.encode(), body, hashlib.sha256).hexdigest().encode()
    values = [headers[name].removeprefix("sha256=") for name in HEADERS if name in headers]
    matches = [hmac.compare_digest(expected, value.lower().encode()) for value in values]
    return bool(matches) and all(matches)


def answer(take: Take, secret: str, body: bytes, headers: Mapping[str, str]) -> tuple[int, str]:
    """The HTTP status and the message for one delivery. `take`: see `Backend.take`."""
    if not is_signed(secret, body, headers):
        return 401, "The signature is not that of this webhook."
    try:
        event = json_file.parse(body)
    except json_file.JsonError as error:
        return 400, f"Not an event: {type(error).__name__}."
    try:
        reason = take(event)
    except EventError as error:
        return 400, f"Not an event: {type(error).__name__}."
    except EvccError as error:  # of the pool, or of the receiver's own disk
        return 503, f"Try again: {error}"
    except Exception:  # the delivery must not be lost
        log.exception("a delivery")
        return 503, "Try again: internal"
    return (409, reason) if reason else (200, "")


@contextmanager
def receiving(
    take: Take, secret: Callable[[], str], host: str = "127.0.0.1", port: int = 0
) -> Iterator[str]:
    """Receive deliveries in a thread. The context gives the URL to register. `secret()`: the
    secret that the pool gave for this URL. Raises OSError."""

    class Handler(BaseHTTPRequestHandler):
        timeout = TIMEOUT

        def do_POST(self) -> None:
            length = self.headers.get("Content-Length", "")
            if not length.isdecimal() or len(length) > DIGITS or int(length) > LIMIT:
                self._answer(413, f"At most {LIMIT} bytes, and their length first.")
                return
            body = self.rfile.read(int(length))
            headers = {name.lower(): value for name, value in self.headers.items()}
            self._answer(*answer(take, secret(), body, headers))

        def _answer(self, status: int, words: str) -> None:
            body = json.dumps({"errorMessages": [words]}).encode() if words else b""
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, words: str, *args: Any) -> None:
            log.info(words, *args)

    with ThreadingHTTPServer((host, port), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, name="webhooks", daemon=True)
        thread.start()
        try:
            yield f"http://{host}:{server.server_address[1]}/"
        finally:
            server.shutdown()
            thread.join()
