"""`plugvault pki import`: every layout finds its places, whatever its files are called."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import secrets
import shutil
import struct
import subprocess
import time
from contextlib import ExitStack
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    pkcs12,
)

from evcc import der
from plugvault.cases.pki import CasePki, Issued
from plugvault.cases.seed import Seed
from plugvault.cli.app import main
from plugvault.ecosystem import Ecosystem, imported
from plugvault.ecosystem.folder import Folder
from plugvault.pki import forms, key_work, keystore, layout
from plugvault.pki.collection import CollectionError, read
from plugvault.pki.layout import SLOTS, Layout

NOW = int(time.time())
PCID, EMAID = "PVTP0000000000001", "DEPVT0000000012"


class Pki(CasePki):
    """A whole PKI, with a vehicle and a contract."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__(Seed(seed or secrets.randbits(64)), NOW)
        self.vehicle = self.oem_sub2.issue(PCID, dc="OEM")
        self.contract = self.mo_sub2.issue(EMAID, dc="MO")
        self.by_slot = {
            "v2g-root": self.v2g_root,
            "prov-sub1": self.cps_sub1,
            "prov-sub2": self.cps_sub2,
            "cps-leaf": self.cps,
            "cpo-sub1": above(self.cpo_sub2),
            "cpo-sub2": self.cpo_sub2,
            "cpo-leaf": self.cpo,
            "oem-root": self.oem_root,
            "oem-sub1": above(self.oem_sub2),
            "oem-sub2": self.oem_sub2,
            "mo-root": self.mo_root,
            "mo-sub1": self.mo_sub1,
            "mo-sub2": self.mo_sub2,
        }
        self.everything = [*self.by_slot.values(), self.vehicle, self.contract]


def above(issued: Issued) -> Issued:
    assert issued.issuer is not None
    return issued.issuer


@pytest.fixture(scope="module")
def pki() -> Pki:
    return Pki()


def pem(issued: Issued) -> bytes:
    return issued.certificate.public_bytes(Encoding.PEM)


def key_pem(issued: Issued, password: str = "") -> bytes:
    encryption = BestAvailableEncryption(password.encode()) if password else NoEncryption()
    return issued.private_key.private_bytes(
        Encoding.PEM, PrivateFormat.TraditionalOpenSSL, encryption
    )


def pkcs8(issued: Issued) -> bytes:
    return issued.private_key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())


def as_meaningless_pems(pki: Pki, folder: Path) -> list[str]:
    """Every certificate and key in a file of its own, named by a number."""
    for number, issued in enumerate(pki.everything):
        text = b"# made for a test\r\n" + pem(issued).replace(b"\n", b"\r\n")
        (folder / f"{number}.txt").write_bytes(text)
        (folder / f"{len(pki.everything) - number}.dat").write_bytes(key_pem(issued))
    return []


def as_ecog(pki: Pki, folder: Path) -> list[str]:
    """EcoG's: DER, chains in PEM and PKCS#12, encrypted keys with the password beside them."""
    password = secrets.token_hex(4)
    certs, keys = folder / "iso15118_2/certs", folder / "iso15118_2/private_keys"
    for made in (certs, keys):
        made.mkdir(parents=True)
    for number, issued in enumerate(pki.everything):
        (certs / f"{number}Cert.der").write_bytes(issued.der)
        (keys / f"{number}.key").write_bytes(key_pem(issued, password))
    (keys / "seccLeafPassword.txt").write_text(password + "\n")
    (certs / "cpoCertChain.pem").write_bytes(pem(pki.cpo) + pem(pki.cpo_sub2))
    return []


def as_everest(pki: Pki, folder: Path) -> list[str]:
    """EVerest's: folders `ca` and `client`, keys of leaves encrypted, the password known apart."""
    password = secrets.token_hex(4)
    for slot, issued in pki.by_slot.items():
        place = folder / ("client" if slot.endswith("leaf") else "ca") / slot.split("-")[0]
        place.mkdir(parents=True, exist_ok=True)
        (place / f"{slot.upper()}.pem").write_bytes(pem(issued))
        (place / f"{slot.upper()}.key").write_bytes(key_pem(issued, password))
    for name, issued in (("oem", pki.vehicle), ("mo", pki.contract)):
        place = folder / "client" / name
        place.mkdir(parents=True, exist_ok=True)
        chain = [issued, above(issued), above(above(issued))]
        (place / "CERT_CHAIN.pem").write_bytes(b"".join(map(pem, chain)))
        (place / "LEAF.key").write_bytes(key_pem(issued, password))
    return [password]


def as_rise_v2g(pki: Pki, folder: Path) -> list[str]:
    """RISE-V2G's: Java key stores for both ends, PKCS#12 chains, keys of CAs as PKCS#8 in DER."""
    password = secrets.token_hex(4)
    (folder / "passphrase.txt").write_text(password)
    trusted = [pki.v2g_root, pki.mo_root, pki.oem_root]
    (folder / "evccKeystore.jks").write_bytes(
        jks([(pki.vehicle, [pki.oem_sub2, above(pki.oem_sub2)])], [], password)
    )
    (folder / "seccKeystore.jks").write_bytes(
        jks([(pki.cpo, [pki.cpo_sub2]), (pki.cps, [pki.cps_sub2])], [], password)
    )
    (folder / "truststore.jks").write_bytes(jks([], trusted, password))
    (folder / "moCertChain.p12").write_bytes(p12(pki.contract, password))
    for slot, issued in pki.by_slot.items():
        if not slot.endswith("leaf"):
            (folder / f"{slot}.pkcs8.der").write_bytes(pkcs8(issued))
            (folder / f"{slot}.der").write_bytes(issued.der)
    return []


def p12(issued: Issued, password: str) -> bytes:
    cas = [above(issued).certificate, above(above(issued)).certificate]
    return pkcs12.serialize_key_and_certificates(
        b"leaf",
        issued.private_key,
        issued.certificate,
        cas,
        BestAvailableEncryption(password.encode()),
    )


def jks(
    keys: list[tuple[Issued, list[Issued]]], trusted: list[Issued], password: str, of_key: str = ""
) -> bytes:
    """A key store as Java before 9 writes it. of_key: the password of its keys."""

    def octets(form: str, data: bytes) -> bytes:
        return struct.pack(form, len(data)) + data

    def certificate(issued: Issued) -> bytes:
        return octets(">H", b"X.509") + octets(">I", issued.der)

    secret = password.encode("utf-16-be")
    entries = []
    for number, (issued, chain) in enumerate(keys):
        head = struct.pack(">I", 1) + octets(">H", b"key %d" % number) + struct.pack(">Q", 0)
        certificates = b"".join(map(certificate, [issued, *chain]))
        masked = octets(">I", mask(pkcs8(issued), (of_key or password).encode("utf-16-be")))
        entries.append(head + masked + struct.pack(">I", 1 + len(chain)) + certificates)
    for number, issued in enumerate(trusted):
        head = struct.pack(">I", 2) + octets(">H", b"ca %d" % number) + struct.pack(">Q", 0)
        entries.append(head + certificate(issued))
    content = keystore.MAGIC + struct.pack(">II", 2, len(entries)) + b"".join(entries)
    return content + hashlib.sha1(secret + b"Mighty Aphrodite" + content).digest()


def mask(key: bytes, secret: bytes) -> bytes:
    salt = os.urandom(20)
    stream, block = b"", salt
    while len(stream) < len(key):
        block = hashlib.sha1(secret + block).digest()
        stream += block
    masked = bytes(a ^ b for a, b in zip(key, stream, strict=False))
    octets = salt + masked + hashlib.sha1(secret + key).digest()
    algorithm = bytes.fromhex("300e060a2b060104012a021101010500")
    return der.tlv(der.SEQUENCE, algorithm + der.tlv(der.OCTET_STRING, octets))


LAYOUTS = {
    "meaningless names": as_meaningless_pems,
    "EcoG": as_ecog,
    "EVerest": as_everest,
    "RISE-V2G": as_rise_v2g,
}


def places(arranged: Layout) -> dict[str, bytes]:
    return {slot: member.der for slot, member in arranged.slots.items()}


@pytest.mark.parametrize("name", LAYOUTS)
def test_every_certificate_and_key_finds_its_place(pki: Pki, tmp_path: Path, name: str) -> None:
    passwords = LAYOUTS[name](pki, tmp_path)
    collection = read(tmp_path, passwords)
    assert collection.problems == []
    arranged = layout.arranged(collection, NOW)
    assert places(arranged) == {slot: issued.der for slot, issued in pki.by_slot.items()}
    assert arranged.missing == []
    assert [*arranged.vehicles, *arranged.contracts] == [PCID, EMAID]
    assert all(m.key for m in (*arranged.vehicles.values(), *arranged.contracts.values()))
    assert arranged.vehicles[PCID].subs == tuple(pki.vehicle.chain[1:])
    assert arranged.others == []


def test_cas_without_leaves_are_placed_by_their_subjects(pki: Pki, tmp_path: Path) -> None:
    for number, (slot, issued) in enumerate(pki.by_slot.items()):
        if not slot.endswith("leaf"):
            (tmp_path / str(number)).write_bytes(pem(issued))
    arranged = layout.arranged(read(tmp_path), NOW)
    cas = {slot: i.der for slot, i in pki.by_slot.items() if not slot.endswith("leaf")}
    assert places(arranged) == cas
    assert "cps-leaf: no certificate" in arranged.missing
    assert "v2g-root: no private key" in arranged.missing


def test_of_two_certificates_the_valid_one_with_a_key_is_taken(pki: Pki, tmp_path: Path) -> None:
    old = pki.cps_sub2.issue("CPS Leaf", dc="CPS", not_after=NOW - 60)
    keyless = pki.cps_sub2.issue("CPS Leaf", dc="CPS", not_after=NOW + 86_400 * 2000)
    as_meaningless_pems(pki, tmp_path)
    (tmp_path / "a").write_bytes(pem(old) + key_pem(old) + pem(keyless))
    arranged = layout.arranged(read(tmp_path), NOW)
    assert arranged.slots["cps-leaf"].der == pki.cps.der
    assert len(arranged.others) == 2


def test_a_stranger_of_the_same_name_is_no_issuer(pki: Pki, tmp_path: Path) -> None:
    """The links are those of the signatures: another PKI of the same names stands aside."""
    stranger = Pki().cps_sub1.sub("Prov Sub2", not_after=NOW + 900 * 86_400)
    as_meaningless_pems(pki, tmp_path)
    (tmp_path / "stranger").write_bytes(pem(stranger) + key_pem(stranger))
    arranged = layout.arranged(read(tmp_path), NOW)
    assert places(arranged)["prov-sub2"] == pki.cps_sub2.der
    assert [member.der for member, _ in arranged.others] == [stranger.der]


@pytest.fixture
def files(pki: Pki, tmp_path: Path) -> Path:
    folder = tmp_path / "pki"
    folder.mkdir()
    as_meaningless_pems(pki, folder)
    return folder


def run(*arguments: object) -> int:
    try:
        return main([str(argument) for argument in arguments])
    except SystemExit as end:
        return int(end.code or 0)


def test_an_ecosystem_works_with_the_imported_pki(
    pki: Pki, files: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = tmp_path / "data"
    assert run("pki", "import", files, "--data", data, "--json") == 0
    document = json.loads(capsys.readouterr().out)
    assert document["missing"] == []
    assert sorted(document["imported"]["used"]) == sorted(SLOTS)
    with Ecosystem(data) as world:
        assert world.v2g_root == pki.v2g_root.der
        assert (world.cps.certificate, world.station.certificate) == (pki.cps.der, pki.cpo.der)
        key = ec.generate_private_key(ec.SECP256R1())
        leaf, subs = world.oem.enrol(request(key))
        assert subs == pki.vehicle.chain[1:]
        world.oem.register(leaf, subs, [world.v2g_root])
        assert world.mo.contract("PVTP0000000000002")
        certificate = x509.load_der_x509_certificate(leaf)
        issuer_key = certificate.extensions.get_extension_for_class(x509.AuthorityKeyIdentifier)
        own = pki.oem_sub2.certificate.extensions.get_extension_for_class(
            x509.SubjectKeyIdentifier
        )
        assert issuer_key.value.key_identifier == own.value.digest
    assert run("pki", "import", files, "--data", data, "--json") == 0  # nothing changes
    again = json.loads(capsys.readouterr().out)
    assert again["imported"] == document["imported"]
    assert run("pki", "import", files, "--data", data) == 0
    assert "3 roots are trusted there" in capsys.readouterr().out


def request(key: ec.EllipticCurvePrivateKey) -> bytes:
    from cryptography.hazmat.primitives.hashes import SHA256

    names = [
        x509.NameAttribute(x509.NameOID.COMMON_NAME, "PVTP0000000000002"),
        x509.NameAttribute(x509.NameOID.ORGANIZATION_NAME, "Example Cars"),
    ]
    builder = x509.CertificateSigningRequestBuilder(x509.Name(names))
    return builder.sign(key, SHA256()).public_bytes(Encoding.DER)


def test_imported_keys_are_in_the_tokens_and_nowhere_else(
    pki: Pki, files: Path, tmp_path: Path
) -> None:
    data = tmp_path / "data"
    assert run("pki", "import", files, "--data", data) == 0
    scalars = [i.private_key.private_numbers().private_value for i in pki.everything]
    written = b"".join(f.read_bytes() for f in data.rglob("*") if f.is_file())
    assert b"PRIVATE KEY" not in written
    assert not any(scalar.to_bytes(32, "big") in written for scalar in scalars)
    with ExitStack() as stack:
        members = imported.members(stack, Folder(data))
        assert {slot: m.der for slot, m in members.items() if slot in SLOTS} == {
            slot: issued.der for slot, issued in pki.by_slot.items()
        }
        assert all(member.key is not None for member in members.values())
        assert f"vehicle-{PCID}" in members


def test_a_root_whose_key_stays_elsewhere_is_trusted_alone(
    pki: Pki, files: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for file in files.glob("*.dat"):
        if file.read_bytes() == key_pem(pki.v2g_root):
            file.unlink()
    data = tmp_path / "data"
    assert run("pki", "import", files, "--data", data, "--json") == 0
    report = json.loads(capsys.readouterr().out)["imported"]
    assert report["trusted"] == ["v2g-root"]
    assert "prov-sub1" in report["left"]
    assert "mo-sub2" in report["used"]
    with Ecosystem(data) as world:
        assert world.v2g_root != pki.v2g_root.der
        assert world.mo_root == pki.mo_root.der
        assert pki.v2g_root.der in world.oem.client.roots_by_kind()["V2G"]


def test_a_certificate_without_its_key_stops_the_start(
    pki: Pki, files: Path, tmp_path: Path
) -> None:
    data = tmp_path / "data"
    assert run("pki", "import", files, "--data", data) == 0
    (data / "certificates/mo-sub1.pem").write_bytes(pem(Pki().mo_sub1))
    with (
        pytest.raises(Exception, match="mo-sub1 is not for the key in its token"),
        Ecosystem(data),
    ):
        pass


def test_a_second_pki_is_refused_where_one_is(
    files: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data, other = tmp_path / "data", tmp_path / "other"
    other.mkdir()
    as_meaningless_pems(Pki(), other)
    assert run("pki", "import", files, "--data", data) == 0
    before = {f: f.read_bytes() for f in (data / "certificates").iterdir()}
    assert run("pki", "import", other, "--data", data) == 1
    assert "new folder" in capsys.readouterr().err
    assert {f: f.read_bytes() for f in (data / "certificates").iterdir()} == before


WRONG: dict[str, tuple[bytes, str]] = {
    "empty.pem": (b"", "no certificate"),
    "text.pem": (b"hello", "no certificate"),
    "cut.pem": (b"-----BEGIN CERTIFICATE-----\nAAAA", "cut off"),
    "store.jks": (keystore.MAGIC + bytes(40), "password"),
    "store.jceks": (b"\xce\xce\xce\xce" + bytes(40), "keytool"),
    "der.der": (b"\x30\x03\x02\x01\x05", "no certificate"),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_file_is_named_with_the_next_step(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    content, words = WRONG[name]
    (tmp_path / name).write_bytes(content)
    assert run("pki", "import", tmp_path / name) == 2
    error = capsys.readouterr().err
    assert words in error
    assert name in error
    assert len(error.splitlines()) == 1


def test_files_of_which_nothing_has_a_place_are_no_success(
    pki: Pki, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a.pem").write_bytes(pem(pki.v2g_root))
    assert run("pki", "import", tmp_path) == 0
    (tmp_path / "a.pem").write_text(
        "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n", encoding="utf-8"
    )
    assert run("pki", "import", tmp_path) == 1
    assert "a.pem: not usable" in capsys.readouterr().out


def test_a_file_with_another_password_is_named(pki: Pki, tmp_path: Path) -> None:
    for name, content in (
        ("store.p12", p12(pki.contract, "right")),
        ("store.jks", jks([(pki.cps, [])], [], "right")),
        ("key.pem", pem(pki.cps) + key_pem(pki.cps, "right")),
    ):
        file = tmp_path / name
        file.write_bytes(content)
        for passwords in ([], ["wrong"]):
            with pytest.raises(CollectionError, match="--password-file"):
                read(file, passwords)
        assert len(read(file, ["wrong", "right"]).certificates) >= 1


def p12_hashed(count: int) -> bytes:
    """A key store whose content is hashed so often, and its MAC 2,048 times."""
    encryption = PrivateFormat.PKCS12.encryption_builder().kdf_rounds(count).build(b"x")
    key = ec.generate_private_key(ec.SECP256R1())
    return pkcs12.serialize_key_and_certificates(None, key, None, None, encryption)


def test_a_file_demands_no_more_work_than_any_real_one(
    pki: Pki, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = pki.cps.private_key
    sealed = BestAvailableEncryption(b"x")
    hostile = p12_hashed(0x010203).replace(b"\x02\x03\x01\x02\x03", b"\x02\x03\x7f\xff\xff")
    (tmp_path / "hostile.p12").write_bytes(hostile)
    (tmp_path / "password").write_text("x")
    (tmp_path / "good.pem").write_bytes(pem(pki.cps))
    (problem,) = read(tmp_path).problems
    assert "hostile.p12" in problem
    assert "hashed 8,388,607 times; this tool takes 2,000,000" in problem
    monkeypatch.setattr(key_work, "MOST", 2000)
    for content in (
        p12_hashed(2001),
        p12_hashed(1000),  # and its MAC more often
        key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, sealed),
        key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, sealed),
    ):
        (tmp_path / "hostile.p12").write_bytes(content)
        assert ["is hashed" in problem for problem in read(tmp_path).problems] == [True]


def in_ber(store: bytes, form: str) -> bytes:
    """A key store, its outer SEQUENCE or that of the MAC's digest in a form that DER has not."""
    body = store[4:]
    assert store[1] == 0x82
    if form == "indefinite":
        return b"\x30\x80" + body + b"\0\0"
    if form == "long":
        return b"\x30\x83\0" + store[2:4] + body
    digest = body.rindex(b"\x30\x31\x30\x0d\x06\x09")
    size = len(store) - 4 + 1
    mac = body.rindex(b"\x30", 0, digest)
    assert body[mac + 1] == digest - mac - 2 + len(body) - digest
    body = body[: mac + 1] + bytes([body[mac + 1] + 1]) + b"\x30\x81" + body[digest + 1 :]
    return b"\x30\x82" + size.to_bytes(2, "big") + body


@pytest.mark.filterwarnings("ignore:PKCS.12 bundle could not be parsed as DER")
@pytest.mark.parametrize("form", ["indefinite", "long", "digest"])
def test_a_key_store_in_ber_demands_no_more_work_either(
    form: str, tmp_path: Path, pki: Pki, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = in_ber(p12(pki.contract, "x"), form)
    file = tmp_path / "store.p12"
    file.write_bytes(store)
    assert read(file, ["x"]).certificates
    at = store.rindex(b"\x02\x02\x08\x00")  # the count of the MAC, 2,048
    hostile = store[:at] + b"\x02\x02\x7f\xff" + store[at + 4 :]
    monkeypatch.setattr(key_work, "MOST", 30_000)
    with pytest.raises(key_work.KeyWorkError, match="hashed 32,767 times"):
        key_work.check(hostile)
    with pytest.raises(key_work.KeyWorkError, match="cannot be read"):
        key_work.check(store[:-40])


def test_a_key_with_an_old_cipher_demands_no_more_work_either() -> None:
    algorithm = bytes.fromhex("06092a864886f70d010503300f04083132333435363738") + b"\x02\x03"
    for count, is_refused in ((b"\x00\x08\x00", False), (b"\x7f\xff\xff", True)):
        key = b"\x30\x1c\x30\x1a" + algorithm + count + b"\x04\x00"
        with pytest.raises(key_work.KeyWorkError) if is_refused else contextlib.nullcontext():
            key_work.check(key)


def test_many_keys_in_a_file_demand_no_more_work_than_any_real_one(
    pki: Pki, monkeypatch: pytest.MonkeyPatch
) -> None:
    sealed = pki.cps.private_key.private_bytes(
        Encoding.DER, PrivateFormat.PKCS8, BestAvailableEncryption(b"x")
    )
    (count,) = key_work._counts(sealed)
    monkeypatch.setattr(key_work, "MOST", count)
    key_work.check(sealed * 4)
    with pytest.raises(key_work.KeyWorkError, match=f"hashed {5 * count:,} times"):
        key_work.check(sealed * 5)


def test_a_key_sealed_by_scrypt_demands_no_more_work_than_any_real_one(
    pki: Pki, tmp_path: Path
) -> None:
    plain = pki.cps.private_key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    line = "openssl pkcs8 -topk8 -scrypt -scrypt_N 1024 -outform DER -passout pass:x"
    ended = subprocess.run(line.split(), input=plain, check=True, capture_output=True)
    numbers = bytes.fromhex("02020400 020108 020101")  # N, r, p
    assert ended.stdout.count(numbers) == 1
    (tmp_path / "password").write_text("x")
    (tmp_path / "good.pem").write_bytes(pem(pki.cps))
    (tmp_path / "key.der").write_bytes(ended.stdout)
    assert list(read(tmp_path).certificates.values()) != [None]
    for hostile in ("02024000 020108 02017f", "02024000 02017f 020108"):
        content = ended.stdout.replace(numbers, bytes.fromhex(hostile))
        (tmp_path / "key.der").write_bytes(content)
        (problem,) = read(tmp_path).problems
        assert "is hashed 4,161,536 times" in problem


def test_a_certificate_of_an_unknown_version_ends_no_import(pki: Pki, tmp_path: Path) -> None:
    version = bytes.fromhex("a003020102")
    damaged = pki.cps.der.replace(version, version[:-1] + b"\x55", 1)
    (tmp_path / "a.der").write_bytes(damaged)
    (tmp_path / "good.pem").write_bytes(pem(pki.cps) + key_pem(pki.cps))
    assert pki.cps.der in read(tmp_path).certificates


def test_a_file_that_cannot_be_read_ends_no_import(
    pki: Pki, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a-password").write_text("x")
    (tmp_path / "good.pem").write_bytes(pem(pki.cps))
    whole = Path.read_bytes

    def guarded(file: Path) -> bytes:
        if file.name == "a-password":
            raise PermissionError(13, "Permission denied", str(file))
        return whole(file)

    monkeypatch.setattr(Path, "read_bytes", guarded)
    collection = read(tmp_path)
    assert list(collection.certificates) == [pki.cps.der]
    assert collection.problems == ["a-password: Permission denied"]
    with pytest.raises(PermissionError):
        read(tmp_path / "a-password")


def test_a_key_of_java_may_have_a_password_of_its_own(pki: Pki, tmp_path: Path) -> None:
    store = jks([(pki.cps, [])], [], "store", "key")
    with pytest.raises(keystore.KeystoreError) as caught:
        keystore.read(store, "store")
    assert caught.value.reason == "password"
    file = tmp_path / "store.jks"
    file.write_bytes(store)
    with pytest.raises(CollectionError, match="--password-file"):
        read(file, ["store"])
    assert read(file, ["store", "key"]).certificates[pki.cps.der] is not None


def test_header_lines_are_read_in_one_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each header is one match in the text as it is, without a copy of the rest."""
    texts = []

    class Header:
        def match(self, text: bytes, at: int = 0) -> object:
            texts.append(text)
            return header.match(text, at)

    header = forms._HEADER
    monkeypatch.setattr(forms, "_HEADER", Header())
    text = b"-----BEGIN KEY-----\n" + b"a: b\n" * 50 + b"\nAAAA\n-----END KEY-----\n"
    (block,) = forms.blocks(text)
    assert (block.content, len(texts)) == (bytes(3), 51)
    assert all(one is texts[0] for one in texts)


@pytest.fixture
def keytool(tmp_path: Path) -> Path:
    tool = shutil.which("keytool")
    if tool is None:
        pytest.skip("no keytool: Debian's package default-jre-headless has it")
    store = tmp_path / "store.jks"
    names = ("-keystore", str(store), "-storetype", "JKS", "-storepass", "changeit")
    for alias in ("one", "two"):
        subprocess.run(
            [tool, "-genkeypair", "-alias", alias, "-keyalg", "EC", "-groupname", "secp256r1",
             "-dname", f"CN={alias}", "-keypass", "changeit", *names],
            check=True,
            capture_output=True,
        )  # fmt: skip
    return store


def test_a_key_store_of_java_is_read(keytool: Path) -> None:
    collection = read(keytool, ["changeit"])
    assert len(collection.certificates) == 2
    assert all(key is not None for key in collection.certificates.values())
    assert collection.lost_keys == []


def test_a_damaged_key_store_is_refused(pki: Pki) -> None:
    whole = jks([(pki.cps, [pki.cps_sub2])], [pki.v2g_root], "right")
    assert len(keystore.read(whole, "right")) == 2
    for at in range(0, len(whole), 37):
        damaged = bytearray(whole)
        damaged[at] ^= 1
        with pytest.raises(keystore.KeystoreError):
            keystore.read(bytes(damaged), "right")
    secret = "right".encode("utf-16-be")
    for length in range(8, len(whole) - 20, 41):  # cut off, and signed again
        content = whole[:length]
        trailer = hashlib.sha1(secret + b"Mighty Aphrodite" + content).digest()
        with pytest.raises(keystore.KeystoreError):
            keystore.read(content + trailer, "right")
