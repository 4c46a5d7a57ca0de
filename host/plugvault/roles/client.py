"""An OPCP client: it gets access tokens, sends and reads JSON, and raises OpcpError."""

import base64
import json
import ssl
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from http import HTTPStatus
from typing import Any

from plugvault.contexts import Closeable
from plugvault.contract.data import ContractData
from plugvault.contract.iso15118_2.bundle import ISO2
from plugvault.roles.connections import (
    TIMEOUT,
    Answer,
    Connections,
    OpcpError,
    Request,
    Stream,
)

__all__ = ["Credentials", "OpcpClient", "OpcpError", "contract_data", "encode"]

_EARLY = 60  # seconds before its end a token is renewed


@dataclass(frozen=True)
class Credentials:
    """The OAuth2 client credentials of a role [RFC 6749, 4.4]. audience: the URL of the
    ecosystem."""

    client_id: str
    client_secret: str = field(repr=False)
    audience: str


class OpcpClient(Closeable):
    """Calls of one role. Safe to use from several threads. `close()` when done. Every call raises
    OpcpError.

    `credentials`: None for an ecosystem in open mode. `trust`: the roots of an HTTPS server, if
    they are not this machine's own. `timeout`: seconds for a call that names none. `observe`:
    called for each call with (method and path, body bytes sent, body bytes received).
    """

    observe: Callable[[str, int, int], None] | None = None

    def __init__(
        self,
        url: str,
        credentials: Credentials | None,
        trust: ssl.SSLContext | None = None,
        timeout: float = TIMEOUT,
    ) -> None:
        self._credentials = credentials
        self._connections = Connections(url, trust)
        self._timeout = timeout
        self._token = ""
        self._expires = 0.0

    def close(self) -> None:
        self._connections.close()

    def request(self, method: str, path: str, **options: Any) -> Answer:
        """Make a call with an access token. Returns the answer, with any status.

        options: `json` or `content`, the body; `headers`; `timeout`, seconds; `repeatable`: see
        `Request`. Raises OpcpError without an answer.
        """
        answer = self._send(self._request(method, path, **options))
        if answer.status_code == HTTPStatus.UNAUTHORIZED:
            self._expires = 0.0  # the next call asks for a new token
        return answer

    def call(self, method: str, path: str, **options: Any) -> Any:
        """Make a call that must succeed. Returns its JSON, or None without a body.

        Raises OpcpError with the server's own messages.
        """
        return _json(_accepted(self.request(method, path, **options)))

    def content(self, method: str, path: str, **options: Any) -> bytes:
        """Make a call that must succeed. Returns the bytes of its body. Raises OpcpError as
        `call`."""
        return _accepted(self.request(method, path, **options)).content

    @contextmanager
    def stream(self, method: str, path: str, silence: float, **options: Any) -> Iterator[Stream]:
        """Make a call and read its answer line by line, until `silence` seconds pass without data.
        Raises OpcpError, also while the answer is read."""
        request = self._request(method, path, **options)
        with self._connections.stream(request, silence) as answer:
            if isinstance(answer, Stream):
                yield answer
                return
            if answer.status_code == HTTPStatus.UNAUTHORIZED:
                self._expires = 0.0  # the next call asks for a new token
            _accepted(answer)
            raise OpcpError("answer", f"{request}: {answer.status_code} in place of a stream")

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

    def _request(self, method: str, path: str, **options: Any) -> Request:
        """The request with the access token."""
        request = _request(method, path, **{"timeout": self._timeout, **options})
        if self._credentials is None:
            return request
        bearer = f"Bearer {self._access(self._credentials)}"
        return replace(request, headers={**request.headers, "Authorization": bearer})

    def _access(self, credentials: Credentials) -> str:
        if time.monotonic() > self._expires:
            body = {
                "client_id": credentials.client_id,
                "client_secret": credentials.client_secret,
                "audience": credentials.audience,
                "grant_type": "client_credentials",
            }
            request = _request(
                "POST", "/oauth/token", json=body, repeatable=True, timeout=self._timeout
            )
            answer = _json(_accepted(self._send(request)))
            self._token = answer["access_token"]
            self._expires = time.monotonic() + answer["expires_in"] - _EARLY
        return self._token

    def _send(self, request: Request) -> Answer:
        answer = self._connections.send(request)
        if self.observe is not None:
            self.observe(str(request), len(request.body or b""), len(answer.content))
        return answer


def _request(method: str, path: str, **options: Any) -> Request:
    headers = {"Accept-Encoding": "identity", **options.pop("headers", {})}
    body = options.pop("content", None)
    if "json" in options:
        body = json.dumps(options.pop("json"), separators=(",", ":")).encode()
        headers["Content-Type"] = "application/json"
    return Request(method, path, headers, body, **options)


def encode(data: bytes) -> str:
    """Base64 with padding and without line breaks, as OPCP writes it."""
    return base64.b64encode(data).decode()


def contract_data(data: ContractData) -> dict[str, str]:
    """An operator's contract data as JSON, in the form that the CPS signs."""
    *sub2, sub1 = data.subs
    return {
        "contractCertificate": encode(data.certificate),
        **({"contractSubCa2Certificate": encode(sub2[0])} if sub2 else {}),
        "contractSubCa1Certificate": encode(sub1),
        "contractSignatureEncryptedPrivateKey": encode(data.wrapped),
        "dHpublickey": encode(data.dh_point),
    }


def _accepted(answer: Answer) -> Answer:
    if answer.is_success:
        return answer
    try:
        body = answer.json()
        messages = body.get("errorMessages") or [body.get("error_description", "")]
    except (ValueError, AttributeError):
        messages = []
    text = " ".join(str(message) for message in messages)
    detail = f"{answer.status_code} {answer.request}: {text}"
    raise OpcpError("refused", detail, answer.status_code)


def _json(answer: Answer) -> Any:
    if not answer.content:
        return None
    try:
        return answer.json()
    except ValueError as error:
        raise OpcpError("answer", f"not JSON: {answer.request.path}") from error
