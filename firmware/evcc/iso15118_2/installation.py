"""The installation of a contract: a CertificateInstallationRes is installed whole, or not at all.

A message from a charging station and one from the maker over the air pass the same checks. The
table `CHECKS` holds every check, in order: those on public data come first. Then the vault uses a
private key, once; then one commit stores the contract. The first failed check ends the attempt.

`RejectedError.reason` is for the car's own log. The answer on a wire must be the same for every
reason: a sender that can tell a bad key from a bad signature has an oracle.

ISO 15118-2:2014, 7.9.2.4 and 8.4.3.11 [V2G2-814..823, 656, 771, 909].
"""

import hashlib

from evcc import chain, exi, ids, signature, x509
from evcc.contracts import Contract, ContractError
from evcc.envelopes import EnvelopeError
from evcc.errors import EvccError
from evcc.vault import PROVISIONING, VaultError, schemes

SIGNED = (  # the elements that the CPS signs: each once, no others
    "ContractSignatureCertChain",
    "ContractSignatureEncryptedPrivateKey",
    "DHpublickey",
    "eMAID",
)
MAX_MESSAGE = 8192  # bytes; a real response has 4,416


class RejectedError(EvccError):
    """An answer that was not installed. `cause`: the exception that led to it, or None."""

    REASONS = (
        "message",  # too long, not EXI, or another message
        "response-code",
        "unsolicited",
        "session",
        "revocation",  # the list of revoked certificates is out of date
        "cps-path",
        "signature",
        "contract-path",
        "emaid",
        "not-admitted",  # no free slot, replayed, or older than the stored contract
        "dh-point",
        "wrapped-length",
        "envelope",  # its ephemeral key was used with another envelope, or the car is locked
        "vault",
        "storage",
    )

    def __init__(self, reason: str, detail: str = "", cause=None) -> None:
        super().__init__(reason, detail or (str(cause) if cause else ""))
        self.cause = cause


class InstallationRequest:
    """The car's open request. The first answer closes it, installed or not.

    session_id: the SessionID that the answer must have, 1 to 8 bytes. emaid: the EMAID that the
    answer must have, parsed; None: any."""

    def __init__(self, session_id: bytes, emaid=None) -> None:
        self.session_id = session_id
        self.emaid = emaid
        self.open = True

    @classmethod
    def at_station(cls, session_id: bytes):
        """A CertificateInstallationReq sent in the charging session `session_id` (8 bytes)."""
        return cls(session_id)

    @classmethod
    def over_the_air(cls, emaid=None, session_id: bytes = b"\0"):
        """A contract that the maker announced: its EMAID, and the session ID of its response."""
        return cls(session_id, emaid)


class _Attempt:
    """One answer and the results of its checks."""

    # set by the checks
    cps: x509.Certificate
    leaf: x509.Certificate
    emaid: str
    ders: list
    fingerprint: bytes
    dh_point: bytes
    wrapped: bytes

    def __init__(self, response, request, trust, contracts, vault, now, legacy_emaid) -> None:
        self.response = response
        self.request = request
        self.trust = trust
        self.contracts = contracts
        self.vault = vault
        self.now = now
        self.legacy_emaid = legacy_emaid
        self.scheme = schemes.SCHEMES["iso2"]
        self.legacy = False
        self.header: dict = {}
        self.body: dict = {}


def install(
    response,
    request,
    trust,
    contracts,
    vault,
    now: int,
    legacy_emaid: bool = False,
    report=None,
) -> Contract:
    """Check an answer and install its contract.

    response: the EXI document, up to `MAX_MESSAGE` bytes, or the decoded message. request: the
    `InstallationRequest` it answers, or None when none is open. now: unix seconds. legacy_emaid:
    accept the peers' other coding of the signed eMAID. report: called with the name of each passed
    check (and "legacy-emaid").

    Returns the `Contract`. The content of a decoded message is let go before the vault is asked.
    Raises RejectedError(reason); contracts and chains are then unchanged.
    """
    attempt = _Attempt(response, request, trust, contracts, vault, now, legacy_emaid)
    if request is not None:
        if not request.open:
            attempt.request = None
        request.open = False
    contracts.envelopes.reserve()  # before the message is decoded
    for name, check in CHECKS:
        try:
            check(attempt)
        except VaultError as e:
            raise RejectedError("vault", cause=e)
        if report is not None:
            report(name)
    if attempt.legacy and report is not None:
        report("legacy-emaid")
    return _open_and_commit(attempt, report)


def _decode(attempt: _Attempt) -> None:
    message = attempt.response
    try:
        if not isinstance(message, dict):
            if len(message) > MAX_MESSAGE:
                raise RejectedError("message", "%d bytes" % len(message))
            message = exi.decode(message)
        message = message["V2G_Message"]
        attempt.header = message["Header"]
        attempt.body = message["Body"]["CertificateInstallationRes"]
    except exi.ExiError as e:
        raise RejectedError("message", cause=e)
    except KeyError:
        raise RejectedError("message", "not a CertificateInstallationRes")


def _response_code(attempt: _Attempt) -> None:
    # first, because a negative response has dummies in its mandatory fields and no signature
    if attempt.body["ResponseCode"] != "OK":
        raise RejectedError("response-code", attempt.body["ResponseCode"])


def _asked(attempt: _Attempt) -> None:
    if attempt.request is None:
        raise RejectedError("unsolicited", "no request is open")
    if attempt.header["SessionID"] != attempt.request.session_id:
        raise RejectedError("session", "the answer names another session")


def _revocation(attempt: _Attempt) -> None:
    if attempt.trust.revocation.is_stale(attempt.now):
        raise RejectedError("revocation", "the maker's list of revoked certificates is too old")


def _cps_path(attempt: _Attempt) -> None:
    try:
        leaf, subs, _ = _chain(attempt.body["SAProvisioningCertificateChain"])
        chain.validate(
            leaf,
            subs,
            attempt.trust.anchors("V2G"),
            chain.CPS,
            attempt.now,
            attempt.trust.verify,
            is_revoked=attempt.trust.revocation.includes,
        )
    except x509.CertificateError as e:
        raise RejectedError("cps-path", cause=e)
    attempt.cps = leaf


def _signature(attempt: _Attempt) -> None:
    if "Signature" not in attempt.header:
        raise RejectedError("signature", "missing")
    parts = [(attempt.body[name].get("Id"), name, attempt.body[name]) for name in SIGNED]
    for ident, name, _ in parts:
        if not ident:
            raise RejectedError("signature", name + " has no Id")
    try:
        attempt.legacy = signature.verify(
            attempt.header["Signature"],
            parts,
            attempt.cps.point,
            attempt.vault.verify,
            attempt.legacy_emaid,
        )
    except signature.SignatureError as e:
        raise RejectedError("signature", cause=e)


def _contract_path(attempt: _Attempt) -> None:
    # The car need not have the operator's root: the CPS has checked the path and signed the chain.
    # If the car has a root of that name, the path must end in it.
    try:
        attempt.leaf, subs, attempt.ders = _chain(attempt.body["ContractSignatureCertChain"])
        anchors = attempt.trust.anchors("V2G", "MO")
        chain.validate(
            attempt.leaf,
            subs,
            anchors,
            chain.CONTRACT,
            attempt.now,
            attempt.trust.verify,
            transitive=True,
            is_revoked=attempt.trust.revocation.includes,
        )
    except x509.CertificateError as e:
        raise RejectedError("contract-path", cause=e)


def _emaid(attempt: _Attempt) -> None:
    try:
        attempt.emaid = ids.parse_emaid(attempt.body["eMAID"]["value"])
        certified = ids.parse_emaid(attempt.leaf.names.get("CN", ""))
    except ids.IdError as e:
        raise RejectedError("emaid", cause=e)
    if attempt.emaid != certified:
        raise RejectedError("emaid", attempt.emaid + " with a certificate of " + certified)
    announced = attempt.request.emaid
    if announced is not None and attempt.emaid != announced:
        raise RejectedError("emaid", attempt.emaid + " instead of the announced " + announced)


def _admitted(attempt: _Attempt) -> None:
    attempt.fingerprint = hashlib.sha256(attempt.leaf.der).digest()[:16]
    try:
        attempt.contracts.admit(
            attempt.emaid, attempt.fingerprint, attempt.leaf.not_before, attempt.request.emaid
        )
    except ContractError as e:
        raise RejectedError("not-admitted", cause=e)


def _dh_point(attempt: _Attempt) -> None:
    attempt.dh_point = point = attempt.body["DHpublickey"]["value"]
    if len(point) != attempt.scheme.point_length or not attempt.scheme.on_curve(point):
        raise RejectedError("dh-point", "not an uncompressed point of the curve")
    if point == attempt.vault.public(PROVISIONING):
        raise RejectedError("dh-point", "the car's own provisioning key")


def _wrapped(attempt: _Attempt) -> None:
    attempt.wrapped = attempt.body["ContractSignatureEncryptedPrivateKey"]["value"]
    if len(attempt.wrapped) != attempt.scheme.wrapped_length:
        raise RejectedError("wrapped-length", "%d bytes" % len(attempt.wrapped))


def _envelope(attempt: _Attempt) -> None:
    # AES-CBC has no integrity: the result of a changed envelope with a chosen certificate would
    # reveal a part of the key in the original one. See `envelopes`.
    try:
        attempt.contracts.envelopes.check(
            attempt.vault.public(PROVISIONING),
            attempt.dh_point,
            attempt.wrapped,
            attempt.fingerprint,
        )
    except EnvelopeError as e:
        raise RejectedError("envelope", cause=e)


CHECKS = (
    ("decode", _decode),
    ("response-code", _response_code),
    ("asked", _asked),
    ("revocation", _revocation),
    ("cps-path", _cps_path),
    ("signature", _signature),
    ("contract-path", _contract_path),
    ("emaid", _emaid),
    ("admitted", _admitted),
    ("dh-point", _dh_point),
    ("wrapped-length", _wrapped),
    ("envelope", _envelope),
)


def _open_and_commit(attempt: _Attempt, report) -> Contract:
    """Record the envelope, open the key in the vault, store the contract, delete the old key."""
    attempt.header.clear()  # a board has no room for them beside the index
    attempt.body.clear()
    try:
        key = attempt.contracts.begin(
            attempt.vault, attempt.dh_point, attempt.wrapped, attempt.fingerprint
        )
    except VaultError as e:
        raise RejectedError("vault", cause=e)
    except EvccError as e:
        raise RejectedError("storage", cause=e)
    try:
        attempt.vault.open_contract_key(
            attempt.scheme.name, attempt.dh_point, attempt.wrapped, b"", attempt.leaf.point, key
        )
    except VaultError as e:
        attempt.contracts.failed(attempt.dh_point, e.reason == "key-mismatch")
        raise RejectedError("vault", cause=e)
    if report is not None:
        report("key-opened")
    try:
        contract = Contract(
            attempt.emaid,
            key,
            hashlib.sha256(attempt.leaf.point).digest(),
            attempt.vault.custody(key),
            attempt.leaf.names.get("O", ""),
            attempt.leaf.not_before,
            attempt.leaf.not_after,
            attempt.fingerprint,
        )
        replaced = attempt.contracts.commit(contract, attempt.ders, attempt.dh_point)
    except Exception as e:
        _discard(attempt.vault, key)
        attempt.contracts.failed(attempt.dh_point, False)
        if not isinstance(e, EvccError):
            raise
        raise RejectedError("storage", cause=e)
    if report is not None:
        report("committed")
    if replaced is not None:
        _discard(attempt.vault, replaced)
    return contract


def _discard(vault, key: bytes) -> None:
    try:
        vault.delete(key)
    except VaultError:
        pass  # `Contracts.recover` deletes it at the next start


def _chain(element: dict) -> tuple:
    """(leaf, subs, [DER, leaf first]) of a CertificateChainType element."""
    ders = [element["Certificate"]]
    ders += element.get("SubCertificates", {}).get("Certificate", [])
    certificates = [x509.parse(der) for der in ders]
    return certificates[0], certificates[1:], ders
