"""The maker's channel, the vehicle's end: it serves the pinned maker and ignores other peers."""

import hashlib

from evcc import telematics
from evcc.car import CarContext
from evcc.contracts import Contract, Contracts
from evcc.envelopes import MISMATCHES
from evcc.errors import EvccError
from evcc.identity import Identity
from evcc.ports.files import StoreError
from evcc.record import pack, unpack
from evcc.telematics import FRESH_MS, TO_CAR, TO_MAKER, Vehicle, seal, transcript, unseal
from evcc.timekeeper import TimeError, Timekeeper
from evcc.trust import Trust
from evcc.vault import PROVISIONING, VaultError
from memory import MemoryFiles
from softvault import SoftVault

NOW = 1790000000
PCID = b"PVTP0000000000001"
EMAID = "DEPVT0000000012"


class RefusalError(EvccError):
    REASONS = ("signature", "vault", "storage")

    cause = None


class Car:
    """A vehicle with everything real but the installer."""

    def __init__(self, maker_point):
        self.clock = NOW
        self.ticks = 0
        self.files = MemoryFiles()
        self.vault = SoftVault()
        self.trust = Trust(self.files, self.vault.verify)
        self.contracts = Contracts(self.files)
        self.identity = Identity(self.files, self.vault)
        self.installed = []
        self.refuse = None
        self.logged = []
        self.events = []
        self.vehicle = Vehicle(
            maker_point,
            CarContext(
                self.vault,
                self.identity,
                self.trust,
                self.contracts,
                Timekeeper(self.files, lambda: self.clock, lambda: self.ticks),
            ),
            self.install,
            self.logged.append,
            lambda name, text: self.events.append((name, text)),
        )

    def install(self, response, emaid, session_id):
        self.installed.append((response, emaid, session_id))
        if isinstance(self.refuse, Exception):
            raise self.refuse
        if self.refuse:
            raise RefusalError(self.refuse)
        return self.hold(EMAID)

    def hold(self, emaid):
        key = self.vault.add(7)
        contract = Contract(emaid, key, bytes(32), "L1+", "Operator", NOW, NOW + 9, key)
        self.contracts.commit(contract, [b"leaf"])
        return contract

    def state(self):
        files = [item for item in sorted(self.files.content.items()) if item[0] != "time"]
        return files, len(self.vault.keys())


class Maker:
    """The maker's end, as small as it can be."""

    def __init__(self):
        self.vault = SoftVault()
        self.point = self.vault.generate_provisioning_key()
        self.nonce = b"\x11" * 32
        self.session = None
        self.counter = 0

    def sign(self, digest):
        return self.vault.sign(PROVISIONING, digest)

    def hello(self):
        return b"\x01" + self.nonce

    def proof(self, challenge):
        assert challenge[0] == 2
        self.nonce_c = challenge[1:]
        return b"\x03" + self.sign(transcript(TO_CAR, self.nonce, self.nonce_c, self.point))

    def take(self, answer):
        assert answer[0] == 4
        self.car, proof = answer[1:66], answer[66:]
        nonces = (self.nonce, self.nonce_c)
        digest = transcript(TO_MAKER, nonces[0], nonces[1], self.point, self.car)
        assert self.vault.verify(self.car, digest, proof)
        self.session = transcript(b"S", nonces[0], nonces[1], self.point, self.car)
        self.counter = 0

    def shake(self, car):
        (challenge,) = car.vehicle.receive(self.hello())
        (answer,) = car.vehicle.receive(self.proof(challenge))
        self.take(answer)

    def record(self, *fields):
        return seal(self.session, TO_CAR, self.counter, pack(list(fields)), self.sign)

    def opened(self, record):
        verify = self.vault.verify
        payload = unseal(record, self.session, TO_MAKER, self.counter, self.car, verify)
        assert payload is not None
        self.counter += 1
        return unpack(payload)

    def ask(self, car, *fields):
        (record,) = car.vehicle.receive(self.record(*fields))
        return self.opened(record)

    def ask_in_pieces(self, car, *fields, size=1000):
        payload = pack(list(fields))
        total = len(payload).to_bytes(4, "big")
        answer = self.ask(car, b"begin", total, hashlib.sha256(payload).digest())
        for at in range(0, len(payload), size):
            assert answer == [b"ok"]
            answer = self.ask(car, b"piece", at.to_bytes(4, "big"), payload[at : at + size])
        return answer


def _pair():
    maker = Maker()
    car = Car(maker.point)
    maker.shake(car)
    return maker, car


def test_a_new_car_makes_its_key_for_the_maker_and_signs_a_request_with_it():
    maker = Maker()
    car = Car(maker.point)
    assert car.vault.keys() == []
    maker.shake(car)
    assert car.vault.public(PROVISIONING) == maker.car
    ok, csr = maker.ask(car, b"provision.csr", PCID, b"Maker", b"DE")
    assert ok == b"ok"
    assert PCID in csr
    assert maker.car in csr
    assert Identity(car.files, car.vault).pcid == PCID.decode()
    assert maker.ask(car, b"provision.csr", b"short", b"Maker", b"") == [b"refused", b"pcid"]


def test_a_peer_that_is_not_the_maker_learns_and_changes_nothing():
    car = Car(Maker().point)
    before = car.state()
    other_maker = Maker()
    (challenge,) = car.vehicle.receive(other_maker.hello())
    assert car.vehicle.receive(other_maker.proof(challenge)) == []
    other_maker.session = transcript(b"S", other_maker.nonce, challenge[1:], other_maker.point)
    assert car.vehicle.receive(other_maker.record(b"status")) == []
    assert car.state() == before
    assert car.vault.signed == 0


def test_a_proof_counts_once_and_for_its_own_challenge_only():
    maker = Maker()
    car = Car(maker.point)
    (challenge,) = car.vehicle.receive(maker.hello())
    proof = maker.proof(challenge)
    assert len(car.vehicle.receive(proof)) == 1
    assert car.vehicle.receive(proof) == []
    (second,) = car.vehicle.receive(maker.hello())
    assert second != challenge
    assert car.vehicle.receive(proof) == []


def test_a_signature_of_the_car_does_not_pass_for_the_makers():
    maker, car = _pair()
    (record,) = car.vehicle.receive(maker.record(b"status"))
    assert car.vehicle.receive(record) == []
    (challenge,) = car.vehicle.receive(maker.hello())
    # the car's own proof over these nonces is over another label
    digest = transcript(TO_MAKER, maker.nonce, challenge[1:], maker.point, maker.car)
    assert car.vehicle.receive(b"\x03" + maker.sign(digest)) == []


def test_a_replayed_or_reordered_record_is_not_answered():
    maker, car = _pair()
    first = maker.record(b"contract.list")
    (answer,) = car.vehicle.receive(first)
    maker.opened(answer)
    assert car.vehicle.receive(first) == []
    maker.counter += 1
    early = maker.record(b"contract.list")
    assert car.vehicle.receive(early) == []
    maker.counter -= 1
    assert maker.ask(car, b"contract.list") == [b"ok"]


def test_a_record_changed_anywhere_is_not_answered():
    maker, car = _pair()
    record = maker.record(b"contract.remove", EMAID.encode())
    for at in (0, 1, 4, 5, 12, len(record) - 65, len(record) - 64, len(record) - 1):
        changed = bytearray(record)
        changed[at] ^= 1
        assert car.vehicle.receive(bytes(changed)) == []
    for cut in (0, 1, 5, 68, len(record) - 1):
        assert car.vehicle.receive(record[:cut]) == []
    (answer,) = car.vehicle.receive(record)
    assert maker.opened(answer) == [b"refused", b"not-found"]


def test_a_malformed_record_opens_to_nothing_at_either_end():
    maker, _ = _pair()
    record = maker.record(b"status")

    def opened(data):
        verify = maker.vault.verify
        return unseal(data, maker.session, TO_CAR, maker.counter, maker.point, verify)

    assert unpack(opened(record)) == [b"status"]
    for kind in (0, 4, 6):  # it is not part of what is signed
        assert opened(bytes([kind]) + record[1:]) is None
    for size in (0, 1, 5, 68):
        assert opened(record[:size]) is None


def test_a_record_of_an_earlier_session_is_not_answered():
    maker, car = _pair()
    old = maker.record(b"contract.list")
    maker.nonce = b"\x22" * 32
    maker.shake(car)
    assert car.vehicle.receive(old) == []
    assert maker.ask(car, b"contract.list") == [b"ok"]


def test_a_foreign_handshake_does_not_end_the_makers_session():
    maker, car = _pair()
    other_maker = Maker()
    (challenge,) = car.vehicle.receive(other_maker.hello())
    assert car.vehicle.receive(other_maker.proof(challenge)) == []
    assert maker.ask(car, b"contract.list") == [b"ok"]


def test_a_contract_is_installed_from_checked_pieces():
    maker, car = _pair()
    response = bytes(range(256)) * 17 + bytes(64)
    assert maker.ask(car, b"contract.offer", b"DE-PVT-000000001-2", b"\x05" * 8) == [b"ok"]
    assert maker.ask_in_pieces(car, b"contract.install", response) == [b"ok", b"L1+"]
    assert car.installed == [(response, EMAID, b"\x05" * 8)]
    assert car.events == [("installed", EMAID)]
    (entry,) = maker.ask(car, b"contract.list")[1:]
    assert unpack(entry)[0] == EMAID.encode()
    assert unpack(entry)[5] == b"active"


def test_a_new_session_starts_with_nothing_of_the_old_one():
    maker, car = _pair()
    payload = pack([b"contract.install", bytes(100)])
    maker.ask(car, b"contract.offer", EMAID.encode(), b"\x05" * 8)
    maker.ask(car, b"begin", bytes([0, 0, 0, len(payload)]), hashlib.sha256(payload).digest())
    maker.nonce = b"\x22" * 32
    maker.shake(car)
    assert maker.ask(car, b"piece", bytes(4), payload) == [b"refused", b"piece"]
    maker.ask(car, b"contract.install", b"x")
    assert car.installed == [(b"x", None, None)]


def test_the_signed_bytes_are_exactly_these():
    label = b"plugvault telematics 1\x00"
    session_digest = hashlib.sha256(
        label + b"K" + b"m" * 32 + b"c" * 32 + b"p" * 65 + b"q" * 65
    ).digest()
    assert transcript(b"K", b"m" * 32, b"c" * 32, b"p" * 65, b"q" * 65) == session_digest
    signed = hashlib.sha256(
        label + b"R" + session_digest + b"C" + b"\x00\x00\x01\x02" + b"payload"
    ).digest()
    assert telematics.record_digest(session_digest, TO_MAKER, 258, b"payload") == signed
    assert TO_CAR != TO_MAKER


def test_an_offer_serves_one_installation():
    maker, car = _pair()
    maker.ask(car, b"contract.offer", EMAID.encode(), b"\x05" * 8)
    car.refuse = "signature"
    maker.ask(car, b"contract.install", b"x")
    maker.ask(car, b"contract.install", b"x")
    assert car.installed == [(b"x", EMAID, b"\x05" * 8), (b"x", None, None)]


def test_a_refused_offer_leaves_none():
    maker, car = _pair()
    assert maker.ask(car, b"contract.offer", EMAID.encode(), b"\x05" * 8) == [b"ok"]
    assert maker.ask(car, b"contract.offer", b"D", b"\x06" * 8)[0] == b"refused"
    maker.ask(car, b"contract.install", b"x")
    assert car.installed == [(b"x", None, None)]


class Failing:
    """A vault of which one call fails."""

    def __init__(self, vault, name, reason):
        self._vault = vault
        self._name = name
        self._reason = reason

    def __getattr__(self, name):
        if name != self._name:
            return getattr(self._vault, name)

        def call(*args):
            raise VaultError(self._reason)

        return call


def test_an_unavailable_vault_is_told_and_no_reason_for_a_new_key():
    maker = Maker()
    for name in ("random", "verify", "public", "generate_provisioning_key", "sign"):
        car = Car(maker.point)
        car.vehicle._vault = car.identity._vault = Failing(car.vault, name, "unavailable")
        answers = car.vehicle.receive(maker.hello())
        if answers[0][0] == telematics.CHALLENGE:
            answers = car.vehicle.receive(maker.proof(answers[0]))
        assert answers == [b"\x06vault"]
        assert car.events == [("unable", "vault")]
        assert "unavailable" in car.logged[-1]
        assert len(car.vault.keys()) == (name == "sign")
        assert car.vehicle._session == b""


def test_an_answer_that_cannot_be_signed_is_told():
    maker, car = _pair()
    car.vehicle._vault = Failing(car.vault, "sign", "token-missing")
    assert car.vehicle.receive(maker.record(b"status")) == [b"\x06vault"]
    assert car.events == [("unable", "vault")]
    assert "token-missing" in car.logged[-1]


def test_a_contract_is_removed_even_when_its_key_cannot_be():
    maker, car = _pair()
    car.hold(EMAID)
    car.vehicle._vault = Failing(car.vault, "delete", "unavailable")
    assert maker.ask(car, b"contract.remove", EMAID.encode()) == [b"ok"]
    assert car.contracts.all() == []
    assert "next start" in car.logged[-1]


def test_every_rejection_is_the_same_on_the_wire_and_named_in_the_log():
    maker, car = _pair()
    answers = []
    for reason in RefusalError.REASONS[:2]:
        car.refuse = reason
        maker.ask(car, b"contract.offer", EMAID.encode(), b"\x05" * 8)
        answers.append(maker.ask(car, b"contract.install", b"x"))
        assert reason in car.logged[-1]
    assert answers == [[b"rejected"]] * 2


def test_pieces_that_are_not_the_announced_ones_install_nothing():
    maker, car = _pair()
    payload = pack([b"contract.install", bytes(3000)])
    digest = hashlib.sha256(payload).digest()
    refused = [b"refused", b"piece"]

    def begin(total=None):
        total = len(payload) if total is None else total
        return maker.ask(car, b"begin", total.to_bytes(4, "big"), digest)

    def piece(offset, data):
        return maker.ask(car, b"piece", offset.to_bytes(4, "big"), data)

    assert piece(0, payload) == refused  # never announced
    begin()
    assert piece(1000, payload[1000:2000]) == refused  # not from the start
    assert piece(0, payload[:1000]) == refused  # a wrong piece ends it
    begin()
    piece(0, payload[:2000])
    assert piece(1000, payload[1000:]) == refused  # the same bytes twice
    begin()
    piece(0, payload[:2000])
    assert piece(2000, payload[2000:] + b"x") == refused
    assert car.logged[-1].endswith("longer than announced")
    begin()
    piece(0, payload[:2000])
    assert piece(2000, bytes([payload[2000] ^ 1]) + payload[2001:]) == refused  # another hash
    begin()
    assert piece(0, b"") == refused
    assert car.installed == []
    assert begin(10240) == [b"ok"]
    assert begin(10241) == [b"refused", b"too-long"]
    assert piece(0, payload) == refused


def test_pieces_cannot_hide_pieces():
    maker, car = _pair()
    answer = maker.ask_in_pieces(car, b"begin", bytes(4), bytes(32))
    assert answer == [b"refused", b"request"]


def test_a_full_car_refuses_the_offer_and_takes_a_replacement():
    maker, car = _pair()
    for i in range(5):
        car.hold("DEPVT000000%d01" % (i + 1))
    before = car.state()
    assert maker.ask(car, b"contract.offer", EMAID.encode(), b"\x05" * 8) == [b"refused", b"full"]
    emaid = car.contracts.all()[0].emaid
    assert maker.ask(car, b"contract.offer", emaid.encode(), b"\x05" * 8)[0] == b"ok"
    assert car.state() == before


def test_the_driver_chooses_and_removes_contracts():
    maker, car = _pair()
    first, second = car.hold("DEPVT0000000012"), car.hold("DEPVT0000000023")
    assert car.contracts.active() is first
    assert maker.ask(car, b"contract.choose", b"DEPVT0000000023") == [b"ok"]
    assert car.contracts.active() is second
    assert maker.ask(car, b"contract.choose", b"") == [b"ok"]
    assert car.contracts.active() is None
    assert maker.ask(car, b"contract.remove", b"DEPVT0000000023") == [b"ok"]
    keys = [key for key, point in list(car.vault.keys())]
    assert sorted(keys) == sorted([PROVISIONING, first.key])
    assert maker.ask(car, b"contract.choose", b"DEPVT0000000023") == [b"refused", b"not-found"]


def test_malformed_requests_of_the_maker_get_a_reason_and_change_nothing():
    maker, car = _pair()
    before = car.state()
    for fields, reason in (
        ([], b"request"),
        ([b"no.such"], b"request"),
        ([b"\xff\xfe"], b"request"),
        ([b"status", b"more"], b"request"),
        ([b"contract.offer", EMAID.encode()], b"request"),
        ([b"contract.offer", b"\xff", b""], b"request"),
        ([b"provision.install"], b"request"),
        ([b"provision.install", b"junk"], b"certificate"),
        ([b"trust.install", b"EU", b"V2G"], b"request"),
        ([b"trust.install", b"EU", b"XXX", b"junk"], b"kind"),
        ([b"trust.install", b"EU", b"V2G", b"junk"], b"not-an-anchor"),
        ([b"trust.install", b"EU"] + [b"V2G", b"junk"] * 17, b"too-many"),
        ([b"trust.install", b""], b"region"),
        ([b"trust.install", b"x" * 17], b"region"),
        ([b"begin", b"", b""], b"piece"),
        ([b"begin", bytes(3), bytes(32)], b"piece"),
        ([b"begin", bytes(5), bytes(32)], b"piece"),
        ([b"begin", bytes(4), bytes(31)], b"piece"),
        ([b"begin", bytes(4), bytes(33)], b"piece"),
    ):
        assert maker.ask(car, *fields) == [b"refused", reason]
    assert car.state() == before
    (record,) = car.vehicle.receive(
        seal(maker.session, TO_CAR, maker.counter, b"no record at all", maker.sign)
    )
    assert maker.opened(record) == [b"refused", b"damaged"]


def test_status_holds_the_documented_fields():
    maker, car = _pair()
    answer = maker.ask(car, b"status")
    assert answer[:7] == [b"ok", b"", b"", b"", b"0", b"0", b"L0"]
    assert answer[7:] == [b"", b"0", b"0", str(NOW).encode(), b"0"]


def test_any_bytes_from_any_peer_are_survived():
    maker, car = _pair()
    for kind in range(7):
        for length in (0, 1, 31, 32, 33, 64, 65, 130, 200):
            assert len(car.vehicle.receive(bytes([kind]) + bytes(length))) == (
                1 if (kind, length) == (telematics.HELLO, 32) else 0
            )
    assert car.vehicle.receive(b"") == []
    assert maker.ask(car, b"contract.list") == [b"ok"]


def test_the_maker_sets_the_time_forward_and_backward():
    maker, car = _pair()
    for now in (NOW + 500_000, NOW - 500_000):
        assert maker.ask(car, b"time.set", now.to_bytes(4, "big")) == [b"ok"]
        assert maker.ask(car, b"status")[10] == str(now).encode()
    assert maker.ask(car, b"time.set", b"now") == [b"refused", b"request"]


def test_the_maker_installs_a_revocation_list_and_never_an_older_one():
    maker, car = _pair()
    dates = [(NOW + days).to_bytes(4, "big") for days in (0, 9)]
    assert maker.ask(car, b"revoked.install", *dates, b"n" * 16) == [b"ok"]
    assert len(car.trust.revocation) == 1
    assert maker.ask(car, b"status")[11] == str(NOW).encode()
    older = (NOW - 1).to_bytes(4, "big")
    assert maker.ask(car, b"revoked.install", older, dates[1]) == [b"refused", b"older"]
    assert maker.ask(car, b"revoked.install", *dates, b"short") == [b"refused", b"list"]
    assert maker.ask(car, b"revoked.install", b"", dates[1]) == [b"refused", b"request"]
    assert len(car.trust.revocation) == 1


def test_a_list_that_the_makers_time_shows_in_the_future_gives_way_to_a_right_one():
    maker, car = _pair()
    ahead, right, end = ((NOW + offset).to_bytes(4, "big") for offset in (900_000, 1, 999_999))
    assert maker.ask(car, b"revoked.install", ahead, end, b"n" * 16) == [b"ok"]
    # The car's own clock says the same as the maker, and counts for nothing.
    assert maker.ask(car, b"status")[10] == str(NOW).encode()
    assert maker.ask(car, b"revoked.install", right, end) == [b"refused", b"older"]
    assert maker.ask(car, b"time.set", NOW.to_bytes(4, "big")) == [b"ok"]
    assert maker.ask(car, b"revoked.install", right, end) == [b"ok"]
    assert len(car.trust.revocation) == 0


def test_a_list_before_one_of_the_makers_past_is_refused_at_any_time_of_the_maker():
    maker, car = _pair()
    older, first, end = ((NOW + offset).to_bytes(4, "big") for offset in (-1, 0, 999_999))
    for now in (NOW, NOW + 900_000):
        assert maker.ask(car, b"time.set", now.to_bytes(4, "big")) == [b"ok"]
        assert maker.ask(car, b"revoked.install", first, end, b"n" * 16) == [b"ok"]
        assert maker.ask(car, b"revoked.install", older, end) == [b"refused", b"older"]
        assert len(car.trust.revocation) == 1


def test_a_recorded_list_is_not_taken_again_when_the_makers_time_is_before_the_cars_list():
    maker, car = _pair()
    now, end = NOW.to_bytes(4, "big"), (NOW + 999_999).to_bytes(4, "big")
    assert maker.ask(car, b"time.set", now) == [b"ok"]
    recorded = maker.record(b"revoked.install", now, end)
    assert len(car.vehicle.receive(recorded)) == 1
    maker.counter += 1
    ahead = (NOW + 900_000).to_bytes(4, "big")
    assert maker.ask(car, b"revoked.install", ahead, end, b"n" * 16) == [b"ok"]
    assert car.vehicle.receive(recorded) == []
    assert len(car.trust.revocation) == 1


def test_the_maker_alone_lifts_the_lock():
    maker, car = _pair()
    car.contracts.envelopes.mismatches = MISMATCHES
    assert maker.ask(car, b"status")[7] == b"locked"
    assert maker.ask(car, b"contract.offer", EMAID.encode(), b"s") == [b"refused", b"locked"]
    assert maker.ask(car, b"contract.unlock") == [b"ok"]
    assert maker.ask(car, b"status")[7] == b""
    assert not Contracts(car.files).envelopes.locked


def test_the_maker_may_have_keys_destroyed_that_no_contract_names():
    maker, car = _pair()
    stray = car.vault.add(5)
    car.contracts.unnamed = [stray]
    assert maker.ask(car, b"status")[9] == b"1"
    assert maker.ask(car, b"keys.discard") == [b"ok"]
    assert maker.ask(car, b"status")[9] == b"0"
    assert stray not in dict(car.vault.keys())


def test_a_request_waits_until_it_is_carried_out():
    maker, car = _pair()
    assert car.vehicle.take(maker.record(b"contract.install", b"x")) == []
    assert car.installed == []
    (answer,) = car.vehicle.carry_out()
    assert maker.opened(answer)[0] == b"ok"
    assert len(car.installed) == 1
    assert car.vehicle.carry_out() == []


def test_the_last_piece_makes_the_whole_request_due_in_the_same_step():
    maker, car = _pair()
    payload = pack([b"contract.install", b"x"])
    maker.ask(car, b"begin", bytes([0, 0, 0, len(payload)]), hashlib.sha256(payload).digest())
    assert car.vehicle.take(maker.record(b"piece", bytes(4), payload)) == []
    assert car.installed == []
    (answer,) = car.vehicle.carry_out()
    assert maker.opened(answer) == [b"ok", b"L1+"]


def test_resources_that_ran_out_are_told_at_once_and_the_car_goes_on():
    full_flash = RefusalError("storage")
    full_flash.cause = StoreError("full")
    stack = RuntimeError("maximum recursion depth exceeded")
    for error in (MemoryError(), stack, full_flash):
        maker, car = _pair()
        car.refuse = error
        before = car.state()
        assert maker.ask(car, b"contract.install", b"x") == [b"refused", b"resources"]
        assert car.events == [("rejected", "resources")]
        assert car.logged[-1].startswith("telematics: contract.install: ")
        assert car.state() == before
        car.refuse = None
        assert maker.ask(car, b"contract.install", b"x") == [b"ok", b"L1+"]


def test_a_temporary_failure_of_the_vault_is_reported_and_is_no_rejection():
    for reason, told in (
        ("limited", "limited"),
        ("full", "resources"),
        ("unavailable", "unavailable"),
        ("token-missing", "token-missing"),
    ):
        maker, car = _pair()
        car.refuse = RefusalError("vault")
        car.refuse.cause = VaultError(reason, "it passes")
        assert maker.ask(car, b"contract.install", b"x") == [b"refused", told.encode()]
        assert car.events == [("rejected", told)]
        car.refuse = None
        assert maker.ask(car, b"contract.install", b"x") == [b"ok", b"L1+"]


def test_a_disk_that_cannot_be_written_is_told_and_is_no_rejection():
    for reason in ("io", "read-only"):
        maker, car = _pair()
        car.refuse = RefusalError("storage")
        car.refuse.cause = StoreError(reason, "it passes")
        assert maker.ask(car, b"contract.install", b"x") == [b"refused", b"storage"]
        assert car.events == [("rejected", "storage")]
        car.refuse = None
        assert maker.ask(car, b"contract.install", b"x") == [b"ok", b"L1+"]


def test_a_key_that_the_vault_does_not_accept_is_rejected_without_a_reason():
    for reason in ("refused", "key-mismatch", "point", "locked", "seen"):
        maker, car = _pair()
        car.refuse = RefusalError("vault")
        car.refuse.cause = VaultError(reason, "it stays so")
        assert maker.ask(car, b"contract.install", b"x") == [b"rejected"]
        assert car.events == [("rejected", "")]


def test_resources_that_ran_out_in_any_request_are_told():
    maker, car = _pair()
    car.trust.install = _out_of_memory
    assert maker.ask(car, b"trust.install", b"EU") == [b"refused", b"resources"]
    assert car.events == [("unable", "resources")]


def _out_of_memory(*_):
    raise MemoryError


def test_a_bug_in_a_request_is_told_without_its_text():
    maker, car = _pair()
    car.contracts.choose = _bug
    answer = maker.ask(car, b"contract.choose", EMAID.encode())
    assert answer == [b"refused", b"internal"]
    assert car.events == [("unable", "internal")]
    assert car.logged[-1] == "telematics: contract.choose: RuntimeError"
    car.refuse = RuntimeError("secret 12345")
    assert maker.ask(car, b"contract.install", b"x") == [b"rejected"]
    assert "secret" not in " ".join(car.logged)


def _bug(*_):
    raise RuntimeError("secret 12345")


def test_until_the_car_knows_the_time_no_date_is_judged_and_the_reason_is_clock():
    maker = Maker()
    car = Car(maker.point)
    car.clock = 1609459200  # 2021: a board without a clock chip, after its reset
    maker.shake(car)
    before = car.state()
    requests = (
        (b"trust.install", b"EU", b"V2G", b"no certificate"),
        (b"provision.install", b"no certificate"),
        (b"contract.offer", EMAID.encode(), b"\x05" * 8),
    )
    for request in requests:
        assert maker.ask(car, *request) == [b"refused", b"clock"], request
    assert maker.ask(car, b"status")[10] == b"0"
    assert car.state() == before
    car.refuse = TimeError("clock")
    assert maker.ask(car, b"contract.install", b"x") == [b"refused", b"clock"]
    assert maker.ask(car, b"time.set", NOW.to_bytes(4, "big")) == [b"ok"]
    assert [maker.ask(car, *request)[-1] for request in requests[:2]] == [
        b"not-an-anchor",
        b"certificate",
    ]
    assert maker.ask(car, *requests[2]) == [b"ok"]


def test_a_makers_time_that_was_held_back_is_refused():
    maker, car = _pair()
    held = maker.record(b"time.set", NOW.to_bytes(4, "big"))
    car.clock = NOW + 90000
    car.ticks += FRESH_MS + 1
    (answer,) = car.vehicle.receive(held)
    assert maker.opened(answer) == [b"refused", b"late"]
    assert car.vehicle._car.time.now() == NOW + 90000
    # the refusal was a new challenge
    car.ticks += FRESH_MS
    assert maker.ask(car, b"time.set", (NOW + 90060).to_bytes(4, "big")) == [b"ok"]
    assert car.vehicle._car.time.now() == NOW + 90060


def test_an_old_time_of_the_maker_cannot_be_replayed():
    maker, car = _pair()
    old = maker.record(b"time.set", (NOW + 5).to_bytes(4, "big"))
    car.vehicle.receive(old)
    maker.counter += 1
    assert maker.ask(car, b"time.set", (NOW + 90000).to_bytes(4, "big")) == [b"ok"]
    assert car.vehicle.receive(old) == []
    maker.nonce = b"\x22" * 32
    maker.shake(car)
    assert car.vehicle.receive(old) == []
    assert car.vehicle._car.time.now() == NOW + 90000


def test_the_time_of_a_peer_that_is_not_the_maker_is_not_taken():
    maker, car = _pair()
    other_maker = Maker()
    record = seal(
        maker.session,
        TO_CAR,
        maker.counter,
        pack([b"time.set", (NOW + 90000).to_bytes(4, "big")]),
        other_maker.sign,
    )
    assert car.vehicle.receive(record) == []
    assert car.vehicle._car.time.now() == NOW
    assert car.events == [("stranger", "not the maker's next record")]


def test_a_stranger_is_named_in_the_log_and_in_an_event():
    car = Car(Maker().point)
    other_maker = Maker()
    (challenge,) = car.vehicle.receive(other_maker.hello())
    assert car.vehicle.receive(other_maker.proof(challenge)) == []
    assert car.vehicle.receive(b"\x05" + bytes(99)) == []
    texts = ["the peer is not the maker", "a record without a session"]
    assert car.events == [("stranger", text) for text in texts]
    assert car.logged == ["telematics: " + text for text in texts]
