"""An OPCP client: it gets access tokens, sends and reads JSON, and raises OpcpError."""

import base64
import ssl
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from threading import BoundedSemaphore
from typing import Any

import httpx

from evcc.errors import EvccError
from plugvault.contexts import Closeable
from plugvault.contract.data import ContractData
from plugvault.contract.iso15118_2.bundle import ISO2

TIMEOUT = 10.0  # seconds for one request, and again for the body of its answer
AT_ONCE = 32  # requests of one client; more callers wait for their turn
LIMIT = 4_194_304  # bytes of an answer: some hundred roots have half a million
# The turns are the limit. With one of httpx, threads that wait for a connection take most of the
# processor, and it may close an idle connection that another thread has just taken.
_NO_LIMITS = httpx.Limits(max_connections=None, max_keepalive_connections=None)
_EARLY = 60  # seconds before its end a token is renewed


@dataclass(frozen=True)
class Credentials:
    """The OAuth2 client credentials of a role."""

    client_id: str
    client_secret: str = field(repr=False)
    audience: str


class OpcpError(EvccError):
    """A call that was refused, or that had no usable answer.

    `status`: the HTTP status, 0 without an answer; `detail`: the server's messages.
    """

    REASONS = ("refused", "unreachable", "answer")

    def __init__(self, reason: str, detail: str = "", status: int = 0) -> None:
        super().__init__(reason, detail)
        self.status = status


class OpcpClient(Closeable):
    """Calls of one role. Safe to use from several threads. `close()` when done.

    `credentials`: None for an ecosystem in open mode. `trust`: the roots of an HTTPS server, if
    they are not this machine's own.

    `observe`: called for each call with (method and path, body bytes sent, body bytes received).
    """

    observe: Callable[[str, int, int], None] | None = None

    def __init__(
        self, url: str, credentials: Credentials | None, trust: ssl.SSLContext | None = None
    ) -> None:
        self._credentials = credentials
        self._http = httpx.Client(
            base_url=url,
            timeout=TIMEOUT,
            limits=_NO_LIMITS,
            trust_env=False,
            verify=trust or True,
            headers={"Accept-Encoding": "identity"},
        )
        self._turns = BoundedSemaphore(AT_ONCE)
        self._token = ""
        self._expires = 0.0

    def close(self) -> None:
        self._http.close()

    def request(self, method: str, path: str, **options: Any) -> httpx.Response:
        """Make a call with an access token. The answer, with any status."""
        headers = {**options.pop("headers", {}), **self._authorization()}
        return self._send(method, path, headers=headers, **options)

    def call(self, method: str, path: str, **options: Any) -> Any:
        """Make a call that must succeed. Its JSON, or None without a body.

        Raises OpcpError with the server's own messages.
        """
        return _json(_accepted(self.request(method, path, **options)))

    def content(self, method: str, path: str, **options: Any) -> bytes:
        """Make a call that must succeed. The bytes of its body."""
        return _accepted(self.request(method, path, **options)).content

    @contextmanager
    def stream(
        self, method: str, path: str, silence: float, **options: Any
    ) -> Iterator[httpx.Response]:
        """Make a call and read its answer as it comes, until `silence` seconds pass without data.
        Raises OpcpError, also while the answer is read."""
        headers = {**options.pop("headers", {}), **self._authorization()}
        timeout = httpx.Timeout(TIMEOUT, read=silence)
        try:
            with self._http.stream(
                method, path, headers=headers, timeout=timeout, **options
            ) as answer:
                if not answer.is_success:
                    answer.read()
                if answer.status_code == 401:
                    self._expires = 0.0  # the next call asks for a new one
                yield _accepted(answer)
        except httpx.HTTPError as error:
            raise OpcpError("unreachable", f"{method} {path}: {type(error).__name__}") from error

    def roots(self, *kinds: str) -> list[bytes]:
        """DER of the RCP's roots of these kinds ("V2G", "MO", "OEM")."""
        roots = self.roots_by_kind()
        return [root for kind in kinds for root in roots.get(kind, ())]

    def roots_by_kind(self) -> dict[str, list[bytes]]:
        """DER of all of the RCP's roots that ISO 15118-2 can use, in one call."""
        answer = self.call("GET", "/v1/root/rootCerts")
        roots: dict[str, list[bytes]] = {}
        for root in answer["RootCertificateCollection"]["rootCertificates"]:
            if root.get("xsdMsgDefNamespace", ISO2) == ISO2:
                der = base64.b64decode(root["caCertificate"])
                roots.setdefault(root["rootType"], []).append(der)
        return roots

    def _authorization(self) -> dict[str, str]:
        """The header of a call."""
        if self._credentials is None:
            return {}
        return {"Authorization": f"Bearer {self._access(self._credentials)}"}

    def _access(self, credentials: Credentials) -> str:
        if time.monotonic() > self._expires:
            request = {
                "client_id": credentials.client_id,
                "client_secret": credentials.client_secret,
                "audience": credentials.audience,
                "grant_type": "client_credentials",
            }
            answer = _json(_accepted(self._send("POST", "/oauth/token", json=request)))
            self._token = answer["access_token"]
            self._expires = time.monotonic() + answer["expires_in"] - _EARLY
        return self._token

    def _send(self, method: str, path: str, **options: Any) -> httpx.Response:
        timeout = options.get("timeout", TIMEOUT)
        if not self._turns.acquire(timeout=timeout):
            detail = f"{method} {path}: {AT_ONCE} other requests are not answered yet"
            raise OpcpError("unreachable", detail)
        try:
            with self._http.stream(method, path, **options) as stream:
                answer = _read(stream, timeout)
        except httpx.HTTPError as error:
            raise OpcpError("unreachable", f"{method} {path}: {type(error).__name__}") from error
        finally:
            self._turns.release()
        if self.observe is not None:
            self.observe(f"{method} {path}", len(answer.request.content), len(answer.content))
        return answer


def _read(answer: httpx.Response, timeout: float) -> httpx.Response:
    """The answer with its body. Raises OpcpError when the body is too large or takes too long.

    An encoded body is refused: a small one could become large when it is decoded.
    """
    if "content-encoding" in answer.headers:
        raise OpcpError("answer", "an encoded body")
    deadline, body = time.monotonic() + timeout, bytearray()
    for part in answer.iter_raw():
        body += part
        if len(body) > LIMIT or time.monotonic() > deadline:
            raise OpcpError("answer", "a body without end")
    return httpx.Response(
        answer.status_code, headers=answer.headers, content=bytes(body), request=answer.request
    )


def encode(data: bytes) -> str:
    """Base64 as OPCP writes it."""
    return base64.b64encode(data).decode()


def contract_data(data: ContractData) -> dict[str, str]:
    """An operator's contract data in the form that the CPS signs."""
    *sub2, sub1 = data.subs
    return {
        "contractCertificate": encode(data.certificate),
        **({"contractSubCa2Certificate": encode(sub2[0])} if sub2 else {}),
        "contractSubCa1Certificate": encode(sub1),
        "contractSignatureEncryptedPrivateKey": encode(data.wrapped),
        "dHpublickey": encode(data.dh_point),
    }


def _accepted(answer: httpx.Response) -> httpx.Response:
    if answer.is_success:
        return answer
    try:
        body = answer.json()
        messages = body.get("errorMessages") or [body.get("error_description", "")]
    except (ValueError, AttributeError):
        messages = []
    where = f"{answer.request.method} {answer.request.url.path}"
    text = " ".join(str(message) for message in messages)
    raise OpcpError("refused", f"{answer.status_code} {where}: {text}", answer.status_code)


def _json(answer: httpx.Response) -> Any:
    if not answer.content:
        return None
    try:
        return answer.json()
    except ValueError as error:
        raise OpcpError("answer", f"not JSON: {answer.request.url.path}") from error
