"""EST: enrolment, renewal and CA certificates, published and live paths [RFC 7030, OPCP est.v1].

Renewal (`simplereenroll`) takes the client certificate of a mutual TLS connection in place of an
access token (`plugvault.opcp.tls`). Where TLS ends before this server, it takes an access token,
with the rights of enrolment. Server-side keys and CSR attributes are not served.
"""

import re
from typing import Annotated

from cryptography import x509
from fastapi import APIRouter, Depends, Query, Request, Response, Security
from starlette.concurrency import run_in_threadpool

from plugvault.opcp.fields import AppServices
from plugvault.opcp.rights import access_token, may
from plugvault.opcp.services import Services
from plugvault.pki import request as pkcs10
from plugvault.pki.issue import Authority, der
from plugvault.pki.schemes import EDITION2, EDITION20, EDITIONS, SCHEMES
from plugvault.pools import enrolment
from plugvault.pools.caller import Caller
from plugvault.pools.errors import PoolError

router = APIRouter(tags=["EST: certificates"])

_CA = re.compile(r"(?:\w+-)?(mo|cpo|oem|cps|veh)", re.ASCII)  # with a tenant's prefix
_CERTS_ONLY = "application/pkcs7-mime; smime-type=certs-only"
_MAY = {kind: may(f"est.{kind}") for kind in enrolment.KINDS}

Namespace = Annotated[str | None, Query(alias="xsdMsgDefNamespace")]
AccessToken = Annotated[str | None, Security(access_token)]


async def _caller(ca: str, services: AppServices, token: AccessToken) -> Caller:
    return await _MAY[_kind(ca)](token, services)


async def _holder(
    ca: str, services: AppServices, request: Request, token: AccessToken
) -> Caller | x509.Certificate:
    """The caller of the access token, or the client certificate of the connection."""
    presented = request.scope.get("extensions", {}).get("tls", {}).get("client_cert_chain")
    if token is None and presented:
        return x509.load_pem_x509_certificate(presented[0].encode())
    return await _caller(ca, services, token)


@router.post(
    "/.well-known/est/{ca}/simpleenroll/{iso}", summary="Get a certificate for a signing request"
)
async def enroll(
    caller: Annotated[Caller, Depends(_caller)],
    services: AppServices,
    request: Request,
    ca: str,
    iso: str | None = None,
    namespace: Namespace = None,
) -> Response:
    """Takes PKCS#10 (base64 of DER; PEM is tolerated) and returns a certs-only PKCS#7 (base64 of
    DER) with the new leaf. `ca`: "oem", "mo", "cpo" …; `iso`: the edition. 400 for a request or a
    common name that is not valid; 403 for an identifier of another company; 404 for a CA that is
    not served."""
    body = await request.body()
    return await run_in_threadpool(_issue, services, caller, ca, _edition(iso, namespace), body)


@router.post("/.well-known/est/{ca}/simplereenroll/{iso}", summary="Renew a certificate")
async def reenroll(
    holder: Annotated[Caller | x509.Certificate, Depends(_holder)],
    services: AppServices,
    request: Request,
    ca: str,
    iso: str | None = None,
    namespace: Namespace = None,
) -> Response:
    """As enrolment, for the subject of the client certificate of the TLS connection; an access
    token does as well. 403 for a client certificate that is revoked, not valid or from another
    CA."""
    body = await request.body()
    return await run_in_threadpool(_issue, services, holder, ca, _edition(iso, namespace), body)


@router.get("/{ca}/cacerts/{iso}/{algorithm}/", summary="Get the CA certificates above the leaves")
def cacerts(
    _: Annotated[Caller, Depends(_caller)],
    services: AppServices,
    ca: str,
    iso: str | None = None,
    algorithm: str | None = None,
) -> Response:
    """Sub2, Sub1 and the root, as a certs-only PKCS#7 (base64 of DER). 404 for a CA or an
    algorithm that is not served."""
    if algorithm is None and iso in SCHEMES:  # the edition may be left out before it
        iso, algorithm = SCHEMES[iso].edition, iso
    edition = _edition(iso, None)
    algorithm = algorithm or ("secp256r1" if edition == EDITION2 else "secp521r1")
    if algorithm not in SCHEMES or SCHEMES[algorithm].edition != edition:
        raise PoolError("not-found", f"No CA with {algorithm} is served here for {edition}.")
    authority = _authority(services, ca, algorithm)
    return _certs([*authority.path, authority.root])


# The same calls under the paths of live clients. The API page shows one path of each.
for _prefix in ("/.well-known/est", "/.well-known", ""):
    for _endpoint, _method, _name, _suffixes in (
        (enroll, "POST", "simpleenroll", ("", "/{iso}")),
        (reenroll, "POST", "simplereenroll", ("", "/{iso}")),
        (cacerts, "GET", "cacerts", ("", "/{iso}", "/{iso}/{algorithm}")),
    ):
        for _path in (f"{_prefix}/{{ca}}/{_name}{_suffix}" for _suffix in _suffixes):
            for _alias in (_path, _path + "/"):
                router.add_api_route(_alias, _endpoint, methods=[_method], include_in_schema=False)


def _issue(
    services: Services, holder: Caller | x509.Certificate, ca: str, edition: str, body: bytes
) -> Response:
    request, kind, now = pkcs10.read(body, edition), _kind(ca), services.clock()
    authority = _authority(services, ca, request.curve)
    with services.store.write() as records:
        if isinstance(holder, Caller):
            certificate = enrolment.enroll(
                records, holder, kind, authority, request, now,
                ocsp=services.ocsp, registered=services.settings.registered_stations,
            )  # fmt: skip
        else:
            certificate = enrolment.renew(
                records, der(holder), kind, authority, request, now, ocsp=services.ocsp
            )
    return _certs([certificate])


def _kind(ca: str) -> str:
    match = _CA.fullmatch(ca)
    if not match:
        raise PoolError("not-found", f"No CA named {ca!r} is served here.")
    return match[1]


def _edition(iso: str | None, namespace: str | None) -> str:
    named = EDITIONS.get(namespace) if namespace else None
    if namespace and named is None:
        namespaces = ", ".join(EDITIONS)
        raise PoolError("invalid", f"xsdMsgDefNamespace : must be one of {namespaces}")
    if iso not in (None, EDITION2, EDITION20):
        raise PoolError("invalid", f"iso-version : must be {EDITION2} or {EDITION20}")
    if iso and named and iso != named:
        raise PoolError("invalid", f"xsdMsgDefNamespace : is not that of {iso}")
    return iso or named or EDITION2


def _authority(services: Services, ca: str, algorithm: str) -> Authority:
    """The issuing CA of a kind for a key on a curve. `Services.enrolment` has P-256 under the kind
    alone, as in "oem"; others as "oem/ed448"."""
    kind = _kind(ca)
    authority = services.enrolment.get(kind if algorithm == "secp256r1" else f"{kind}/{algorithm}")
    if authority is None:
        raise PoolError("not-found", f"No CA named {ca!r} is served here with {algorithm}.")
    return authority


def _certs(certificates: list[bytes]) -> Response:
    return Response(
        pkcs10.certs_only(certificates),
        media_type=_CERTS_ONLY,
        headers={"content-transfer-encoding": "base64"},
    )
