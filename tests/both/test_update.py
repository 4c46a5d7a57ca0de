"""The update of a contract: asked for by the contract itself, and never opened by its key."""

from evcc import signature
from evcc.iso15118_2 import update
from evcc.session_engine import UsageError
from helpers import raises
from scripted import OFFERED, Station, but
from test_session import EMAID, NOW, SETUP, Car

ASKING = SETUP + ["ServiceDetailReq", "PaymentServiceSelectionReq", "CertificateUpdateReq"]
DAY = 86400
_SETS = [
    {"ParameterSetID": 1, "Parameter": [{"Name": "Service", "stringValue": "Installation"}]},
    {"ParameterSetID": 2, "Parameter": [{"Name": "Service", "stringValue": "Update"}]},
]
OFFER = but("ServiceDetail", ServiceParameterList={"ParameterSet": _SETS})


def script(**changes):
    answer = dict(OFFERED["CertificateInstallation"])
    answer.update(changes)
    return dict(OFFER, CertificateUpdate=answer)


def asked(car, answers, refused):
    session = car.session()
    update.prepare(session, refused)
    station = Station(answers)
    requests, events = station.serve(session)
    return requests, events, station


def test_the_request_is_signed_by_the_contract_and_names_chain_and_roots():
    car = Car(EMAID)
    requests, _, station = asked(car, script(), {})
    assert requests == ASKING + ["SessionStopReq"]
    _, body, signed = station.request("CertificateUpdateReq")
    assert body["eMAID"] == EMAID
    assert body["ContractSignatureCertChain"]["Certificate"] == b"leaf of " + EMAID.encode()
    assert len(body["ListOfRootCertificateIDs"]["RootCertificateID"]) == 1
    parts = [(body["Id"], "CertificateUpdateReq", body)]
    point = car.vault.public(car.contracts.active().key)
    signature.verify(signed, parts, point, car.vault.verify)
    selected = station.request("PaymentServiceSelectionReq")[1]["SelectedServiceList"]
    assert selected["SelectedService"][1] == {"ServiceID": 2, "ParameterSetID": 2}


def test_a_contract_key_opens_no_envelope_and_the_car_keeps_its_contract():
    car = Car(EMAID)
    _, events, _ = asked(car, script(), {})
    assert events == [("rejected", "vault"), ("closed", "")]
    assert car.installed == []
    assert car.contracts.active().emaid == EMAID


def test_a_station_without_the_update_gets_paid_with_the_stored_contract():
    requests, events, _ = asked(Car(EMAID), OFFERED, {})
    assert "CertificateUpdateReq" not in requests
    assert [name for name, _ in events] == ["unavailable", "authorized", "closed"]


def test_the_retry_counter_is_obeyed():
    for counter, days in ((-1, None), (3, 3), (0, 0)):
        car, refused = Car(EMAID), {}
        code = "FAILED_NoCertificateAvailable"
        _, events, _ = asked(car, script(ResponseCode=code, RetryCounter=counter), refused)
        assert events == [("failed", "response-code"), ("closed", "")]
        later = (0, 1, 3, 1000)
        for day in later:
            car.time.now = lambda day=day: NOW + day * DAY
            car.contracts.get(EMAID).not_after = NOW + 10000 * DAY
            if days is not None and day >= days:
                update.prepare(car.session(), refused)
            else:
                raises(UsageError, "update", update.prepare, car.session(), refused)


def test_without_a_contract_there_is_nothing_to_update():
    raises(UsageError, "update", update.prepare, Car().session(), {})
