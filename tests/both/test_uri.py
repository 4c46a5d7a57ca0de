"""Names of tokens: RFC 7512 URIs, labels and serial numbers, the same on every interpreter."""

from evcc.vault import VaultError, uri
from helpers import raises


def info(label, serial=b"0a1b", maker=b"Maker", model=b"Model"):
    """A CK_TOKEN_INFO, padded as PKCS#11 wants it."""
    fields = (label, 32), (maker, 32), (model, 16), (serial, 16)
    return b"".join([text + b" " * (size - len(text)) for text, size in fields]) + bytes(96)


# URI: what is in it, and nothing else.
GOOD = {
    "pkcs11:": {},
    "PKCS11:token=car": {"token": b"car"},
    "pkcs11:token=car%2017": {"token": b"car 17"},
    "pkcs11:token=caf%c3%a9": {"token": b"caf\xc3\xa9"},
    "pkcs11:token=a%3Bb%3Fc%25": {"token": b"a;b?c%"},
    "pkcs11:token=a&b:[c]@!$'()*+,=d": {"token": b"a&b:[c]@!$'()*+,=d"},
    "pkcs11:serial=0a1b;token=car": {"token": b"car", "serial": b"0a1b"},
    "pkcs11:object=k;id=%00%fF;type=private": {
        "object": b"k",
        "id": b"\x00\xff",
        "type": b"private",
    },
    "pkcs11:id=ab%20": {"id": b"ab "},
    "pkcs11:manufacturer=M;model=v2": {"manufacturer": b"M", "model": b"v2"},
    "pkcs11:token=car?module-path=/usr/lib/x.so&pin-source=file:/p%20q": {
        "token": b"car",
        "module-path": "/usr/lib/x.so",
        "pin-source": "file:/p q",
    },
    "pkcs11:?pin-source=/p?a|b": {"pin-source": "/p?a|b"},
}
BAD = (
    "",
    "car",
    "pkcs12:token=car",
    " pkcs11:token=car",
    "pkcs11",
    "pkcs11:token",
    "pkcs11:token=",
    "pkcs11:=car",
    "pkcs11:token=car;",
    "pkcs11:;token=car",
    "pkcs11:token=car;;serial=1",
    "pkcs11:token=car;token=car",
    "pkcs11:Token=car",
    "pkcs11:token=car;slot-id=1",
    "pkcs11:token=car;x-vendor=1",
    "pkcs11:token=car 17",
    "pkcs11:token=caf\xe9",
    "pkcs11:token=car/17",
    "pkcs11:token=car#17",
    "pkcs11:token=car%",
    "pkcs11:token=car%2",
    "pkcs11:token=car%2g",
    "pkcs11:token=car%+1",
    "pkcs11:token=car%%41",
    "pkcs11:token=%ff",
    "pkcs11:token=%ed%a0%80",
    "pkcs11:token=%c0%af",
    "pkcs11:token=car%00",
    "pkcs11:token=" + "a" * 33,
    "pkcs11:serial=" + "a" * 17,
    "pkcs11:type=key",
    "pkcs11:token=car?",
    "pkcs11:token=car?module-path=",
    "pkcs11:token=car?module-path=/a&module-path=/a",
    "pkcs11:token=car?module-name=x",
    "pkcs11:token=car?token=car",
    "pkcs11:module-path=/a",
    "pkcs11:token=car?pin-source=/a;module-path=/b?",
    "pkcs11:token=car&module-path=/a?&",
)


def test_a_uri_names_exactly_its_attributes():
    for text, expected in GOOD.items():
        parsed = {k: v for k, v in uri.parse(text).items() if v}
        assert parsed == expected, (text, parsed)


def test_a_uri_that_is_not_one_is_refused():
    for text in BAD:
        raises(VaultError, "refused", uri.parse, text)


def test_a_pin_in_a_uri_is_refused_and_not_repeated():
    for text in (
        "pkcs11:token=car?pin-value=4711",
        "pkcs11:pin-value=4711",
        "pkcs11:token=%4711%",
    ):
        error = raises(VaultError, "refused", uri.parse, text)
        assert "4711" not in str(error)
        assert ("never the PIN" in error.detail) == ("pin-value" in text)


def test_encoded_values_are_read_back():
    for value in (b"car 17", bytes(range(256))):
        assert uri.parse("pkcs11:id=" + uri.encoded(value))["id"] == value
    assert uri.encoded(b"a-Z.0_~") == "a-Z.0_~"


def test_a_pin_source_is_a_file_and_nothing_else():
    for source in ("file:/run/pin", "file:///run/pin", "/run/pin"):
        assert uri.file_of(source) == "/run/pin"
    for source in ("", "4711", "file:run/pin", "file://host/pin", "|cat /run/pin", "env:PIN"):
        error = raises(VaultError, "pin", uri.file_of, source)
        assert "4711" not in str(error)


def test_a_uri_is_split_into_name_library_and_pin_file():
    text_ = "pkcs11:token=car?module-path=/x.so&pin-source=file:/p"
    assert uri.split(text_) == ("pkcs11:token=car", "/x.so", "/p")
    assert uri.split("car?17") == ("car?17", "", "")


# name, serial: the tokens that are meant, of those below.
TOKENS = {
    "car": info(b"car", b"01"),
    "twin": info(b"car", b"02"),
    "lead": info(b" car", b"03"),
    "utf8": info("café".encode(), b"04"),
    "junk": info(b"\xff\xfe", b"05"),
    "zeros": info(b"zero" + bytes(28), b"06" + bytes(14)),
    "empty": info(b"", b""),
    "long": info(b"a" * 32, b"1" * 16),
}
MEANT = (
    ("car", "", ("car", "twin")),
    ("car   ", "", ("car", "twin")),
    (" car", "", ("lead",)),
    ("Car", "", ()),
    ("ca", "", ()),
    ("car", "02", ("twin",)),
    ("car", "03", ()),
    ("", "04", ("utf8",)),
    ("café", "", ("utf8",)),
    ("zero", "06", ("zeros",)),
    ("a" * 32, "", ("long",)),
    ("pkcs11:token=car;serial=01", "", ("car",)),
    ("pkcs11:token=car", "01", ("car",)),
    ("pkcs11:token=%20car", "", ("lead",)),
    ("pkcs11:serial=05", "", ("junk",)),
    ("pkcs11:token=car;model=Model;manufacturer=Maker;serial=01", "", ("car",)),
    ("pkcs11:token=car;model=Other", "", ()),
)


def test_a_name_means_one_token_or_is_refused():
    tokens = list(TOKENS.items())
    for text, serial, meant in MEANT:
        name = uri.Name(uri.named(text, serial))
        if len(meant) == 1:
            assert name.pick(tokens) == meant[0], (text, serial)
        else:
            reason = "refused" if meant else "token-missing"
            raises(VaultError, reason, name.pick, tokens)


def test_two_tokens_of_one_label_are_refused_with_their_serials_named():
    error = raises(VaultError, "refused", uri.Name("car").pick, list(TOKENS.items()))
    assert "01, 02" in error.detail


def test_a_name_without_a_token_is_refused():
    for text, serial in (
        ("", ""),
        ("a" * 33, ""),
        ("é" * 17, ""),
        ("a\0", ""),
        ("car", "1" * 17),
        ("pkcs11:", ""),
        ("pkcs11:model=Model", ""),
        ("pkcs11:token=car;id=%01", ""),
        ("pkcs11:object=key", ""),
        ("pkcs11:token=car?module-path=/x.so", ""),
        ("pkcs11:serial=01", "01"),
    ):
        raises(VaultError, "refused", uri.Name, text, serial)


def test_a_label_that_is_no_text_is_told_without_it():
    assert uri.label_of(info(b"car")) == "car"
    assert uri.label_of(info(b"\xff")) == ""
