"""The emulated board against what is known of the real chip: the data sheets of the RP2040, of the
PL011 and of the flash W25Q16JV say each figure here."""

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import serial

from fixtures.board import mpremote
from plugvault.emulated_board import EmulatedBoard

pytestmark = pytest.mark.xdist_group("board")

TIMEOUT = 600.0  # seconds, for a board that hangs
FIFO = 32  # bytes, RP2040 data sheet 4.2
SECTOR_ERASE_MS = 45  # typical, W25Q16JV data sheet 9.6
PAGE_PROGRAM_MS = 0.4


@pytest.fixture(scope="module")
def board(empty_flash: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmulatedBoard]:
    flash = tmp_path_factory.mktemp("chip") / "flash.bin"
    flash.write_bytes(empty_flash.read_bytes())
    with EmulatedBoard(flash) as board:
        yield board


def run(board: EmulatedBoard, code: str) -> list[str]:
    """The words that `code` prints on the board."""
    return mpremote(board, "exec", code).split()


def test_uart_carries_every_byte_both_ways(board: EmulatedBoard) -> None:
    """The interrupts of the receiver and of the transmitter, 3 KB each way."""
    data = bytes(range(256)) * 12
    run(board, "from machine import UART; u = UART(1, 115200, rxbuf=4096)")
    lost = board.counters()["uart"]["lost"]
    with serial.Serial(board.uart, timeout=TIMEOUT) as line:
        line.reset_input_buffer()
        line.write(data)
        script = (
            f"got = b''\nwhile len(got) < {len(data)}:\n    got += u.read() or b''\n"
            "n = 0\nwhile n < len(got):\n    n += u.write(got[n:]) or 0\n"
        )
        mpremote(board, "resume", "exec", script)
        assert line.read(len(data)) == data
    assert board.counters()["uart"]["lost"] == lost


def test_uart_keeps_32_bytes_while_interrupts_are_off(board: EmulatedBoard) -> None:
    """100 bytes come in 8.7 ms without interrupts: all but the FIFO's are lost."""
    script = (
        "import machine, time\nfrom machine import UART, mem32\n"
        "u = UART(1, 115200, rxbuf=4096)\nstate = machine.disable_irq()\n"
        "mem32[0x40038000] = 33\n"  # one byte out: the other end may begin
        "while mem32[0x40038018] & 0x10: pass\n"  # the FIFO is empty
        "time.sleep_us(10000)\nmachine.enable_irq(state)\n"
        "time.sleep_ms(20)\nprint(len(u.read()))\n"
    )
    before = board.counters()["uart"]
    with serial.Serial(board.uart, timeout=TIMEOUT) as line, ThreadPoolExecutor(1) as other:
        line.reset_input_buffer()
        output = other.submit(mpremote, board, "exec", script)
        assert line.read(1) == b"!"
        line.write(bytes(100))
        assert int(output.result()) == FIFO
    after = board.counters()["uart"]
    assert after["received"] - before["received"] == FIFO
    assert after["lost"] - before["lost"] == 100 - FIFO


def test_byte_on_the_uart_takes_ten_bits(board: EmulatedBoard) -> None:
    script = (
        "from machine import UART\nimport time\nu = UART(1, 9600)\n"
        "start = time.ticks_us()\nu.write(bytes(96))\nu.flush()\n"
        "print(time.ticks_diff(time.ticks_us(), start))"
    )
    microseconds = int(run(board, script)[-1])
    assert microseconds == pytest.approx(96 * 10 / 9600 * 1e6, rel=0.02)


def test_flash_takes_the_time_of_its_data_sheet(board: EmulatedBoard) -> None:
    script = (
        "import rp2, time\nflash = rp2.Flash()\n"
        "def took(work):\n"
        "    start = time.ticks_us()\n    work()\n"
        "    return time.ticks_diff(time.ticks_us(), start) / 1000\n"
        "last = flash.ioctl(4, 0) - 1\n"
        "print(took(lambda: flash.ioctl(6, last)))\n"
        "print(took(lambda: flash.writeblocks(last, bytes(256), 0)))\n"
    )
    before = board.counters()["flash"]
    erase, program = map(float, run(board, script))
    after = board.counters()["flash"]
    assert SECTOR_ERASE_MS < erase < SECTOR_ERASE_MS + 2
    assert PAGE_PROGRAM_MS < program < PAGE_PROGRAM_MS + 2
    assert after["erases"] - before["erases"] == 1
    assert after["programs"] - before["programs"] == 1


def test_flash_only_clears_bits_until_it_is_erased(board: EmulatedBoard) -> None:
    script = (
        "import rp2\nflash = rp2.Flash()\nlast = flash.ioctl(4, 0) - 1\nread = bytearray(256)\n"
        "flash.ioctl(6, last)\n"
        "for value in (0xf0, 0x3c):\n    flash.writeblocks(last, bytes([value] * 256), 0)\n"
        "flash.readblocks(last, read, 0)\nprint(read[0], read[255])\n"
        "flash.ioctl(6, last)\nflash.readblocks(last, read, 0)\nprint(read[0])\n"
    )
    assert run(board, script) == [str(0xF0 & 0x3C)] * 2 + ["255"]


def test_watchdog_resets_a_busy_board_once_and_is_the_reason(board: EmulatedBoard) -> None:
    resets = board.counters()["resets"]
    script = "import machine\nmachine.WDT(timeout=500)\nwhile True: pass"
    mpremote(board, "exec", "--no-follow", script)
    deadline = time.monotonic() + TIMEOUT
    while board.counters()["resets"] == resets:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    scratch = "hex(machine.mem32[0x4005801c])"  # the SDK's mark of a watchdog, data sheet 4.7
    output = mpremote(board, "exec", f"import machine; print(machine.reset_cause(), {scratch})")
    assert output == "3 0x6ab73121\n"
    assert board.counters()["resets"] == resets + 1
    board.reset()  # by the button, which forgets the watchdog
    assert mpremote(board, "exec", "import machine; print(machine.reset_cause())") == "1\n"


def test_stack_mark_is_as_deep_as_the_recursion(board: EmulatedBoard) -> None:
    deep = "def f(n):\n    return n and f(n - 1)\nf({})"
    depths = []
    for calls in (1, 8):
        mpremote(board, "exec", "1")
        board.mark_stack()
        mpremote(board, "resume", "exec", deep.format(calls))
        depths.append(board.counters()["stack"]["deepest"])
    assert depths[0] < depths[1] < board.counters()["stack"]["size"]
