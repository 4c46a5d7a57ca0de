"""The station's half of a session and a vehicle that builds its requests, without a connection."""

from __future__ import annotations

from typing import Any

from evcc import exi, signature
from evcc.iso15118_2 import messages
from evcc.link import v2gtp
from plugvault.station import Authorized, Offer
from plugvault.station.engine import CLOSED
from plugvault.station.events import Closed
from plugvault.station.iso15118_2.secc import Secc
from world import EMAID, NOW, World, sign

SESSION = bytes(range(0x10, 0x18))
CHALLENGE = bytes(range(16))
SERVICES = {  # the content of a ServiceDiscoveryRes
    "ResponseCode": "OK",
    "PaymentOptionList": {"PaymentOption": ["Contract"]},
    "ChargeService": {
        "ServiceID": 1,
        "ServiceCategory": "EVCharging",
        "FreeService": True,
        "SupportedEnergyTransferMode": {"EnergyTransferMode": ["DC_core"]},
    },
}


def random(n: int) -> bytes:
    """The random numbers of the station: a known SessionID and a known challenge."""
    return SESSION if n == 8 else CHALLENGE


class Vehicle:
    """Builds requests, correct ones by default, and reads the answers. changes: of the station's
    settings."""

    def __init__(self, world: World, **changes: Any) -> None:
        offer = changes.pop("offer", Offer())
        anchors = [world.v2g_root.der, world.mo_root.der]
        self.now = NOW
        how = {"secure": True, **changes}
        self.secc = Secc(offer, anchors, lambda: self.now, 0, random, **how)
        self.world = world
        self.events: list[Any] = []

    def step(self, result: tuple[list[bytes], list[Any]]) -> Any:
        """The body of the one answer, or None; keeps the events."""
        frames, events = result
        self.events += events
        if not frames:
            return None
        (frame,) = frames
        (payload,) = v2gtp.PayloadReader().feed(frame)
        if self.events and any(getattr(e, "name", "").startswith("supp") for e in events):
            return exi.decode(payload, "sap")["supportedAppProtocolRes"]
        session_id, self.answered, body, _ = messages.opened(exi.decode(payload))
        assert session_id == self.secc.session_id
        return body

    def say(
        self,
        name: str,
        body: dict[str, Any],
        session_id: bytes = SESSION,
        signed: dict[str, Any] | None = None,
    ) -> Any:
        """Send one request. signed: the Signature element. Returns as `step`."""
        message = messages.envelope(session_id, name, body, signed)
        return self.step(self.secc.receive(v2gtp.encode(exi.encode(message)), 1))

    def negotiate(self, **changes: Any) -> Any:
        """Send a supportedAppProtocolReq. changes: of its one offer."""
        request = messages.supported_app_protocol_req()
        request["AppProtocol"][0].update(changes)
        payload = exi.encode({"supportedAppProtocolReq": request}, "sap")
        return self.step(self.secc.receive(v2gtp.encode(payload), 1))

    def set_up(self) -> None:
        self.negotiate()
        self.say("SessionSetupReq", messages.session_setup_req(b"\2\0\0\0\0\1"), b"\0")

    def select(self, option: str = "Contract", services: Any = ((1, None), (2, 1))) -> Any:
        body = messages.payment_service_selection_req(option, list(services))
        return self.say("PaymentServiceSelectionReq", body)

    def to_payment(self) -> Vehicle:
        """Go on to the selection of contract payment and of the certificate service."""
        self.set_up()
        self.say("ServiceDiscoveryReq", {})
        self.select()
        return self

    def details(self, chain: list[bytes] | None = None, emaid: str = EMAID) -> Any:
        chain = chain or self.world.contract.chain
        return self.say("PaymentDetailsReq", messages.payment_details_req(emaid, chain))

    def to_authorization(self) -> Vehicle:
        self.to_payment().details()
        return self

    def authorize(
        self, challenge: bytes = CHALLENGE, key: Any = None, edit: Any = None, ident: str = "id1"
    ) -> Any:
        """Send an AuthorizationReq. edit(SignedInfo, body): changes both before the signature."""
        body = messages.authorization_req(ident, challenge)
        info = signature.sign([(ident, "AuthorizationReq", body)], lambda _: b"")["SignedInfo"]
        if edit:
            edit(info, body)
        octets = exi.fragment("SignedInfo", info, "xmldsig")
        value = sign(key or self.world.contract_key, octets)
        signed = {"SignedInfo": info, "SignatureValue": {"value": value}}
        return self.say("AuthorizationReq", body, signed=signed)

    def of(self, kind: type) -> list[Any]:
        """The station's events of a kind so far."""
        return [event for event in self.events if isinstance(event, kind)]


def refused(vehicle: Vehicle, body: Any, code: str) -> None:
    """Assert this refusal, the end of the session, and no billing."""
    assert body["ResponseCode"] == code
    assert vehicle.secc.state == CLOSED
    assert len(vehicle.of(Closed)) == 1
    assert not vehicle.of(Authorized)


def installation(vehicle: Vehicle) -> Any:
    root = type("Root", (), {"names": {"CN": "R"}, "serial": 1})()
    body = messages.certificate_installation_req("id1", b"\0", [root])
    return vehicle.say("CertificateInstallationReq", body)
