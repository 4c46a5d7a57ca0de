"""The connections of an OPCP client to one server: HTTP/1.1, complete answers, and streams.

urllib3 carries them, because a request from 32 threads costs a third of what it costs with httpx.
"""

import ssl
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http import HTTPStatus
from http.client import RemoteDisconnected
from typing import Any

import urllib3
from urllib3.exceptions import EmptyPoolError, HTTPError, LocationValueError, ProtocolError

from evcc.errors import EvccError
from plugvault import json_file, unreachable

TIMEOUT = 10.0  # seconds for one request, and again for the body of its answer
AT_ONCE = 32  # requests of one client; more callers wait for their turn
LIMIT = 4_194_304  # bytes of an answer: some hundred roots have half a million
_PART = 65_536
# They may be sent twice [RFC 9110, 9.2.2].
_IDEMPOTENT = ("GET", "PUT", "DELETE")


class OpcpError(EvccError):
    """A call that was refused, or that had no usable answer.

    "refused": by the server; "unreachable": no connection or no HTTP; "answer": an unusable
    answer. `status`: the HTTP status, 0 without an answer; `detail`: the server's messages.
    """

    REASONS = ("refused", "unreachable", "answer")

    def __init__(self, reason: str, detail: str = "", status: int = 0) -> None:
        super().__init__(reason, detail)
        self.status = status


@dataclass(frozen=True)
class Request:
    """One request. path: with its query. body: bytes, or None. timeout: seconds for a turn, for
    each wait and for the body of the answer. repeatable: whether it may be sent twice; None: as
    its method allows [RFC 9110, 9.2.2]."""

    method: str
    path: str
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)  # has the access token
    body: bytes | None = field(default=None, repr=False)
    timeout: float = TIMEOUT
    repeatable: bool | None = None

    def __str__(self) -> str:
        return f"{self.method} {self.path}"


@dataclass(frozen=True)
class Answer:
    """An answer of any status, with its whole body."""

    request: Request
    status_code: int
    content: bytes = field(repr=False)  # may be an access token

    @property
    def is_success(self) -> bool:
        """Whether the status is 2xx."""
        return HTTPStatus.OK <= self.status_code < HTTPStatus.MULTIPLE_CHOICES

    @property
    def text(self) -> str:
        """The body as text."""
        return self.content.decode(errors="replace")

    def json(self) -> Any:
        """The body as JSON. Raises ValueError."""
        return json_file.parse(self.content)


class Stream:
    """The lines of an answer, one by one. `close()` from any thread ends the iteration."""

    def __init__(self, response: urllib3.BaseHTTPResponse) -> None:
        self._response = response

    def __iter__(self) -> Iterator[str]:
        """Each line without its end. Raises urllib3's HTTPError when the connection breaks or is
        silent for too long; OpcpError("answer") for a line above LIMIT bytes."""
        line = bytearray()
        while part := self._response.read1(_PART, decode_content=False):
            *complete, rest = part.split(b"\n")
            for end in complete:
                yield (bytes(line) + end).rstrip(b"\r").decode(errors="replace")
                line.clear()
            line += rest
            if len(line) > LIMIT:
                raise OpcpError("answer", "a line without end")

    def close(self) -> None:
        with suppress(ValueError, RuntimeError, OSError):  # it may have ended by itself
            self._response.shutdown()  # wakes the thread that reads it


class Connections:
    """Up to AT_ONCE connections to the server of a URL. Safe to use from several threads.

    trust: the roots of an HTTPS server, if they are not this machine's own. Raises OpcpError for a
    URL that is not one of HTTP.
    """

    def __init__(self, url: str, trust: ssl.SSLContext | None) -> None:
        try:
            address = urllib3.util.parse_url(url)
            if address.scheme not in ("http", "https") or not address.host:
                raise LocationValueError("http:// or https:// and a host are needed")
        except LocationValueError as error:
            raise OpcpError("unreachable", f"{url!r} is no URL of HTTP: {error}") from error
        options: dict[str, Any] = {"maxsize": AT_ONCE, "block": True, "retries": False}
        if address.scheme == "https":
            options["ssl_context"] = trust or ssl.create_default_context()
        self._pool = urllib3.connection_from_url(url, **options)
        self._prefix = (address.path or "").rstrip("/")
        self._server = f"{address.scheme}://{address.netloc}"

    def close(self) -> None:
        self._pool.close()

    def send(self, request: Request) -> Answer:
        """Send a request, and read its answer of any status. Raises OpcpError without a usable
        answer."""
        with self._response(request, request.timeout) as (response, is_second):
            answer = _read(request, response)
        is_gone = request.method == "DELETE" and answer.status_code == HTTPStatus.NOT_FOUND
        if is_second and is_gone:  # the first request was carried out, without an answer
            return Answer(request, HTTPStatus.NO_CONTENT, b"")
        return answer

    @contextmanager
    def stream(self, request: Request, silence: float) -> Iterator[Stream | Answer]:
        """A successful answer as a `Stream`, until `silence` seconds pass without data; any other
        answer complete, as an `Answer`. Raises OpcpError, also while the stream is read."""
        with self._response(request, silence) as (response, _):
            is_stream = response.status == HTTPStatus.OK
            yield Stream(response) if is_stream else _read(request, response)

    @contextmanager
    def _response(
        self, request: Request, silence: float
    ) -> Iterator[tuple[urllib3.BaseHTTPResponse, bool]]:
        try:
            response, is_second = self._opened(request, silence)
            try:
                yield response, is_second
            finally:
                if not response.closed:
                    response.close()  # the rest of it must not be the next answer
                response.release_conn()
        except EmptyPoolError as error:
            detail = f"{request}: {AT_ONCE} other requests are not answered yet"
            raise OpcpError("unreachable", detail) from error
        except HTTPError as error:
            why = unreachable.reason(error, self._server, unreachable.TRUST_OPTIONS)
            raise OpcpError("unreachable", f"{request}: {why}") from error

    def _opened(self, request: Request, silence: float) -> tuple[urllib3.BaseHTTPResponse, bool]:
        """The head of the answer, and whether the request was sent twice. A request that found its
        connection closed is sent once more, because the server may end an idle connection at any
        time."""
        for is_second in (False, True):
            try:
                response = self._pool.urlopen(
                    request.method,
                    self._prefix + request.path,
                    request.body,
                    request.headers,
                    redirect=False,
                    timeout=urllib3.Timeout(connect=request.timeout, read=silence),
                    pool_timeout=request.timeout,  # type: ignore[arg-type] # seconds, not whole ones
                    preload_content=False,
                    decode_content=False,
                )
            except ProtocolError as error:
                if is_second or not _may_repeat(request) or not _found_closed(error):
                    raise
            else:
                return response, is_second
        raise AssertionError("the last attempt ends the loop")


def _may_repeat(request: Request) -> bool:
    is_idempotent = request.method in _IDEMPOTENT
    return is_idempotent if request.repeatable is None else request.repeatable


def _found_closed(error: ProtocolError) -> bool:
    causes = (RemoteDisconnected, ConnectionResetError, BrokenPipeError)
    return isinstance(error.args[-1], causes)


def _read(request: Request, response: urllib3.BaseHTTPResponse) -> Answer:
    """The answer with its body. Raises OpcpError when the body is too large or takes too long.

    An encoded body is refused: a small one could become large when it is decoded.
    """
    if "content-encoding" in response.headers:
        raise OpcpError("answer", "an encoded body")
    deadline, body = time.monotonic() + request.timeout, bytearray()
    while part := response.read1(_PART, decode_content=False):
        body += part
        if len(body) > LIMIT or time.monotonic() > deadline:
            raise OpcpError("answer", "a body without end")
    return Answer(request, response.status, bytes(body))
