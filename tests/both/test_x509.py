"""evcc.x509: every field of real forms is read, and everything else is refused with its reason.

Certificates are put together here piece by piece, so that each test bends one piece.
"""

import hashlib
import json

from evcc import der, x509
from evcc.x509 import CertificateError
from helpers import raises, vector

ALGORITHM = bytes.fromhex("300a06082a8648ce3d040302")
POINT = b"\4" + bytes(range(64))
SIGNATURE = b"\x80" + bytes(31) + b"\x01" * 32
OIDS = {
    "CN": "550403",
    "C": "550406",
    "O": "55040a",
    "OU": "55040b",
    "DC": "0992268993f22c640119",
    "email": "2a864886f70d010901",
    "bc": "551d13",
    "ku": "551d0f",
    "ski": "551d0e",
    "aki": "551d23",
    "policies": "551d20",
    "eku": "551d25",
    "aia": "2b06010505070101",
}


def h(text):
    return bytes.fromhex(text)


def name(*pairs, tag=der.PRINTABLE_STRING):
    out = b""
    for key, text in pairs:
        oid = der.tlv(der.OID, h(OIDS[key]))
        value = der.tlv(tag, text if isinstance(text, bytes) else text.encode())
        out += der.tlv(der.SET, der.tlv(der.SEQUENCE, oid, value))
    return der.tlv(der.SEQUENCE, out)


def extension(key, value, critical=b""):
    oid = der.tlv(der.OID, h(OIDS[key]))
    return der.tlv(der.SEQUENCE, oid, critical, der.tlv(der.OCTET_STRING, value))


def times(begin, end, tag=der.UTC_TIME):
    return der.tlv(der.SEQUENCE, der.tlv(tag, begin.encode()), der.tlv(tag, end.encode()))


CRITICAL = h("0101ff")
KEY_ALGORITHM = h("301306072a8648ce3d020106082a8648ce3d030107")


def key(algorithm=KEY_ALGORITHM, point=POINT):
    return der.tlv(der.SEQUENCE, algorithm, der.tlv(der.BIT_STRING, b"\0", point))


def certificate(**pieces):
    def piece(which, default):
        return pieces.get(which, default)

    extensions = piece("extensions", None)
    if extensions is not None:
        extensions = der.tlv(0xA3, der.tlv(der.SEQUENCE, *extensions))
    tbs = der.tlv(
        der.SEQUENCE,
        piece("version", h("a003020102")),
        piece("serial", h("020203e9")),
        piece("inner", ALGORITHM),
        piece("issuer", name(("CN", "Issuer"))),
        piece("validity", times("250101000000Z", "350101000000Z")),
        piece("subject", name(("O", "Example"), ("CN", "Subject"))),
        piece("key", key()),
        extensions or b"",
        piece("after", b""),
    )
    signature = piece("signature", der.signature_value(SIGNATURE))
    return der.tlv(
        der.SEQUENCE,
        tbs,
        piece("outer", ALGORITHM),
        piece("bits", der.tlv(der.BIT_STRING, b"\0", signature)),
        piece("end", b""),
    )


def refused(reason, **pieces):
    return raises(CertificateError, reason, x509.parse, certificate(**pieces))


def with_extension(key, value, critical=b""):
    return x509.parse(certificate(extensions=[extension(key, value, critical)]))


def refused_extension(reason, key, value, critical=b""):
    return refused(reason, extensions=[extension(key, value, critical)])


def test_a_plain_certificate_reads():
    data = certificate()
    cert = x509.parse(data)
    assert cert.der == data
    assert cert.serial == 1001
    assert cert.issuer == name(("CN", "Issuer"))
    assert cert.subject == name(("O", "Example"), ("CN", "Subject"))
    assert cert.names == {"O": "Example", "CN": "Subject"}
    assert (cert.not_before, cert.not_after) == (1735689600, 2051222400)
    assert cert.point == POINT
    assert cert.signature == SIGNATURE
    assert (cert.is_ca, cert.path_length, cert.key_usage) == (False, None, None)
    assert (cert.ski, cert.aki, cert.ocsp, cert.unknown_critical) == (None, None, None, False)
    assert cert.tbs in data
    assert cert.tbs_digest == hashlib.sha256(cert.tbs).digest()
    assert x509.fingerprint(data) == hashlib.sha256(data).digest()


def test_an_unknown_attribute_is_an_error():
    raises(AttributeError, None, getattr, x509.parse(certificate()), "nonsense")


def test_generated_certificates_are_read_as_generated():
    vectors = json.loads(vector("certificates.json"))
    certs = {key: x509.parse(bytes.fromhex(vectors[key])) for key in vectors if "p384" not in key}
    assert (certs["root"].is_ca, certs["root"].path_length) == (True, None)
    assert (certs["sub1"].path_length, certs["sub2"].path_length) == (1, 0)
    assert certs["root"].key_usage == 96
    assert certs["contract"].key_usage == x509.DIGITAL_SIGNATURE | x509.KEY_AGREEMENT
    assert certs["contract"].ocsp == "http://ocsp.example:8080"
    assert certs["contract"].aki == certs["sub2"].ski and len(certs["sub2"].ski) == 8
    assert certs["contract"].issuer == certs["sub2"].subject
    assert certs["contract"].names == {
        "C": "DE",
        "O": "Example",
        "CN": "DEABC123456789Y",
        "DC": "MO",
    }
    assert certs["contract_critical"].unknown_critical
    assert (certs["forever_root"].not_before, certs["forever_root"].not_after) == (
        60,
        253402300740,
    )


def test_ca_false_written_out_is_tolerated():
    # The pools' CPS certificates carry it, though DER leaves a default out.
    assert not with_extension("bc", h("3003010100"), CRITICAL).is_ca


def test_critical_false_written_out_is_tolerated():
    assert with_extension("ski", h("0408") + bytes(8), h("010100")).ski == bytes(8)


def test_bytes_like_input_is_copied():
    cert = x509.parse(memoryview(certificate()))
    assert isinstance(cert.der, bytes)


def test_size_is_checked_before_anything_else():
    raises(CertificateError, "size", x509.parse, bytes(801))
    raises(CertificateError, "size", x509.parse, b"")
    data = certificate()
    raises(CertificateError, "size", x509.parse, data, len(data) - 1)
    assert x509.parse(data, limit=len(data)).serial == 1001


def test_every_truncation_is_refused():
    data = bytes.fromhex(json.loads(vector("certificates.json"))["contract"])
    for end in range(len(data)):
        raises(CertificateError, None, x509.parse, data[:end])
    raises(CertificateError, "der", x509.parse, data + b"\0")


def test_version_other_than_3_is_refused():
    refused("version", version=b"")
    refused("version", version=h("a003020101"))
    refused("version", version=h("a003020103"))


def test_serial_is_a_positive_number_of_20_bytes():
    longest = der.unsigned(b"\xff" * 20)
    assert x509.parse(certificate(serial=longest)).serial == (1 << 160) - 1
    refused("serial", serial=der.unsigned(b"\1" + bytes(20)))
    refused("der", serial=h("0201ff"))
    refused("der", serial=h("02020001"))
    refused("der", serial=h("0200"))


def test_algorithms_other_than_ecdsa_with_sha256_are_refused():
    sha384 = h("300a06082a8648ce3d040303")
    with_null = h("300c06082a8648ce3d0403020500")
    for algorithm in (sha384, with_null):
        refused("algorithm", inner=algorithm)
        refused("algorithm", outer=algorithm)


def test_keys_other_than_p256_are_refused():
    p384 = h("301006072a8648ce3d020106052b81040022")
    explicit = h("301106072a8648ce3d0201") + h("3006020101020101")
    rsa = h("300d06092a864886f70d0101010500")
    refused("curve", key=key(p384, b"\4" + bytes(96)))
    refused("curve", key=key(explicit))
    refused("algorithm", key=key(rsa))


def test_points_other_than_uncompressed_are_refused():
    refused("point", key=key(point=b"\2" + bytes(32)))
    refused("point", key=key(point=b"\6" + bytes(64)))
    refused("point", key=key(point=b"\0"))
    refused("point", key=key(point=POINT + b"\0"))
    refused("point", key=der.tlv(der.SEQUENCE, KEY_ALGORITHM, der.tlv(3, b"\1", POINT)))


def test_times_of_both_forms_are_read():
    def not_after(text, tag):
        return x509.parse(certificate(validity=times(text, text, tag))).not_after

    utc, general = der.UTC_TIME, der.GENERALIZED_TIME
    assert not_after("700101000000Z", utc) == 0
    assert not_after("500101000000Z", utc) == -631152000
    assert not_after("491231235959Z", utc) == 2524607999
    assert not_after("240229120000Z", utc) == 1709208000
    assert not_after("99991231235959Z", general) == 253402300799
    assert not_after("20000229000000Z", general) == 951782400
    assert not_after("19700101000100Z", general) == 60


def test_times_that_do_not_exist_are_refused():
    for text in (
        "251301000000Z",
        "250001000000Z",
        "250100000000Z",
        "250132000000Z",
        "250431000000Z",
        "250631000000Z",
        "250931000000Z",
        "251131000000Z",
        "250229000000Z",
        "250101240000Z",
        "250101006000Z",
        "250101000060Z",
        "2501010000Z",
        "250101000000+0100",
        "2501010000000",
        "25010100000 Z",
        "",
        "Z",
    ):
        refused("time", validity=times(text, "350101000000Z"))
        refused("time", validity=times("250101000000Z", text))
    refused("time", validity=times("21000229000000Z", "21010101000000Z", der.GENERALIZED_TIME))
    x509.parse(
        certificate(validity=times("21000228000000Z", "21010101000000Z", der.GENERALIZED_TIME))
    )
    refused("time", validity=times("250101000000Z", "350101000000Z", der.GENERALIZED_TIME))
    refused("time", validity=times("20250101000000Z", "20350101000000Z", der.UTC_TIME))
    refused("time", validity=times("250101000000Z", "350101000000Z", der.IA5_STRING))


def test_names_in_every_string_form_are_read():
    for tag in (der.PRINTABLE_STRING, der.UTF8_STRING, der.IA5_STRING):
        cert = x509.parse(certificate(subject=name(("CN", "A"), ("DC", "CPS"), tag=tag)))
        assert cert.names == {"CN": "A", "DC": "CPS"}
    umlaut = name(("O", "M\xfcller"), tag=der.UTF8_STRING)
    assert x509.parse(certificate(subject=umlaut)).names == {"O": "M\xfcller"}


def test_unknown_attributes_are_passed_over_and_the_first_of_several_counts():
    subject = name(("email", b"\xff"), ("OU", "first"), ("OU", "second"))
    assert x509.parse(certificate(subject=subject)).names == {"OU": "first"}


def test_a_subject_may_be_empty():
    assert x509.parse(certificate(subject=name())).names == {}


def test_two_common_names_or_domains_are_refused():
    refused("name", subject=name(("CN", "A"), ("CN", "B")))
    refused("name", subject=name(("DC", "V2G"), ("DC", "CPS")))


def test_names_with_strange_characters_are_refused():
    refused("name", subject=name(("CN", b"A\0B")))
    refused("name", subject=name(("CN", b"A\x7f")))
    refused("name", subject=name(("CN", b"\xff"), tag=der.UTF8_STRING))
    refused("name", subject=name(("CN", b"\xc3\xbc")))
    for control in (b"\xc2\x80", b"\xc2\x9b31m", b"\xc2\x9f"):  # the second is CSI
        refused("name", subject=name(("O", control), tag=der.UTF8_STRING))
    space = name(("O", b"\xc2\xa0"), tag=der.UTF8_STRING)
    assert x509.parse(certificate(subject=space)).names == {"O": "\xa0"}
    refused("name", subject=name(("CN", b"A"), tag=0x1E))


def test_malformed_names_are_refused():
    attribute = name(("CN", "A"))[4:]
    refused("der", subject=h("3000")[:1])
    refused("der", subject=der.tlv(der.SEQUENCE, attribute))
    refused("der", subject=der.tlv(der.SEQUENCE, der.tlv(der.SET, attribute[:-1])))
    value = der.tlv(der.SEQUENCE, der.tlv(der.OID, h(OIDS["CN"])), h("130141"), h("0500"))
    refused("der", subject=der.tlv(der.SEQUENCE, der.tlv(der.SET, value)))


def test_extensions_may_not_come_twice():
    bc = extension("bc", h("30030101ff"), CRITICAL)
    refused("extension", extensions=[bc, bc])


def test_an_unknown_extension_counts_only_if_critical():
    assert not with_extension("eku", h("3000")).unknown_critical
    assert with_extension("eku", h("3000"), CRITICAL).unknown_critical
    assert not with_extension("policies", h("3000"), CRITICAL).unknown_critical


def test_basic_constraints_are_read_or_refused():
    assert not with_extension("bc", h("3000"), CRITICAL).is_ca
    assert with_extension("bc", h("30030101ff"), CRITICAL).path_length is None
    assert with_extension("bc", h("30060101ff020105"), CRITICAL).path_length == 5
    refused_extension("extension", "bc", h("3003020100"), CRITICAL)
    refused_extension("extension", "bc", h("3006010100020100"), CRITICAL)
    refused_extension("extension", "bc", h("30070101ff02020100"), CRITICAL)
    refused_extension("der", "bc", h("3003010101"), CRITICAL)
    refused_extension("der", "bc", h("30040102ffff"), CRITICAL)
    refused_extension("der", "bc", h("30030101ff00"), CRITICAL)
    refused_extension("der", "bc", h("30060101ff0201ff"), CRITICAL)


def test_key_usage_bits_are_read_or_refused():
    for value, usage in (
        ("03020106", 96),
        ("03020780", 1),
        ("03020388", 17),
        ("030206c0", 3),
        ("0303070080", 256),
        ("030204f0", 15),
    ):
        assert with_extension("ku", h(value), CRITICAL).key_usage == usage, value
    for value in ("030100", "03020900", "03020187", "0304070000" + "80"):
        refused_extension("extension", "ku", h(value), CRITICAL)
    refused_extension("der", "ku", h("04020106"), CRITICAL)


def test_key_identifiers_are_read_or_refused():
    assert with_extension("ski", h("0402abcd")).ski == h("abcd")
    assert with_extension("aki", h("30048002abcd")).aki == h("abcd")
    assert with_extension("aki", h("3003820101")).aki is None
    assert with_extension("aki", h("3000")).aki is None
    refused_extension("der", "ski", h("0402abcd00"))
    refused_extension("der", "aki", h("3003800aab"))
    refused_extension("der", "aki", h("30048002abcd00"))


def test_the_first_ocsp_address_is_read():
    ocsp = h("06082b060105050730018603") + b"u:a"
    issuers = h("06082b060105050730028603") + b"u:b"
    both = der.tlv(der.SEQUENCE, der.tlv(der.SEQUENCE, issuers), der.tlv(der.SEQUENCE, ocsp))
    assert with_extension("aia", both).ocsp == "u:a"
    assert (
        with_extension("aia", der.tlv(der.SEQUENCE, der.tlv(der.SEQUENCE, issuers))).ocsp is None
    )
    tail = der.tlv(der.SEQUENCE, der.tlv(der.SEQUENCE, ocsp, h("0500")))
    refused_extension("der", "aia", tail)
    second = h("06082b060105050730018603") + b"u:c"
    both = der.tlv(der.SEQUENCE, der.tlv(der.SEQUENCE, ocsp), der.tlv(der.SEQUENCE, second))
    assert with_extension("aia", both).ocsp == "u:a"
    for bad in (b"u\n:", b"u:\xe9"):
        strange = h("06082b060105050730018603") + bad
        strange = der.tlv(der.SEQUENCE, der.tlv(der.SEQUENCE, strange))
        refused_extension("name", "aia", strange)


def test_nothing_may_follow_the_last_field():
    refused("der", end=h("0500"))
    refused("der", after=h("0500"))
    refused("der", after=h("8100"))  # issuerUniqueID
    refused("der", extensions=[extension("ski", h("0400"))], after=h("0500"))
    ski = der.tlv(der.OID, h(OIDS["ski"])) + h("04020400")
    refused("der", extensions=[der.tlv(der.SEQUENCE, ski, h("0500"))])
    ski, aki = extension("ski", h("0400")), extension("aki", h("3000"))
    refused("der", after=der.tlv(0xA3, der.tlv(der.SEQUENCE, ski), aki))
    refused("der", extensions=[], after=h("3000"))
    refused_extension("extension", "ku", h("0302010600"))
    refused_extension("der", "aki", h("30000500"))
    refused_extension("der", "aia", h("3000") + h("300d06082b06010505073001860175"))
    three = der.tlv(der.UTC_TIME, b"250101000000Z") * 3
    refused("der", validity=der.tlv(der.SEQUENCE, three))


def test_signature_is_two_numbers_of_32_bytes():
    refused("der", bits=der.tlv(der.BIT_STRING))
    refused("der", bits=der.tlv(der.BIT_STRING, b"\1", der.signature_value(SIGNATURE)))
    refused("der", signature=der.signature_value(SIGNATURE) + b"\0")
    refused("der", signature=der.tlv(der.SEQUENCE, der.unsigned(b"\1" * 33), h("020101")))
    refused("der", signature=b"")
