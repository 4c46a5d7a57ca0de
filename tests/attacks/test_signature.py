"""Signature and binding: the signer, the signed parts, and the request they answer."""

from __future__ import annotations

from typing import Any

from evcc.iso15118_2.installation import InstallationRequest
from fixtures.cars import Car
from world import EMAID, SESSION_ID, World

Body = dict[str, Any]


def header(message: Body) -> Any:
    return message["V2G_Message"]["Header"]


def body(message: Body) -> Any:
    return message["V2G_Message"]["Body"]["CertificateInstallationRes"]


def test_rejects_an_emaid_other_than_the_one_announced(car: Car) -> None:
    request = InstallationRequest.over_the_air("DEPVT0000000Z27", SESSION_ID)
    car.rejects("emaid", None, car.world.response(car.point), request=request)
    request = InstallationRequest.over_the_air(EMAID, SESSION_ID)
    car.installs(car.world.response(car.point), request=request)


def test_rejects_replayed_res_after_the_contract_was_removed(car: Car) -> None:
    old = car.world.response(car.point)
    car.installs(old)
    car.vault.delete(car.contracts.delete(EMAID))
    car.rejects("not-admitted", "replayed", old)


def test_rejects_a_second_answer_to_one_request(car: Car, world: World) -> None:
    request = InstallationRequest.at_station(SESSION_ID)
    wrong = world.response(car.point, emaid="DEPVT0000000Z27")
    car.rejects("emaid", None, wrong, request=request)
    car.rejects("unsolicited", None, world.response(car.point), request=request)


def test_the_peers_form_of_the_emaid_is_accepted_only_when_set_and_reported(car: Car) -> None:
    from evcc import signature

    def legacy(info: Body) -> None:
        element = {"Id": "id4", "value": EMAID}
        info["Reference"][3]["DigestValue"] = signature.digest("eMAID", element, True)

    response = car.world.response(car.point, edit_signed_info=legacy)
    car.rejects("signature", "digest", response)
    reported: list[str] = []
    car.installs(response, legacy_emaid=True, report=reported.append)
    assert "legacy-emaid" in reported
