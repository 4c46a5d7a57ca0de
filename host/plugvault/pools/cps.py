"""The certificate provisioning service: it signs contract data for vehicles [OPCP 1.0.0, cps.v1].

A vehicle trusts the V2G root and does not know every operator. The signature of the CPS tells it
that the operator's path was checked here, against RCP and the revoked certificates. The signing
key is a function, and this module does not know where it lives.

No contract is stored here. With a vehicle, `sign` and `generate` belong in the transaction that
stores their result: its locks hold until that ends. Only the DH points and contract keys of signed
data are recorded, so that no second envelope with one of them is signed (`pools.envelopes`).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial

from evcc import chain
from evcc.x509 import CertificateError
from plugvault.contract.data import ContractData
from plugvault.contract.iso15118_2.bundle import bundle
from plugvault.contract.iso15118_2.issue import issue_contract
from plugvault.pki import path
from plugvault.pki.issue import Authority
from plugvault.pki.verify import verify_p256
from plugvault.pools import authorization, certificates, checks, rcp
from plugvault.pools.caller import PEER, Caller, read_emaid
from plugvault.pools.contracts import SignedContract
from plugvault.pools.errors import PoolError
from plugvault.pools.records import Provisioning, Root
from plugvault.pools.repositories import Records

NO_SIGNER = "No CPS of this ecosystem stands under a root the vehicle trusts."
PAST = "The given contractEnds date is in the past."
NO_PARTNERS = "A partner may have contract data signed, but it stores its contracts itself."


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


class NoSignerError(PoolError):
    """No CPS of this ecosystem stands under a root of the vehicle; a partner's may. Its reason is
    "invalid". `data`: checked and not signed."""

    def __init__(self, data: ContractData, vehicle: Provisioning | None) -> None:
        super().__init__("invalid", NO_SIGNER)
        self.data, self.vehicle = data, vehicle


@dataclass(kw_only=True)
class _SignSubmission(checks.PoolSubmission):
    """Contract data to be signed. `fingerprint`: of the V2G root above the CPS, if the caller
    asks for one; `ends`: of a contract that is still to be made."""

    caller: Caller
    signers: Sequence[Signer]
    fingerprint: str | None
    ends: float = 0.0
    signer: Signer = field(init=False)
    signer_root: Root = field(init=False)


def _may_sign(submission: _SignSubmission) -> None:
    # A partner is responsible for its operators, so it may submit any EMAID. It may not store a
    # contract here: the contract's root may be the partner's own.
    if PEER in submission.caller.roles and submission.pcid:
        raise PoolError("forbidden", NO_PARTNERS)
    authorization.check(submission.caller, "cps.sign", emaid=submission.emaid)


def _may_generate(submission: _SignSubmission) -> None:
    authorization.check(submission.caller, "cps.generate", emaid=submission.emaid)


def _ends(submission: _SignSubmission) -> None:
    if submission.ends < submission.now:
        raise PoolError("invalid", PAST)


def _signer(submission: _SignSubmission) -> None:
    signer = choose(
        submission.records, submission.signers, submission.vehicle, submission.fingerprint
    )
    if signer is None:
        raise NoSignerError(submission.data, submission.vehicle)
    submission.signer = signer
    submission.signer_root = root_of(submission.records, signer)


def _cps_path(submission: _SignSubmission) -> None:
    # A vehicle refuses the signature of an expired or revoked CPS.
    signer, root = submission.signer, submission.signer_root
    try:
        path.validate(
            signer.certificate, signer.subs, [root.certificate], chain.CPS, submission.now
        )
        certificates.check(submission.records, signer.path)
    except (CertificateError, PoolError) as error:
        raise PoolError("unavailable", f"The CPS's certificate is not valid ({error}).") from error


_CERTIFICATES: checks.Table[_SignSubmission] = (
    *checks.CONTRACT_DATA,
    ("revocation", checks.revocation),
)
_SIGNATURE: checks.Table[_SignSubmission] = (
    ("contract-key", checks.contract_key),
    ("envelope", checks.envelope),
    ("signer", _signer),
    ("cps-path", _cps_path),
)

# An operator's contract data, before it is signed.
SIGN: checks.Table[_SignSubmission] = (
    ("authorization", _may_sign),
    *_CERTIFICATES,
    *checks.DESTINATION,
    *_SIGNATURE,
)
# A request for a contract, before the contract is made; and the contract, before it is signed.
GENERATE: checks.Table[_SignSubmission] = (
    ("authorization", _may_generate),
    ("validity", _ends),
    *checks.DESTINATION,
)
SIGN_GENERATED: checks.Table[_SignSubmission] = (*_CERTIFICATES, *_SIGNATURE)


def sign(
    records: Records,
    caller: Caller,
    signers: Sequence[Signer],
    data: ContractData,
    pcid: str | None,
    now: float,
    fingerprint: str | None = None,
) -> SignedContract:
    """Check an operator's contract data against `SIGN` and sign it.

    `pcid`: of the vehicle that will get the contract, if any; `fingerprint`: of the V2G root above
    the CPS, default: one that the vehicle has. Raises PoolError: "unavailable" when the CPS is at
    fault, "conflict" for a DH point or key of another contract, NoSignerError when no CPS fits.
    """
    submission = _SignSubmission(
        records=records,
        caller=caller,
        signers=signers,
        anchors=partial(rcp.anchors, records),
        emaid=data.emaid,
        pcid=pcid,
        now=now,
        fingerprint=fingerprint,
    )
    submission.data = data
    return _sign(checks.run(SIGN, submission))


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
) -> SignedContract:
    """Make a contract for an operator without a PKI, and sign it.

    `operator`: the ecosystem's MO CA, which issues the certificate and seals its key for the
    vehicle; `begins`, `ends`: Unix seconds. Raises as `sign`, and IssueError.
    """
    submission = _SignSubmission(
        records=records,
        caller=caller,
        signers=signers,
        anchors=partial(rcp.anchors, records),
        emaid=read_emaid(emaid),
        pcid=pcid,
        now=now,
        fingerprint=fingerprint,
        ends=ends,
    )
    checks.run(GENERATE, submission)
    submission.data = issue_contract(
        submission.emaid,
        submission.require_destination().vehicle.certificate,
        operator,
        now,
        begins=begins,
        ends=ends,
        ocsp=ocsp,
        organisation=caller.name,
    )
    certificates.record(records, submission.data.certificate)
    return _sign(checks.run(SIGN_GENERATED, submission))


def _sign(submission: _SignSubmission) -> SignedContract:
    signer = submission.signer
    point = path.read(signer.certificate).point

    def sign_and_verify(digest: bytes) -> bytes:
        # Without this check, only the vehicle would notice that a token signs wrongly.
        signature = signer.sign(digest)
        if not verify_p256(point, digest, signature):
            raise PoolError("unavailable", "The CPS's token signs wrongly.")
        return signature

    data = submission.data
    message = bundle(data, signer.certificate, signer.subs, sign_and_verify)
    return SignedContract(
        message, data, signer.path, submission.signer_root, submission.destination
    )


def choose(
    records: Records,
    signers: Sequence[Signer],
    vehicle: Provisioning | None,
    fingerprint: str | None,
) -> Signer | None:
    """The first signer under the root that the caller names and that the vehicle has. None when no
    signer fits."""
    root = rcp.by_fingerprint(records, fingerprint).fingerprint if fingerprint else None
    vehicle_roots = vehicle.v2g_roots.split(",") if vehicle and vehicle.v2g_roots else None
    for signer in signers:
        if root and signer.root_fingerprint != root:
            continue
        if vehicle_roots and rcp.key_identifier(root_of(records, signer)) not in vehicle_roots:
            continue
        return signer
    return None


def root_of(records: Records, signer: Signer) -> Root:
    """The V2G root above a signer. Raises PoolError("unavailable") when the root is no longer in
    RCP."""
    root = records.roots.by_fingerprint(signer.root_fingerprint)
    if root is None:
        raise PoolError("unavailable", "The V2G root of the CPS is not in RCP.")
    return root
