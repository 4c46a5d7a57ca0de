"""The maker's commands for a board without the contract that they need, and with a lost line."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from typer.testing import CliRunner

from evcc.ids import IdError
from fixtures.unix_board import PICO
from plugvault.board import maker as maker_module
from plugvault.board.errors import DeviceError
from plugvault.board.folder import Boards
from plugvault.board.maker import BoardMaker, ecosystem
from plugvault.cli import app
from plugvault.cli import board as board_command
from plugvault.link.bench import BenchError
from plugvault.roles import health
from plugvault.telematics import TelematicsError

KEY = b"\x04" + bytes(64)
EMAID, OTHER = "DEPVAC59KZ6LZPZ", "DEPVAC00000000X"
LIST = "`plugvault board contracts` lists its contracts"


class Bench:
    """A bench whose module has these contracts, and refuses each session with these events."""

    def __init__(self, contracts: list[str], *events: tuple[str, str]) -> None:
        self._contracts, self._events = contracts, list(events)
        self.bench = SimpleNamespace(failure=None)

    def status(self) -> dict[str, Any]:
        return {
            "pcid": "WVWP0000000000000",
            "certified": True,
            "contracts": [{"emaid": emaid} for emaid in self._contracts],
        }

    def charge(self, *arguments: object, **wishes: object) -> list[tuple[str, str]]:
        return self._events


class Station:
    """A station that no vehicle reaches."""

    def __init__(self, *arguments: object) -> None:
        self.records: list[Any] = []

    @contextlib.contextmanager
    def in_thread(self) -> Iterator[tuple[str, int]]:
        yield "::1", 1


@pytest.fixture
def boards(tmp_path: Path, softhsm: Path) -> Boards:
    return Boards(tmp_path / "data")


def maker(boards: Boards, bench: Bench, monkeypatch: pytest.MonkeyPatch) -> BoardMaker:
    """The maker of a board behind this bench."""
    monkeypatch.setattr(maker_module, "Station", Station)
    cpo = SimpleNamespace(roots=list, fetch_contract=None)
    world = SimpleNamespace(
        telematics_key=SimpleNamespace(point=KEY),
        cpo=cpo,
        station_tls=lambda: None,
        v2g_root=b"",
        oem=None,
    )
    board = boards.make(PICO).save(maker=KEY.hex())
    return BoardMaker(world, board, bench)  # type: ignore[arg-type]


def test_session_of_a_board_without_a_contract_ends_with_the_command_that_installs_one(
    boards: Boards, monkeypatch: pytest.MonkeyPatch
) -> None:
    failed = ("failed", "response-code")
    with pytest.raises(DeviceError) as caught:
        maker(boards, Bench([], failed), monkeypatch).authorize(None)
    assert caught.value.detail.startswith(
        "the board has no contract. `plugvault board install` makes and installs one. ("
    )
    assert "failed response-code" in caught.value.detail


def test_session_with_a_contract_that_the_board_lacks_ends_with_its_name(
    boards: Boards, monkeypatch: pytest.MonkeyPatch
) -> None:
    failed = ("failed", "no-contract")
    with pytest.raises(DeviceError) as caught:
        maker(boards, Bench([EMAID], failed), monkeypatch).authorize(OTHER)
    assert caught.value.detail.startswith(f"the board has no contract {OTHER}. {LIST}")


def test_session_that_fails_for_another_reason_keeps_its_words(
    boards: Boards, monkeypatch: pytest.MonkeyPatch
) -> None:
    failed = ("failed", "timeout")
    with pytest.raises(DeviceError, match=r"^state: no 'authorized'"):
        maker(boards, Bench([EMAID], failed), monkeypatch).authorize(EMAID)


@pytest.mark.parametrize("name", ["choose", "remove"])
def test_contract_that_cannot_be_chosen_or_removed_is_named_with_the_command_that_lists_them(
    name: str, boards: Boards, monkeypatch: pytest.MonkeyPatch
) -> None:
    board_maker = maker(boards, Bench([EMAID]), monkeypatch)

    def refuse(emaid: str) -> None:
        raise TelematicsError("refused", "not-found")

    def wrong(pcid: str, emaid: str) -> None:
        if emaid == "WRONG":
            raise IdError("length", "an EMAID has 14 or 15 characters")

    backend = SimpleNamespace(choose=wrong, remove=wrong)
    car = SimpleNamespace(choose_contract=refuse, remove_contract=refuse)
    monkeypatch.setattr(board_maker, "_backend", lambda: contextlib.nullcontext(backend))
    monkeypatch.setattr(board_maker, "connect", lambda: car)
    with pytest.raises(DeviceError) as caught:
        getattr(board_maker, name)(OTHER)
    assert str(caught.value) == f"state: the board has no contract {OTHER}. {LIST}"
    with pytest.raises(DeviceError) as caught:
        getattr(board_maker, name)("WRONG")
    text = f"config: 'WRONG': an EMAID has 14 or 15 characters. {LIST}"
    assert str(caught.value) == text


def test_lost_line_is_told_by_the_command_and_not_by_the_log_too(
    boards: Boards, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    bench = Bench([])
    monkeypatch.setattr(
        maker_module, "Backend", lambda *arguments: contextlib.nullcontext(health.Health())
    )
    with caplog.at_level(logging.WARNING), maker(boards, bench, monkeypatch)._backend() as teller:
        bench.bench.failure = BenchError("lost", "the board has ended")
        teller.tell(health.GONE, "WVWP", str(bench.bench.failure))  # type: ignore[attr-defined]
        teller.tell(health.GONE, "WVWP", "another error")  # type: ignore[attr-defined]
    assert caplog.messages == ["WVWP: gone: another error"]
    assert health.log.filters == []


HOLDING = """
import sys, time
from pathlib import Path
from plugvault import file_lock
with file_lock.locked(Path(sys.argv[1])):
    print("locked", flush=True)
    time.sleep(600)
"""


@contextlib.contextmanager
def another_command(folder: Path) -> Iterator[str]:
    """The number of another process that holds the lock of this folder."""
    command = [sys.executable, "-c", HOLDING, str(folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout
            assert process.stdout.readline() == "locked\n"
            yield str(process.pid)
        finally:
            os.kill(process.pid, signal.SIGKILL)


def test_command_that_another_one_keeps_out_names_its_process_and_the_next_step(
    boards: Boards,
) -> None:
    board = boards.make(PICO)
    with another_command(board.folder) as number, pytest.raises(DeviceError) as caught:
        board.locked().__enter__()
    assert f"(process {number}: -c " in caught.value.detail
    assert caught.value.detail.endswith(": wait for its end")
    with another_command(boards.data) as number, pytest.raises(DeviceError) as caught:
        ecosystem(boards.data).__enter__()
    assert f"(process {number}: -c " in caught.value.detail
    assert caught.value.detail.endswith(": wait for its end, or end it")


def test_custody_in_the_status_is_that_of_the_provisioning_key(
    boards: Boards, monkeypatch: pytest.MonkeyPatch
) -> None:
    boards.make(PICO).save(link="unix://link", maker=KEY.hex())
    status = {"runtime": "micropython", "contracts": [], "vault": "pkcs11"}

    @contextlib.contextmanager
    def bench(board: object) -> Iterator[Any]:
        yield SimpleNamespace(status=lambda: status, board=board)

    monkeypatch.setattr(board_command, "BoardBench", bench)
    for custody, shown in (("L3", "L3, of the provisioning key"), (None, "-")):
        status["custody"] = custody  # type: ignore[assignment]
        arguments = ["status", "--data", str(boards.data)]
        text = CliRunner().invoke(board_command.app, arguments).stdout
        assert f"custody     {shown}\n" in text


@pytest.mark.parametrize(
    "options",
    [
        ["--board", "simulated", "--link", "tcp"],
        ["--board", "simulated", "--link", "serial"],
        ["--board", "unix://prompt", "--runtime", "cpython"],
        ["--board-link", "unix://link"],
        ["--board", "simulated", "--board-link", "unix://link"],
    ],
)
def test_demo_refuses_options_that_have_no_effect_on_a_board(
    options: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        app.main(["demo", *options])
    assert caught.value.code == 2
    assert "--board" in capsys.readouterr().err
