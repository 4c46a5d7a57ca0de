"""The vault service's record of envelopes: its folder, and the lifting of a lock."""

import fcntl
import json
import os
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

import envelopes
from evcc.vault import PROVISIONING, VaultError, service
from fixtures.disks import token_folder
from fixtures.tokens import CarToken
from plugvault.tokens.location import TokenLocation
from plugvault.tokens.selection import TokenConfiguration
from plugvault.vault_service import envelopes as records
from plugvault.vault_service.envelopes import EnvelopeRecords, Record, records_of
from plugvault.vault_service.service import VaultService, status_of

COMMAND = [sys.executable, "-m", "plugvault.cli.app", "vault"]
CAR = b"\4" + bytes(64)


def point(n: int) -> bytes:
    return b"\4" + n.to_bytes(64, "big")


def mismatch(vault: service.ServiceVault) -> None:
    bad = envelopes.envelope(vault.public(PROVISIONING), 7, vault.public(PROVISIONING))
    with pytest.raises(VaultError, match=r"^key-mismatch"):
        vault.open_contract_key(*bad.values())


def run(*arguments: object, code: int = 0) -> str:
    ended = subprocess.run(
        [*COMMAND, *map(str, arguments)], capture_output=True, text=True, check=False
    )
    assert ended.returncode == code, ended.stdout + ended.stderr
    assert "Traceback" not in ended.stderr
    return ended.stdout + ended.stderr * bool(code)


# Where it is


def test_record_is_with_the_tokens_own_files(each_token: CarToken) -> None:
    each_token.add("another")
    location = each_token.location
    with closing(each_token.open()) as vault:
        folder = records_of(vault, location).folder
    assert folder.name == "plugvault"
    if location.conf:
        assert (folder.parent / "token.object").read_bytes().count(b"car" + b" " * 29) == 1
    else:
        assert folder.parent == each_token.folder / "hsm" / "car"


def test_record_of_another_library_is_in_the_users_state(
    car_token: CarToken, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With SoftHSM's default configuration the record is in the user's state folder."""
    car_token.add("another")
    home = car_token.folder / "home"
    monkeypatch.setenv("XDG_STATE_HOME", str(home))
    monkeypatch.setenv("SOFTHSM2_CONF", str(car_token.conf))
    folders = set()
    for label in ("car", "another"):
        socket = car_token.folder / "run" / "v"
        location = TokenLocation(Path(car_token.module), label)
        with VaultService(TokenConfiguration(location, car_token.pin), socket) as running:
            vault = running.client()
            case = envelopes.envelope(vault.generate_provisioning_key(), 7)
            vault.open_contract_key(*case.values())
            folders.add(status_of(socket)["state"])
    assert {Path(folder).parent for folder in folders} == {home / "plugvault"}
    assert len(folders) == 2
    assert sorted(folder.name for folder in home.glob("plugvault/*/*")) == ["envelopes"] * 2
    assert (home / "plugvault").stat().st_mode & 0o077 == 0


def test_record_is_in_the_configured_folder(car_token: CarToken) -> None:
    state = car_token.folder / "state"
    with car_token.service(state=state) as running:
        vault = running.client()
        vault.generate_provisioning_key()
        mismatch(vault)
        (file,) = state.glob("*/envelopes")
        assert status_of(running.socket_path)["state"] == str(file.parent)
    pin = car_token.folder / "pin"
    pin.write_text(car_token.pin)
    pin.chmod(0o600)
    output = run(
        "unlock", "--token", "car", "--conf", car_token.conf, "--pin", f"file:{pin}",
        "--state", state, "--json",
    )  # fmt: skip
    assert json.loads(output) == [{"owner": "", "mismatches": 1}]


def test_place_that_cannot_be_made_is_named_at_the_start(car_token: CarToken) -> None:
    file = car_token.folder / "file"
    file.write_text("")
    with (
        pytest.raises(VaultError, match=r"no place for the record.*state="),
        car_token.service(state=file),
    ):
        pass


def test_token_that_is_away_gets_no_folder_in_its_place(car_token: CarToken) -> None:
    with car_token.service() as running:
        vault = running.client()
        case = envelopes.envelope(vault.generate_provisioning_key(), 7)
        home = token_folder(car_token)
        away = home.rename(car_token.folder / "away")
        with pytest.raises(VaultError, match=r"^token-missing"):
            vault.open_contract_key(*case.values())
        assert not home.exists()
        away.rename(home)


# How a lock is lifted


def test_owner_of_the_token_lifts_a_lock_and_seen_envelopes_stay_seen(
    each_token: CarToken,
) -> None:
    location, pin = each_token.location, each_token.folder / "pin"
    pin.write_text(each_token.pin)
    pin.chmod(0o600)
    named: list[object] = ["--token", "car", "--pin", f"file:{pin}", "--module", location.module]
    named += ["--conf", location.conf] if location.conf else ["--options", location.options]
    with each_token.service() as running:
        cars = [running.client(), running.client()]
        cars[1].claim(b"neighbor")
        for car in cars:
            case = envelopes.envelope(car.generate_provisioning_key(), 7)
            car.open_contract_key(*case.values())
            for _ in range(5):
                mismatch(car)
            with pytest.raises(VaultError, match=r"^locked"):
                car.open_contract_key(*envelopes.envelope(car.public(PROVISIONING), 9).values())
        output = run("service", "--socket", running.socket_path)
        assert "openings_per_hour: any number" in output
        assert output.count("True") == 2
        only = run("unlock", *named, "--owner", b"neighbor".hex(), "--json")
        assert json.loads(only) == [{"owner": b"neighbor".hex(), "mismatches": 5}]
        owners = json.loads(run("service", "--socket", running.socket_path, "--json"))["owners"]
        assert [owners[owner]["locked"] for owner in ("", b"neighbor".hex())] == [True, False]
        assert "none" in run("unlock", *named)
        for car in cars:
            fresh = envelopes.envelope(car.public(PROVISIONING), 9)
            assert len(car.open_contract_key(*fresh.values())) == 16
            with pytest.raises(VaultError, match=r"^seen"):
                car.open_contract_key(*{**fresh, "public": case["public"]}.values())
        assert "no record" in run("unlock", *named, "--owner", "00" * 8, code=1)
        pin.write_text("not-the-pin")
        run("unlock", *named, code=1)


def test_no_client_can_lift_a_lock() -> None:
    assert [name for name, _ in service.OPERATIONS if "lock" in name] == []


# The record itself


def test_request_is_on_the_disk_before_the_token_is_called(short_dir: Path) -> None:
    record = EnvelopeRecords(short_dir / "r").of(b"")
    record.ask(CAR, point(1), b"w", b"leaf")
    again = EnvelopeRecords(short_dir / "r").of(b"")
    with pytest.raises(VaultError, match=r"^seen"):
        again.ask(CAR, point(1), b"other", b"leaf")


def test_record_that_is_full_takes_no_more_and_forgets_nothing(
    short_dir: Path,
) -> None:
    record = Record(short_dir, "envelopes", room=3)
    for n in range(3):
        record.ask(CAR, point(n << 256), b"w", b"leaf")
    with pytest.raises(VaultError, match=r"^full: 3 envelopes"):
        record.ask(CAR, point(9 << 256), b"w", b"leaf")
    for n in range(3):
        record.ask(CAR, point(n << 256), b"w", b"leaf")
        with pytest.raises(VaultError, match=r"^seen"):
            record.ask(CAR, point(n << 256), b"W", b"leaf")


def test_record_has_room_for_a_thousand_envelopes_in_one_file(short_dir: Path) -> None:
    full = records.Envelopes(records.ROOM)
    for n in range(records.ROOM):
        full.add(CAR, point(n << 256), b"w", b"leaf")
    (short_dir / "envelopes").write_bytes(records.pack([full.packed()]))
    record = EnvelopeRecords(short_dir).of(b"")
    assert record.status() == {"envelopes": 1024, "mismatches": 0, "locked": False}
    record.mismatched(point(5 << 256))
    assert EnvelopeRecords(short_dir).of(b"").status()["mismatches"] == 1


def test_record_that_another_process_keeps_to_itself_is_not_waited_for_without_end(
    short_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(records, "_LOCK_TIMEOUT", 0.01)
    descriptor = os.open(short_dir, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        with pytest.raises(VaultError, match=r"^unavailable: another process"):
            EnvelopeRecords(short_dir).of(b"").ask(CAR, point(1), b"w", b"leaf")
    finally:
        os.close(descriptor)
    EnvelopeRecords(short_dir).of(b"").ask(CAR, point(1), b"w", b"leaf")


def test_write_that_fails_is_no_write(short_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The token is not asked then; and the next time it is written."""
    record = EnvelopeRecords(short_dir).of(b"")
    record.ask(CAR, point(1 << 256), b"w", b"leaf")
    write, tries = records.Files.write, [0]

    def fails(self: Any, name: str, data: bytes) -> None:
        tries[0] += 1
        if tries[0] == 1:
            raise records.StoreError("full", name)
        write(self, name, data)

    monkeypatch.setattr(records.Files, "write", fails)
    with pytest.raises(VaultError, match=r"^full"):
        record.ask(CAR, point(2 << 256), b"w", b"leaf")
    assert EnvelopeRecords(short_dir).of(b"").status()["envelopes"] == 1
    record.ask(CAR, point(2 << 256), b"w", b"leaf")
    assert EnvelopeRecords(short_dir).of(b"").status()["envelopes"] == 2


def test_owners_are_listed_by_their_files(short_dir: Path) -> None:
    stored = EnvelopeRecords(short_dir / "none")
    assert stored.owners() == []
    stored = EnvelopeRecords(short_dir)
    for owner in (b"", b"neighbor"):
        stored.of(owner).ask(CAR, point(1), b"w", b"leaf")
    (short_dir / "envelopes-12").touch()
    (short_dir / "envelopes-neighbor").touch()
    assert stored.owners() == [b"", b"neighbor"]
