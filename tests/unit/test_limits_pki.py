"""The exact limit of what is issued, validated, asked and answered: what is within it passes, one
more is refused.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.hashes import SHA1
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import ocsp as library
from cryptography.x509.oid import AuthorityInformationAccessOID

from evcc import chain
from evcc.errors import EvccError
from evcc.x509 import CertificateError
from fixtures.office import KEYS, branch, levels, names
from plugvault.inspection import LIMIT as FILE
from plugvault.inspection import UnreadableError, inspect
from plugvault.inspection.report import Scope
from plugvault.pki import ocsp, path, responder
from plugvault.pki.issue import BACKDATE, IssueError, der, issue, subordinate
from plugvault.pki.responder import NONCE
from plugvault.pki.schemes import SCHEMES
from world import CONTRACT_USAGE, DAY, EMAID, NOW, World, root

WORLD = World()
SOON = NOW + 100
TIMES = {"the first": (NOW, True), "the last": (SOON, True),
         "before the first": (NOW - 1, False), "after the last": (SOON + 1, False)}  # fmt: skip


# Sizes


def address(padding: int) -> str:
    return "http://ocsp.example/" + "o" * padding


def sizes_about(limit: int, size: Callable[[int], int]) -> Iterator[int]:
    """Paddings that make `size` come close to the limit, over and over: signatures vary."""
    first = limit - size(0) - 25
    return (first + at % 32 for at in range(4000))


@pytest.mark.parametrize("curve", KEYS)
def test_a_certificate_has_so_many_bytes_and_not_one_more(curve: str) -> None:
    limit, key = SCHEMES[curve].limit, KEYS[curve]().public_key()

    def size(padding: int) -> int:
        """Of what is made; of what is refused, less than nothing."""
        at = address(padding)
        try:
            return len(issue("contract", names(EMAID), key, branch("mo", curve), NOW, ocsp=at))
        except IssueError as error:
            assert error.reason == "too-long"
            return -int(error.detail.split()[0])

    sizes: set[int] = set()
    for padding in sizes_about(limit, size):
        sizes.add(size(padding))
        if {limit, -limit - 1} <= sizes:
            break
    assert {limit, -limit - 1} <= sizes
    assert not sizes & {-limit, limit + 1}


@pytest.mark.parametrize(("curve", "limit"), [("secp256r1", 800), ("ed448", 1600)])
def test_so_many_bytes_of_a_certificate_are_read_and_not_one_more(curve: str, limit: int) -> None:
    certificate_of = long_2 if curve == "secp256r1" else long_20
    read: dict[int, bool] = {}
    for padding in sizes_about(limit, lambda padding: len(certificate_of(padding))):
        der = certificate_of(padding)
        if limit <= len(der) <= limit + 1:
            read[len(der)] = is_read(der)
        if len(read) == 2:
            break
    assert read == {limit: True, limit + 1: False}


def is_read(der: bytes) -> bool:
    try:
        path.read_any(der)
    except CertificateError as error:
        assert error.reason == "size"
        return False
    return True


def long_2(padding: int) -> bytes:
    return WORLD.mo_sub2.issue(EMAID, dc="MO", extensions=[(responder_at(padding), False)]).der


def long_20(padding: int) -> bytes:
    above, extension = branch("mo", "ed448"), responder_at(padding)
    plain = x509.load_der_x509_certificate(
        issue("contract", names(EMAID), above.key.public_key(), above, NOW)
    )
    builder = x509.CertificateBuilder(
        plain.issuer,
        plain.subject,
        plain.public_key(),
        plain.serial_number,
        plain.not_valid_before_utc,
        plain.not_valid_after_utc,
        [*plain.extensions, x509.Extension(extension.oid, False, extension)],
    )
    return der(builder.sign(above.key, None))


def responder_at(padding: int) -> x509.AuthorityInformationAccess:
    where = x509.UniformResourceIdentifier(address(padding))
    access = x509.AccessDescription(AuthorityInformationAccessOID.OCSP, where)
    return x509.AuthorityInformationAccess([access])


def padded(size: int) -> bytes:
    """An OCSP request of so many bytes."""
    subs = levels("oem", "secp256r1")
    mark = x509.ObjectIdentifier("1.3.6.1.4.1.99999.1")
    for filler in range(size - 200, size):
        builder = library.OCSPRequestBuilder().add_certificate(
            subs[2].certificate, subs[1].certificate, SHA1()
        )
        extension = x509.UnrecognizedExtension(mark, b"\4\0" + bytes(filler))
        encoded = builder.add_extension(extension, False).build().public_bytes(Encoding.DER)
        if len(encoded) == size:
            return encoded
    raise AssertionError(size)


def with_nonce(size: int) -> bytes:
    subs = levels("oem", "secp256r1")
    builder = library.OCSPRequestBuilder().add_certificate(
        subs[2].certificate, subs[1].certificate, SHA1()
    )
    return (
        builder.add_extension(x509.OCSPNonce(b"n" * size), False)
        .build()
        .public_bytes(Encoding.DER)
    )


ASKED = {
    "a request": (padded, None, responder.LIMIT),
    "a nonce": (with_nonce, 1, NONCE),
}


@pytest.mark.parametrize("kind", ASKED)
def test_so_many_bytes_of_an_ocsp_request_are_read_and_not_one_more(kind: str) -> None:
    request_of, least, most = ASKED[kind]
    for size in filter(None, (least, most)):
        assert responder.read(request_of(size)).serial
    for size in (most + 1, *(() if least is None else (least - 1,))):
        with pytest.raises(EvccError, match="malformed"):
            responder.read(request_of(size))


def test_so_many_bytes_of_a_file_are_inspected_and_not_one_more() -> None:
    try:
        inspect(b" " * FILE, Scope(NOW))
    except UnreadableError as error:
        assert "more than" not in str(error)
    with pytest.raises(UnreadableError, match="more than"):
        inspect(b" " * (FILE + 1), Scope(NOW))


# First and last seconds


@pytest.mark.parametrize("when", TIMES)
@pytest.mark.parametrize("which", ["leaf", "sub2", "sub1", "root"])
def test_each_certificate_of_a_path_is_good_from_its_first_second_to_its_last(
    which: str, when: str
) -> None:
    def dates(name: str) -> dict[str, int]:
        return {"not_before": NOW, "not_after": SOON} if name == which else {}

    top = root("Root", dc="MO", **dates("root"))
    sub1 = top.sub("Sub1", 1, dc="MO", **dates("sub1"))
    sub2 = sub1.sub("Sub2", dc="MO", **dates("sub2"))
    leaf = sub2.issue(EMAID, dc="MO", country=None, key_usage=CONTRACT_USAGE, **dates("leaf"))
    at, is_good = TIMES[when]
    arguments = (leaf.der, leaf.chain[1:], [top.der], chain.CONTRACT)
    if is_good:
        for moment in (at, at):  # the second time by what is known of what is above
            assert path.validate(*arguments, moment).der == top.der
        return
    with pytest.raises(CertificateError) as caught:
        path.validate(*arguments, at)
    assert caught.value.reason in ("expired", "not-yet-valid")


def test_dates_at_the_ends_of_their_range() -> None:
    sub2 = branch("mo")
    last = sub2.certificate.not_valid_after_utc.timestamp()
    key = KEYS["secp256r1"]().public_key()

    def made(**times: float) -> x509.Certificate:
        now = times.pop("now", NOW)
        return x509.load_der_x509_certificate(
            issue("contract", names(EMAID), key, sub2, now, **times)
        )

    assert made().not_valid_before_utc.timestamp() == NOW - BACKDATE
    assert made(begins=0, ends=DAY).not_valid_before_utc.timestamp() == 0
    assert made(begins=NOW, ends=NOW + 1).not_valid_after_utc.timestamp() == NOW + 1
    assert made(ends=last).not_valid_after_utc.timestamp() == last
    assert made(now=BACKDATE).not_valid_before_utc.timestamp() == 0
    for refused in (
        {"begins": -1, "ends": DAY},
        {"begins": NOW, "ends": NOW},
        {"ends": last + 1},
        {"now": BACKDATE - 1},
    ):
        with pytest.raises(IssueError, match="validity"):
            made(**refused)


# The times of an OCSP answer: (this update, next update), seconds from now.

SKEW, AGE = int(ocsp.SKEW.total_seconds()), int(ocsp.AGE.total_seconds())
OF_NOW = {
    "just made": (0, 60, True),
    "a clock that is ahead": (SKEW, SKEW + 60, True),
    "a clock that is too far ahead": (SKEW + 1, SKEW + 60, False),
    "just over": (-60, -SKEW, True),
    "over for too long": (-SKEW - 60, -SKEW - 1, False),
    "old, and says not until when": (-AGE - SKEW, None, True),
    "too old, and says not until when": (-AGE - SKEW - 1, None, False),
}


@pytest.mark.parametrize("when", OF_NOW)
def test_an_answer_is_of_now_to_the_second(when: str) -> None:
    begins, ends, is_good = OF_NOW[when]
    _, above, below = levels("oem", "secp256r1")
    now = datetime.fromtimestamp(NOW, UTC)
    builder = library.OCSPResponseBuilder().add_response(
        cert=below.certificate,
        issuer=above.certificate,
        algorithm=SHA1(),
        cert_status=library.OCSPCertStatus.GOOD,
        this_update=now + timedelta(seconds=begins),
        next_update=None if ends is None else now + timedelta(seconds=ends),
        revocation_time=None,
        revocation_reason=None,
    )
    builder = builder.responder_id(library.OCSPResponderEncoding.HASH, above.certificate)
    answer = builder.sign(above.key, SCHEMES["secp256r1"].hash).public_bytes(Encoding.DER)
    arguments = answer, der(below.certificate), der(above.certificate), NOW
    if is_good:
        assert ocsp.read(*arguments).status == "good"
        return
    with pytest.raises(ocsp.OcspError, match="not current"):
        ocsp.read(*arguments)


# Levels


def test_below_a_root_stand_two_sub_cas_and_no_third() -> None:
    _, sub1, sub2 = levels("mo", "secp256r1")
    assert subordinate("mo-sub2", names("Another"), KEYS["secp256r1"](), sub1, NOW)
    with pytest.raises(IssueError, match="not-a-ca"):
        subordinate("mo-sub2", names("Third"), KEYS["secp256r1"](), sub2, NOW)
