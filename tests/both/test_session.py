"""The EVCC's session against a scripted station: every transition, and every way out."""

from evcc import exi, signature
from evcc.contracts import Contract, ContractError, Contracts
from evcc.errors import EvccError
from evcc.iso15118_2.session import NEXT, PAIRS, Session
from evcc.link import v2gtp
from evcc.session_engine import CLOSED, START, SessionError, UsageError
from evcc.vault import PROVISIONING, VaultError
from helpers import raises
from memory import MemoryFiles
from scripted import CHALLENGE, OFFERED, RESPONSE_CODES, SESSION_ID, Station, answer, but
from softvault import SoftVault

NOW = 1790000000
EMAID = "DEPVT0000000012"
OTHER = "DEPVT0000000028"
SETUP = ["supportedAppProtocolReq", "SessionSetupReq", "ServiceDiscoveryReq"]
PAYMENT = ["PaymentDetailsReq", "AuthorizationReq", "SessionStopReq"]
INSTALLING = SETUP + [
    "ServiceDetailReq",
    "PaymentServiceSelectionReq",
    "CertificateInstallationReq",
]
PAYING = SETUP + ["PaymentServiceSelectionReq"] + PAYMENT
CLOSED_EVENT = [("closed", "")]


class RefusedError(EvccError):
    REASONS = ("signature", "vault")


class Root:
    serial = 0xFEDCBA98765432100123456789ABCDEF

    def __init__(self):
        self.names = {"CN": "V2G Root", "O": "Plug, Test", "DC": "V2G"}


class Trust:
    def __init__(self, roots=None):
        self.roots = [Root()] if roots is None else roots

    def anchors(self, *kinds):
        assert kinds == ("V2G",)
        return self.roots


class Identity:
    def __init__(self):
        self.certificate = b"a provisioning certificate"


class Clock:
    known = "clock"

    def now(self):
        return NOW

    def source(self):
        return self.known


class Car:
    """A car's context, and an installer that puts one more contract in."""

    def __init__(self, *emaids):
        self.vault = SoftVault()
        self.vault.generate_provisioning_key()
        self.trust = Trust()
        self.identity = Identity()
        self.time = Clock()
        self.contracts = Contracts(MemoryFiles())
        self.installed = []
        self.rejection = None
        for emaid in emaids:
            self.add(emaid)

    def add(self, emaid):
        key = self.vault.add(len(self.contracts.all()) + 7)
        fingerprint = (emaid + "/").encode()[:16]
        contract = Contract(emaid, key, bytes(32), "L1+", "Plug Test", 0, NOW + 1, fingerprint)
        self.contracts.commit(contract, [b"leaf of " + emaid.encode(), b"sub2", b"sub1"])
        return contract

    def install(self, response, session_id):
        self.installed.append((response, session_id))
        if self.rejection:
            raise RefusedError(self.rejection)
        return self.add(EMAID)

    def session(self, **changes):
        args = {"installer": self.install, "evccid": b"\2\0\0\0\0\1", "secure": True}
        args.update(changes)
        return Session(self, **args)


def reach(pair, want_contract=True):
    """A session that has just sent the request of `pair`, at time 100."""
    session = Car(EMAID).session(want_contract=want_contract)
    frames, now = session.start(100), 100
    while session.state != pair:
        frames, _ = session.receive(answer(session.state, OFFERED[session.state]), now)
        assert frames
    return session


def test_a_car_with_a_contract_pays_with_it():
    requests, events = Station(OFFERED).serve(Car(EMAID).session())
    assert requests == PAYING
    assert events == [("authorized", EMAID)] + CLOSED_EVENT


def test_a_car_without_a_contract_installs_one_and_pays_with_it():
    car = Car()
    requests, events = Station(OFFERED).serve(car.session())
    assert requests == INSTALLING + PAYMENT
    assert events == [("installed", EMAID), ("authorized", EMAID)] + CLOSED_EVENT
    ((response, session_id),) = car.installed
    assert session_id == SESSION_ID
    body = response["V2G_Message"]["Body"]
    assert body["CertificateInstallationRes"] == OFFERED["CertificateInstallation"]


def test_a_contract_that_is_renewed_within_a_session_pays_to_its_end():
    for renewed_at in ("PaymentServiceSelection", "PaymentDetails", "Authorization"):
        car = Car(EMAID)
        session = car.session()
        session.start(100)
        while session.state != renewed_at:
            session.receive(answer(session.state, OFFERED[session.state]), 100)
        replaced = car.contracts.get(EMAID).key
        new = Contract(EMAID, car.vault.add(9), bytes(32), "L1+", "", 0, NOW + 1, b"renewed" * 2)
        new.fingerprint += b"!!"
        old = car.contracts.commit(new, [b"renewed leaf", b"sub2", b"sub1"])
        if old:  # as an installation does
            car.vault.delete(old)
        while session.state != CLOSED:
            session.receive(answer(session.state, OFFERED[session.state]), 100)
        assert session.error is None, renewed_at
        assert (old is None) == (renewed_at != "PaymentServiceSelection")
        car.contracts.release(car.vault)
        assert replaced not in dict(car.vault.keys()), renewed_at


def test_a_contract_can_be_wanted_beside_the_one_there_is():
    requests, events = Station(OFFERED).serve(Car(OTHER).session(want_contract=True))
    assert requests == INSTALLING + PAYMENT
    assert events[:2] == [("installed", EMAID), ("authorized", EMAID)]


def test_the_named_contract_pays_even_after_an_installation():
    session = Car(OTHER).session(want_contract=True, emaid=OTHER)
    assert Station(OFFERED).serve(session)[1][:2] == [("installed", EMAID), ("authorized", OTHER)]


def test_a_named_contract_that_is_renewed_pays_with_and_without_its_check_digit():
    for name in (EMAID, EMAID[:14]):
        car = Car(name)
        replaced = car.contracts.get(name).key
        session = car.session(want_contract=True, emaid=name)
        events = Station(OFFERED).serve(session)[1]
        assert events[:2] == [("installed", EMAID), ("authorized", EMAID)]
        assert session.contract.key == car.contracts.get(EMAID).key != replaced


def test_an_expired_contract_does_not_pay():
    car = Car(OTHER)
    car.contracts.get(OTHER).not_after = NOW - 1
    assert Station(OFFERED).serve(car.session())[1][0] == ("installed", EMAID)
    events = Station(OFFERED).serve(car.session(emaid=OTHER))[1]
    assert events == [("failed", "no-contract")] + CLOSED_EVENT


def test_payment_details_carry_the_chain_and_no_id():
    station = Station(OFFERED)
    station.serve(Car(EMAID).session())
    session_id, body, signed = station.request("PaymentDetailsReq")
    assert session_id == SESSION_ID and signed is None
    assert body["eMAID"] == EMAID
    assert body["ContractSignatureCertChain"] == {
        "Certificate": b"leaf of " + EMAID.encode(),
        "SubCertificates": {"Certificate": [b"sub2", b"sub1"]},
    }


def test_the_installation_request_names_our_roots_and_is_signed_in_the_vault():
    car, station = Car(), Station(OFFERED)
    station.serve(car.session())
    _, body, signed = station.request("CertificateInstallationReq")
    assert body["OEMProvisioningCert"] == car.identity.certificate
    (root,) = body["ListOfRootCertificateIDs"]["RootCertificateID"]
    assert root["X509SerialNumber"] == Root.serial
    assert root["X509IssuerName"] == "CN=V2G Root,O=Plug\\, Test,DC=V2G"
    parts = [(body["Id"], "CertificateInstallationReq", body)]
    signature.verify(signed, parts, car.vault.public(PROVISIONING), car.vault.verify)


def test_the_room_of_an_envelope_is_made_before_the_answer_comes():
    car = Car()
    before = len(car.contracts.envelopes._table)
    Station(OFFERED).serve(car.session(installer=None))
    assert len(car.contracts.envelopes._table) == before
    Station(OFFERED).serve(car.session())
    assert len(car.contracts.envelopes._table) > before


def test_the_challenge_is_signed_with_the_contracts_key():
    car, station = Car(EMAID), Station(OFFERED)
    station.serve(car.session())
    _, body, signed = station.request("AuthorizationReq")
    assert body["GenChallenge"] == CHALLENGE
    point = car.vault.public(car.contracts.active().key)
    parts = [(body["Id"], "AuthorizationReq", body)]
    signature.verify(signed, parts, point, car.vault.verify)


def test_selection_names_the_certificate_service_only_when_installing():
    station = Station(OFFERED)
    station.serve(Car(EMAID).session())
    body = station.request("PaymentServiceSelectionReq")[1]
    assert body["SelectedPaymentOption"] == "Contract"
    assert body["SelectedServiceList"] == {"SelectedService": [{"ServiceID": 1}]}
    station = Station(OFFERED)
    station.serve(Car().session())
    body = station.request("PaymentServiceSelectionReq")[1]
    services = [{"ServiceID": 1}, {"ServiceID": 2, "ParameterSetID": 1}]
    assert body["SelectedServiceList"] == {"SelectedService": services}


def test_every_rejection_is_the_same_on_the_wire():
    seen = []
    for reason in RefusedError.REASONS:
        car, station = Car(EMAID), Station(OFFERED)
        car.rejection = reason
        session = car.session(want_contract=True)
        requests, events = station.serve(session)
        assert requests == INSTALLING + ["SessionStopReq"]
        assert events == [("rejected", reason)] + CLOSED_EVENT
        assert session.error.reason == reason
        seen.append(station.frames[-1])
    assert seen[0] == seen[1]


def test_without_the_certificate_service_a_contract_there_is_still_pays():
    script = but("ServiceDiscovery", ServiceList=None)
    requests, events = Station(script).serve(Car(EMAID).session(want_contract=True))
    assert requests == PAYING
    assert [name for name, _ in events] == ["unavailable", "authorized", "closed"]
    script = but("ServiceDetail", ServiceParameterList=None)
    _, events = Station(script).serve(Car(EMAID).session(want_contract=True))
    assert [name for name, _ in events] == ["unavailable", "authorized", "closed"]


def test_without_contract_and_certificate_service_the_car_stops_the_session():
    for script in (
        but("ServiceDiscovery", ServiceList=None),
        but("ServiceDetail", ServiceParameterList=None),
    ):
        requests, events = Station(script).serve(Car().session())
        assert requests[-1] == "SessionStopReq"
        assert events == [("failed", "no-contract")] + CLOSED_EVENT


def test_without_an_installer_no_contract_is_asked_for():
    requests, _ = Station(OFFERED).serve(Car(EMAID).session(want_contract=True, installer=None))
    assert requests == PAYING


def test_a_car_that_cannot_install_stops_the_session():
    def no_anchor(car):
        car.trust.roots = []

    def no_certificate(car):
        car.identity.certificate = None

    def no_token(car):
        def sign(key, digest):
            raise VaultError("unavailable")

        car.vault.sign = sign

    for breaks, reason in (
        (no_anchor, "no-anchor"),
        (no_certificate, "not-provisioned"),
        (no_token, "vault"),
    ):
        car = Car()
        breaks(car)
        session = car.session()
        requests, events = Station(OFFERED).serve(session)
        assert requests == INSTALLING[:-1] + ["SessionStopReq"]
        assert events == [("failed", reason)] + CLOSED_EVENT
        assert isinstance(session.error, VaultError if reason == "vault" else SessionError)


def test_a_car_with_a_damaged_chain_stops_the_session():
    files = MemoryFiles()
    car = Car()
    car.contracts = Contracts(files)
    car.add(EMAID)
    for name in files.names():
        if name.startswith("chain"):
            files.content[name] = b"\0"
    requests, events = Station(OFFERED).serve(car.session())
    assert requests == PAYING[:4] + ["SessionStopReq"]
    assert events == [("failed", "contract")] + CLOSED_EVENT


def test_a_vault_without_random_numbers_fails_before_the_session():
    car = Car(EMAID)

    def random(n):
        raise VaultError("unavailable")

    car.vault.random = random
    requests, events = Station(OFFERED).serve(car.session(evccid=None))
    assert requests == SETUP[:1]
    assert events == [("failed", "vault")] + CLOSED_EVENT


def test_a_random_evccid_is_a_local_address_of_six_bytes():
    station = Station(OFFERED)
    station.serve(Car(EMAID).session(evccid=None))
    evccid = station.request("SessionSetupReq")[1]["EVCCID"]
    assert len(evccid) == 6 and evccid[0] & 3 == 2


def test_a_session_without_contract_payment_is_stopped():
    script = but("ServiceDiscovery", PaymentOptionList={"PaymentOption": ["ExternalPayment"]})
    requests, events = Station(script).serve(Car(EMAID).session())
    assert requests == SETUP + ["SessionStopReq"]
    assert events == [("failed", "no-contract-payment")] + CLOSED_EVENT


def test_pnc_refused_without_tls():
    for emaids in ((), (EMAID,)):
        for want_contract in (False, True):
            car = Car(*emaids)
            session = car.session(want_contract=want_contract, secure=False)
            requests, events = Station(OFFERED).serve(session)
            assert requests == SETUP + ["SessionStopReq"]
            assert events == [("failed", "insecure")] + CLOSED_EVENT
            assert car.vault.signed == 0


def test_a_contract_is_used_without_tls_where_the_owner_says_so():
    session = Car(EMAID).session(secure=False, insecure_contract=True)
    assert Station(OFFERED).serve(session)[1][0] == ("authorized", EMAID)


def test_rejects_res_for_another_session_id():
    for pair in PAIRS:
        if pair in ("supportedAppProtocol", "SessionSetup"):
            continue
        session = reach(pair)
        frames, events = session.receive(answer(pair, OFFERED[pair], bytes(7) + b"\1"), 100)
        assert frames == [] and events == [("failed", "session-id")] + CLOSED_EVENT


def test_rejects_a_session_without_a_proper_id():
    for session_id in (b"", b"\0", bytes(8), bytes(8) + b"\1"):
        session = reach("SessionSetup")
        frame = answer("SessionSetup", OFFERED["SessionSetup"], session_id)
        assert session.receive(frame, 100)[1] == [("failed", "session-id")] + CLOSED_EVENT


def test_rejects_unsolicited_installation_res():
    frame = answer("CertificateInstallation", OFFERED["CertificateInstallation"])
    for pair in PAIRS:
        if pair in ("supportedAppProtocol", "CertificateInstallation"):
            continue
        session = reach(pair)
        frames, events = session.receive(frame, 100)
        assert frames == [] and events[0] == ("failed", "unexpected-message"), (pair, events)
    session = reach("PaymentDetails")
    both = answer("PaymentDetails", OFFERED["PaymentDetails"]) + frame
    assert session.receive(both, 100) == ([], [("failed", "unsolicited")] + CLOSED_EVENT)


def test_rejects_bytes_behind_the_response():
    session = reach("ServiceDiscovery")
    data = answer("ServiceDiscovery", OFFERED["ServiceDiscovery"]) + b"\1"
    assert session.receive(data, 100) == ([], [("failed", "unsolicited")] + CLOSED_EVENT)


def test_every_failed_code_ends_every_pair():
    for pair in PAIRS:
        if pair == "supportedAppProtocol":
            continue
        for code in RESPONSE_CODES:
            if code in PAIRS[pair].codes:
                continue
            session = reach(pair)
            frame = answer(pair, but(pair, ResponseCode=code)[pair])
            frames, events = session.receive(frame, 100)
            assert frames == [] and events[0] == ("failed", "response-code"), (pair, code)
            assert session.error.detail == code


def test_a_challenge_has_sixteen_bytes():
    for length in (0, 15, 17):
        session = reach("PaymentDetails")
        body = but("PaymentDetails", GenChallenge=bytes(length))["PaymentDetails"]
        frames, events = session.receive(answer("PaymentDetails", body), 100)
        assert frames == [] and events == [("failed", "challenge")] + CLOSED_EVENT


def test_a_failed_negotiation_ends_the_session():
    session = reach("supportedAppProtocol")
    frame = answer("supportedAppProtocol", {"ResponseCode": "Failed_NoNegotiation"})
    assert session.receive(frame, 100) == ([], [("failed", "response-code")] + CLOSED_EVENT)


def test_a_failed_installation_never_reaches_the_installer():
    car = Car()
    script = but("CertificateInstallation", ResponseCode="FAILED_NoCertificateAvailable")
    _, events = Station(script).serve(car.session())
    assert events == [("failed", "response-code")] + CLOSED_EVENT
    assert car.installed == []


def test_each_pair_has_its_time():
    for pair, seconds in (
        ("supportedAppProtocol", 2),
        ("SessionSetup", 2),
        ("ServiceDiscovery", 2),
        ("ServiceDetail", 5),
        ("PaymentServiceSelection", 2),
        ("CertificateInstallation", 5),
        ("PaymentDetails", 5),
        ("Authorization", 2),
        ("SessionStop", 2),
    ):
        session = reach(pair)
        assert session.deadline() == 100 + 1000 * seconds, pair
        assert session.timeout(session.deadline() - 1) == ([], [])
        frames, events = session.timeout(session.deadline())
        assert frames == [] and events == [("failed", "timeout")] + CLOSED_EVENT
        assert session.state == CLOSED and session.deadline() is None


def test_an_answer_that_comes_too_late_is_not_read():
    session = reach("SessionSetup")
    frame = answer("SessionSetup", OFFERED["SessionSetup"])
    frames, events = session.receive(frame, session.deadline())
    assert frames == [] and events == [("failed", "timeout")] + CLOSED_EVENT


def test_slow_drip_sender_times_out():
    session = reach("ServiceDiscovery")
    deadline = session.deadline()
    frame = answer("ServiceDiscovery", OFFERED["ServiceDiscovery"])
    for i in range(4):
        assert session.receive(frame[i : i + 1], 200 + i) == ([], [])
    assert session.deadline() == deadline


def test_frame_length_over_limit_rejected_before_allocation():
    session = reach("CertificateInstallation")
    header = b"\x01\xfe\x80\x01\x00\x00\x20\x01"  # 8,193 bytes to come
    assert session.receive(header, 100) == ([], [("failed", "frame")] + CLOSED_EVENT)


def test_4100_byte_response_accepted():
    car = Car()
    der = bytes(range(200)) * 4
    chain = {"Certificate": der, "SubCertificates": {"Certificate": [der, der]}}
    contract_chain = dict(chain)
    contract_chain["Id"] = "id1"
    script = but(
        "CertificateInstallation",
        SAProvisioningCertificateChain=chain,
        ContractSignatureCertChain=contract_chain,
    )
    assert Station(script).serve(car.session())[1][0] == ("installed", EMAID)
    assert len(exi.encode(car.installed[0][0])) > 4800


def test_answers_may_come_in_any_pieces():
    session = reach("CertificateInstallation")
    frame = answer("CertificateInstallation", OFFERED["CertificateInstallation"])
    for i in range(len(frame) - 1):
        assert session.receive(frame[i : i + 1], 100) == ([], [])
    frames, events = session.receive(frame[-1:], 100)
    assert len(frames) == 1 and events == [("installed", EMAID)]


def test_ongoing_is_asked_again_after_a_while_without_signing_again():
    session = reach("Authorization", want_contract=False)
    signed = session.car.vault.signed
    ongoing = answer(
        "Authorization", but("Authorization", EVSEProcessing="Ongoing")["Authorization"]
    )
    assert session.receive(ongoing, 100) == ([], [])
    assert session.timeout(session.deadline() - 1) == ([], [])
    now = session.deadline()
    (frame,), events = session.timeout(now)
    assert events == [] and session.car.vault.signed == signed
    _, name, body, signature_ = _read(frame)
    assert (name, body, signature_) == ("AuthorizationReq", {}, None)
    assert session.deadline() == now + 2000
    frames, events = session.receive(answer("Authorization", OFFERED["Authorization"]), now)
    assert len(frames) == 1 and events == [("authorized", EMAID)]


def test_ongoing_ends_after_a_minute():
    session, now = reach("Authorization", want_contract=False), 100
    body = but("Authorization", EVSEProcessing="Ongoing_WaitingForCustomerInteraction")
    ongoing = answer("Authorization", body["Authorization"])
    for _ in range(1000):
        _, events = session.receive(ongoing, now)
        if events:
            break
        now = session.deadline()
        session.timeout(now)
    assert events == [("failed", "ongoing-timeout")] + CLOSED_EVENT
    assert 60000 <= now - 100 < 61000


def test_rejects_a_response_between_ongoing_and_the_next_request():
    ongoing = but("Authorization", EVSEProcessing="Ongoing")["Authorization"]
    for later in (1, 5000):  # whenever the owner comes to ask again
        session = reach("Authorization", want_contract=False)
        session.receive(answer("Authorization", ongoing), 100)
        frame = answer("Authorization", OFFERED["Authorization"])
        events = [("failed", "unsolicited")] + CLOSED_EVENT
        assert session.receive(frame, 100 + later) == ([], events)


def test_a_certificate_that_expires_soon_still_pays():
    script = but("PaymentDetails", ResponseCode="OK_CertificateExpiresSoon")
    assert Station(script).serve(Car(EMAID).session())[1][0] == ("authorized", EMAID)


def test_garbage_in_any_state_is_one_failure():
    for pair in PAIRS:
        for data, reason in (
            (b"GET / HTTP/1.1\r\n\r\n", "frame"),
            (b"\x01\xfe\x90\x00\x00\x00\x00\x00", "frame"),
            (v2gtp.encode(b""), "message"),
            (v2gtp.encode(b"\x80\xff\xff\xff\xff"), "message"),
        ):
            session = reach(pair)
            frames, events = session.receive(data, 100)
            assert frames == [] and events == [("failed", reason)] + CLOSED_EVENT, (pair, data)


def test_a_body_without_its_message_is_no_answer():
    session = reach("SessionSetup")
    frame = v2gtp.encode(exi.encode({"SessionSetupRes": OFFERED["SessionSetup"]}))
    assert session.receive(frame, 100) == ([], [("failed", "unexpected-message")] + CLOSED_EVENT)


def test_after_the_end_nothing_is_sent():
    session = reach("SessionSetup")
    session.receive(b"garbage!", 100)
    frame = answer("SessionSetup", OFFERED["SessionSetup"])
    assert session.receive(frame, 101) == ([], [])
    assert session.timeout(10**9) == ([], [])


def test_usage_errors_are_no_session_errors():
    session = Car(EMAID).session()
    raises(UsageError, "not-started", session.receive, b"", 0)
    assert session.deadline() is None and session.timeout(0) == ([], [])
    session.start(0)
    raises(UsageError, "started", session.start, 0)
    assert not issubclass(UsageError, SessionError)


def test_every_transition_leads_to_a_pair_or_the_end():
    for state, outcome in NEXT:
        assert state == START or state in PAIRS, state
        assert NEXT[state, outcome] == CLOSED or NEXT[state, outcome] in PAIRS


def _read(frame):
    from scripted import read

    return read(frame, "Authorization")


def test_a_message_waits_until_it_is_carried_out_and_so_does_its_installation():
    session = reach("CertificateInstallation")
    car = session.car
    frame = answer("CertificateInstallation", OFFERED["CertificateInstallation"])
    assert session.take(frame, 100) == ([], [])
    assert session.due and session.response is None and session.deadline() is None
    assert session.carry_out(100) == ([], [])
    assert session.due and car.installed == []
    frames, events = session.carry_out(100)
    assert len(frames) == 1 and events == [("installed", EMAID)]
    assert len(car.installed) == 1
    assert not session.due
    assert session.carry_out(100) == ([], [])


def test_bytes_that_come_before_a_message_is_carried_out_are_unsolicited():
    session = reach("PaymentDetails")
    frame = answer("PaymentDetails", OFFERED["PaymentDetails"])
    assert session.take(frame, 100) == ([], [])
    assert session.take(frame[:1], 100) == ([], [("failed", "unsolicited")] + CLOSED_EVENT)
    assert not session.due


def test_resources_that_ran_out_in_an_installation_reject_it():
    for error in (MemoryError(), RuntimeError("maximum recursion depth exceeded")):
        car, station = Car(EMAID), Station(OFFERED)
        session = car.session(want_contract=True, installer=_failing(error))
        requests, events = station.serve(session)
        assert requests == INSTALLING + ["SessionStopReq"]
        assert events == [("rejected", "resources")] + CLOSED_EVENT
    session = reach("CertificateInstallation")
    session.installer = _failing(RuntimeError("a bug"))
    frame = answer("CertificateInstallation", OFFERED["CertificateInstallation"])
    raises(RuntimeError, None, session.receive, frame, 100)


def _failing(error):
    def install(response, session_id):
        raise error

    return install


def test_a_car_that_does_not_know_the_time_requests_no_contract_and_pays_with_its_own():
    for emaids, requests, event in (
        ((), SETUP, ("failed", "clock")),
        ((EMAID,), PAYING[:3], ("unavailable", "clock")),
    ):
        car = Car(*emaids)
        car.time.known = ""
        names, events = Station(OFFERED).serve(car.session(want_contract=True))
        assert names[: len(requests)] == requests
        assert "CertificateInstallationReq" not in names
        assert events[0] == event
        assert (("authorized", EMAID) in events) == bool(emaids)


def test_a_lowest_possible_time_shows_that_a_contract_has_expired_and_not_that_it_is_early():
    for before, after, reason in ((NOW + 1, NOW + 2, ""), (0, NOW - 1, "expired")):
        car = Car(EMAID)
        contract = car.contracts.get(EMAID)
        contract.not_before, contract.not_after = before, after
        if reason:
            raises(ContractError, reason, car.contracts.usable, NOW, EMAID, False)
        else:
            assert car.contracts.usable(NOW, EMAID, False) is contract
            raises(ContractError, "expired", car.contracts.usable, NOW, EMAID)
