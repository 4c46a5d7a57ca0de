"""The name of a root is known again in every spelling that vehicles use, and no other name is."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID
from hypothesis import example, given, settings
from hypothesis import strategies as st

from evcc import x509 as strict
from evcc.iso15118_2.messages import distinguished_name
from plugvault.pki import path
from plugvault.pki.issuer_names import TOLERANCES, match, read
from world import root

Pairs = list[tuple[str, str]]
Spelling = Callable[[Pairs], str]

OIDS = {
    "CN": NameOID.COMMON_NAME,
    "O": NameOID.ORGANIZATION_NAME,
    "OU": NameOID.ORGANIZATIONAL_UNIT_NAME,
    "C": NameOID.COUNTRY_NAME,
    "DC": NameOID.DOMAIN_COMPONENT,
}
LONG = {
    "CN": "commonName",
    "O": "organizationName",
    "OU": "organizationalUnitName",
    "C": "countryName",
    "DC": "domainComponent",
}


class Root:
    """A root certificate of which only the subject is needed."""

    def __init__(self, pairs: Pairs) -> None:
        attributes = [x509.NameAttribute(OIDS[kind], value) for kind, value in pairs]
        self.subject = x509.Name(attributes).public_bytes()
        self.names = strict.names(self.subject)


def escaped(value: str) -> str:
    return distinguished_name({"CN": value}).removeprefix("CN=")


def joined(separator: str, equals: str = "=", types: dict[str, str] | None = None) -> Spelling:
    names = types or {}
    return lambda pairs: separator.join(
        f"{names.get(kind, kind)}{equals}{escaped(value)}" for kind, value in pairs
    )


def oneline(pairs: Pairs) -> str:
    """As X509_NAME_oneline of OpenSSL 3: octets outside ASCII in hexadecimal."""
    text = ""
    for kind, value in pairs:
        octets = value.replace("\\", "\\\\").encode()
        octets = octets.replace(b"/", b"\\/").replace(b"+", b"\\+")
        shown = "".join(chr(b) if 0x20 <= b < 0x7F else f"\\x{b:02X}" for b in octets)
        text += f"/{kind}={shown}"
    return text


def dotted(prefix: str) -> Spelling:
    return joined(",", types={kind: prefix + oid.dotted_string for kind, oid in OIDS.items()})


def quoted(pairs: Pairs) -> str:
    values = [(kind, value.replace("\\", "\\\\").replace('"', '\\"')) for kind, value in pairs]
    return ", ".join(f'{kind}="{value}"' for kind, value in values)


def hexadecimal(pairs: Pairs) -> str:
    """Each value as a UTF8String."""
    ders = [(kind, bytes([0x0C, len(value.encode())]) + value.encode()) for kind, value in pairs]
    return ",".join(f"{kind}=#{der.hex()}" for kind, der in ders)


def octets(pairs: Pairs) -> str:
    """Each character as escaped octets, which RFC 4514 allows."""
    values = [(k, "".join(f"\\{b:02x}" for b in value.encode())) for k, value in pairs]
    return ",".join(f"{kind}={value}" for kind, value in values)


# The spelling: (its text, its tolerances). The first seven are of RFC 4514 or as OpenSSL has it.
SPELLINGS: dict[str, tuple[Spelling, set[str]]] = {
    "RFC 4514": (joined(","), set()),
    "Java getName": (joined(", "), set()),
    "OpenSSL": (joined(", ", " = "), set()),
    "multi-valued": (joined("+"), set()),
    "dotted OIDs": (dotted(""), set()),
    "#hex": (hexadecimal, set()),
    "escaped octets": (octets, set()),
    "OpenSSL oneline": (oneline, {"oneline"}),
    "OID prefix": (dotted("OID."), {"oid-prefix"}),
    "RFC 1779 quotes": (quoted, {"quotes"}),
    "semicolons": (joined(";"), {"semicolon"}),
    "long names": (joined(",", types=LONG), {"type-name"}),
    "EcoG": (lambda pairs: f"<Name({joined(',')(pairs)})>", {"repr"}),
    "pyOpenSSL": (lambda pairs: f"<X509Name object '{oneline(pairs)}'>", {"repr", "oneline"}),
}

ASCII = 'AZaz09 ,+=\\"<>;#./'


def values(alphabet: str) -> st.SearchStrategy[str]:
    return st.text(alphabet, min_size=1, max_size=20).filter(lambda text: text == text.strip())


VALUES, DOMAINS = values(ASCII + "éß東"), values(ASCII)
FEW = settings(max_examples=25)  # for each spelling
NAMES = (
    st.fixed_dictionaries(
        {"CN": VALUES}, optional={"O": VALUES, "OU": VALUES, "C": st.just("DE"), "DC": DOMAINS}
    )
    .map(lambda names: list(names.items()))
    .flatmap(st.permutations)
)
V2G: Pairs = [("C", "DE"), ("O", "Cars, Inc."), ("CN", "V2G Root CA"), ("DC", "V2G")]


def needed(text: str, root: Any) -> set[str] | None:
    tolerances = match(read(text), root)
    return None if tolerances is None else set(tolerances)


def of_spelling(spelling: str, pairs: Pairs) -> set[str]:
    """One attribute alone has no separator."""
    tolerances = SPELLINGS[spelling][1]
    return tolerances - {"semicolon"} if len(pairs) == 1 else tolerances


@pytest.mark.parametrize("spelling", SPELLINGS)
@given(pairs=NAMES)
@example(pairs=V2G)
@FEW
def test_a_name_in_any_spelling_is_that_of_its_root(spelling: str, pairs: Pairs):
    text = SPELLINGS[spelling][0](pairs)
    assert needed(text, Root(pairs)) == of_spelling(spelling, pairs)


@pytest.mark.parametrize("spelling", SPELLINGS)
@given(pairs=NAMES, at=st.integers(0, 4))
@FEW
def test_a_name_with_another_value_is_that_of_another_root(spelling: str, pairs: Pairs, at: int):
    kind, value = pairs[at % len(pairs)]
    changed = dict(pairs) | {kind: "FR" if kind == "C" else value + "x"}
    assert needed(SPELLINGS[spelling][0](list(changed.items())), Root(pairs)) is None


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_a_name_in_capitals_is_that_of_its_root(spelling: str):
    spell, tolerances = SPELLINGS[spelling]
    capitals = [(kind, value.upper()) for kind, value in V2G]
    assert needed(spell(capitals), Root(V2G)) == tolerances | {"case"}


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_a_common_name_alone_is_part_of_its_roots_name(spelling: str):
    spell = SPELLINGS[spelling][0]
    common_name, capitals = [("CN", "V2G Root CA")], [("CN", "V2G ROOT CA")]
    tolerances = of_spelling(spelling, common_name) | {"partial"}
    assert needed(spell(common_name), Root(V2G)) == tolerances
    assert needed(spell(capitals), Root(V2G)) == tolerances | {"case"}
    assert needed(spell([("C", "DE"), ("DC", "V2G")]), Root(V2G)) is None


@pytest.mark.parametrize(
    ("text", "tolerances"),
    [
        ("V2G Root CA", {"no-type", "partial"}),
        ("C=DE, O=Cars, Inc., CN=V2G Root CA, DC=V2G", {"unescaped"}),
        ("C=DE;O=Cars, Inc.;CN=V2G  Root CA;DC=V2G;", {"semicolon", "unescaped", "case"}),
        ("/C=DE/O=Cars, Inc./CN=V2G Root CA/DC=V2G", {"oneline"}),
        ("cn=V2G Root CA , o=Cars\\, Inc.,c=DE,dc=V2G,", set()),
        ("<Name(C=DE,O=Cars\\, Inc.,CN=V2G Root CA,DC=V2G)>", {"repr"}),
        ("CN=V2G Root CA,O=Cars\\, Inc.,C=DE,DC=V2G,emailAddress=a@b.example", set()),
        ("CN=V2G Root CA,O=Cars\\, Inc.,C=DE,DC=V2G,OU=Other", None),
        ("CN=,O=Cars\\, Inc.,C=DE,DC=V2G", None),
        ("CN=#zz,O=Cars\\, Inc.,C=DE,DC=V2G", None),
        ("", None),
        ("=", None),
        ("/", None),
    ],
)
def test_names_as_they_were_met(text: str, tolerances: set[str] | None):
    assert needed(text, Root(V2G)) == tolerances


# -nameopt of `openssl x509`: the tolerances that its output needs to be known again.
OPENSSL = {
    "": [{"quotes"}, {"unescaped"}],  # OpenSSL 3.0, because of the comma in the name; and 3.5
    "compat": [{"oneline"}],
    "RFC2253": [set()],
    "RFC2253,dump_all,dump_der": [set()],
    "lname,utf8": [{"type-name", "unescaped"}],
    "oid,sep_comma_plus,utf8": [{"unescaped"}],
    "sname,sep_semi_plus_space,utf8": [{"semicolon", "unescaped"}],
}


@pytest.mark.parametrize("option", OPENSSL)
def test_a_name_as_openssl_prints_it_is_that_of_its_root(tmp_path: Path, option: str):
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("no openssl on this machine")
    issued = root("V2G Root/2", organisation="Söhne, Inc.")
    file = tmp_path / "root.pem"
    file.write_bytes(issued.certificate.public_bytes(Encoding.PEM))
    command = [openssl, "x509", "-noout", "-issuer", "-in", str(file)]
    command += ["-nameopt", option] if option else []
    printed = subprocess.run(command, capture_output=True, check=True).stdout
    text = printed.decode().partition("issuer=")[2].strip()
    assert needed(text, path.read(issued.der)) in OPENSSL[option]


def test_a_slash_in_a_value_of_an_old_openssl_is_part_of_it():
    root = Root([("CN", "Root 1/2"), ("O", "A/B")])
    assert needed("/CN=Root 1/2/O=A/B", root) == {"oneline"}


def test_a_root_with_two_units_is_named_by_both_or_by_the_first():
    root = Root([("CN", "Root"), ("OU", "one"), ("OU", "two")])
    assert needed("CN=Root,OU=one,OU=two", root) == set()
    assert needed("CN=Root,OU=one", root) == set()
    assert needed("CN=Root,OU=two", root) == {"partial"}


@given(st.text(max_size=200))
@example("CN=" + "\\" * 200)
@example("CN=" + '"' * 199)
@example(",=" * 100)
def test_any_text_is_read_as_a_name(text: str):
    name = read(text)
    assert {kind for kind, _ in name.attributes} <= set(OIDS)
    assert all(value == value.strip() for _, value in name.attributes)
    assert name.tolerances <= set(TOLERANCES)
