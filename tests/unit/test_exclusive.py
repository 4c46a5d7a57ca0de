"""Ports, folders and files of one program alone: a second user gets a clear word."""

from __future__ import annotations

import os
import pty
import socket
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from evcc.ports import exclusive, serial
from evcc.ports.stream import PortError
from evcc.vault import VaultError
from plugvault import file_lock, runtimes, serial_port
from plugvault.campaign.adapters import _of_serial
from plugvault.campaign.cases import CampaignError
from plugvault.capture.writer import Capture
from plugvault.cases import catalogue, files
from plugvault.cases.files import CasesError
from plugvault.cases.pki import CasePki
from plugvault.cases.seed import Seed
from plugvault.cli.vehicle.garage import GarageError, folder_of
from plugvault.ecosystem import server
from plugvault.ecosystem.folder import making, sandbox_lock
from plugvault.link.endpoint import open_serial
from plugvault.station.server import _listen
from plugvault.vault_service import service
from world import NOW


@pytest.fixture
def tty() -> Iterator[str]:
    master, slave = pty.openpty()
    yield os.ttyname(slave)
    os.close(master)
    os.close(slave)


def in_use(port: str) -> None:
    """Each opener refuses the port."""
    for opener in (open_serial, serial.open_tty):
        with pytest.raises(PortError, match=f"unavailable: {port}: another pro"):
            opener(port)
    with pytest.raises(CampaignError, match=f"{port}: another program uses it"):
        _of_serial(port, 1.0)


@pytest.mark.parametrize("opener", [open_serial, serial.open_tty])
def test_serial_port_has_one_user_until_it_is_closed(opener: object, tty: str) -> None:
    assert callable(opener)
    port = opener(tty)
    in_use(tty)
    port.close()
    opener(tty).close()


@pytest.mark.parametrize("path", ["/dev/null", "/dev", __file__])
def test_a_file_that_is_no_serial_port_is_named_as_such(path: str) -> None:
    with pytest.raises(PortError, match="it is no serial port"):
        open_serial(path)
    with pytest.raises(CampaignError, match=f"serial:{path}: it is no serial port"):
        _of_serial(path, 1.0)


def test_a_device_that_takes_no_settings_is_no_serial_port(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(serial_port, "_DEVICES", tmp_path)  # a machine without /sys
    with pytest.raises(CampaignError, match="it is no serial port"):
        _of_serial("/dev/null", 1.0)
    with pytest.raises(CampaignError, match="nothing: No such file or directory"):
        _of_serial(str(tmp_path / "nothing"), 1.0)


def test_serial_port_of_a_campaign_has_one_user(tty: str) -> None:
    module = _of_serial(tty, 1.0)
    in_use(tty)
    module.close()
    open_serial(tty).close()


def holder(path: Path) -> str:
    """Python for any runtime: hold a folder, say the outcome, and wait for the end of stdin."""
    return (
        "import sys\nfrom evcc.ports import exclusive\n"
        f"try:\n    exclusive.hold_folder({str(path)!r})\n    print('held')\n"
        "except Exception as e:\n    print(e)\n"
        "sys.stdin.read()\n"
    )


@pytest.mark.parametrize("name", ["cpython", "debian", "debian32"])
def test_store_of_a_car_has_one_module_until_that_ends(name: str, tmp_path: Path) -> None:
    runtime = runtimes.get(name)
    if runtime is None:
        pytest.skip(f"{name} is not set up")
    command = [*runtime.argv, "-c", holder(tmp_path)]
    environment = {**runtime.env(), "PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(
        command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as module:
        assert module.stdout is not None
        assert module.stdout.readline() == b"held\n"
        with pytest.raises(PortError, match="another process uses it"):
            exclusive.hold_folder(str(tmp_path))
        second = subprocess.run(
            command, env=environment, input=b"", stdout=subprocess.PIPE, check=True
        )
        assert second.stdout.startswith(b"unavailable: " + os.fsencode(tmp_path))
        module.kill()
    third = subprocess.run(command, env=environment, input=b"", stdout=subprocess.PIPE, check=True)
    assert third.stdout == b"held\n"


@pytest.mark.parametrize("name", ["cpython", "debian", "debian32"])
def test_a_second_module_removes_nothing_that_the_first_is_writing(
    name: str, tmp_path: Path
) -> None:
    runtime = runtimes.get(name)
    if runtime is None:
        pytest.skip(f"{name} is not set up")
    store = tmp_path / "store"
    script = f"import main\ntry:\n    main._store({str(store)!r}, False)\n"
    script += "    print('opened')\nexcept Exception as e:\n    print(e)\n"
    command = [*runtime.argv, "-c", script]

    def second() -> bytes:
        return subprocess.run(
            command, env=runtime.env(), cwd=tmp_path, stdout=subprocess.PIPE, check=True
        ).stdout

    assert second() == b"opened\n"
    half_written = store / "contracts.new"
    half_written.write_bytes(b"half")
    descriptor = os.open(store, os.O_RDONLY)
    try:
        exclusive.hold(descriptor, "store")
        assert b"another process uses it" in second()
        assert half_written.exists()
    finally:
        os.close(descriptor)
    assert second() == b"opened\n"
    assert not half_written.exists()


@pytest.mark.parametrize("name", ["cpython", "debian", "debian32"])
def test_a_file_that_cannot_be_locked_is_not_said_to_be_in_use(name: str) -> None:
    runtime = runtimes.get(name)
    if runtime is None:
        pytest.skip(f"{name} is not set up")
    script = "from evcc.ports import exclusive\nexclusive.hold(99, 'store')\nprint('goes on')"
    command = [*runtime.argv, "-c", script]  # it has no file of this number
    ended = subprocess.run(command, env=runtime.env(), capture_output=True, check=True)
    assert ended.stdout == b"goes on\n"


def test_capture_file_has_one_writer_and_keeps_its_bytes(tmp_path: Path) -> None:
    path = tmp_path / "session.pcapng"
    with Capture(path) as capture:
        capture.keylog("CLIENT_RANDOM " + "0" * 64 + " " + "1" * 96)
        written = path.read_bytes(), capture.keys.read_bytes()
        with pytest.raises(OSError, match="another program captures to it"):
            Capture(path)
        assert (path.read_bytes(), capture.keys.read_bytes()) == written
    Capture(path).close()


def test_tcp_port_has_one_listener() -> None:
    for listen in (_listen, server.listen):
        with listen("127.0.0.1", 0) as first:
            for other in (_listen, server.listen):
                with pytest.raises(OSError, match="Address already in use"):
                    other("127.0.0.1", first.getsockname()[1])


def test_data_folder_has_one_sandbox(tmp_path: Path) -> None:
    """The other command may be a station that is starting."""
    for use in (sandbox_lock, making):
        with use(tmp_path), pytest.raises(OSError, match="another command is using it, such as"):  # noqa: SIM117
            with sandbox_lock(tmp_path):
                pass


def test_only_one_service_at_a_time_looks_for_a_dead_ones_socket(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two that looked at once would both find it dead, and remove each other's."""
    take_over = service._take_over

    def looking(path: Path) -> socket.socket:
        with pytest.raises(TimeoutError):
            file_lock.acquire(path.parent, timeout=0)
        return take_over(path)

    monkeypatch.setattr(service, "_take_over", looking)
    path = tmp_path / "run" / "vault"
    service._listen(path).close()  # as after a kill: the socket's file stays
    with (
        service._listen(path),
        pytest.raises(VaultError, match=f"another service listens at {path}"),
    ):
        service._listen(path)


def test_a_kept_vehicle_is_for_one_command(tmp_path: Path) -> None:
    options: Any = SimpleNamespace(keep=tmp_path / "vehicle")
    with ExitStack() as first, ExitStack() as second:
        kept = folder_of(first, options)
        with pytest.raises(GarageError, match="another `plugvault vehicle` uses"):
            folder_of(second, options)
        first.close()
        assert folder_of(second, options) == kept


def test_a_folder_of_cases_is_made_by_one_command(tmp_path: Path) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    certificate = CasePki(Seed(9), int(NOW)).oem_sub2.issue("PVTP0000000000001", dc="OEM", key=key)
    folder = tmp_path / "cases"
    folder.mkdir()
    chosen = catalogue.select("EN-001")
    with (
        file_lock.locked(folder),
        pytest.raises(CasesError, match="another command makes cases in"),
    ):
        files.make(folder, certificate.certificate, chosen, 1, int(NOW))
    assert list(folder.iterdir()) == []
    files.make(folder, certificate.certificate, chosen, 1, int(NOW))
