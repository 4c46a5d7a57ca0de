"""CCP, the contract certificate pool: signed contracts for vehicles [OPCP 1.0.0, ccp.v1].

A CPS under a V2G root of RCP has signed each contract. CCP gives it out as EXI: to a station in
answer to a vehicle's signed request (`pools.installation`), or to the vehicle's maker. Dates and
revocation are checked on each read.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

from plugvault.contract.iso15118_2.bundle import ISO2, Message
from plugvault.pki import path
from plugvault.pools import audit, authorization, checks, contracts, rcp
from plugvault.pools.caller import Caller, read_emaid, read_pcid
from plugvault.pools.contracts import MISSING, SignedContract
from plugvault.pools.errors import PoolError
from plugvault.pools.records import Contract
from plugvault.pools.repositories import Records

OTHER_EMAID = "emaid : must be the one in signedContractDataXML"
OTHER_ROOT = "cpsV2GRootCertificateFingerprint : must be of the root above the CPS that signed"

# --- the bundle that a caller stores ---


@dataclass(kw_only=True)
class _StoreSubmission(checks.PoolSubmission):
    """A bundle to be stored. `stated_emaid`, `stated_root`: of the request, where it has them;
    `operation`: of `authorization.RIGHTS`."""

    caller: Caller
    operation: str
    stated_emaid: str | None
    stated_root: str | None


def _stated_emaid(submission: _StoreSubmission) -> None:
    submission.emaid = read_emaid(submission.data.emaid)
    stated = submission.stated_emaid
    if stated and contracts.key(read_emaid(stated)) != contracts.key(submission.emaid):
        raise PoolError("invalid", OTHER_EMAID)


def _stated_root(submission: _StoreSubmission) -> None:
    stated = submission.stated_root
    if stated and rcp.by_fingerprint(submission.records, stated).fingerprint != path.fingerprint(
        submission.root.der
    ):
        raise PoolError("invalid", OTHER_ROOT)


def _may_store(submission: _StoreSubmission) -> None:
    authorization.check(submission.caller, submission.operation, emaid=submission.emaid)


# A bundle, before CCP stores it.
STORE: checks.Table[_StoreSubmission] = (
    *checks.BUNDLE,
    ("cps-revocation", checks.cps_revocation),
    ("stated-emaid", _stated_emaid),
    ("stated-root", _stated_root),
    ("authorization", _may_store),
    *checks.CONTRACT_DATA,
    ("revocation", checks.revocation),
    *checks.DESTINATION,
    ("contract-key", checks.contract_key),
    ("envelope", checks.envelope),
)

# A partner's bundle, before it is given to its vehicle and not stored.
_SIGNED: checks.Table[checks.PoolSubmission] = (
    *checks.BUNDLE,
    ("cps-revocation", checks.cps_revocation),
)
FORWARD: checks.Table[checks.PoolSubmission] = (
    *_SIGNED,
    *checks.SEALED_KEY,
    ("envelope", checks.envelope),
)


def keep(
    records: Records, signed: SignedContract, now: float, metadata: str | None = None
) -> Contract | None:
    """Store what this ecosystem's CPS signed for a vehicle, in the transaction in which it was
    signed. None, and nothing is stored, for data that were signed for no vehicle."""
    if signed.destination is None:
        return None
    return contracts.store(records, signed, signed.destination, now, metadata)


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
    """Check a signed bundle against `STORE` and store it for a vehicle.

    The same EMAID on the same vehicle is replaced. `emaid`, `fingerprint`: of the request, where
    it has them; `operation`: the right the caller uses, of `authorization.RIGHTS`.
    Raises PoolError, "conflict" for a DH point or a key of another contract.
    """
    submission = _StoreSubmission(
        records=records,
        caller=caller,
        anchors=partial(rcp.anchors, records),
        message=message,
        pcid=read_pcid(pcid),
        now=now,
        operation=operation,
        stated_emaid=emaid,
        stated_root=fingerprint,
    )
    checks.run(STORE, submission)
    destination, bundle = submission.require_destination(), submission.bundle
    signed = SignedContract(
        message,
        submission.data,
        (bundle.cps, *bundle.cps_subs),
        rcp.by_fingerprint(records, path.fingerprint(submission.root.der)),
        destination,
    )
    return contracts.store(records, signed, destination, now, metadata)


def check_bundle(records: Records, message: Message, now: float) -> checks.Submission:
    """A bundle whose CPS path and signature are valid. Raises PoolError("invalid")."""
    return checks.run(_SIGNED, _of_partner(records, message, now))


def forward(records: Records, message: Message, now: float) -> checks.Submission:
    """Check a partner's bundle against `FORWARD`; it goes to its vehicle and is not stored.

    Raises PoolError, "conflict" for a DH point or a key of another contract.
    """
    return checks.run(FORWARD, _of_partner(records, message, now))


def _of_partner(records: Records, message: Message, now: float) -> checks.PoolSubmission:
    return checks.PoolSubmission(
        records=records, anchors=partial(rcp.anchors, records), message=message, pcid=None, now=now
    )


# --- the contract that a caller asks for ---


@dataclass(kw_only=True)
class _Provision(checks.Provision):
    """A contract that a caller asks for. `fingerprint`: SHA-256 or UUID of the V2G root above its
    CPS, where the caller names one."""

    caller: Caller
    emaid: str
    pcid: str = ""
    fingerprint: str | None


def _may_look_up(provision: _Provision) -> None:
    pcid = provision.stored.pcid if provision.stored else ""
    authorization.check(provision.caller, "ccp.lookup", emaid=provision.emaid, pcid=pcid)


def _may_provide(provision: _Provision) -> None:
    authorization.check(provision.caller, "ccp.vehicle", pcid=provision.pcid)


def _root(provision: _Provision) -> None:
    if provision.fingerprint:
        fingerprint = provision.contract.root_fingerprint
        root = provision.records.roots.by_fingerprint(fingerprint)
        if provision.fingerprint.lower() not in (fingerprint, root and root.root_id):
            provision.refuse("other-root", fingerprint)


def _vehicle(provision: _Provision) -> None:
    if provision.contract.vehicle != provision.pcid.upper():
        provision.refuse("other-vehicle", provision.contract.emaid)


# A contract, before its data are shown; and before its maker gets it.
LOOKUP: checks.Table[_Provision] = (
    ("authorization", _may_look_up),
    *checks.USABLE,
    ("root", _root),
)
PROVIDE: checks.Table[_Provision] = (
    ("authorization", _may_provide),
    *checks.USABLE,
    ("root", _root),
    ("vehicle", _vehicle),
)


def lookup(
    records: Records, caller: Caller, emaid: str, now: float, fingerprint: str | None = None
) -> Contract:
    """One contract by EMAID, for its operator, its vehicle's maker or a charge point operator.

    An EMAID does not name the vehicle, so a maker gets "not-found" for another maker's contract as
    for a missing one. Raises PoolError: "invalid" for a malformed EMAID, "forbidden" for another
    operator's; WithheldError for a contract outside its dates, revoked or under another root.
    """
    emaid = read_emaid(emaid)
    provision = _Provision(
        records=records,
        now=now,
        stored=contracts.find(records, emaid),
        caller=caller,
        emaid=emaid,
        fingerprint=fingerprint,
    )
    return checks.run(LOOKUP, provision).contract


def provide(
    records: Records,
    caller: Caller,
    emaid: str,
    pcid: str,
    now: float,
    fingerprint: str | None = None,
) -> Contract:
    """A contract for the vehicle's maker, the vehicle's default or not. Raises as `lookup`, and
    WithheldError for a contract of another vehicle."""
    pcid, emaid = read_pcid(pcid), read_emaid(emaid)
    provision = _Provision(
        records=records,
        now=now,
        stored=contracts.find(records, emaid),
        caller=caller,
        emaid=emaid,
        pcid=pcid,
        fingerprint=fingerprint,
    )
    return checks.run(PROVIDE, provision).contract


def of_vehicle(records: Records, caller: Caller, pcid: str) -> Sequence[Contract]:
    """The contracts of a vehicle that are not revoked, for its maker.

    A contract outside its dates is listed until it is deleted, because the maker takes a contract
    that is not listed out of the vehicle. A wrong clock of this server would otherwise remove
    every contract. Raises PoolError("forbidden") for another maker's vehicle.
    """
    pcid = read_pcid(pcid)
    authorization.check(caller, "ccp.vehicle", pcid=pcid)
    stored = records.contracts.of_vehicle(pcid.upper(), ISO2)
    return [contract for contract in stored if not contracts.is_revoked(records, contract)]


def delete(
    records: Records, caller: Caller, emaid: str, now: float, revoke: bool = True
) -> Contract:
    """Delete a contract of the caller and return it. `revoke`: see `contracts.remove`. Raises
    PoolError: "forbidden" for another operator's EMAID, "not-found"."""
    emaid = read_emaid(emaid)
    authorization.check(caller, "ccp.delete", emaid=emaid)
    contract = contracts.find(records, emaid)
    if contract:  # the lock needs its vehicle; another writer may have deleted it before the lock
        records.lock(contract.vehicle, contracts.key(emaid))
        contract = contracts.find(records, emaid)
    if contract is None:
        raise PoolError("not-found", MISSING)
    contracts.remove(records, contract, now, revoke)
    detail = "" if revoke else "certificate not revoked"
    audit.note(records, caller.signature, "contract deleted", contract.emaid, detail, now)
    return contract


def set_default(records: Records, caller: Caller, pcid: str, emaid: str) -> None:
    """Make a contract of a vehicle its default, which stations install. Raises PoolError:
    "forbidden" for another maker's vehicle, "not-found" for a contract that the vehicle does not
    have."""
    pcid, emaid = read_pcid(pcid), read_emaid(emaid)
    authorization.check(caller, "ccp.vehicle", pcid=pcid)
    records.lock(pcid.upper())
    stored = records.contracts.of_vehicle(pcid.upper(), ISO2)
    if not any(contracts.key(contract.emaid) == contracts.key(emaid) for contract in stored):
        raise PoolError("not-found", MISSING)
    for contract in stored:
        default = contracts.key(contract.emaid) == contracts.key(emaid)
        if contract.default != default:
            records.contracts.put(replace(contract, default=default))


def mark_delivered(records: Records, contract: Contract, now: float) -> None:
    """Record a delivery (`contracts.deliver`), unless the contract was replaced meanwhile."""
    records.lock(contract.vehicle)
    if records.contracts.get(contract.emaid, contract.namespace) == contract:
        contracts.deliver(records, contract, now)
