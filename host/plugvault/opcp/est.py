"""EST: enrolment and CA certificates, under the published and the live paths [RFC 7030].

Served for `oem` now; `cpo`, `mo`, `cps` and `veh` are further rows of `Services.enrolment` and of
`_SUBJECTS`. Renewal over mutual TLS (`simplereenroll`) is not served here yet.
"""

import re
from collections.abc import Callable
from typing import Annotated

from fastapi import APIRouter, Depends, Request, Response
from starlette.concurrency import run_in_threadpool

from plugvault.opcp.fields import Found
from plugvault.opcp.rights import may
from plugvault.opcp.services import Services
from plugvault.pki import request as pkcs10
from plugvault.pki.issue import Authority, issue
from plugvault.pools.caller import Caller, read_pcid
from plugvault.pools.errors import PoolError

router = APIRouter(tags=["EST: certificates"])

_CA = re.compile(r"^(?:\w+-)?(mo|cpo|oem|cps|veh)$")
_PREFIXES = ("/.well-known/est", "/.well-known", "")  # published, live, open test host
_CERTS_ONLY = "application/pkcs7-mime; smime-type=certs-only"
_ISO2 = "ISO15118-2"


def _vehicle(caller: Caller, common_name: str) -> None:
    caller.owns_vehicle(read_pcid(common_name))


# CA name: the profile of its leaves, and who may have which common name.
_SUBJECTS: dict[str, tuple[str, Callable[[Caller, str], None]]] = {
    "oem": ("provisioning", _vehicle),
}


async def enroll(
    caller: Annotated[Caller, Depends(may("est.oem"))],
    found: Found,
    request: Request,
    ca: str,
    iso: str = _ISO2,
) -> Response:
    """PKCS#10 in (base64 of DER; PEM is tolerated), a certs-only PKCS#7 with the leaf out."""
    body = await request.body()
    return await run_in_threadpool(_enroll, found, caller, ca, iso, body)


def _enroll(found: Services, caller: Caller, ca: str, iso: str, body: bytes) -> Response:
    kind, authority = _authority(found, ca, iso)
    profile, check = _SUBJECTS[kind]
    wanted = pkcs10.read(body)
    check(caller, wanted.common_name)
    names = {"O": wanted.organisation, "CN": wanted.common_name}
    if wanted.country:
        names["C"] = wanted.country
    certificate = issue(
        profile, names, wanted.public_key, authority, found.clock(), ocsp=found.ocsp
    )
    return _certs([certificate])


def cacerts(
    _: Annotated[Caller, Depends(may("est.read"))],
    found: Found,
    ca: str,
    iso: str = _ISO2,
    algorithm: str = "secp256r1",
) -> Response:
    """Sub2, Sub1 and the root that leaves of this CA hang under."""
    if algorithm != "secp256r1":
        raise PoolError("not-found", f"No CA with {algorithm} is served here.")
    _kind, authority = _authority(found, ca, iso)
    return _certs([*authority.path, authority.root])


for _index, _prefix in enumerate(_PREFIXES):
    for _path, _suffixes, _endpoint, _method in (
        ("/{ca}/simpleenroll", ("/{iso}", ""), enroll, "POST"),
        ("/{ca}/cacerts", ("/{iso}/{algorithm}", "/{iso}", ""), cacerts, "GET"),
    ):
        for _number, _suffix in enumerate(_suffixes):
            # The page for people shows each call once, under its published path.
            _published = (_index == 0 if _method == "POST" else _index == 2) and _number == 0
            for _slash in ("", "/"):
                router.add_api_route(
                    _prefix + _path + _suffix + _slash,
                    _endpoint,
                    methods=[_method],
                    include_in_schema=_published and _slash == ("/" if _method == "GET" else ""),
                    summary="Certificate for a request"
                    if _method == "POST"
                    else "CA certificates",
                )


def _authority(found: Services, ca: str, iso: str) -> tuple[str, Authority]:
    match = _CA.match(ca)
    if not match or match[1] not in found.enrolment or match[1] not in _SUBJECTS:
        raise PoolError("not-found", f"No CA named {ca!r} is served here.")
    if iso != _ISO2:
        raise PoolError("invalid", f"iso-version : only {_ISO2} is served here")
    return match[1], found.enrolment[match[1]]


def _certs(certificates: list[bytes]) -> Response:
    return Response(
        pkcs10.certs_only(certificates),
        media_type=_CERTS_ONLY,
        headers={"content-transfer-encoding": "base64"},
    )
