"""CCP, the contract certificate pool: signed contracts, waiting for their vehicles.

[OPCP 1.0.0, ccp.v1]. Contracts come in signed by a CPS under a V2G root of RCP, and go out as
EXI: to a station in answer to a vehicle's signed request (`plugvault.pools.installation`), or to
the vehicle's maker. Dates and revocation are checked on each read.
"""

from collections.abc import Sequence
from dataclasses import replace

from evcc import chain, exi, signature
from evcc.x509 import CertificateError
from plugvault.contract.iso15118_2 import response
from plugvault.contract.iso15118_2.bundle import ISO2, Message
from plugvault.contract.issue import ContractData
from plugvault.pki import path
from plugvault.pki.verify import verify_p256
from plugvault.pools import audit, authorization, certificates, contracts, cps, envelopes, rcp
from plugvault.pools.caller import Caller, read_emaid, read_pcid
from plugvault.pools.contracts import MISSING
from plugvault.pools.errors import PoolError
from plugvault.pools.records import Contract
from plugvault.pools.repositories import Records

PAST = "The validUntil date of contract certificate is in the past."
OTHER_EMAID = "emaid : must be the one in signedContractDataXML"
OTHER_ROOT = "cpsV2GRootCertificateFingerprint : must be of the root above the CPS that signed"

remove = contracts.remove

_NO_BUNDLE = (
    response.ResponseError,
    exi.ExiError,
    CertificateError,
    signature.SignatureError,
)


def keep(
    records: Records, signed: cps.Signed, now: float, metadata: str | None = None
) -> Contract | None:
    """Store what our own CPS has signed for a vehicle, in the transaction it was signed in, which
    has its DH point and its key."""
    if signed.place is None:
        return None
    return contracts.store(
        records,
        signed.message,
        signed.data,
        signed.cps,
        signed.root.fingerprint,
        signed.place,
        now,
        metadata,
    )


def put(
    records: Records,
    caller: Caller,
    message: Message,
    pcid: str,
    now: float,
    metadata: str | None = None,
    *,
    emaid: str | None = None,
    fingerprint: str | None = None,
    operation: str = "ccp.put",
) -> Contract:
    """Store a signed bundle for a vehicle. The same EMAID on the same vehicle is replaced.

    The CPS's path to a V2G root, its signature and the operator's path are verified for every
    sender. `emaid`, `fingerprint`: what the bundle must contain, where they are given;
    `operation`: the caller's right, of `authorization.RIGHTS`.
    Raises PoolError, "conflict" for a DH point or a key that was another contract's.
    """
    pcid = read_pcid(pcid)
    taken, root_fingerprint = check_bundle(records, message, now)
    data = replace(taken.contract, emaid=read_emaid(taken.contract.emaid))
    if emaid and contracts.key(read_emaid(emaid)) != contracts.key(data.emaid):
        raise PoolError("invalid", OTHER_EMAID)
    if fingerprint and rcp.by_fingerprint(records, fingerprint).fingerprint != root_fingerprint:
        raise PoolError("invalid", OTHER_ROOT)
    authorization.check(caller, operation, emaid=data.emaid)
    leaf = cps.check(records, data, now)
    place = cps.find_place(records, data.emaid, pcid, now)
    if path.read(place.vehicle.certificate).point == leaf.point:
        raise PoolError("invalid", cps.OWN_KEY)
    envelopes.take(records, data, now)
    return contracts.store(
        records,
        message,
        data,
        (taken.cps, *taken.cps_subs),
        root_fingerprint,
        place,
        now,
        metadata,
    )


def pass_on(records: Records, contract: ContractData, now: float) -> None:
    """Have seen the contract of a checked bundle that goes to its vehicle and is not kept here.

    Raises PoolError, "conflict" for a DH point or a key that was another contract's.
    """
    leaf = path.read(contract.certificate)
    data = replace(contract, emaid=read_emaid(leaf.names.get("CN", "")))
    cps.check_envelope(data)
    envelopes.take(records, data, now)


def check_bundle(records: Records, message: Message, now: float) -> tuple[response.Response, str]:
    """The parts of a bundle whose CPS path and signature hold, and its root's fingerprint."""
    try:
        taken = response.read(message)
        anchor = path.validate(
            taken.cps, taken.cps_subs, rcp.anchors(records, "V2G"), chain.CPS, now
        )
        point = path.read(taken.cps).point
        signature.verify(taken.signature, list(taken.signed), point, verify_p256)
        leaf = path.read(taken.contract.certificate)
    except _NO_BUNDLE as error:
        raise PoolError("invalid", f"signedContractDataXML is not valid ({error}).") from error
    certificates.check(records, (taken.cps, *taken.cps_subs))
    if leaf.not_after < now:
        raise PoolError("invalid", PAST)
    return taken, path.fingerprint(anchor.der)


def delete(
    records: Records, caller: Caller, emaid: str, now: float, revoke: bool = True
) -> Contract:
    """End a contract of the caller's. Order of the checks: OPCP's. `revoke`: see `remove`."""
    emaid = read_emaid(emaid)
    authorization.check(caller, "ccp.delete", emaid=emaid)
    contract = contracts.find(records, emaid)
    if contract:  # its vehicle was not known before; is it still there with nobody's hand on it?
        records.lock(contract.vehicle, contracts.key(emaid))
        contract = contracts.find(records, emaid)
    if contract is None:
        raise PoolError("not-found", MISSING)
    remove(records, contract, now, revoke)
    detail = "" if revoke else "certificate not revoked"
    audit.note(records, caller.signature, "contract deleted", contract.emaid, detail, now)
    return contract


def provide(
    records: Records,
    caller: Caller,
    emaid: str,
    pcid: str,
    now: float,
    fingerprint: str | None = None,
) -> Contract:
    """A contract for the vehicle's maker, default or not."""
    pcid, emaid = read_pcid(pcid), read_emaid(emaid)
    authorization.check(caller, "ccp.vehicle", pcid=pcid)
    contract = _find(records, emaid, fingerprint)
    if (
        contract is None
        or contract.vehicle != pcid.upper()
        or not contracts.good(records, [contract], now)
    ):
        raise PoolError("not-found", MISSING)
    return contract


def of_vehicle(records: Records, caller: Caller, pcid: str, now: float) -> Sequence[Contract]:
    """A vehicle's contracts, for its maker; an empty list when it has none."""
    pcid = read_pcid(pcid)
    authorization.check(caller, "ccp.vehicle", pcid=pcid)
    return contracts.good(records, records.contracts.of_vehicle(pcid.upper(), ISO2), now)


def lookup(
    records: Records, caller: Caller, emaid: str, now: float, fingerprint: str | None = None
) -> Contract:
    """One contract by EMAID: its operator, its vehicle's maker, or a charge point operator.

    What is no longer good is not found, and neither is another maker's by a maker: an EMAID does
    not say whose vehicle it is for, so "not yours" would say that the contract exists.
    """
    emaid = read_emaid(emaid)
    contract = _find(records, emaid, fingerprint)
    vehicle = contract.pcid if contract else ""
    authorization.check(caller, "ccp.lookup", emaid=emaid, pcid=vehicle)
    if contract is None or not contracts.good(records, [contract], now):
        raise PoolError("not-found", MISSING)
    return contract


def set_default(records: Records, caller: Caller, pcid: str, emaid: str) -> None:
    """Make one contract of a vehicle the one stations install."""
    pcid, emaid = read_pcid(pcid), read_emaid(emaid)
    authorization.check(caller, "ccp.vehicle", pcid=pcid)
    records.lock(pcid.upper())
    found = records.contracts.of_vehicle(pcid.upper(), ISO2)
    wanted = [one for one in found if contracts.key(one.emaid) == contracts.key(emaid)]
    if not wanted:
        raise PoolError("not-found", MISSING)
    for contract in found:
        if contract.default != (contract in wanted):
            records.contracts.put(replace(contract, default=contract in wanted))


def mark_delivered(records: Records, contract: Contract, now: float) -> None:
    """See `contracts.deliver`. Not of a bundle that was put since: nobody has that one."""
    records.lock(contract.vehicle)
    if records.contracts.get(contract.emaid, contract.namespace) == contract:
        contracts.deliver(records, contract, now)


def _find(records: Records, emaid: str, fingerprint: str | None) -> Contract | None:
    """`fingerprint`: SHA-256 or identifier of the V2G root it must stand under, if given."""
    contract = contracts.find(records, emaid)
    if contract and fingerprint:
        root = records.roots.by_fingerprint(contract.root_fingerprint)
        if fingerprint.lower() not in (contract.root_fingerprint, root and root.root_id):
            return None
    return contract
