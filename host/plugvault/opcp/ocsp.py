"""OCSP and CRLs of every CA of the ecosystem, without access tokens [RFC 6960, 5019, 5280].

A signature costs time of the token, so signed answers are cached. An OCSP answer is reused while
it has the current status and half of its validity is left, for serial numbers that the CA has
issued. A CRL is reused until a certificate is revoked. The status is read for each answer, so that
all processes on one database agree. An answer with a nonce is signed for its request alone.

An address has a limited rate of signatures, so that one client cannot keep the token busy. Above
it, a client gets the cached answer without its nonce [RFC 6960, 4.4.1], or "try later".
"""

import base64
import binascii
import threading
import time
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from email.utils import formatdate
from hashlib import sha1
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request, Response
from starlette.concurrency import run_in_threadpool

from evcc.vault import VaultError
from plugvault.opcp.budget import Budget, address
from plugvault.opcp.services import Services, services
from plugvault.pki import responder
from plugvault.pki.issue import Authority, der
from plugvault.pki.names import distinguished_name, serial_hex
from plugvault.pki.path import read_any
from plugvault.pki.responder import (
    CertificateStatus,
    ResponderError,
    RevocationEntry,
    StatusRequest,
)
from plugvault.pools.errors import PoolError
from plugvault.pools.records import Status

router = APIRouter(tags=["Revocation"])

VALID = 3600.0  # seconds an OCSP answer holds
CRL_VALID = 86_400.0  # seconds a revocation list holds
CACHED = 20_000  # answers
SIGNATURES = 1000  # for one address in a burst
PER_SECOND = 500.0  # after the burst
REBUILD_FACTOR = 10  # a list is reused for at least ten times the duration of its signing


_Key = tuple[tuple[str, bytes, bytes], int]  # the issuer as in the request, the serial number


@dataclass(frozen=True)
class _Signed:
    """A signed answer. `basis`: the status in it, to compare with the current one; `cost`: seconds
    of signing."""

    body: bytes
    basis: Any
    made: float
    until: float
    cost: float = 0.0

    def fresh(self, now: float) -> bool:
        return self.made <= now <= (self.made + self.until) / 2

    def is_expensive(self, now: float) -> bool:
        return now < self.made + REBUILD_FACTOR * self.cost


class Responder:
    """The OCSP answers and CRLs of one application, with their caches; safe for several
    threads."""

    def __init__(self, services: Services) -> None:
        self._services, self.clock = services, services.clock
        self._by_request = responder.by_issuer_hash(services.authorities)
        self._by_name = {
            authority.identifier.hex(): authority for authority in services.authorities
        }
        self._answers: OrderedDict[_Key, _Signed] = OrderedDict()
        self._lists: dict[str, _Signed] = {}
        self._signatures = Budget(SIGNATURES, PER_SECOND)
        self._lock, self._making = threading.Lock(), threading.Lock()

    def ocsp(self, request: bytes, at: str) -> tuple[bytes, _Signed | None]:
        """The response to a request, DER each, and its cache entry; None when HTTP may not cache
        it.

        `at`: the client's address, for the rate limit. Raises nothing: a failure is an OCSP
        response with a status, such as "malformedRequest" or "tryLater".
        """
        try:
            status_request = responder.read(request)
            authority = self._by_request.get(status_request.issuer)
            if authority is None:
                raise ResponderError("unauthorized", "no CA of ours")
            certificate_status = self._status(authority, status_request.serial)
            key = status_request.issuer, status_request.serial
            cached = self._cached(key, certificate_status)
            if cached is None or status_request.nonce is not None:
                if not self._signatures.wait(at):
                    self._signatures.spend(at)
                    cached = self._sign(authority, status_request, certificate_status)
                    if status_request.nonce is not None:
                        return cached.body, None
                    if certificate_status != "unknown":
                        self._cache(key, cached)
                elif cached is None:
                    raise ResponderError("try-later", at)
            return cached.body, cached
        except ResponderError as error:
            return responder.failure(error.reason), None
        except PoolError:
            return responder.failure("try-later"), None
        except VaultError:
            return responder.failure("internal"), None

    def _cached(self, key: _Key, certificate_status: CertificateStatus) -> _Signed | None:
        with self._lock:
            signed = self._answers.get(key)
        holds = (
            signed is not None
            and signed.basis == certificate_status
            and signed.fresh(self.clock())
        )
        return signed if holds else None

    def _cache(self, key: _Key, signed: _Signed) -> None:
        with self._lock:
            self._answers[key] = signed
            self._answers.move_to_end(key)
            while len(self._answers) > CACHED:
                self._answers.popitem(last=False)

    def _sign(
        self,
        authority: Authority,
        status_request: StatusRequest,
        certificate_status: CertificateStatus,
    ) -> _Signed:
        now = self.clock()
        body = responder.answer(authority, status_request, certificate_status, now, now + VALID)
        return _Signed(body, certificate_status, now, now + VALID)

    def _status(self, authority: Authority, serial: int) -> CertificateStatus:
        with self._services.store.read() as records:
            status = records.statuses.get(authority.identifier.hex(), serial_hex(serial))
        if status is None:
            return "unknown"
        return "good" if status.revoked is None else _revocation(status)

    def revocation_list(self, name: str) -> bytes:
        """The CRL of a CA, DER. `name`: the CA's key identifier in hexadecimal. Raises PoolError:
        "not-found" for an unknown name, "unavailable" without the database; VaultError when the
        token does not sign."""
        authority = self._by_name.get(name.lower())
        if authority is None:
            raise PoolError("not-found", "There is no revocation list of this name.")
        with self._making:  # a second request waits and gets the same list
            return self._current(authority) or self._make(authority)

    def _current(self, authority: Authority) -> bytes | None:
        identifier, now = authority.identifier.hex(), self.clock()
        cached = self._lists.get(identifier)
        if cached is None or not cached.fresh(now):
            return None
        if cached.is_expensive(now):
            return cached.body
        with self._services.store.read() as records:
            holds = cached.basis == records.statuses.revocations(identifier)
        return cached.body if holds else None

    def _make(self, authority: Authority) -> bytes:
        identifier, now, started = authority.identifier.hex(), self.clock(), time.perf_counter()
        with self._services.store.read() as records:
            revoked = records.statuses.revoked_by(identifier)
        entries = [_revocation(status) for status in revoked if status.not_after >= now]
        body = responder.revocation_list(authority, entries, now, now + CRL_VALID)
        cost = time.perf_counter() - started
        self._lists[identifier] = _Signed(body, len(revoked), now, now + CRL_VALID, cost)
        return body

    def lists(self) -> list[dict[str, str]]:
        """The name, key identifier and URL of every CA with a CRL."""
        return [
            {
                "distinguishedName": distinguished_name(
                    read_any(der(authority.certificate)).names
                ),
                "keyIdentifier": name,
                "url": f"/crl/{name}.crl",
            }
            for name, authority in self._by_name.items()
        ]


async def _responder(request: Request) -> Responder:
    state = request.app.state
    if not hasattr(state, "responder"):
        state.responder = Responder(await services(request))
    responder_of_app: Responder = state.responder
    return responder_of_app


Answers = Annotated[Responder, Depends(_responder)]


class OcspResponse(Response):
    media_type = "application/ocsp-response"


@router.post("/ocsp", summary="Get the status of a certificate", response_class=OcspResponse)
async def ocsp(answers: Answers, request: Request) -> Response:
    """An OCSP request in DER [RFC 6960]; no access token is needed. A failure is a status of the
    OCSP response, with HTTP 200."""
    body, _ = await run_in_threadpool(answers.ocsp, await request.body(), address(request))
    return OcspResponse(body)


@router.get(
    "/ocsp/{request:path}", summary="Get the status of a certificate", response_class=OcspResponse
)
def ocsp_get(answers: Answers, request: str, connection: Request) -> Response:
    """The OCSP request is DER in base64 in the path [RFC 6960, A.1], so that HTTP caches can store
    the answer."""
    try:
        text = request.replace("-", "+").replace("_", "/").rstrip("=")
        decoded = base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except (ValueError, binascii.Error):
        return OcspResponse(responder.failure("malformed"))
    body, signed = answers.ocsp(decoded, address(connection))
    return OcspResponse(body, headers=_cached(signed, answers.clock()) if signed else None)


@router.get("/crl", summary="List the CAs with a revocation list")
def crls(answers: Answers) -> list[dict[str, str]]:
    """Each CA with its distinguished name, key identifier (hexadecimal) and the path of its
    list."""
    return answers.lists()


@router.get("/crl/{name}.crl", summary="Get the revocation list of a CA", response_class=Response)
def crl(answers: Answers, name: str) -> Response:
    """A CRL in DER [RFC 5280, 5]: the certificates of this CA that are revoked and have not
    expired. 404 for an unknown key identifier."""
    return Response(answers.revocation_list(name), media_type="application/pkix-crl")


def _cached(signed: _Signed, now: float) -> Mapping[str, str]:
    """The headers for HTTP caches [RFC 5019, 6.2]."""
    seconds = int(signed.until - now)
    return {
        "Cache-Control": f"max-age={seconds}, public, no-transform, must-revalidate",
        "ETag": f'"{sha1(signed.body, usedforsecurity=False).hexdigest()}"',
        "Last-Modified": formatdate(signed.made, usegmt=True),
        "Expires": formatdate(signed.until, usegmt=True),
    }


def _revocation(status: Status) -> RevocationEntry:
    return RevocationEntry(int(status.serial, 16), status.revoked or 0, status.reason)
