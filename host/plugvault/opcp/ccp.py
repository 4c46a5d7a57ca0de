"""CCP: signed contracts for stations and makers [OPCP 1.0.0, ccp.v1]."""

import logging
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Header, Query, Response
from fastapi.responses import JSONResponse
from pydantic import Field

from plugvault.contract.iso15118_2 import response, xml
from plugvault.contract.iso15118_2.bundle import ISO2, NO_SESSION
from plugvault.opcp.budget import Budget
from plugvault.opcp.contract_data import Fingerprint, Metadata, RootFingerprint
from plugvault.opcp.execution import asks_partners, local
from plugvault.opcp.fields import (
    AppServices,
    Base64,
    Broadcast,
    EmaidPath,
    EmaidText,
    Namespace,
    PcidPath,
    PcidText,
    Wire,
    checked,
    decode,
    encode,
)
from plugvault.opcp.rights import may
from plugvault.opcp.services import Bundle, Services
from plugvault.pki import path
from plugvault.pki.names import distinguished_name, timestamp
from plugvault.pools import authorization, ccp, installation, pcp, vehicle_request
from plugvault.pools.caller import Caller
from plugvault.pools.errors import PoolError, WithheldError
from plugvault.pools.records import Contract
from plugvault.pools.refusals import CAUSES
from plugvault.pools.repositories import Records
from plugvault.pools.vehicle_request import UpdateError, VehicleRequest

log = logging.getLogger("plugvault.opcp")

_REFUSALS = Budget(at_once=100, per_second=1.0)  # events of refusals, for each caller

router = APIRouter(prefix="/v1/ccp", tags=["CCP: signed contracts"])
Maker = Annotated[Caller, Depends(may("ccp.vehicle"))]
AskedNamespace = Annotated[Namespace, Query(alias="xsdMsgDefNamespace")]
SessionId = Annotated[str | None, Query(alias="sessionID")]
AskedFingerprint = Annotated[Fingerprint | None, Query(alias="cpsV2GRootCertificateFingerprint")]


class CertificateInstallationBody(Wire):
    """The request of a vehicle at a station. `certificateInstallationReq`: EXI in base64."""

    certificate_installation_req: str
    xsd_msg_def_namespace: Namespace
    metadata: Metadata = None


class SignedContractRequest(Wire):
    """A signed contract. `signedContractDataXML`: the XML of a CertificateInstallationRes, in
    base64; `emaid`: optionally with hyphens; `cpsV2GRootCertificateFingerprint`: SHA-256 in
    hexadecimal, or the UUID of the root in RCP."""

    xsd_msg_def_namespace: Namespace
    emaid: EmaidText
    pcid: PcidText
    signed_contract_data: Annotated[Base64, Field(alias="signedContractDataXML")]
    metadata: Metadata = None
    fingerprint: RootFingerprint = None


@router.post("/signedContractData", summary="Get the contract of a vehicle at a station")
@local(unless=asks_partners)
def install(
    caller: Annotated[Caller, Depends(may("ccp.install"))],
    services: AppServices,
    body: CertificateInstallationBody,
    always_exi: Annotated[bool, Header(alias="alwaysReturnEXI")] = True,
    broadcast: Broadcast = False,
) -> JSONResponse:
    """Takes a CertificateInstallationReq and returns a CertificateInstallationRes, both EXI in
    base64.

    Without a contract the status is 404, with the negative response as EXI for the vehicle, or
    with an error body when `alwaysReturnEXI` is false. A published example has 200; a caller that
    does not decode the EXI would take that for an installation. A CertificateUpdateReq always gets
    a negative CertificateUpdateRes. A request that is not EXI, or that the vehicle has not signed,
    gets 400 with an error body in every case.
    """
    raw = checked(body.certificate_installation_req, vehicle_request.BAD_EXI)
    try:
        request = vehicle_request.read_request(raw)
    except UpdateError as error:
        log.info("a CertificateUpdateReq from %s", caller.signature)
        return _refusal(error, always_exi, response.negative_update(error.session_id))
    pcid = vehicle_request.check_signature(request)
    if services.peers:  # the copy of a partner's vehicle may be out of date
        services.peers.refresh_vehicle(pcid)
    now = services.clock()
    try:
        with services.store.write() as records:
            contract = installation.install(records, request, pcid, now)
    except WithheldError as error:
        peers = None if broadcast else services.peers
        foreign = peers.install(raw, request.roots) if peers else None
        if foreign:
            return _positive(foreign, request.session_id)
        if not (broadcast and error.cause == "unknown-vehicle"):  # partners ask for any vehicle
            _tell_refused(services, caller, request, error)
        return _refusal(error, always_exi, response.negative(request.session_id))
    return _positive(contract, request.session_id)


@router.put("/signedContractData", status_code=201, summary="Store a signed contract")
def put(
    caller: Annotated[Caller, Depends(may("ccp.put"))],
    services: AppServices,
    body: SignedContractRequest,
) -> Response:
    """The signature and both certificate paths are verified for every sender. 400 for XML or
    certificates that are not valid; 403 for an EMAID of another operator; 409 for a DH point or a
    contract key that another contract has."""
    try:
        message = xml.read(decode(body.signed_contract_data))
        bundle = response.read(message)
    except (xml.XmlError, response.ResponseError) as error:
        raise PoolError("invalid", f"signedContractDataXML is not valid ({error}).") from error
    if services.peers:
        services.peers.refresh_vehicle(body.pcid)
    contract = bundle.contract
    certificates = (contract.certificate, *contract.subs, bundle.cps, *bundle.cps_subs)
    for der in certificates:
        pcp.read_certificate(der, "signedContractDataXML")
    authorization.check(caller, "ccp.put", emaid=contract.emaid)  # before an OCSP call
    services.update_revocations(certificates, caller.client_id)
    with services.store.write() as records:
        ccp.put(
            records,
            caller,
            message,
            body.pcid,
            services.clock(),
            body.metadata,
            emaid=body.emaid,
            fingerprint=body.fingerprint,
        )
    return Response(status_code=201)


@router.delete("/signedContractData/{emaid}", summary="Delete a contract")
def delete(
    caller: Annotated[Caller, Depends(may("ccp.delete"))],
    services: AppServices,
    emaid: EmaidPath,
    skip: Annotated[bool, Header(alias="X-Skip-Revocation")] = False,
) -> Response:
    """A certificate that the ecosystem's own MO CA issued is revoked first, unless
    `X-Skip-Revocation` is true. 404 for an unknown EMAID."""
    with services.store.write() as records:
        ccp.delete(records, caller, emaid, services.clock(), revoke=not skip)
    return Response()


@router.get(
    "/provideSignedContractData/{emaid}/{pcid}",
    summary="Get a contract to send it over the air",
)
def provide(
    caller: Maker,
    services: AppServices,
    emaid: EmaidPath,
    pcid: PcidPath,
    session_id: SessionId = None,
    namespace: AskedNamespace = ISO2,
    fingerprint: AskedFingerprint = None,
) -> dict[str, Any]:
    """The answer has the CertificateInstallationRes as EXI in base64, with the given `sessionID`
    (1 to 8 bytes in hexadecimal) in its header. The maker checks dates and revocation before it
    forwards the contract [V2G2-894]. 404 for a contract that may not be given out."""
    session = _session_id(session_id)
    now = services.clock()
    with services.store.read() as records:
        contract = ccp.provide(records, caller, emaid, pcid, now, fingerprint)
    if contract.delivered is None:
        with services.store.write() as records:
            ccp.mark_delivered(records, contract, now)
    message = response.with_session_id(contract.message, session)
    return {
        "certificateInstallationRes": encode(message),
        "xsdMsgDefNamespace": contract.namespace,
        "cpsV2GRootCertificateFingerprint": contract.root_fingerprint,
    }


@router.get("/signedContractData/{pcid}", summary="List the contracts of a vehicle")
def of_vehicle(
    caller: Maker, services: AppServices, pcid: PcidPath, namespace: AskedNamespace = ISO2
) -> dict[str, Any]:
    """`XMLContracts` has the contracts that are stored and not revoked, also before their first
    day and after their last. Another maker's vehicle gets 403; a vehicle without contracts an
    empty list."""
    with services.store.read() as records:
        contracts = ccp.of_vehicle(records, caller, pcid)
        return {"XMLContracts": [_show(records, contract) for contract in contracts]}


@router.get("/lookupContract/{emaid}", summary="Get a contract by its EMAID")
def lookup(
    caller: Annotated[Caller, Depends(may("ccp.lookup"))],
    services: AppServices,
    emaid: EmaidPath,
    namespace: AskedNamespace = ISO2,
    fingerprint: AskedFingerprint = None,
) -> dict[str, Any]:
    """`XMLContracts` has one contract, with its dates checked. The caller is the operator of the
    EMAID, the maker of its vehicle or a charge point operator. 404 for a contract that the caller
    may not see, as for an unknown one."""
    with services.store.read() as records:
        contract = ccp.lookup(records, caller, emaid, services.clock(), fingerprint)
        return {"XMLContracts": [_show(records, contract)]}


@router.post(
    "/signedContractData/{pcid}/{emaid}/default",
    summary="Make a contract the default of its vehicle, which stations install",
)
def set_default(
    caller: Maker, services: AppServices, pcid: PcidPath, emaid: EmaidPath
) -> Response:
    """The former default stays in CCP. 404 when the vehicle has no such contract."""
    with services.store.write() as records:
        ccp.set_default(records, caller, pcid, emaid)
    return Response()


def _refusal(error: PoolError, always_exi: bool, negative: bytes) -> JSONResponse:
    """The same for every cause. Raises the error where the caller wants no EXI."""
    if not always_exi:
        raise error
    return JSONResponse(_answer({"certificateInstallationRes": encode(negative)}), 404)


def _tell_refused(
    services: Services, caller: Caller, request: VehicleRequest, error: WithheldError
) -> None:
    """Tell the operator of the ecosystem why: in the log, and within limits by an event."""
    within_limits = not _REFUSALS.wait(caller.client_id)
    level = logging.WARNING if within_limits else logging.INFO
    cause = CAUSES[error.cause]
    details = f" {error.circumstances!r}" if error.circumstances else ""
    text = "no contract for %s: %s: %s%s %s"
    log.log(level, text, request.pcid, error.cause, cause.meaning, details, cause.remedy)
    if not within_limits:
        return
    _REFUSALS.spend(caller.client_id)
    with services.store.write() as records:
        installation.tell_refused(records, request, error, caller.signature, services.clock())


def _positive(bundle: Bundle | Contract, session_id: bytes) -> JSONResponse:
    message = response.with_session_id(bundle.message, session_id)
    return JSONResponse(
        _answer(
            {
                "certificateInstallationRes": encode(message),
                "emaid": bundle.emaid,
                "cpsV2GRootCertificateFingerprint": bundle.root_fingerprint,
                **({"metaData": bundle.metadata} if bundle.metadata else {}),
            }
        )
    )


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


def _session_id(text: str | None) -> bytes:
    try:
        value = bytes.fromhex(text) if text else NO_SESSION
    except ValueError:
        value = b""
    if not 1 <= len(value) <= 8:
        raise PoolError(
            "invalid",
            "Invalid SessionID format, make sure the length is maximum 8 characters and it is "
            "represented in HEX binary",
        )
    return value
