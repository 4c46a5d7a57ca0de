"""The checks of CPS and CCP as tables, and the rows that several tables share.

A row is a name and a function. The rows of a table run in order, and the first that fails ends
the request with its PoolError. `BUNDLE` and `CONTRACT_DATA` need the message and the roots alone,
so `plugvault.inspection` runs the same rows. The other rows need the pools.

The tables: `cps.SIGN`, `cps.GENERATE`, `ccp.STORE`, `ccp.FORWARD`, `ccp.PROVIDE`,
`vehicle_request.REQUEST`, `installation.INSTALL`.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import NoReturn, TypeAlias, TypeVar

from evcc import chain, exi, signature
from evcc.p256_curve import on_curve
from evcc.x509 import Certificate, CertificateError
from plugvault.contract.data import ContractData
from plugvault.contract.iso15118_2 import response
from plugvault.contract.iso15118_2.bundle import ISO2, Message
from plugvault.pki import path
from plugvault.pki.names import timestamp
from plugvault.pki.verify import verify_p256
from plugvault.pools import certificates, contracts, envelopes, pcp
from plugvault.pools.caller import read_emaid, read_pcid
from plugvault.pools.errors import PoolError, UnknownRootError, WithheldError
from plugvault.pools.records import Contract, Provisioning
from plugvault.pools.repositories import Records

WRAPPED = 48  # bytes of a wrapped contract key of ISO 15118-2
PAST = "The validUntil date of contract certificate is in the past."
EMAID_IN_USE = "Invalid Tupple - EMAID is already used by other PCID."
NO_VEHICLE = "The OEM provisioning certificate with the given PCID is not available."
VEHICLE_KEY = "The contract must have a key of its own."

Anchors = Callable[..., Sequence[bytes]]
S = TypeVar("S")
Table: TypeAlias = tuple[tuple[str, Callable[[S], None]], ...]


def run(table: Table[S], subject: S) -> S:
    """Run the rows of a table. Return the subject, or raise the first PoolError."""
    for _, check in table:
        check(subject)
    return subject


@dataclass(kw_only=True)
class Submission:
    """Contract data that a table of checks examines.

    `anchors(kind, …)`: DER of the roots of these kinds; `now`: Unix seconds; `message`: the signed
    bundle, where there is one. The other values are set by a check or by the caller.
    """

    anchors: Anchors
    now: float
    message: Message | None = None
    bundle: response.Response = field(init=False)
    root: Certificate = field(init=False)  # the V2G root above the CPS that signed the bundle
    data: ContractData = field(init=False)
    leaf: Certificate = field(init=False)


@dataclass(kw_only=True)
class PoolSubmission(Submission):
    """Contract data for the pools. `pcid`: of the vehicle, None for no vehicle yet; `replaced`:
    the vehicle's contract of the same EMAID, set by a check."""

    records: Records
    emaid: str = ""
    pcid: str | None
    replaced: Contract | None = field(default=None, init=False)
    destination: contracts.Destination | None = field(default=None, init=False)

    @property
    def vehicle(self) -> Provisioning | None:
        """The vehicle of the contract, None before the check "vehicle" and without a `pcid`."""
        return self.destination.vehicle if self.destination else None

    def require_destination(self) -> contracts.Destination:
        """The destination, which the check "vehicle" sets for a `pcid`. Raises
        PoolError("invalid") when there is none."""
        if self.destination is None:
            raise PoolError("invalid", NO_VEHICLE)
        return self.destination


# --- the signed bundle ---

_UNREADABLE = (
    response.ResponseError,
    exi.ExiError,
    CertificateError,
    signature.SignatureError,
)


def _invalid(error: Exception) -> PoolError:
    return PoolError("invalid", f"signedContractDataXML is not valid ({error}).")


def _message(submission: Submission) -> None:
    try:
        submission.bundle = response.read(submission.message or {})
        submission.data = submission.bundle.contract
        submission.leaf = path.read(submission.data.certificate)
    except _UNREADABLE as error:
        raise _invalid(error) from error


def _cps_path(submission: Submission) -> None:
    bundle = submission.bundle
    try:
        submission.root = path.validate(
            bundle.cps, bundle.cps_subs, submission.anchors("V2G"), chain.CPS, submission.now
        )
        path.check_order(bundle.cps, bundle.cps_subs)
    except CertificateError as error:
        raise _invalid(error) from error


def _signature(submission: Submission) -> None:
    bundle = submission.bundle
    try:
        point = path.read(bundle.cps).point
        signature.verify(bundle.signature, list(bundle.signed), point, verify_p256)
    except _UNREADABLE as error:
        raise _invalid(error) from error


def _validity(submission: Submission) -> None:
    if submission.leaf.not_after < submission.now:
        raise PoolError("invalid", PAST)


BUNDLE: Table[Submission] = (
    ("message", _message),
    ("cps-path", _cps_path),
    ("signature", _signature),
    ("validity", _validity),
)


# --- the contract data ---


def _certificates(submission: Submission) -> None:
    data = submission.data
    submission.leaf = pcp.read_certificate(data.certificate, "contractCertificate")
    for sub in data.subs:
        pcp.read_certificate(sub, "contractSignatureCertChainSubCertificates list")


def _contract_path(submission: Submission) -> None:
    data, anchors = submission.data, submission.anchors("MO", "V2G")
    try:
        path.validate(data.certificate, data.subs, anchors, chain.CONTRACT, submission.now)
        path.check_order(data.certificate, data.subs)
    except CertificateError as error:
        raise UnknownRootError(
            "invalid", f"The contract certificate chain is not valid under RCP ({error})."
        ) from error


def _emaid(submission: Submission) -> None:
    emaid = read_emaid(submission.data.emaid)
    if read_emaid(submission.leaf.names.get("CN", "")) != emaid:
        raise PoolError("invalid", "emaid : must be the CN of the contract certificate")
    submission.data = replace(submission.data, emaid=emaid)


def _dh_point(submission: Submission) -> None:
    if not on_curve(submission.data.dh_point):
        raise PoolError("invalid", "dHpublickey : must be an uncompressed point of P-256")


def _wrapped_length(submission: Submission) -> None:
    if len(submission.data.wrapped) != WRAPPED:
        raise PoolError(
            "invalid", f"contractSignatureEncryptedPrivateKey : must have {WRAPPED} bytes"
        )


SEALED_KEY: Table[Submission] = (
    ("emaid", _emaid),
    ("dh-point", _dh_point),
    ("wrapped-length", _wrapped_length),
)
CONTRACT_DATA: Table[Submission] = (
    ("certificates", _certificates),
    ("contract-path", _contract_path),
    *SEALED_KEY,
)


# --- with the pools ---


def cps_revocation(submission: PoolSubmission) -> None:
    """A check: no certificate of the CPS that signed the bundle is revoked."""
    bundle = submission.bundle
    certificates.check(submission.records, (bundle.cps, *bundle.cps_subs))


def revocation(submission: PoolSubmission) -> None:
    """A check: no certificate of the contract is revoked, and its leaf has no identity of a
    certificate that our CAs issued."""
    certificates.check_new(submission.records, submission.leaf, submission.data.subs)


def _emaid_in_use(submission: PoolSubmission) -> None:
    """An EMAID belongs to one vehicle until its contract is deleted. Locks vehicle and EMAID."""
    if submission.pcid is None:
        return
    records, vehicle = submission.records, read_pcid(submission.pcid).upper()
    records.lock(vehicle, contracts.key(submission.emaid))
    submission.replaced = contracts.find(records, submission.emaid)
    if submission.replaced and submission.replaced.vehicle != vehicle:
        raise PoolError("invalid", EMAID_IN_USE)


def _vehicle(submission: PoolSubmission) -> None:
    if submission.pcid is None:
        return
    records, vehicle = submission.records, submission.pcid.upper()
    provisioning, its_contracts = records.vehicle_with_contracts(vehicle, ISO2)
    if provisioning is None or not pcp.is_good(records, provisioning, submission.now):
        raise PoolError("invalid", NO_VEHICLE)
    submission.destination = contracts.Destination(
        provisioning, submission.replaced, bool(its_contracts)
    )


def contract_key(submission: PoolSubmission) -> None:
    """A check: the contract's key is not the vehicle's provisioning key."""
    vehicle = submission.vehicle
    if vehicle and path.read(vehicle.certificate).point == submission.leaf.point:
        raise PoolError("invalid", VEHICLE_KEY)


def envelope(submission: PoolSubmission) -> None:
    """A check: DH point and contract key were not used for anything else. It locks and records
    both."""
    envelopes.take(submission.records, submission.data, submission.now)


DESTINATION: Table[PoolSubmission] = (
    ("emaid-in-use", _emaid_in_use),
    ("vehicle", _vehicle),
)


# --- a contract that a caller asks for ---


@dataclass(kw_only=True)
class Provision:
    """A contract that a caller asks CCP for.

    `stored`: the contract in CCP, or None; `absence`: the cause of the refusal when it is None;
    `refusal`: the sentence of every refusal, so that no refusal tells what exists.
    """

    records: Records
    now: float
    stored: Contract | None
    absence: str = "no-contract"
    refusal: str = contracts.MISSING
    contract: Contract = field(init=False)

    def refuse(self, cause: str, circumstances: str = "") -> NoReturn:
        """Raise WithheldError. `cause`: of `refusals.CAUSES`; `circumstances`: for the operator of
        the ecosystem alone."""
        raise WithheldError(self.refusal, cause, circumstances)


def _contract(provision: Provision) -> None:
    if provision.stored is None:
        provision.refuse(provision.absence)
    provision.contract = provision.stored


def _is_current(provision: Provision) -> None:
    contract, now = provision.contract, provision.now
    if now < contract.not_before:
        begins = timestamp(contract.not_before)
        provision.refuse("contract-not-yet-valid", f"{contract.emaid} from {begins}")
    if contract.not_after < now:
        ended = timestamp(contract.not_after)
        provision.refuse("contract-expired", f"{contract.emaid} until {ended}")


def _is_unrevoked(provision: Provision) -> None:
    if contracts.is_revoked(provision.records, provision.contract):
        provision.refuse("contract-revoked", provision.contract.emaid)


USABLE: Table[Provision] = (
    ("contract", _contract),
    ("validity", _is_current),
    ("revocation", _is_unrevoked),
)


def is_usable(records: Records, contract: Contract, now: float) -> bool:
    """Whether CCP may give a contract out: in its dates, no certificate above it revoked."""
    try:
        run(USABLE, Provision(records=records, now=now, stored=contract))
    except PoolError:
        return False
    return True
