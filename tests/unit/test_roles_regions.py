"""Sales regions decide which roots are in a car."""

from __future__ import annotations

import pytest

from plugvault.roles import regions
from world import Issued, World, root

WORLD = World()
OEM = WORLD.oem_root.der


def of(organisation: str) -> Issued:
    return root("V2G Root CA", organisation=organisation)


ROOTS = {
    name: of(name)
    for name in ("Hubject GmbH", "Irdeto B.V.", "GIREVE", "SSI", "DigiCert, Inc.", "Example Pool")
}


def sold(region: str, **more: list[bytes]) -> list[str]:
    listed = {"V2G": [issued.der for issued in ROOTS.values()], **more}
    named = {issued.der: name for name, issued in ROOTS.items()}
    return [named.get(der, kind) for kind, der in regions.anchors(region, listed, OEM)]


@pytest.mark.parametrize(
    "region, organisations",
    [
        ("EU", ["Hubject GmbH", "Irdeto B.V.", "GIREVE"]),
        ("NA", ["Hubject GmbH", "Irdeto B.V.", "SSI", "DigiCert, Inc."]),
    ],
)
def test_a_region_has_its_providers_and_the_local_ecosystem(region: str, organisations: list[str]):
    assert sold(region) == [*organisations, "Example Pool", "OEM"]


def test_a_word_that_only_contains_a_providers_name_is_another_company():
    assert regions.provider_of(of("Missing Ltd").der) is None
    assert regions.provider_of(of("Hubjects GmbH").der) is None


def test_operators_roots_fill_the_remaining_room():
    assert sold("EU", MO=[WORLD.mo_root.der]) == [*sold("EU"), "MO"]
    assert len(sold("EU", MO=[WORLD.mo_root.der] * 40)) == regions.LIMIT


def test_required_roots_are_never_omitted_silently():
    assert len(sold("EU", V2G=[ROOTS["Example Pool"].der] * 15)) == regions.LIMIT
    with pytest.raises(ValueError, match="room for 16"):
        sold("EU", V2G=[ROOTS["Example Pool"].der] * 16)


def test_an_unknown_region_is_refused():
    with pytest.raises(ValueError, match="EU, NA"):
        sold("Mars")
