"""EXI from a hostile sender: lengths, counts and nesting that do not fit the message."""

from __future__ import annotations

import tracemalloc
from typing import Any

import pytest

from evcc import exi
from fixtures.cars import Car
from world import World

HUGE = 0xFFFFFFFF0F  # an unsigned integer of five octets: 2^32 - 1, as any length could be
MOST_MEMORY = 256 * 1024


def overwritten(message: bytes, at: int, value: int, width: int) -> bytes:
    """`message` with `width` bits from bit `at` on replaced by `value`."""
    total = len(message) * 8
    shift = total - at - width
    mask = ((1 << width) - 1) << shift
    number = int.from_bytes(message, "big") & ~mask | value << shift
    return number.to_bytes(len(message), "big")


def test_exi_depth_and_array_bounds(car: Car) -> None:
    """A huge length wherever one may stand: one typed error, and no memory for what is not there.

    The installation goes on rejecting, and what was stored stays; unchanged, the message installs.
    """
    response = car.world.response(car.point)
    assert len(response) > 3000
    too_long = []
    tracemalloc.start()
    try:
        for at in [*range(8, 2000), *range(2000, len(response) * 8 - 40, 97)]:
            tracemalloc.reset_peak()
            before, _ = tracemalloc.get_traced_memory()
            try:
                exi.decode(overwritten(response, at, HUGE, 40))
            except exi.ExiError as e:
                if e.reason == "length":
                    too_long.append(at)
            _, peak = tracemalloc.get_traced_memory()
            assert peak - before < MOST_MEMORY
    finally:
        tracemalloc.stop()
    assert len(too_long) > 5
    car.rejects("message", "length", overwritten(response, too_long[0], HUGE, 40))
    car.installs(response)


@pytest.mark.parametrize(
    ("member", "count"), [("SubCertificates", 5), ("RootCertificateID", 21), ("Reference", 5)]
)
def test_a_list_longer_than_the_schema_allows_is_refused(
    world: World, member: str, count: int
) -> None:
    with pytest.raises(exi.ExiError) as caught:
        exi.encode(with_list(world, member, count))
    assert caught.value.reason == "bounds"
    exi.decode(exi.encode(with_list(world, member, count - 1)))


def with_list(world: World, member: str, count: int) -> dict[str, Any]:
    message = exi.decode(world.response(world.contract.point))
    header = message["V2G_Message"]["Header"]
    body = message["V2G_Message"]["Body"]
    if member == "SubCertificates":
        chain = body["CertificateInstallationRes"]["ContractSignatureCertChain"]
        chain["SubCertificates"]["Certificate"] = [b"\x30\x00"] * count
    elif member == "Reference":
        references = header["Signature"]["SignedInfo"]["Reference"]
        # the schema has no upper bound: the codec sets its own, far above what [V2G2-909] allows
        header["Signature"]["SignedInfo"]["Reference"] = references[:1] * (count + 1020)
    else:
        root = {"X509IssuerName": "CN=V2G Root", "X509SerialNumber": 1}
        body.clear()
        body["CertificateInstallationReq"] = {
            "Id": "id1",
            "OEMProvisioningCert": b"\x30\x00",
            "ListOfRootCertificateIDs": {"RootCertificateID": [root] * count},
        }
    return message


def test_nesting_is_as_deep_as_the_schema_and_no_deeper(world: World) -> None:
    """Only a wildcard could nest without end, and wildcards are refused."""
    message = exi.decode(world.response(world.contract.point))
    nested: dict[str, Any] = {}
    for _ in range(2000):
        nested = {"Object": [nested]}
    message["V2G_Message"]["Header"]["Signature"]["Object"] = [nested]
    with pytest.raises(exi.ExiError):
        exi.encode(message)
