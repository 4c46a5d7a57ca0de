"""The registries: no PCID without the document, no guessing it, and all of it on record."""

from __future__ import annotations

import pytest

from plugvault.pools import clients, providers, registry, scopes
from plugvault.pools.caller import ADMIN, MO_EXTERNAL_PKI, OEM, Caller
from plugvault.pools.cleansing import cleanse
from plugvault.pools.errors import PoolError
from plugvault.pools.records import AuditEntry, Endpoint, RegisteredVehicle
from plugvault.store import SqlStore

MAKER = Caller("Example Cars", frozenset({OEM}), wmis=frozenset({"PVT"}), client_id="maker")
RIVAL = Caller("Other Cars", frozenset({OEM}), wmis=frozenset({"XXX"}), client_id="rival")
OPERATOR = Caller("Operator A", frozenset({MO_EXTERNAL_PKI}), client_id="a")
OTHER = Caller("Operator B", frozenset({MO_EXTERNAL_PKI}), client_id="b")
ADMINISTRATOR = Caller("Administrator", frozenset({ADMIN}), client_id="admin")
VIN, PLATE, PCID, DOCUMENT = "PVTZZZ8V1KA000001", "AB12 CDE", "PVTP0000000000001", "12345 678901"
NOW = 1_790_000_000.0


def entered(store: SqlStore, vin: str = VIN, **changes: str | None) -> RegisteredVehicle:
    row = {"plate": PLATE, "pcid": PCID, "document": DOCUMENT, **changes}
    return registry.register(store, MAKER, vin, **row)  # type: ignore[arg-type]


def asked(
    store: SqlStore,
    kind: str = "plate",
    text: str = PLATE,
    document: str = DOCUMENT,
    now: float = NOW,
    caller: Caller = OPERATOR,
) -> str:
    """The PCID, or the words of the refusal."""
    try:
        return registry.prove(store, caller, kind, text, document, now).pcid
    except PoolError as error:
        if error.reason != "forbidden":
            raise
        return error.detail


def trail(store: SqlStore) -> list[AuditEntry]:
    with store.read() as records:
        return list(records.audit.since(0, 1000))


@pytest.mark.parametrize(
    "kind, text",
    [
        ("plate", PLATE),
        ("plate", "ab-12cde"),
        ("vin", VIN.lower()),
        ("pcid", PCID.lower()),
    ],
)
def test_a_caller_with_the_document_learns_the_pcid(store: SqlStore, kind: str, text: str):
    entered(store)
    assert asked(store, kind, text) == PCID
    assert asked(store, kind, text, "12345-678901") == PCID


def test_a_wrong_proof_and_an_unknown_vehicle_look_alike(store: SqlStore):
    entered(store)
    wrong = asked(store, document="99999999999")
    unknown = asked(store, text="ZZ99 ZZZ")
    assert wrong == unknown == registry.REFUSED
    assert [
        asked(store, text=text, document="99999999999") for text in (PLATE, "ZZ99 ZZZ") * 3
    ] == [registry.REFUSED] * 4 + [registry.TOO_MANY] * 2


def test_after_few_wrong_proofs_even_the_right_one_is_refused_for_a_while(store: SqlStore):
    entered(store)
    for number in range(registry.TRIES):
        assert asked(store, document=f"9999999{number}") == registry.REFUSED
    assert asked(store) == registry.TOO_MANY
    assert asked(store, now=NOW + registry.LOCKED - 1) == registry.TOO_MANY
    assert asked(store, caller=OTHER) == PCID  # one caller cannot lock another out
    assert asked(store, now=NOW + registry.LOCKED) == PCID


def test_a_right_proof_forgets_the_wrong_ones_before(store: SqlStore):
    entered(store)
    for _ in range(3):
        assert asked(store, document="99999999") == registry.REFUSED
        assert asked(store, document="99999999") == registry.REFUSED
        assert asked(store) == PCID


def test_the_slow_digest_delays_no_writer(store: SqlStore, monkeypatch: pytest.MonkeyPatch):
    real, wrote = registry._digest, []

    def slow(vin: str, document: str) -> bytes:
        with store.write() as records:  # another writer, meanwhile
            records.failed_attempts.delete("nobody", "nothing")
        wrote.append(vin)
        return real(vin, document)

    monkeypatch.setattr(registry, "_digest", slow)
    entered(store)
    assert asked(store) == PCID
    assert asked(store, text="ZZ99 ZZZ") == registry.REFUSED
    assert wrote == [VIN, VIN, ""]


def test_a_locked_out_caller_costs_no_digest(store: SqlStore, monkeypatch: pytest.MonkeyPatch):
    entered(store)
    for _ in range(registry.TRIES):
        asked(store, document="99999999")
    monkeypatch.setattr(registry, "_digest", None)
    assert asked(store) == registry.TOO_MANY


def test_every_question_and_refusal_is_in_the_trail_and_no_proof(store: SqlStore):
    entered(store)
    asked(store, document="99999999")
    asked(store)
    entries = trail(store)
    assert [(entry.who, entry.action, entry.subject) for entry in entries] == [
        (OPERATOR.signature, "vehicle lookup refused", "plate AB12CDE"),
        (OPERATOR.signature, "vehicle looked up", "plate AB12CDE"),
    ]
    text = repr(entries)
    assert "12345678901" not in text
    assert "99999999" not in text


def test_only_a_digest_of_the_proof_is_kept(store: SqlStore):
    vehicle = entered(store)
    other_vehicle = entered(store, "PVTZZZ8V1KA000002", plate=None, pcid="PVTP0000000000002")
    assert len(vehicle.document_digest) == 32
    assert (
        vehicle.document_digest != other_vehicle.document_digest
    )  # the same number, another salt
    assert "12345678901" not in repr(vehicle)


@pytest.mark.parametrize("vin, pcid", [("XXXZZZ8V1KA000001", PCID), (VIN, "XXXP0000000000001")])
def test_a_maker_enters_its_own_vehicles_only(store: SqlStore, vin: str, pcid: str):
    with pytest.raises(PoolError) as caught:
        entered(store, vin, pcid=pcid)
    assert caught.value.reason == "forbidden"
    assert trail(store) == []


def test_plate_and_pcid_are_one_vehicles(store: SqlStore):
    entered(store)
    for same in ({"plate": "AB12CDE", "pcid": "PVTP0000000000002"}, {"plate": None}):
        with pytest.raises(PoolError, match="another vehicle"):
            entered(store, "PVTZZZ8V1KA000002", **same)
    entered(store, plate="NEW 1")  # the same vehicle may change its own
    assert asked(store) == registry.REFUSED
    assert asked(store, text="new1") == PCID


@pytest.mark.parametrize(
    "kind, text, document",
    [
        ("vin", "PVTZZZ8V1KA00000", DOCUMENT),
        ("vin", "PVTZZZ8V1KO000001", DOCUMENT),
        ("plate", "-", DOCUMENT),
        ("plate", "AB'12", DOCUMENT),
        ("pcid", "PVT", DOCUMENT),
        ("plate", PLATE, "123"),
        ("plate", PLATE, "12345678!"),
    ],
)
def test_an_impossible_identification_is_no_attempt(
    store: SqlStore, kind: str, text: str, document: str
):
    with pytest.raises(PoolError) as caught:
        asked(store, kind, text, document)
    assert caught.value.reason == "invalid"
    assert trail(store) == []


# Provider identifiers


def given(store: SqlStore, provider: str = "GB-OCT", company: str = "Octagon", **options: bool):
    with store.write() as records:
        return providers.enter(records, ADMINISTRATOR, provider, company, NOW, **options)


@pytest.mark.parametrize(
    "provider, registry_", [("GB-OCT", "EV Roam"), ("deOCT", "Energy Codes & Services")]
)
def test_the_country_says_which_registry(store: SqlStore, provider: str, registry_: str):
    entry = given(store, provider)
    assert (entry.provider[2:], entry.registry) == ("OCT", registry_)
    assert trail(store)[0].action == "provider entered"


def test_a_country_without_a_registry_here_needs_one_named(store: SqlStore):
    with pytest.raises(PoolError, match="registry : must be given"):
        given(store, "FRXYZ")
    with store.write() as records:
        entry = providers.enter(
            records, ADMINISTRATOR, "FRXYZ", "XYZ", NOW, registry="An authority"
        )
    assert entry.registry == "An authority"


def test_identifiers_are_listed_and_looked_up_by_anyone(store: SqlStore):
    given(store)
    given(store, "DEPVA", "Operator A")
    with store.read() as records:
        assert [entry.provider for entry in providers.listed(records)] == ["DEPVA", "GBOCT"]
        assert [entry.provider for entry in providers.listed(records, "gb")] == ["GBOCT"]
        assert providers.get(records, "gb-oct").name == "Octagon"
        with pytest.raises(PoolError, match="is not registered"):
            providers.get(records, "GBXXX")


@pytest.mark.parametrize("provider", ["GBOC", "GB--OCT", "1BOCT", "GBOCT1", "GB_OCT", "ＧBOCT"])
def test_a_malformed_identifier_is_refused(store: SqlStore, provider: str):
    with pytest.raises(PoolError, match="must match"):
        given(store, provider)


def test_no_client_is_registered_under_anothers_identifier(store: SqlStore):
    given(store)
    given(store, "GBOLD", "Octagon", active=False)
    with store.read() as records:
        providers.check(records, "octagon", ["GBOCT"])
        for company, identifier in (
            ("Rival", "GBOCT"),
            ("Octagon", "GBXXX"),
            ("Octagon", "GBOLD"),
            ("Octagon", "*"),
        ):
            with pytest.raises(PoolError, match="not registered for") as caught:
                providers.check(records, company, ["GBOCT", identifier])
            assert caught.value.reason == "forbidden"


def test_a_withdrawn_identifier_is_lost_to_its_client(store: SqlStore):
    """An identifier of another company is lost too; one that is given back works as before."""
    given(store)
    octagon = Caller("Octagon", frozenset({MO_EXTERNAL_PKI}), providers=frozenset({"GBOCT"}))
    hook = Endpoint("w", "id", "Octagon", "MO", "GBOCT", "https://w.example", "", 1)
    with store.write() as records:
        client = clients.register(records, octagon, ("id", "secret"), "test", NOW)
        records.endpoints.put(hook)

    def seen() -> tuple[frozenset[str], int]:
        """Return the providers of the client, and the number of its listening webhooks."""
        with store.read() as records:
            endpoints = records.endpoints.listening("GBOCT")
            return scopes.current(records, client.caller).providers, len(endpoints)

    theirs = (frozenset({"GBOCT"}), 1)
    assert seen() == theirs
    for change in ({"active": False}, {"company": "Rival"}):
        given(store, **change)  # type: ignore[arg-type]
        assert seen() == (frozenset(), 0)
        given(store)
        assert seen() == theirs


def test_wrong_proofs_under_all_names_of_a_vehicle_count_together(store: SqlStore):
    entered(store)
    names = (("plate", PLATE), ("vin", VIN), ("pcid", PCID))
    for number, (kind, text) in enumerate(names):
        assert asked(store, kind, text, f"9999999{number}") == registry.REFUSED
    assert [asked(store, kind, text) for kind, text in names] == [registry.REFUSED] * 3
    assert asked(store, caller=OTHER) == PCID
    assert asked(store, now=NOW + registry.LOCKED) == PCID


def test_the_right_proof_ends_the_count_of_all_names(store: SqlStore):
    entered(store)
    for _ in range(2):
        for kind, text in (("plate", PLATE), ("vin", VIN)):
            assert asked(store, kind, text, "99999999") == registry.REFUSED
        assert asked(store, "pcid", PCID) == PCID


def test_counts_that_lock_nothing_any_more_are_forgotten(store: SqlStore):
    for name in ("XX1", "XX2", "XX3"):
        asked(store, text=name)
    asked(store, text="XX4", now=NOW + 1)
    with store.write() as records:
        assert registry.forget(records, NOW + registry.LOCKED, 2) == 2
        assert registry.forget(records, NOW + registry.LOCKED, 2) == 1
        assert records.failed_attempts.get("a", "plate XX4")


def test_the_cleansing_forgets_counts(store: SqlStore):
    asked(store, text="XX1")
    cleanse(store, NOW + registry.LOCKED)
    with store.read() as records:
        assert records.failed_attempts.get("a", "plate XX1") is None
