"""The car's name and its provisioning certificate: only for its own key, only for its own name."""

from __future__ import annotations

from typing import Any

import pytest
from cryptography import x509 as crypto_x509

from evcc.identity import Identity, IdentityError
from evcc.ports.files import Files
from evcc.vault import PROVISIONING
from evcc.x509 import parse
from world import DAY, NOW, PCID, World

OTHER = "PVTP0000000000002"


class Factory:
    def __init__(self, vault: Any, folder: str, world: World) -> None:
        self.vault, self.folder, self.world = vault, folder, world
        self.point = vault.generate_provisioning_key()
        self.anchors = [parse(world.oem_root.der)]
        self.identity = self.again()

    def again(self) -> Identity:
        """After a restart."""
        return Identity(Files(self.folder), self.vault)

    def refuses(self, reason: str, chain: list[bytes]) -> None:
        before = (self.identity.pcid, self.identity.certificate, self.identity.subs)
        with pytest.raises(IdentityError) as caught:
            self.identity.install(chain, self.anchors, NOW)
        assert caught.value.reason == reason
        for identity in (self.identity, self.again()):
            assert (identity.pcid, identity.certificate, identity.subs) == before


@pytest.fixture
def factory(car_token: Any, tmp_path: Any, world: World) -> Any:
    vault = car_token.open()
    yield Factory(vault, str(tmp_path / "store"), world)
    vault.close()


def test_a_request_names_the_car_and_is_signed_by_its_key(factory: Factory) -> None:
    der = factory.identity.request(PCID, "Plug Test", "DE")
    csr = crypto_x509.load_der_x509_csr(der)
    assert csr.is_signature_valid
    assert PCID in csr.subject.rfc4514_string()
    assert factory.again().pcid == PCID
    assert factory.again().certificate is None


def test_the_certificate_for_this_key_and_name_is_kept(factory: Factory) -> None:
    factory.identity.request(PCID, "Plug Test", None)
    chain = factory.world.provisioning(factory.point).chain
    factory.identity.install(chain, factory.anchors, NOW)
    for identity in (factory.identity, factory.again()):
        assert [identity.certificate, *identity.subs] == chain
    renewed = factory.world.provisioning(factory.point).chain
    factory.identity.install(renewed, factory.anchors, NOW)
    assert factory.again().certificate == renewed[0]


def test_without_an_oem_root_its_own_links_must_hold(factory: Factory) -> None:
    factory.identity.request(PCID, "Plug Test", None)
    factory.anchors = []
    chain = factory.world.provisioning(factory.point).chain
    broken = factory.world.mo_sub2.issue("not its issuer", ca=True, path_length=0).der
    factory.refuses("certificate", [chain[0], broken, chain[2]])
    factory.identity.install(chain, [], NOW)


def test_certificates_of_others_are_refused(factory: Factory) -> None:
    world, point = factory.world, factory.point
    factory.refuses("pcid", world.provisioning(point).chain)  # no request was made yet
    factory.identity.request(PCID, "Plug Test", None)
    factory.refuses("key", world.provisioning(world.cps.point).chain)
    factory.refuses("pcid", world.provisioning(point, OTHER).chain)
    factory.refuses("certificate", world.provisioning(point, not_after=NOW - DAY).chain)
    factory.refuses("certificate", world.provisioning(point, dc="CPS").chain)
    factory.refuses("certificate", World().provisioning(point).chain)  # another OEM root
    factory.refuses("certificate", [b"junk"])
    factory.refuses("certificate", [])


def test_a_car_keeps_its_name(factory: Factory) -> None:
    factory.identity.request(OTHER, "Plug Test", None)
    factory.identity.request(PCID, "Plug Test", None)  # not certified yet: a mistake is corrected
    factory.identity.install(factory.world.provisioning(factory.point).chain, [], NOW)
    with pytest.raises(IdentityError) as caught:
        factory.identity.request(OTHER, "Plug Test", None)
    assert caught.value.reason == "pcid"
    factory.identity.request(PCID, "Plug Test", None)
    assert factory.again().certificate is not None


def test_a_damaged_file_is_named(factory: Factory) -> None:
    factory.identity.request(PCID, "Plug Test", None)
    files = Files(factory.folder)
    stored = files.read("identity")
    assert stored is not None
    files.write("identity", stored[:-1])
    with pytest.raises(IdentityError) as caught:
        factory.again()
    assert caught.value.reason == "damaged"
    assert factory.vault.public(PROVISIONING) == factory.point
