"""The certificate provisioning service: signs contract data so that vehicles can trust it.

A vehicle knows the V2G root and not every operator; the CPS's signature vouches that the
operator's path was checked here, against RCP and what is revoked [OPCP 1.0.0, cps.v1]. The signing
key is a function: where it lives is not this module's business. No contract is stored here: with a
vehicle, `sign` and `generate` belong into the transaction that stores what they return, and what
they checked of it holds until that ends. Only the DH points and contract keys of what was signed
are kept, so that nobody has another envelope signed for them [`envelopes`].
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from evcc import chain
from evcc.p256 import on_curve
from evcc.x509 import Certificate, CertificateError
from plugvault.contract.iso15118_2.bundle import ISO2, Message, bundle
from plugvault.contract.issue import ContractData, issue_contract
from plugvault.pki import path
from plugvault.pki.issue import Authority
from plugvault.pki.verify import verify_p256
from plugvault.pools import authorization, certificates, contracts, envelopes, pcp, rcp
from plugvault.pools.caller import PEER, Caller, read_emaid, read_pcid
from plugvault.pools.errors import PoolError
from plugvault.pools.records import Provisioning, Root
from plugvault.pools.repositories import Records

WRAPPED = 48
NO_VEHICLE = "The OEM provisioning certificate with the given PCID is not available."
NO_SIGNER = "No CPS of this ecosystem stands under a root the vehicle trusts."
OWN_KEY = "The contract must have a key of its own."
PAST = "The given contractEnds date is in the past."
NO_PARTNERS = "A partner has contract data signed; it stores its contracts itself."


@dataclass(frozen=True)
class Signer:
    """A CPS leaf under one V2G root. `sign(digest: 32 bytes) -> r | s, 64 bytes`."""

    certificate: bytes
    subs: tuple[bytes, ...]
    root_fingerprint: str
    sign: Callable[[bytes], bytes] = field(repr=False)

    @property
    def path(self) -> tuple[bytes, ...]:
        """Leaf first, without the root."""
        return self.certificate, *self.subs


@dataclass(frozen=True)
class Signed:
    """Contract data with its signature. `cps`: whose it is, DER of the leaf and of what is above;
    `root`: the V2G root above that; `place`: None when it was signed for no vehicle."""

    message: Message
    data: ContractData
    cps: tuple[bytes, ...]
    root: Root
    place: contracts.Place | None


class UnknownRoot(PoolError):
    """The operator's path leads to no root in RCP: a partner of this ecosystem may have it."""


class NoSigner(PoolError):
    """None of our CPS stands under a root the vehicle has; somebody else's may. `data`: checked
    and not signed."""

    def __init__(self, data: ContractData, vehicle: Provisioning | None) -> None:
        super().__init__("invalid", NO_SIGNER)
        self.data, self.vehicle = data, vehicle


def sign(
    records: Records,
    caller: Caller,
    signers: Sequence[Signer],
    data: ContractData,
    pcid: str | None,
    now: float,
    fingerprint: str | None = None,
) -> Signed:
    """Check an operator's contract data and sign it.

    `pcid`: also check that this vehicle exists and may get the contract; `fingerprint`: of the
    V2G root whose CPS shall sign, else one that the vehicle has. Raises PoolError: "unavailable"
    when the CPS itself is at fault, "conflict" for a DH point or key that was another contract's,
    NoSigner when there is none for this vehicle.
    """
    # A partner answers for its operators; what it brings must all the same hang from their root.
    # That root may be its own: it has nothing to say of the contracts that are kept here.
    partner = PEER in caller.roles
    if partner and pcid:
        raise PoolError("forbidden", NO_PARTNERS)
    authorization.check(caller, "cps.sign", emaid=data.emaid)
    leaf = _check_form(data)
    if pcid:  # with a hand on what is the caller's, and on nobody else's
        records.lock(pcid.upper(), contracts.key(data.emaid))
    records.lock(*envelopes.names(data))
    _check_path(records, data, leaf, now)
    place = find_place(records, data.emaid, pcid, now) if pcid else None
    if place and path.read(place.vehicle.certificate).point == leaf.point:
        raise PoolError("invalid", OWN_KEY)
    return _sign(records, signers, data, place, now, fingerprint)


def generate(
    records: Records,
    caller: Caller,
    signers: Sequence[Signer],
    operator: Authority,
    emaid: str,
    pcid: str,
    now: float,
    *,
    begins: float,
    ends: float,
    ocsp: str | None = None,
    fingerprint: str | None = None,
) -> Signed:
    """Make a contract for an operator without an own PKI, and sign it.

    `operator`: the ecosystem's MO CA, which issues the certificate and seals its key for the
    vehicle; `begins`, `ends`: Unix seconds. Raises as `sign`, and IssueError.
    """
    emaid = read_emaid(emaid)
    authorization.check(caller, "cps.generate", emaid=emaid)
    if ends < now:
        raise PoolError("invalid", PAST)
    place = find_place(records, emaid, pcid, now)
    data = issue_contract(
        emaid,
        place.vehicle.certificate,
        operator,
        now,
        begins=begins,
        ends=ends,
        ocsp=ocsp,
        organisation=caller.name,
    )
    certificates.record(records, data.certificate)
    check(records, data, now)
    return _sign(records, signers, data, place, now, fingerprint)


def check(records: Records, data: ContractData, now: float) -> Certificate:
    """Format, EMAID against CN, the path to a root in RCP, revocation. Return the leaf."""
    leaf = _check_form(data)
    _check_path(records, data, leaf, now)
    return leaf


def _check_form(data: ContractData) -> Certificate:
    """As `check`, as far as nothing has to be looked up."""
    leaf = pcp.read_certificate(data.certificate, "contractCertificate")
    for sub in data.subs:
        pcp.read_certificate(sub, "contractSignatureCertChainSubCertificates list")
    check_envelope(data)
    if read_emaid(leaf.names.get("CN", "")) != data.emaid:
        raise PoolError("invalid", "emaid : must be the CN of the contract certificate")
    return leaf


def check_envelope(data: ContractData) -> None:
    """The form of a sealed key. Raises PoolError("invalid")."""
    if len(data.wrapped) != WRAPPED:
        raise PoolError(
            "invalid", f"contractSignatureEncryptedPrivateKey : must have {WRAPPED} bytes"
        )
    if not on_curve(data.dh_point):
        raise PoolError("invalid", "dHpublickey : must be an uncompressed point of P-256")


def _check_path(records: Records, data: ContractData, leaf: Certificate, now: float) -> None:
    try:
        path.validate(
            data.certificate, data.subs, rcp.anchors(records, "MO", "V2G"), chain.CONTRACT, now
        )
    except CertificateError as error:
        raise UnknownRoot(
            "invalid", f"The contract certificate chain is not valid under RCP ({error})."
        ) from error
    certificates.check_new(records, leaf, data.subs)


def find_place(records: Records, emaid: str, pcid: str, now: float) -> contracts.Place:
    """The vehicle a contract is for, and no other writer's until the transaction ends.

    An EMAID belongs to one vehicle until it is deleted.
    """
    pcid = read_pcid(pcid)
    records.lock(pcid.upper(), contracts.key(emaid))
    bound = contracts.find(records, emaid)
    if bound and bound.vehicle != pcid.upper():
        raise PoolError("invalid", contracts.TUPPLE)
    vehicle, its_contracts = records.vehicle_with_contracts(pcid.upper(), ISO2)
    if vehicle is None or not pcp.is_good(records, vehicle, now):
        raise PoolError("invalid", NO_VEHICLE)
    return contracts.Place(vehicle, bound, bool(its_contracts))


def _sign(
    records: Records,
    signers: Sequence[Signer],
    data: ContractData,
    place: contracts.Place | None,
    now: float,
    fingerprint: str | None,
) -> Signed:
    signer = choose(records, signers, place.vehicle if place else None, fingerprint)
    if signer is None:
        envelopes.check(records, data)  # a partner's CPS is not asked for what we refuse
        raise NoSigner(data, place.vehicle if place else None)
    root = root_of(records, signer)
    leaf = _check_signer(records, signer, root, now)
    envelopes.take(records, data, now)

    def proven(digest: bytes) -> bytes:
        """A token that signs wrongly would do so unseen until a vehicle refuses its contract."""
        value = signer.sign(digest)
        if not verify_p256(leaf.point, digest, value):
            raise PoolError("unavailable", "The CPS's token signs wrongly.")
        return value

    message = bundle(data, signer.certificate, signer.subs, proven)
    return Signed(message, data, signer.path, root, place)


def choose(
    records: Records,
    signers: Sequence[Signer],
    vehicle: Provisioning | None,
    fingerprint: str | None,
) -> Signer | None:
    """The signer under the root that was asked for, else under one the vehicle has."""
    wanted = rcp.by_fingerprint(records, fingerprint).fingerprint if fingerprint else None
    known = vehicle.v2g_roots.split(",") if vehicle and vehicle.v2g_roots else None
    for signer in signers:
        if wanted and signer.root_fingerprint != wanted:
            continue
        if known and rcp.key_identifier(root_of(records, signer)) not in known:
            continue
        return signer
    return None


def root_of(records: Records, signer: Signer) -> Root:
    """The V2G root a signer stands under, which must still be in RCP."""
    root = records.roots.by_fingerprint(signer.root_fingerprint)
    if root is None:
        raise PoolError("unavailable", "The V2G root of the CPS is not in RCP.")
    return root


def _check_signer(records: Records, signer: Signer, root: Root, now: float) -> Certificate:
    """The CPS's leaf. A vehicle would refuse what an ended or revoked one has signed."""
    try:
        path.validate(signer.certificate, signer.subs, [root.certificate], chain.CPS, now)
        certificates.check(records, signer.path)
    except (CertificateError, PoolError) as error:
        raise PoolError("unavailable", f"The CPS's certificate is not valid ({error}).") from error
    return path.read(signer.certificate)
