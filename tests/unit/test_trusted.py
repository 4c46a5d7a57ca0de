"""Files of trusted roots: every form is read; a fault names file, content and option."""

from __future__ import annotations

import base64
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import typer
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    pkcs7,
)

from plugvault.cli.session_options import client_of
from plugvault.cli.station.supply import own_identities
from plugvault.cli.vehicle.garage import GarageError, _trusted
from plugvault.cli.vehicle.options import Options as VehicleOptions
from plugvault.federation.clients import Clients, Link
from plugvault.pki import trusted
from plugvault.pki.forms import FormError
from plugvault.requests.run import RequestsError, run
from plugvault.tokens import adoption
from world import World

NOTE = "Die Wurzel von Müller\n".encode()
DAMAGED = b"\x30\x0a\x30\x02\x05\x00\x30\x00\x03\x02\x00\x00"  # the outer structure, no more
KEY = ec.generate_private_key(ec.SECP256R1())
KEY_PEM = KEY.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


@pytest.fixture(scope="module")
def roots(pool_world: World) -> list[bytes]:
    return [pool_world.v2g_root.der, pool_world.oem_root.der]


def pem(ders: list[bytes]) -> bytes:
    return "".join(map(ssl.DER_cert_to_PEM_cert, ders)).encode()


def in_pkcs7(ders: list[bytes]) -> bytes:
    loaded = [x509.load_der_x509_certificate(der) for der in ders]
    return pkcs7.serialize_certificates(loaded, Encoding.DER)


FORMS: dict[str, Callable[[list[bytes]], bytes]] = {
    "PEM": pem,
    "PEM after a byte order mark": lambda ders: b"\xef\xbb\xbf" + pem(ders),
    "PEM after a text": lambda ders: NOTE + pem(ders),
    "PEM after a text in latin-1": lambda ders: NOTE.decode().encode("latin-1") + pem(ders),
    "PEM of PowerShell": lambda ders: pem(ders).decode().encode("utf-16"),
    "DER": b"".join,
    "base64": lambda ders: base64.b64encode(b"".join(ders)),
    "PKCS#7": in_pkcs7,
}
FAULTS = {
    b"": "nothing and no certificate",
    NOTE: "no certificate",
    KEY_PEM: "PEM of PRIVATE KEY and no certificate",
    b"-----BEGIN CERTIFICATE-----\nMIIB\n": "no END line",
    DAMAGED: "a certificate in it is damaged",
}
faults = pytest.mark.parametrize("content", FAULTS, ids=FAULTS.values())


@pytest.mark.parametrize("form", FORMS)
def test_roots_are_trusted_in_every_form(form: str, roots: list[bytes], tmp_path: Path) -> None:
    file = tmp_path / "roots"
    file.write_bytes(FORMS[form](roots))
    context = trusted.tls_of(file)
    assert sorted(context.get_ca_certs(binary_form=True)) == sorted(roots)
    assert (context.verify_mode, context.check_hostname) == (ssl.CERT_REQUIRED, True)


@faults
def test_a_file_without_roots_is_named_with_its_content(content: bytes, tmp_path: Path) -> None:
    file = tmp_path / "roots"
    file.write_bytes(content)
    with pytest.raises(FormError) as caught:
        trusted.tls_of(file)
    assert caught.value.detail.startswith(f"{file}: ")
    assert FAULTS[content] in caught.value.detail
    with pytest.raises(FormError, match="nothing: No such file"):
        trusted.read(tmp_path / "nothing")


def test_no_root_is_not_the_trust_of_this_machine() -> None:
    with pytest.raises(FormError, match="no root"):
        trusted.tls([])


def of_a_client(file: Path) -> object:
    return client_of("https://sandbox.example", file, "--sandbox-trust")


def of_requests(file: Path) -> object:
    return next(run("### one\nGET https://127.0.0.1:1/\n", {}, file))


@faults
def test_every_option_for_trust_in_https_names_itself_and_the_file(
    content: bytes, tmp_path: Path
) -> None:
    file = tmp_path / "roots"
    file.write_bytes(content)
    with pytest.raises(typer.BadParameter, match=r"/roots: ") as refused:
        of_a_client(file)
    assert refused.value.param_hint == "--sandbox-trust"
    with pytest.raises(RequestsError, match=r"--trust /.*/roots: "):
        of_requests(file)


@pytest.mark.parametrize("use", [of_a_client, of_requests])
def test_every_option_for_trust_in_https_takes_der(
    use: Callable[[Path], object], roots: list[bytes], tmp_path: Path
) -> None:
    file = tmp_path / "root.der"
    file.write_bytes(roots[0])
    assert use(file)


def test_a_vehicles_roots_name_their_option_and_file(tmp_path: Path) -> None:
    options = VehicleOptions("lo", trust=[tmp_path / "nothing"])
    with pytest.raises(GarageError, match=r"--trust .*/nothing: No such file"):
        _trusted(options)


# -- partners --


def test_the_roots_of_a_link_may_stand_after_a_text(roots: list[bytes]) -> None:
    text = (NOTE + pem(roots)).decode()
    Link("c", "s", "https://there.example", text).open().close()


@pytest.mark.parametrize("text", ["", "no certificate", KEY_PEM.decode()])
def test_a_link_without_its_roots_is_refused_and_leaves_the_others(text: str) -> None:
    wrong = Link("c", "s", "https://there.example", text)
    with pytest.raises(ValueError, match=r"roots cannot be read: .* no certificate"):
        wrong.open()
    links = {"wrong": wrong, "right": Link("c", "s", "https://here.example")}
    clients = Clients(links)
    assert list(clients.open(["wrong", "right"])) == ["right"]
    clients.close()


# -- a chain and a key of the user's own --


def test_an_identity_of_a_station_is_read_in_der(pool_world: World, tmp_path: Path) -> None:
    class Token:
        def key(self, label: str) -> Any:
            return type("Key", (), {"sign_digest": label})

    chain = [*pool_world.cpo_sub2.chain, pool_world.v2g_root.der]
    file = tmp_path / "chain.der"
    file.write_bytes(b"".join(chain))
    token: Any = Token()
    (own,) = own_identities([f"{file}=leaf"], token)
    assert [own.leaf, *own.subs, own.root] == chain
    with pytest.raises(ValueError, match=r"--identity .*/nothing: No such file"):
        own_identities([f"{tmp_path / 'nothing'}=leaf"], token)


@pytest.mark.parametrize("form", [PrivateFormat.PKCS8, PrivateFormat.TraditionalOpenSSL])
def test_a_provisioning_key_is_read_in_der_and_after_a_text(
    form: PrivateFormat, tmp_path: Path
) -> None:
    file = tmp_path / "key"
    file.touch(mode=0o600)
    scalar = KEY.private_numbers().private_value.to_bytes(32, "big")
    for encoding, before in ((Encoding.DER, b""), (Encoding.PEM, b"\xef\xbb\xbf" + NOTE)):
        file.write_bytes(before + KEY.private_bytes(encoding, form, NoEncryption()))
        assert adoption.read_key(file)[0] == scalar
