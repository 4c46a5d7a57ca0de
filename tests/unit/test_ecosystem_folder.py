"""The folder of an ecosystem: private to its owner, and reused by the next start."""

from __future__ import annotations

import json
import stat
import threading
from contextlib import ExitStack
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from evcc.vault import VaultError
from plugvault import file_lock
from plugvault.ecosystem import CALLERS, Ecosystem
from plugvault.ecosystem import folder as folder_module
from plugvault.ecosystem.authorities import LABELS, SOON, Authorities
from plugvault.ecosystem.folder import Folder, FolderError, making, sandbox_lock, write
from plugvault.pki import path
from world import DAY, NOW

OCSP = "http://127.0.0.1/ocsp"


def start(directory: Path, softhsm: Path, now: float = NOW, **options: bool) -> Authorities:
    with ExitStack() as stack:
        folder = Folder(directory, softhsm)
        return Authorities(folder, folder.tokens(stack, *LABELS), now, OCSP, **options)


def leaves(pki: Authorities) -> dict[str, bytes]:
    certificates = {name: getattr(pki, name).root for name in ("vehicles", "operator", "hosted")}
    keys = {
        f"{token} {key.label}": key.public_key().public_bytes(
            Encoding.DER, PublicFormat.SubjectPublicKeyInfo
        )
        for token, owned in pki.keys.items()
        for key in owned
    }
    return {**certificates, **keys, "cps": pki.cps.certificate, "station": pki.station.certificate}


def test_a_second_start_takes_up_tokens_keys_and_certificates(tmp_path: Path, softhsm: Path):
    first = start(tmp_path / "eco", softhsm)
    pins = [Folder(tmp_path / "eco", softhsm).pin(label) for label in LABELS]
    second = start(tmp_path / "eco", softhsm)
    assert leaves(second) == leaves(first)
    assert first.issued
    assert second.issued == []
    assert [Folder(tmp_path / "eco", softhsm).pin(label) for label in LABELS] == pins


def test_a_certificate_that_ends_soon_is_issued_anew_for_the_same_key(
    tmp_path: Path, softhsm: Path
):
    first = start(tmp_path / "eco", softhsm)
    second = start(tmp_path / "eco", softhsm, NOW + 90 * DAY - SOON)
    assert len(second.issued) == 2  # the leaves of CPS and station; the CAs have years to go
    assert second.cps.certificate != first.cps.certificate
    assert second.cps.key.public_key() == first.cps.key.public_key()


def test_a_process_that_may_not_issue_uses_the_certificates_as_they_are(
    tmp_path: Path, softhsm: Path
):
    with pytest.raises(VaultError, match="not-found"):
        start(tmp_path / "eco", softhsm, issues=False)
    first = start(tmp_path / "eco", softhsm)
    assert start(tmp_path / "eco", softhsm, issues=False).untimely == []
    for ahead in (90 * DAY - SOON, -DAY):
        second = start(tmp_path / "eco", softhsm, NOW + ahead, issues=False)
        assert leaves(second) == leaves(first)
        assert {"cps-leaf", "cpo-leaf"} <= set(second.untimely)
        assert second.issued == []


def test_the_newer_edition_has_cas_of_its_own_and_keeps_them(short_dir: Path, softhsm: Path):
    first = start(short_dir / "eco", softhsm, edition20=True)
    curves = [path.curve(path.check_root(environment.root, NOW)) for environment in first.newer]
    assert curves == ["secp521r1", "ed448"]
    assert {name for name in first.enrolment if "/" in name} == {
        f"{kind}/secp521r1" for kind in ("cps", "cpo", "mo", "oem", "veh")
    }
    for name, authority in first.enrolment.items():
        newer = "/" in name
        assert (authority.scheme.name == "secp521r1") == newer
        assert (authority.root == first.newer[0].root) == newer
    second = start(short_dir / "eco", softhsm)
    assert leaves(second) == leaves(first)
    assert [environment.root for environment in second.newer] == [
        environment.root for environment in first.newer
    ]


def test_an_interrupted_start_is_finished_by_the_next(
    tmp_path: Path, softhsm: Path, monkeypatch: pytest.MonkeyPatch
):
    keep, count = Folder.store_certificate, []

    def fail_at_the_fifth(self: Folder, name: str, certificate: bytes) -> None:
        count.append(name)
        if len(count) == 5:
            raise OSError("no room")
        keep(self, name, certificate)

    with monkeypatch.context() as patch:
        patch.setattr(Folder, "store_certificate", fail_at_the_fifth)
        with pytest.raises(OSError, match="no room"):
            start(tmp_path / "eco", softhsm)
    second = start(tmp_path / "eco", softhsm)
    assert leaves(start(tmp_path / "eco", softhsm)) == leaves(second)


def test_secrets_are_for_the_owner_alone(tmp_path: Path, softhsm: Path):
    folder = tmp_path / "eco"
    folder.mkdir(mode=0o755)
    start(folder, softhsm)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert stat.S_IMODE((folder / "secrets.json").stat().st_mode) == 0o600
    pins = [Folder(folder, softhsm).pin(label).encode() for label in LABELS]
    tell = [file for file in folder.rglob("*") if file.is_file() and has(file, pins)]
    assert tell == [folder / "secrets.json"]


def has(file: Path, words: list[bytes]) -> bool:
    content = file.read_bytes()
    return any(word in content for word in words)


def test_a_shared_folder_with_other_files_is_refused_and_stays_shared(
    tmp_path: Path, softhsm: Path
):
    shared, empty = tmp_path / "shared", tmp_path / "empty"
    for folder in (shared, empty):
        folder.mkdir()
        folder.chmod(0o1777)
    (shared / "file").write_text("of another user")
    with pytest.raises(FolderError, match="foreign"):
        Folder(shared, softhsm)
    assert stat.S_IMODE(shared.stat().st_mode) == 0o1777
    assert [file.name for file in shared.iterdir()] == ["file"]
    Folder(empty, softhsm)
    assert stat.S_IMODE(empty.stat().st_mode) == 0o700


@pytest.mark.parametrize("content", ["", "not JSON", "[]", '{"pins": "1234"}'])
def test_a_folder_of_no_known_plugvault_is_refused_with_words_and_left(
    tmp_path: Path, content: str
):
    file = tmp_path / "secrets.json"
    file.write_text(content)
    with pytest.raises(FolderError, match="of no known plugvault, or damaged") as caught:
        Folder(tmp_path)
    assert str(file) in caught.value.detail
    assert "1234" not in str(caught.value)
    assert file.read_text() == content


def test_a_start_beside_a_sandbox_issues_nothing_and_writes_no_secret(
    short_dir: Path, softhsm: Path
):
    folder = short_dir / "eco"
    with Ecosystem(folder, softhsm, clock=lambda: NOW) as world:
        before = world.station.certificate
    secrets = (folder / "secrets.json").read_bytes()
    with (
        sandbox_lock(folder),
        Ecosystem(folder, softhsm, clock=lambda: NOW + 90 * DAY - SOON) as world,
    ):
        assert world.station.certificate == before
    assert (folder / "secrets.json").read_bytes() == secrets
    with Ecosystem(folder, softhsm, clock=lambda: NOW + 90 * DAY - SOON) as world:
        assert world.station.certificate != before


def make_clients(folder: Path, count: int) -> None:
    clients = {caller.name: ["id", "secret"] for caller in CALLERS[:count]}
    write(folder / "secrets.json", json.dumps({"clients": clients}).encode())


def test_a_first_start_waits_for_another_one_that_makes_the_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    folder = tmp_path / "eco"
    with sandbox_lock(folder):
        monkeypatch.setattr(folder_module, "PATIENCE", 0.2)
        for made in range(len(CALLERS)):  # the maker of the folder stores one after the other
            make_clients(folder, made)
            with pytest.raises(OSError, match="another process is making it"), making(folder):
                pass
        assert not caplog.messages
        monkeypatch.setattr(folder_module, "PATIENCE", 20.0)
        monkeypatch.setattr(file_lock, "SILENCE", 0.1)
        maker = threading.Timer(0.6, make_clients, (folder, len(CALLERS)))
        maker.start()
        with making(folder) as issues:
            assert not issues
        maker.join()
    assert caplog.messages == [f"another process is making {folder}: waiting up to 20 s for it"]
    with making(folder) as issues:
        assert issues
