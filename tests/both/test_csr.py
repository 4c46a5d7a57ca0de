"""evcc.csr: a PKCS#10 request, read back with evcc.der. tests/unit has `cryptography` read it."""

import hashlib

from evcc import csr, der, x509
from evcc.ids import IdError
from helpers import raises

POINT = b"\4" + bytes(range(64))
SIGNATURE = b"\x80" + bytes(31) + b"\x01" * 32
PCID = "WMIP1234567890123"


def _parts(request):
    at, end = der.whole(request, der.SEQUENCE)
    _, info_end = der.expect(request, at, end, der.SEQUENCE)
    start, stop = der.expect(request, at, end, der.SEQUENCE)
    _, version_end = der.expect(request, start, stop, der.INTEGER)
    _, subject_end = der.expect(request, version_end, stop, der.SEQUENCE)
    return request[at:info_end], request[version_end:subject_end], request[info_end:end]


def test_subject_names_the_vehicle():
    request = csr.build(PCID, "Example Motors", "DE", POINT, lambda digest: SIGNATURE)
    _, subject, _ = _parts(request)
    assert x509.names(subject) == {"C": "DE", "O": "Example Motors", "CN": PCID, "DC": "OEM"}


def test_country_may_be_left_out():
    request = csr.build(PCID, "Example Motors", None, POINT, lambda digest: SIGNATURE)
    assert "C" not in x509.names(_parts(request)[1])


def test_signs_the_digest_of_the_request_info():
    digests = []

    def sign(digest):
        digests.append(digest)
        return SIGNATURE

    info, _, tail = _parts(csr.build(PCID, "Example", "DE", POINT, sign))
    assert digests == [hashlib.sha256(info).digest()]
    assert POINT in info
    assert tail[:12] == bytes.fromhex("300a06082a8648ce3d040302")
    start, stop = der.expect(tail, 12, len(tail), der.BIT_STRING)
    assert der.raw_signature(tail, start + 1, stop) == SIGNATURE


def test_refuses_a_malformed_pcid():
    raises(IdError, "length", csr.build, "SHORT", "Example", None, POINT, lambda digest: SIGNATURE)
