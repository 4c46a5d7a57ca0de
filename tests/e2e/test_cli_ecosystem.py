"""`plugvault ecosystem` reads and changes a database by the rules of the pools."""

from __future__ import annotations

import base64
import json
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import Encoding
from typer.testing import CliRunner

from evcc.link import v2gtp
from fixtures.pools import Pools
from plugvault.cli.ecosystem import app
from plugvault.ecosystem.links import Links
from plugvault.federation.clients import Link
from plugvault.pki import path
from plugvault.pools import clients
from plugvault.pools.records import Delivery, Endpoint, Provider
from plugvault.pools.refusals import CAUSES
from plugvault.store import SqlStore
from world import EMAID, NOW, PCID, World
from world import root as new_root

Tell = Callable[..., Any]


@pytest.fixture
def pools(tmp_path: Path, pool_world: World) -> Any:
    store = SqlStore.sqlite(tmp_path / "ecosystem.sqlite")
    filled = Pools(store, pool_world)
    filled.register()
    filled.put()
    yield filled
    store.close()


@pytest.fixture
def ecosystem(pools: Pools, tmp_path: Path) -> Tell:
    """Runs a command; its JSON."""

    def run(*arguments: str, status: int = 0, typed: str = "") -> Any:
        command = ["--data", str(tmp_path), "--json", *arguments]
        ended = CliRunner().invoke(app, command, input=typed)
        assert ended.exit_code == status, ended.output
        message = " ".join(ended.stderr.replace("│", " ").split())  # unboxed
        return json.loads(ended.stdout) if ended.stdout.startswith(("[", "{")) else message

    return run


@pytest.fixture
def people(pools: Pools, tmp_path: Path) -> Callable[..., str]:
    """Runs a command; what people see."""

    def run(*arguments: str) -> str:
        ended = CliRunner().invoke(app, ["--data", str(tmp_path), *arguments])
        assert ended.exit_code == 0, ended.output
        return ended.stdout

    return run


def done(trail: Any) -> list[str]:
    return [entry["action"] for entry in trail]


def test_vehicles_are_listed_page_by_page(ecosystem: Tell, pools: Pools):
    pools.register(pools.provisioning("PVTP0000000000002"))
    first, second = ecosystem("vehicles", "list")
    assert (first["pcid"], second["pcid"]) == (PCID, "PVTP0000000000002")
    assert first["contracts"] == [EMAID]
    assert ecosystem("vehicles", "list", "--limit", "1") == [first]
    assert ecosystem("vehicles", "list", "--after", PCID.lower()) == [second]


def test_a_vehicle_is_shown_reset_and_removed(ecosystem: Tell):
    vehicle = ecosystem("vehicles", "show", PCID.lower())
    assert (vehicle["pcid"], vehicle["contracts"]) == (PCID, [EMAID])
    assert ecosystem("vehicles", "reset", PCID)["contracts"] == 1
    assert ecosystem("vehicles", "show", PCID)["contracts"] == []
    ecosystem("vehicles", "remove", PCID)
    assert "no vehicle is known" in ecosystem("vehicles", "show", PCID, status=1)
    kinds = [event["kind"] for event in ecosystem("events", "list")]
    assert "mo.prov.cert.factory.reset" in kinds
    assert done(ecosystem("audit"))[-2:] == ["factory reset", "vehicle deleted"]


def forms(raw: bytes) -> dict[str, bytes]:
    """A request in each form in which a file may have it."""
    text = base64.b64encode(raw)
    body = json.dumps({"certificateInstallationReq": text.decode(), "xsdMsgDefNamespace": "urn"})
    return {
        "EXI": raw,
        "hexadecimal": raw.hex(" ").encode() + b"\n",
        "base64": text[:40] + b"\n" + text[40:],
        "frame": v2gtp.encode(raw),
        "JSON": body.encode(),
    }


def test_a_request_is_explained_in_every_form(ecosystem: Tell, pools: Pools, tmp_path: Path):
    for form, data in forms(pools.request(pools.provisioning_der())).items():
        file = tmp_path / "request"
        file.write_bytes(data)
        explained = ecosystem("explain-request", str(file), "--at", str(NOW), "--json")
        assert explained["provided"], (form, explained)
        assert (explained["pcid"], explained["emaid"]) == (PCID, EMAID)


def test_a_request_that_gets_nothing_is_explained_with_a_remedy(
    ecosystem: Tell, pools: Pools, tmp_path: Path
):
    file = tmp_path / "request.exi"
    file.write_bytes(pools.request(pools.provisioning_der()))
    at = "2040-01-01"
    explained = ecosystem("explain-request", str(file), "--at", at, status=1)
    assert (explained["provided"], explained["cause"]) == (False, "vehicle-not-valid")
    assert explained["remedy"] == CAUSES["vehicle-not-valid"].remedy
    arguments = ["--data", str(tmp_path), "explain-request", str(file), "--at", at]
    ended = CliRunner().invoke(app, arguments)
    assert ended.exit_code == 1
    assert f"{PCID} gets nothing: vehicle-not-valid" in ended.stdout
    assert CAUSES["vehicle-not-valid"].remedy in ended.stdout


@pytest.mark.parametrize("data", [b"", b"{}", b"{", b"text", b"\xff" * 70_000])
def test_a_file_without_a_request_is_an_error(ecosystem: Tell, tmp_path: Path, data: bytes):
    file = tmp_path / "file"
    file.write_bytes(data)
    if 0 < len(data) < 65_536:
        explained = ecosystem("explain-request", str(file), status=1)
        assert explained["cause"] == "bad-message"
    else:
        assert "empty, or over" in ecosystem("explain-request", str(file), status=2)
    assert "No such file" in ecosystem("explain-request", str(tmp_path / "none"), status=2)


def test_contracts_are_listed_by_provider_and_vehicle_and_removed(ecosystem: Tell):
    (contract,) = ecosystem("contracts", "list", "--provider", "DE-PVT")
    assert [contract] == ecosystem("contracts", "list", "--vehicle", PCID)
    assert ecosystem("contracts", "show", EMAID)["default"] is True
    ecosystem("contracts", "remove", EMAID)
    assert f"no contract {EMAID}" in ecosystem("contracts", "show", EMAID, status=1)
    assert ecosystem("contracts", "list", "--provider", "DEPVT") == []
    assert done(ecosystem("audit"))[-1] == "contract deleted"


def test_an_operator_is_terminated_by_a_job(ecosystem: Tell):
    answer = ecosystem("contracts", "terminate", "DEPVT")
    (job,) = ecosystem("jobs")
    assert (job["job"], job["state"], job["subject"]) == (answer["job"], "waiting", "DEPVT")


def test_a_root_is_added_from_a_file_and_removed(ecosystem: Tell, tmp_path: Path):
    new = new_root("Another Root")
    file = tmp_path / "root.pem"
    file.write_bytes(new.certificate.public_bytes(Encoding.PEM))
    added = ecosystem("roots", "add", str(file), "--kind", "v2g")
    row = ecosystem("roots", "show", added["root_id"])
    assert (row["kind"], row["fingerprint"]) == ("V2G", path.fingerprint(new.der))
    ecosystem("roots", "remove", added["root_id"])
    assert added["root_id"] not in {root["root_id"] for root in ecosystem("roots", "list")}
    assert done(ecosystem("audit"))[-2:] == ["root added", "root deleted"]


def test_a_file_that_is_no_root_is_refused(ecosystem: Tell, tmp_path: Path):
    file = tmp_path / "root.pem"
    file.write_bytes(b"no certificate")
    assert "no certificate" in ecosystem("roots", "add", str(file), "--kind", "V2G", status=2)


def test_the_requester_of_a_root_cannot_approve_it(
    ecosystem: Tell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    new = new_root("Another Root")
    file = tmp_path / "root.der"
    file.write_bytes(new.der)
    change = ecosystem("roots", "add", str(file), "--kind", "V2G", "--ask")["change"]
    agree = ("roots", "approve", change, "--fingerprint", path.fingerprint(new.der))
    assert "Another administrator" in ecosystem(*agree, status=1)
    monkeypatch.setattr("getpass.getuser", lambda: "somebody-else")
    ecosystem(*agree)
    (done_change,) = ecosystem("roots", "changes")
    assert done_change["state"] == "done"
    assert any("Another Root" in root["name"] for root in ecosystem("roots", "list"))


def test_a_dead_delivery_is_sent_again(ecosystem: Tell, pools: Pools):
    with pools.store.write() as records:
        event = records.events.since(0, None, 1)[0]
        endpoint = Endpoint("one", "owner", "Maker", "OEM", "PVT", "http://x", event.kind, NOW)
        records.endpoints.put(endpoint)
        records.deliveries.put(
            Delivery(event.event_id, "one", state="dead", attempts=3, outcome="no answer")
        )
    (dead,) = ecosystem("events", "deliveries", "--state", "dead")
    assert (dead["attempts"], dead["outcome"]) == (3, "no answer")
    assert ecosystem("events", "replay")["deliveries"] == 1
    (waiting,) = ecosystem("events", "deliveries")
    assert (waiting["state"], waiting["attempts"]) == ("pending", 0)
    assert "nothing to send" in ecosystem("events", "replay", status=1)
    assert ecosystem("events", "webhooks")[0]["owner"] == "Maker"


def test_a_client_is_added_suspended_and_readmitted(ecosystem: Tell, pools: Pools):
    ecosystem("partners", "provider", "GB-OCT", "Octopus", "--registry", "EV Roam")
    added = ecosystem(
        "partners", "add", "Octopus", "--role", "MO_EXTERNAL_PKI", "--provider", "GB-OCT"
    )
    with pools.store.read() as records:
        client = clients.authenticate(records, added["client_id"], added["client_secret"])
    assert client
    assert client.caller.providers == {"GBOCT"}
    ecosystem("partners", "suspend", added["client_id"])
    assert [client_row["active"] for client_row in ecosystem("partners", "list")] == [False]
    ecosystem("partners", "readmit", added["client_id"])
    assert [client_row["active"] for client_row in ecosystem("partners", "list")] == [True]


def test_no_client_is_added_under_anothers_identifier(ecosystem: Tell):
    ecosystem("partners", "provider", "GB-OCT", "Octopus", "--registry", "EV Roam")
    arguments = ("partners", "add", "Rival", "--role", "MO_EXTERNAL_PKI", "--provider", "GBOCT")
    assert "not registered for Rival" in ecosystem(*arguments, status=1)
    assert ecosystem("partners", "list") == []


def test_a_link_to_another_ecosystem_is_kept_beside_the_database(ecosystem: Tell, tmp_path: Path):
    assert "url :" in ecosystem("partners", "apply", "there", "there.example", status=1)
    partner = ecosystem("partners", "apply", "there", "https://there.example/")
    assert partner["state"] == "applied"
    assert "already" in ecosystem("partners", "apply", "there", "https://other.example", status=1)
    assert len(ecosystem("partners", "list")) == 1  # the refused application added no client
    assert "no link yet" in ecosystem("partners", "check", "there", status=2)
    link = ("partners", "link", "there", "--client-id", "we")
    wrong = tmp_path / "wrong.pem"
    for content in ("", "no root of Müller"):
        wrong.write_text(content, encoding="utf-8")
        error = ecosystem(*link, "--trust", str(wrong), typed="secret\n", status=2)
        assert "--trust" in error
        assert "wrong.pem" in error.replace(" ", "")
    for typed in ("", "\n", "  \n", "sécret\n"):
        assert "client_secret" in ecosystem(*link, typed=typed, status=2)
    nameless = ("partners", "link", "there", "--client-id", "")
    assert "--client-id" in ecosystem(*nameless, typed="secret\n", status=2)
    unknown = ("partners", "link", "unknown", "--client-id", "we")
    assert "no partner named unknown" in ecosystem(*unknown, typed="secret\n", status=1)
    assert not Links(tmp_path)
    ecosystem(*link, typed="secret\n")
    assert dict(Links(tmp_path)) == {"there": Link("we", "secret", "https://there.example")}
    assert stat.S_IMODE((tmp_path / "partners.json").stat().st_mode) == 0o600
    assert b"secret" not in (tmp_path / "ecosystem.sqlite").read_bytes()
    assert done(ecosystem("audit"))[-1] == "partner linked"


@pytest.mark.parametrize("form", [Encoding.DER, Encoding.PEM])
def test_a_link_keeps_the_roots_of_its_https_from_any_form(
    ecosystem: Tell, tmp_path: Path, form: Encoding
):
    ecosystem("partners", "apply", "there", "https://there.example/")
    root, file = new_root("V2G"), tmp_path / "root"
    note = "Müllers Wurzel\n".encode() if form == Encoding.PEM else b""
    file.write_bytes(note + root.certificate.public_bytes(form))
    arguments = ("partners", "link", "there", "--client-id", "we", "--trust", str(file))
    ecosystem(*arguments, typed="secret\n")
    pem = root.certificate.public_bytes(Encoding.PEM).decode()
    assert Links(tmp_path)["there"].trust == pem


def test_a_link_needs_the_folder(ecosystem: Tell, tmp_path: Path):
    ecosystem("partners", "apply", "there", "https://there.example")
    database = f"sqlite:///{tmp_path / 'ecosystem.sqlite'}"
    for words in (("link", "there", "--client-id", "we"), ("check", "there")):
        ended = CliRunner().invoke(app, ["--database", database, "partners", *words], input="s\n")
        assert ended.exit_code == 2
        assert "--data" in ended.stderr


def test_an_edited_trail_is_noticed(ecosystem: Tell, pools: Pools):
    verdict = ecosystem("audit", "--verify")
    assert verdict["whole"] is True
    assert ecosystem("audit", "--verify", "--head", "0" * 64, status=1)["whole"] is False
    assert ecosystem("audit", "--verify", "--head", verdict["head"])["whole"] is True


def test_people_see_tables(people: Callable[..., str]):
    assert PCID in people("vehicles", "list")
    assert "valid until" in people("vehicles", "show", PCID)
    assert EMAID in people("contracts", "list", "--vehicle", PCID)
    assert "V2G Root" in people("roots", "list")
    assert "root.cert.added" in people("events", "list")
    for nothing in (
        ("jobs",),
        ("partners", "list"),
        ("events", "deliveries"),
        ("roots", "changes"),
    ):
        assert people(*nothing).startswith("no ")
    assert "root added" in people("audit")


def test_a_missing_data_folder_is_reported(tmp_path: Path):
    for arguments, words in (
        ([], "--data or --database is needed"),
        (["--data", str(tmp_path)], "has no ecosystem.sqlite"),
    ):
        ended = CliRunner().invoke(app, [*arguments, "roots", "list"], env={"COLUMNS": "200"})
        assert ended.exit_code == 2
        assert words in ended.stderr


def test_help_of_a_command_needs_no_ecosystem() -> None:
    ended = CliRunner().invoke(app, ["roots", "list", "--help"])
    assert ended.exit_code == 0
    assert "List all roots" in ended.stdout


def test_the_pools_rules_hold_for_administrators_too(
    ecosystem: Tell, pools: Pools, tmp_path: Path
):
    file = tmp_path / "root.der"
    file.write_bytes(pools.world.v2g_root.der)
    known_as_v2g = ecosystem("roots", "add", str(file), "--kind", "MO", status=1)
    assert "in RCP as V2G already" in known_as_v2g
    assert "is none of" in ecosystem("roots", "add", str(file), "--kind", "XYZ", status=2)
    file.write_bytes(pools.provisioning_der())
    assert "not a root" in ecosystem("roots", "add", str(file), "--kind", "OEM", status=1)


def test_control_characters_in_stored_text_are_shown_escaped(
    people: Callable[..., str], pools: Pools
):
    """Stored text brings no markup, no new line and no control sequence into the table."""
    name = "Ev[/]il [red]\x1b[2J\nDEPVT  Good"  # of a database from before such were refused
    with pools.store.write() as records:
        records.providers.put(Provider("GBOCT", name, "EV Roam", True))
    table = people("partners", "providers")
    assert r"Ev[/]il [red]\x1b[2J\nDEPVT  Good" in table
