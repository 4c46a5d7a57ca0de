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
Oem = Annotated[Caller, Depends(may("est.oem"))]

_CA = re.compile(r"^(?:\w+-)?(mo|cpo|oem|cps|veh)$")
_CERTS_ONLY = "application/pkcs7-mime; smime-type=certs-only"
_ISO2 = "ISO15118-2"


def _vehicle(caller: Caller, common_name: str) -> None:
    caller.owns_vehicle(read_pcid(common_name))


# CA name: the profile of its leaves, and who may have which common name.
_SUBJECTS: dict[str, tuple[str, Callable[[Caller, str], None]]] = {
    "oem": ("provisioning", _vehicle),
}


@router.post(
    "/.well-known/est/{ca}/simpleenroll/{iso}", summary="A certificate for a signing request"
)
async def enroll(
    caller: Oem, found: Found, request: Request, ca: str, iso: str = _ISO2
) -> Response:
    """PKCS#10 in (base64 of DER; PEM is tolerated), a certs-only PKCS#7 with the leaf out."""
    body = await request.body()
    return await run_in_threadpool(_enroll, found, caller, ca, iso, body)


@router.get("/{ca}/cacerts/{iso}/{algorithm}/", summary="The CA certificates above the leaves")
def cacerts(
    _: Oem, found: Found, ca: str, iso: str = _ISO2, algorithm: str = "secp256r1"
) -> Response:
    """Sub2, Sub1 and the root, as a certs-only PKCS#7."""
    if algorithm != "secp256r1":
        raise PoolError("not-found", f"No CA with {algorithm} is served here.")
    _kind, authority = _authority(found, ca, iso)
    return _certs([*authority.path, authority.root])


# The same calls under the paths that live clients use; the page for people has one of each.
for _prefix in ("/.well-known/est", "/.well-known", ""):
    for _endpoint, _method, _name, _suffixes in (
        (enroll, "POST", "simpleenroll", ("", "/{iso}")),
        (cacerts, "GET", "cacerts", ("", "/{iso}", "/{iso}/{algorithm}")),
    ):
        for _path in (f"{_prefix}/{{ca}}/{_name}{_suffix}" for _suffix in _suffixes):
            for _alias in (_path, _path + "/"):
                router.add_api_route(_alias, _endpoint, methods=[_method], include_in_schema=False)


def _enroll(found: Services, caller: Caller, ca: str, iso: str, body: bytes) -> Response:
    kind, authority = _authority(found, ca, iso)
    profile, check = _SUBJECTS[kind]
    wanted = pkcs10.read(body)
    check(caller, wanted.common_name)
    names = {"O": wanted.organisation, "CN": wanted.common_name}
    if wanted.country:
        names["C"] = wanted.country
    key, now = wanted.public_key, found.clock()
    return _certs([issue(profile, names, key, authority, now, ocsp=found.ocsp)])


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
