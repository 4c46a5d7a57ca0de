"""Names in a stranger's certificate reach a terminal without control characters."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from plugvault.cli.app import main

HOSTILE = "\x1b]0;owned\x07\x1b[2J\x9b31m\u202eelpma"
CONTROL = {"\x1b", "\x07", "\x9b", "\u202e"}
COMMANDS = [
    "pki import {folder}",
    "pki import {folder} --data {folder}/data",
    "pki import {folder} --json",
    "pki import {folder}/NAME.key",
    "inspect {folder}/FILE.crt",
    "inspect {folder}/FILE.crt --trust {folder}/FILE.crt",
    "inspect {folder}/FILE.crt --json",
    "inspect {folder}/FILE.csr",
    "inspect {folder}/NAME.crt",
    "cases make --vehicle {folder}/FILE.crt --out {folder}/cases --only EN-001",
    "cases make --vehicle {folder}/FILE.key --out {folder}/cases --only EN-001",
    "campaign --vehicle {folder}/FILE.crt --only EN-001 --module exec:/bin/false~{{message}}",
    "explain {folder}/FILE.crt",
    "explain {folder}/control.crt --trust {folder}/NAME.crt",
]


def name_of(text: str) -> x509.Name:
    kinds = (NameOID.COMMON_NAME, NameOID.ORGANIZATION_NAME, NameOID.DOMAIN_COMPONENT)
    return x509.Name([x509.NameAttribute(kind, text) for kind in kinds])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Certificates, requests and keys with hostile names; so are their files."""
    key = ec.generate_private_key(ec.SECP256R1())
    now = dt.datetime.now(dt.UTC)
    for file, text in (("control", HOSTILE), ("turned", "\u202eelpma")):
        name = name_of(text)
        certificate = (
            x509.CertificateBuilder(name, name, key.public_key(), 1)
            .not_valid_before(now - dt.timedelta(days=1))
            .not_valid_after(now + dt.timedelta(days=30))
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .sign(key, hashes.SHA256())
        )
        request = x509.CertificateSigningRequestBuilder(name).sign(key, hashes.SHA256())
        (tmp_path / f"{file}.crt").write_bytes(certificate.public_bytes(Encoding.PEM))
        (tmp_path / f"{file}.csr").write_bytes(request.public_bytes(Encoding.PEM))
    other = ec.generate_private_key(ec.SECP256R1())
    pem = other.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    (tmp_path / f"lost {HOSTILE}.key").write_bytes(pem)
    (tmp_path / f"broken {HOSTILE}.key").write_bytes(pem[:60] + b"!" + pem[61:])
    (tmp_path / f"{HOSTILE}.crt").write_bytes((tmp_path / "control.crt").read_bytes())
    return tmp_path


@pytest.mark.parametrize("file", ["control", "turned"])
@pytest.mark.parametrize("line", COMMANDS)
def test_a_foreign_name_moves_no_cursor(
    line: str, file: str, folder: Path, softhsm: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = {"FILE": file, "NAME": HOSTILE}
    words = [word.replace("~", " ").format(folder=folder) for word in line.split()]
    for name, text in names.items():
        words = [word.replace(name, text) for word in words]
    with pytest.raises(SystemExit):
        main(words)
    said = capsys.readouterr()
    shown = said.out + said.err
    assert shown
    assert not CONTROL & set(shown)
