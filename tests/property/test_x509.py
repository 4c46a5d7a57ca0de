"""evcc.x509: any bytes give a certificate or an error, and `cryptography` reads the same."""

import json
import tracemalloc
from pathlib import Path

from cryptography import x509 as reference
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import example, given
from hypothesis import strategies as st

from evcc import x509

VECTORS = Path(__file__).parent.parent / "vectors"
MADE = {
    name: bytes.fromhex(text)
    for name, text in json.loads((VECTORS / "certificates.json").read_text()).items()
}
SEEDS = list(MADE.values())


def parse(data: bytes, limit: int = 800) -> x509.Certificate | None:
    try:
        return x509.parse(data, limit)
    except x509.CertificateError:
        return None


@given(st.binary(max_size=900))
@example(b"\x30" * 800)
@example(b"\x30\x82\x03\x1c" * 200)
def test_any_bytes_give_a_certificate_or_an_error(data: bytes) -> None:
    parse(data)


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    data = bytearray(draw(st.sampled_from(SEEDS)))
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(data) - 1))
        kind = draw(st.sampled_from(("set", "cut", "repeat", "insert")))
        length = draw(st.integers(1, 12))
        if kind == "set":
            data[at] = draw(st.integers(0, 255))
        elif kind == "cut":
            del data[at : min(at + length, len(data) - 1)]
        elif kind == "repeat":
            data[at:at] = data[at : at + length]
        else:
            data[at:at] = draw(st.binary(min_size=1, max_size=12))
    return bytes(data)


def strange_name(data: bytes) -> bytes:
    """A certificate with a name in its issuer that has no kind of text."""
    at = data.index(b"\x55\x04") + 3  # behind the first attribute's type
    return data[:at] + b"\0" + data[at + 1 :]


@given(mutated())
@example(strange_name(SEEDS[0]))
def test_a_mutation_is_read_as_cryptography_reads_it(data: bytes) -> None:
    cert = parse(data)
    if cert is None:
        return
    assert cert.der == data
    try:
        expected = reference.load_der_x509_certificate(data)
        names = expected.issuer.public_bytes(), expected.subject.public_bytes()  # read only now
    except ValueError:
        return  # evcc reads less than cryptography does, so it may pass over what that one refuses
    assert cert.tbs == expected.tbs_certificate_bytes
    assert cert.serial == expected.serial_number
    assert (cert.issuer, cert.subject) == names
    assert cert.not_before == expected.not_valid_before_utc.timestamp()
    assert cert.not_after == expected.not_valid_after_utc.timestamp()
    same_extensions(cert, expected)


def same_extensions(cert: x509.Certificate, expected: reference.Certificate) -> None:
    try:
        extensions = expected.extensions
    except ValueError:
        return
    for extension in extensions:
        value = extension.value
        if isinstance(value, reference.BasicConstraints):
            assert (cert.is_ca, cert.path_length) == (value.ca, value.path_length)
        elif isinstance(value, reference.SubjectKeyIdentifier):
            assert cert.ski == value.digest
        elif isinstance(value, reference.AuthorityKeyIdentifier):
            assert cert.aki == value.key_identifier
        elif isinstance(value, reference.KeyUsage) and cert.key_usage is not None:
            assert bool(cert.key_usage & x509.DIGITAL_SIGNATURE) == value.digital_signature
            assert bool(cert.key_usage & x509.KEY_AGREEMENT) == value.key_agreement
            assert bool(cert.key_usage & x509.KEY_CERT_SIGN) == value.key_cert_sign


def test_every_generated_certificate_is_read_as_cryptography_reads_it() -> None:
    for name, data in MADE.items():
        if name == "contract_p384":
            continue
        cert, expected = x509.parse(data), reference.load_der_x509_certificate(data)
        assert cert.tbs == expected.tbs_certificate_bytes
        key = expected.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
        assert cert.point == key
        if name != "cps":  # its CA:FALSE is written out, which cryptography refuses
            same_extensions(cert, expected)


@given(st.sampled_from(SEEDS), st.integers(0, 10_000))
def test_every_single_byte_changed_is_noticed_or_covered_by_the_signature(
    data: bytes, position: int
) -> None:
    changed = bytearray(data)
    changed[position % len(data)] ^= 0x01
    before, after = parse(data), parse(bytes(changed))
    if before is None or after is None:
        return
    assert (before.tbs_digest, before.signature) != (after.tbs_digest, after.signature)


def test_reading_takes_little_memory_whatever_the_lengths_say() -> None:
    data = MADE["contract"]
    x509.parse(data)
    tracemalloc.start()
    try:
        for at in range(len(data)):
            for value in (0x81, 0x82, 0x84, 0xFF):
                parse(data[:at] + bytes([value]) + data[at + 1 :])
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 50_000
