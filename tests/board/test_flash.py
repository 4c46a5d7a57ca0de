"""`plugvault flash` and `plugvault board` on the emulated Pico: from empty to a session."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from fixtures.flashing import FirstFlash, Record, patience
from plugvault.board import copying
from plugvault.board.bench import BoardBench
from plugvault.board.errors import DeviceError
from plugvault.board.flash import Flash, Wishes
from plugvault.board.folder import Boards
from plugvault.board.repl import Repl
from plugvault.cli.board import app
from plugvault.emulated_board import EmulatedBoard
from plugvault.tokens import probes, subprocess_probe

TIMEOUT = 600  # seconds, for a board that hangs
PARTS = (0.0, 0.5, 1.0)  # of the operation that a power cut leaves
APPEND = "f = open(%r, 'a')\nn = f.write(%r)\nf.close()"
REMOVE_STAGED = """
import os
for name in os.listdir("/"):
    if name.endswith(".new"):
        os.remove("/" + name)
"""
pytestmark = pytest.mark.xdist_group("board")


class Bench:
    """An emulated board, and the folder of this computer for it."""

    def __init__(self, board: EmulatedBoard, data: Path) -> None:
        self.board = board
        self.boards = Boards(data)

    def flash(self, record: Record | None = None, **wishes: Any) -> dict[str, Any]:
        """The record of one run."""
        port, link = self.board.wait_for_serial_port(), self.board.uart
        chosen = Wishes(port=port, link=link, **wishes)
        with Flash(self.boards, chosen, record or Record()) as run:
            run.run()
        return run.result

    def command(self, *arguments: str) -> Any:
        """The JSON of `plugvault board …`."""
        name, *rest = arguments
        ended = CliRunner().invoke(app, [name, "--json", "--data", str(self.boards.data), *rest])
        assert ended.exit_code == 0, ended.output
        return json.loads(ended.stdout)

    def status(self) -> dict[str, Any]:
        """The module's own answer over the link."""
        with BoardBench(self.boards.find(None, [])) as bench:
            return bench.status()

    def keys(self) -> list[str]:
        """The keys of cars in the board's token: "provisioning", or the id of a contract's."""
        token = self.boards.find(None, []).configuration()
        keys = subprocess_probe.run(
            probes.list_keys, location=token.location, pin=token.pin, provisioning=""
        )
        return [key["key"] for key in keys]

    def replace(self, path: str, data: bytes) -> None:
        """Change a file on the board."""
        with Repl(self.board.wait_for_serial_port()) as repl:
            repl.write(path, data)

    def append(self, path: str, text: str) -> None:
        """Append to a file on the board."""
        with Repl(self.board.wait_for_serial_port()) as repl:
            repl.run(APPEND % (path, text))


@pytest.fixture(scope="module")
def bench(first_flash: FirstFlash, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    """A flashed board, for all tests of this file."""
    flash = shutil.copyfile(first_flash.flash, tmp_path_factory.mktemp("bench") / "flash.bin")
    with patience(), EmulatedBoard(flash) as board:
        flashed = Bench(board, first_flash.data)
        known = flashed.boards.find(None, [])
        known.save(prompt=board.wait_for_serial_port(), link=board.uart)
        yield flashed


def test_empty_board_is_flashed_and_answers_over_the_link(first_flash: FirstFlash) -> None:
    record = first_flash.result
    assert record["board"]["machine"] == "Raspberry Pi Pico with RP2040"
    assert record["board"]["file_system"] == "littlefs"
    assert not record["board"]["frozen"]
    changed = record["files"]["changed"]
    assert {"boot.py", "main.py", "switch.py", "config.json", "vault-key"} <= set(changed)
    assert "evcc/module.mpy" in changed
    assert record["files"]["unchanged"] == 0
    assert record["status"]["runtime"].startswith("micropython")
    assert record["status"]["time"] > 1_700_000_000


def test_second_flash_copies_nothing(bench: Bench) -> None:
    record = Record()
    files = bench.flash(record)["files"]
    assert files["changed"] == files["removed"] == record.files == []
    assert files["bytes"] == 0


def test_changed_file_alone_is_copied_and_a_foreign_one_removed(bench: Bench) -> None:
    bench.replace("/evcc/ids.mpy", b"damaged")
    bench.replace("/evcc/old.mpy", b"of an earlier version")
    record = Record()
    files = bench.flash(record)["files"]
    assert files["changed"] == record.files == ["evcc/ids.mpy"]
    assert files["removed"] == ["evcc/old.mpy"]


def test_dry_run_writes_nothing_and_the_module_goes_on(bench: Bench) -> None:
    bench.replace("/evcc/old.mpy", b"of an earlier version")
    record = Record()
    before = bench.board.counters()["flash"]["operations"]
    result = bench.flash(record, dry_run=True)
    assert bench.board.counters()["flash"]["operations"] == before
    assert result["files"]["removed"] == ["evcc/old.mpy"]
    assert record.steps == ["board", "files"]
    assert bench.status()["runtime"].startswith("micropython")


def test_interrupt_in_the_middle_of_copying_leaves_the_old_module_running(bench: Bench) -> None:
    bench.append("/main.py", "# another version\n")
    bench.replace("/evcc/old.mpy", b"of an earlier version")

    def interrupt(path: str) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        bench.flash(Record(interrupt))
    assert bench.status()["runtime"].startswith("micropython")
    with Repl(bench.board.wait_for_serial_port()) as repl:
        main = copying.read(repl, "main.py")
        assert main is not None
        assert main.endswith(b"# another version\n")
    files = bench.flash()["files"]
    assert (files["changed"], files["removed"]) == (["main.py"], ["evcc/old.mpy"])
    assert files["bytes"] == 0  # it was there already, from before the interrupt


def test_both_ends_restart_in_the_middle_of_flashing(bench: Bench) -> None:
    """The process of `plugvault flash` is killed, and the board is reset at once."""
    bench.append("/boot.py", "# another version\n")
    bench.append("/main.py", "# another version\n")
    before = bench.board.counters()["flash"]["operations"]
    command = [sys.executable, "-m", "plugvault.cli.app", "flash", "--json", "--yes"]
    ports = ["--link", bench.board.uart, "--data", str(bench.boards.data)]
    with subprocess.Popen(
        [*command, bench.board.wait_for_serial_port(), *ports], stdout=subprocess.DEVNULL
    ) as process:
        deadline = time.monotonic() + TIMEOUT
        while bench.board.counters()["flash"]["operations"] == before:
            assert time.monotonic() < deadline
            time.sleep(0.02)
        process.kill()
    bench.board.reset()
    assert bench.status()["runtime"].startswith("micropython")
    assert bench.flash()["files"]["changed"] == ["boot.py", "main.py"]
    assert bench.flash()["files"]["changed"] == []


def change_three_files(bench: Bench) -> None:
    """The next flash replaces two of them and removes the third. The leftovers of an interrupted
    flash go, so that each flash begins with the same work."""
    with Repl(bench.board.wait_for_serial_port()) as repl:
        repl.run(REMOVE_STAGED)
        repl.write("/evcc/old.mpy", b"of an earlier version")
        for path in ("/boot.py", "/main.py"):
            repl.run(APPEND % (path, "# changed\n"))


def test_power_cut_while_flashing_leaves_a_module_that_answers(
    bench: Bench, some: Callable[[Sequence[Any], int], list[Any]], whole: bool
) -> None:
    points: list[tuple[int, float]] = [(1, 0.5), (12, 0.5), (30, 0.5)]
    if whole:
        change_three_files(bench)
        counting = Cutting(bench.board)
        bench.flash(counting)
        points = list(product(range(1, counting.operations + 1), PARTS))
    cuts = 0
    for operation, part in some(points, 1):
        change_three_files(bench)
        bench.board.cut_power(operation, part)
        try:
            bench.flash(Cutting(bench.board))  # at times littlefs takes an operation fewer
        except DeviceError as error:
            assert error.reason == "gone", (operation, part)
            cuts += 1
        finally:
            bench.board.keep_power()
            bench.board.power_on()
        assert bench.status()["runtime"].startswith("micropython"), (operation, part)
    assert cuts > 0.9 * len(points) if whole else cuts == 1
    bench.flash()
    assert bench.flash()["files"]["changed"] == []


class Cutting(Record):
    """A reporter of a run whose board loses its power: the second attempt finds it without.

    `operations`: of the flash, until the last file was in its place. A cut that has not come by
    then is cancelled, because the run would wait for the module's answer for half an hour.
    """

    def __init__(self, board: EmulatedBoard) -> None:
        super().__init__()
        self._board = board
        self._before = self._count()

    def _count(self) -> int:
        return int(self._board.counters()["flash"]["operations"])

    def step(self, name: str, text: str) -> None:
        super().step(name, text)
        if name == "again":
            raise DeviceError("gone", text)
        if name == "clock":
            self._board.keep_power()
            self.operations = self._count() - self._before


def test_life_of_a_board_by_commands(bench: Bench) -> None:
    car = bench.command("provision")
    assert car["pcid"].startswith("PVTP")
    assert car["anchors"] == 3
    assert bench.command("provision")["pcid"] == car["pcid"]
    assert bench.command("trust", "--region", "EU")["anchors"] == 3
    air = bench.command("install")
    station = bench.command("install", "--at-station")
    assert {air["custody"], station["custody"]} == {"L1+"}
    assert bench.command("authorize", "--emaid", air["emaid"])["emaid"] == air["emaid"]
    contracts = bench.command("contracts", "--choose", station["emaid"])
    assert {c["emaid"]: c["active"] for c in contracts} == {
        air["emaid"]: False,
        station["emaid"]: True,
    }
    assert bench.command("reset")["pcid"] == car["pcid"]
    charged = bench.command("authorize", "--charge", "DC", "--pause", "--timeouts", "50")
    assert charged["emaid"] == station["emaid"]
    parts = ["charging", "charged", "paused", "resumed", "charging", "charged"]
    assert charged["charge"] == parts
    (left,) = bench.command("contracts", "--remove", station["emaid"])
    assert left["emaid"] == air["emaid"]
    assert bench.command("list")["boards"][0]["pcid"] == car["pcid"]
    erased = bench.flash(erase_contracts=True)
    assert erased["erased"] == [air["emaid"]]
    assert erased["status"]["contracts"] == []
    assert erased["status"]["unnamed_keys"] == 0
    assert erased["status"]["pcid"] == car["pcid"]
    assert bench.keys() == ["provisioning"]
    again = bench.command("install")
    assert bench.command("authorize")["emaid"] == again["emaid"]
    assert bench.keys().count("provisioning") == 1
