"""The pins of each kind of board: its link, and the hold of main.py."""

from evcc.ports import pins

BOARDS = (
    ("rp2", "Raspberry Pi Pico with RP2040", (1, 4, 5, 22)),
    ("rp2", "Raspberry Pi Pico2 with RP2350-RISCV", (1, 4, 5, 22)),
    ("esp32", "Generic ESP32 module with ESP32", (1, 17, 18, 0)),
    ("esp32", "Generic ESP32S2 module with ESP32S2", (1, 17, 18, 0)),
    ("esp32", "Generic ESP32S3 module with Octal-SPIRAM with ESP32S3", (1, 17, 18, 0)),
    ("esp32", "ESP32C3 module with ESP32C3", (1, 4, 5, 9)),
    ("esp32", "ESP32C6 module with ESP32C6", (1, 4, 5, 9)),
    ("pyboard", "PYBv1.1 with STM32F405RG", (6, None, None, None)),
    ("pyboard", "PYBD-SF6W with STM32F767IIK", (1, None, None, None)),
)


def test_link_and_hold_have_the_pins_of_the_board():
    for platform, machine, expected in BOARDS:
        assert pins.of_board(platform, machine) == expected, machine


def test_unknown_board_has_no_pins():
    assert pins.of_board("mimxrt", "Teensy 4.0 with MIMXRT1062DVJ6A") is None
