"""The maker's backend checks every bundle itself before it reaches the car [V2G2-894].

The pool is played by a client that hands out what the attacker has put there. Each attack fails
one check only, both when the bundle is pulled and when it has waited for the car.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from bundles import PROVISIONING, VEHICLE, WORLD
from evcc import exi
from fixtures.fleet import until
from fixtures.pools import authority
from plugvault.contract.iso15118_2.bundle import bundle, to_exi
from plugvault.contract.iso15118_2.issue import issue_contract
from plugvault.pki.keys import raw_signer
from plugvault.roles.backend import Backend
from plugvault.roles.client import OpcpError, encode
from plugvault.roles.oem import VehicleMaker
from plugvault.roles.state_file import EventError
from world import EMAID, NOW, PCID, Issued, point, root

DAY = 86_400
OTHER = "DEPVT0000000X19"


def signed(
    cps: Issued = WORLD.cps, mo: Issued = WORLD.mo_sub2, emaid: str = EMAID, **options: Any
) -> bytes:
    data = issue_contract(emaid, PROVISIONING.der, authority(mo), NOW, **options)
    assert cps.key is not None
    return to_exi(bundle(data, cps.der, cps.chain[1:], raw_signer(cps.key)))


def changed(message: bytes) -> bytes:
    """Another ephemeral point, under the old signature."""
    decoded = exi.decode(message)
    body = decoded["V2G_Message"]["Body"]["CertificateInstallationRes"]
    body["DHpublickey"]["value"] = point(VEHICLE)
    return exi.encode(decoded)


class Pool:
    """The answers to the maker's client: CCP's bundle, PCP's vehicle, RCP's roots."""

    def __init__(self) -> None:
        self.bundle = b""
        self.damaged = ""  # in place of the bundle's base64
        self.anchors = WORLD.anchors
        self.reachable = True
        self.gone = False
        self.pulled = 0

    def call(self, method: str, path: str, **options: Any) -> Any:
        if not self.reachable:
            raise OpcpError("unreachable")
        if "provideSignedContractData" in path:
            self.pulled += 1
            if self.gone:
                raise OpcpError("refused", "404", 404)
            return {"certificateInstallationRes": self.damaged or encode(self.bundle)}
        assert path == f"/v1/oem/provCerts/{PCID}"
        return {"OEMMessage": {"vehicleCertificate": encode(PROVISIONING.der)}}

    def roots_by_kind(self) -> dict[str, list[bytes]]:
        if not self.reachable:
            raise OpcpError("unreachable")
        return {kind: [der for k, der in self.anchors if k == kind] for kind, _ in self.anchors}


class Car:
    """The maker's end of the channel: every message here has reached the car."""

    def __init__(self) -> None:
        self.heard: list[tuple[Any, ...]] = []
        self.there = False

    def connect(self) -> bytes:
        self.there = True
        return PROVISIONING.point

    def set_time(self, now: int) -> None:
        """Accept the time, which the maker sends to every car first."""

    def status(self) -> Any:
        return SimpleNamespace(
            locked=False, envelopes=0, certified=True, anchors=1, unnamed_keys=0
        )

    def contracts(self) -> list[Any]:
        return []

    def __getattr__(self, name: str) -> Callable[..., Any]:
        return lambda *arguments: self.heard.append((name, *arguments))


class Scene:
    def __init__(self, folder: Path) -> None:
        self.now: float = NOW
        self.revoked: set[bytes] = set()
        self.pool, self.car = Pool(), Car()
        client: Any = self.pool
        maker = VehicleMaker(client, lambda: self.now, self._is_revoked)
        self.backend = Backend(maker, folder / "backend.sqlite")
        self._events = 0

    def _is_revoked(self, path: Sequence[bytes]) -> bool:
        return bool(self.revoked & set(path))

    def told(self, message: bytes) -> str:
        """CCP says that there is a contract: what the backend answers."""
        self.pool.bundle = message
        self._events += 1
        return self.backend.take(
            {
                "eventId": str(self._events),
                "eventType": "oem.contract.created",
                "payload": {"emaid": EMAID, "pcid": PCID},
            }
        )

    def states(self) -> list[str]:
        return [work.state for work in self.backend.queue.history(PCID)]

    def plug(self) -> None:
        link: Any = self.car
        self.backend.arrives(PCID, lambda _: link)
        until(lambda: self.car.there and "waiting" not in self.states(), "all is dealt with")

    def heard(self) -> list[str]:
        return [name for name, *_ in self.car.heard]


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    opened = Scene(tmp_path)
    yield opened
    opened.backend.close()


STRANGER = root("V2G Root").sub("P1", 1).sub("P2").issue("CPS", dc="CPS")
FOREIGN_MO = root("MO Root", dc="MO").sub("S1", 1, dc="MO").sub("S2", dc="MO")

# The answer that is handed out, and the first words of the refusal.
BUNDLES: dict[str, tuple[Callable[[], bytes], str]] = {
    "expired": (lambda: signed(begins=NOW - 2 * DAY, ends=NOW - DAY), "expired"),
    "not valid yet": (lambda: signed(begins=NOW + DAY), "path"),
    "another EMAID": (lambda: signed(emaid=OTHER), "wrong-contract"),
    "foreign CPS": (lambda: signed(STRANGER), "path"),
    "a station as CPS": (lambda: signed(WORLD.cpo), "path"),
    "broken signature": (lambda: changed(signed()), "signature"),
    "no known MO": (lambda: signed(mo=FOREIGN_MO), "path"),
    "nothing": (lambda: b"", "format"),
}


@pytest.mark.parametrize("attack", BUNDLES)
def test_oem_performs_v2g2_894_before_forwarding(scene: Scene, attack: str):
    make, reason = BUNDLES[attack]
    assert scene.told(make()).startswith(reason)
    assert scene.told(signed()) == ""  # and with all in order
    scene.plug()
    assert scene.heard() == ["offer_contract", "install_contract"]
    assert scene.states() == ["done"]


# The events while a good bundle waits for the car.
def expire(scene: Scene) -> None:
    scene.now += 400 * DAY


def distrust_cps(scene: Scene) -> None:
    scene.pool.anchors = [(kind, der) for kind, der in WORLD.anchors if kind != "V2G"]


def distrust_mo(scene: Scene) -> None:
    scene.pool.anchors = [(kind, der) for kind, der in WORLD.anchors if kind != "MO"]


def revoke_contract(scene: Scene) -> None:
    decoded = exi.decode(scene.pool.bundle)["V2G_Message"]["Body"]["CertificateInstallationRes"]
    scene.revoked.add(decoded["ContractSignatureCertChain"]["Certificate"])


def revoke_mo_sub(scene: Scene) -> None:
    scene.revoked.add(WORLD.mo_sub2.der)


def revoke_cps(scene: Scene) -> None:
    scene.revoked.add(WORLD.cps.der)


def revoke_cps_sub(scene: Scene) -> None:
    assert WORLD.cps.issuer is not None
    scene.revoked.add(WORLD.cps.issuer.der)


CHANGES = (
    expire, distrust_cps, distrust_mo,
    revoke_contract, revoke_mo_sub, revoke_cps, revoke_cps_sub,
)  # fmt: skip


@pytest.mark.parametrize("happens", CHANGES)
def test_a_bundle_that_became_invalid_while_it_waited_is_not_forwarded(
    scene: Scene, happens: Callable[[Scene], None]
):
    assert scene.told(signed()) == ""
    happens(scene)
    scene.plug()
    assert scene.heard() == []
    assert scene.states() == ["rejected"]


@pytest.mark.parametrize("happens", CHANGES)
def test_an_invalid_bundle_is_not_forwarded(scene: Scene, happens: Callable[[Scene], None]):
    scene.pool.bundle = message = signed()
    happens(scene)
    assert scene.told(message)
    scene.plug()
    assert scene.heard() == []


def test_an_uncheckable_bundle_is_neither_taken_nor_rejected(scene: Scene):
    scene.pool.reachable = False
    with pytest.raises(OpcpError):
        scene.told(signed())
    scene.pool.reachable = True
    scene._events = 0  # the same event again
    assert scene.told(signed()) == ""
    assert scene.states() == ["waiting"]


def test_damaged_answer_of_the_pool_is_no_damaged_event(scene: Scene):
    scene.pool.damaged = "abc"
    with pytest.raises(ValueError, match="padding") as caught:
        scene.told(signed())
    assert not isinstance(caught.value, EventError)
    scene.pool.damaged = ""
    scene._events = 0  # the same event again
    assert scene.told(signed()) == ""
    assert scene.states() == ["waiting"]


@pytest.mark.parametrize("attack", ["expired", "no known MO"])
def test_the_same_event_again_has_the_same_answer_and_no_other_effect(scene: Scene, attack: str):
    make, reason = BUNDLES[attack]
    assert scene.told(make()).startswith(reason)
    scene._events = 0
    assert scene.told(signed()).startswith(reason)  # with a good bundle in the pool by then
    assert scene.told(signed()) == ""
    scene._events = 1
    assert scene.told(make()) == ""
    assert scene.pool.pulled == 2
    assert scene.states() == ["waiting"]


def test_a_deleted_contract_is_no_rejection(scene: Scene):
    scene.pool.gone = True
    assert scene.told(b"") == ""
    assert scene.states() == []


@pytest.mark.parametrize(
    "event",
    [
        {},
        {"eventId": "1", "eventType": "oem.contract.created", "payload": {"emaid": EMAID}},
        {"eventId": "1", "eventType": "oem.contract.deleted", "payload": None},
        {
            "eventId": "1",
            "eventType": "oem.contract.created",
            "payload": {"emaid": EMAID, "pcid": "../../root"},
        },
    ],
)
def test_a_malformed_event_is_refused(scene: Scene, event: dict[str, Any]):
    with pytest.raises(EventError, match="not an event"):
        scene.backend.take(event)
    assert scene.pool.pulled == 0
