"""CCP: signed contracts for stations and makers [OPCP 1.0.0, ccp.v1]."""

import base64
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Header, Query, Response
from fastapi.responses import JSONResponse

from plugvault.contract import response
from plugvault.contract.bundle import ISO2, NO_SESSION
from plugvault.opcp.cps import Fingerprint, Metadata
from plugvault.opcp.fields import (
    EmaidPath,
    Found,
    Namespace,
    PcidPath,
    Wire,
    encode,
)
from plugvault.opcp.rights import may
from plugvault.opcp.services import Services
from plugvault.pki import path
from plugvault.pki.names import distinguished_name, timestamp
from plugvault.pools import ccp
from plugvault.pools.caller import Caller
from plugvault.pools.errors import PoolError
from plugvault.pools.records import Contract, Records

router = APIRouter(prefix="/v1/ccp", tags=["CCP: signed contracts"])
Maker = Annotated[Caller, Depends(may("ccp.vehicle"))]
AskedNamespace = Annotated[Namespace, Query(alias="xsdMsgDefNamespace")]
SessionId = Annotated[str | None, Query(alias="sessionID")]
AskedFingerprint = Annotated[Fingerprint | None, Query(alias="cpsV2GRootCertificateFingerprint")]


class InstallationRequest(Wire):
    certificate_installation_req: str
    xsd_msg_def_namespace: Namespace
    metadata: Metadata = None


@router.post("/signedContractData", summary="A vehicle at a station asks for its contract")
def install(
    _: Annotated[Caller, Depends(may("ccp.install"))],
    found: Found,
    asked: InstallationRequest,
    always_exi: Annotated[bool, Header(alias="alwaysReturnEXI")] = True,
    broadcast: Annotated[bool, Header()] = False,
) -> JSONResponse:
    """CertificateInstallationReq in, CertificateInstallationRes out, both EXI in base64.

    When there is no contract the status is 404, with the negative response as EXI, or with an
    error body when `alwaysReturnEXI` is false.
    """
    request = ccp.read_request(_exi(asked.certificate_installation_req))
    now = found.clock()
    try:
        with found.store.read() as records:
            contract = ccp.install(records, request, now)
    except PoolError as error:
        if error.reason != "not-found" or not always_exi:
            raise
        negative = response.negative(request.session_id)
        return JSONResponse(_answer({"certificateInstallationRes": encode(negative)}), 404)
    _delivered(found, contract, now)
    message = response.with_session_id(contract.message, request.session_id)
    return JSONResponse(
        _answer(
            {
                "certificateInstallationRes": encode(message),
                "emaid": contract.emaid,
                "cpsV2GRootCertificateFingerprint": contract.root_fingerprint,
                **({"metaData": contract.metadata} if contract.metadata else {}),
            }
        )
    )


@router.get(
    "/provideSignedContractData/{emaid}/{pcid}",
    summary="A maker pulls a contract to send it over the air",
)
def provide(
    caller: Maker,
    found: Found,
    emaid: EmaidPath,
    pcid: PcidPath,
    session_id: SessionId = None,
    namespace: AskedNamespace = ISO2,
    fingerprint: AskedFingerprint = None,
) -> dict[str, Any]:
    """The maker checks dates and revocation itself before it forwards this [V2G2-894]."""
    session = _session_id(session_id)
    now = found.clock()
    with found.store.read() as records:
        contract = ccp.provide(records, caller, emaid, pcid, now)
    if fingerprint and fingerprint.lower() != contract.root_fingerprint:
        raise PoolError("not-found", ccp.MISSING)
    _delivered(found, contract, now)
    message = response.with_session_id(contract.message, session)
    return {
        "certificateInstallationRes": encode(message),
        "xsdMsgDefNamespace": contract.namespace,
        "cpsV2GRootCertificateFingerprint": contract.root_fingerprint,
    }


@router.get("/signedContractData/{pcid}", summary="The contracts of a vehicle")
def of_vehicle(
    caller: Maker, found: Found, pcid: PcidPath, namespace: AskedNamespace = ISO2
) -> dict[str, Any]:
    with found.store.read() as records:
        contracts = ccp.of_vehicle(records, caller, pcid, found.clock())
        return {"XMLContracts": [_show(records, contract) for contract in contracts]}


@router.get("/lookupContract/{emaid}", summary="One contract by its EMAID")
def lookup(
    caller: Annotated[Caller, Depends(may("ccp.lookup"))],
    found: Found,
    emaid: EmaidPath,
    namespace: AskedNamespace = ISO2,
    fingerprint: AskedFingerprint = None,
) -> dict[str, Any]:
    with found.store.read() as records:
        contract = ccp.lookup(records, caller, emaid, fingerprint)
        return {"XMLContracts": [_show(records, contract)]}


@router.post(
    "/signedContractData/{pcid}/{emaid}/default",
    summary="Make a contract the one stations install",
)
def set_default(caller: Maker, found: Found, pcid: PcidPath, emaid: EmaidPath) -> Response:
    with found.store.write() as records:
        ccp.set_default(records, caller, pcid, emaid)
    return Response()


def _delivered(found: Services, contract: Contract, now: float) -> None:
    if contract.delivered is None:
        with found.store.write() as records:
            ccp.mark_delivered(records, contract, now)


def _answer(definition: dict[str, Any]) -> dict[str, Any]:
    return {"CCPResponse": {"emaidContent": [{"messageDef": definition}]}}


def _show(records: Records, contract: Contract) -> dict[str, Any]:
    root = records.roots.by_fingerprint(contract.root_fingerprint)
    return {
        "pcid": contract.pcid,
        "emaid": contract.emaid,
        "xsdMsgDefNamespace": contract.namespace,
        "contractCertificate": encode(contract.certificate),
        "defaultContract": contract.default,
        "certValidFrom": timestamp(contract.not_before),
        "certValidTo": timestamp(contract.not_after),
        "cpsRootCertificateDN": distinguished_name(path.read(root.certificate).names)
        if root
        else "",
        "cpsV2GRootCertificateFingerprint": contract.root_fingerprint,
    }


def _exi(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except ValueError as error:
        raise PoolError("invalid", ccp.BAD_EXI) from error


def _session_id(text: str | None) -> bytes:
    try:
        value = bytes.fromhex(text) if text is not None else NO_SESSION
    except ValueError:
        value = b""
    if not 1 <= len(value) <= 8:
        raise PoolError(
            "invalid",
            "Invalid SessionID format, make sure the length is maximum 8 characters and it is "
            "represented in HEX binary",
        )
    return value
