"""The facts of a board, asked at its prompt, and whether the module can run there.

`REQUIREMENTS` has a row for each reason to refuse a board. Bytes are of the board's own answer:
heap of `gc`, flash of `os.statvfs`.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass

from plugvault.board.errors import DeviceError
from plugvault.board.repl import Repl

OLDEST = (1, 24)  # MicroPython
HEAP = 227 * 1024  # bytes of a life cycle with the code on the heap, as in firmware/budgets.json
HEAP_FROZEN = 116 * 1024  # bytes with the code in the firmware, likewise
FLASH = 256 * 1024  # bytes of the file system: the files twice, contracts and trust anchors
MPY_MAJOR = 6  # of the bytecode that mpy-cross makes
ROOTS = ("/", "/flash/")  # folders in which MicroPython itself starts, but for that of an SD card
MODULES = ("hashlib", "json", "struct", "binascii", "machine")

_ARCHITECTURES = (
    "",
    "x86",
    "x64",
    "armv6",
    "armv6m",
    "armv7m",
    "armv7em",
    "armv7emsp",
    "armv7emdp",
    "xtensa",
    "xtensawin",
    "rv32imc",
    "rv64imc",
)

# Runs on any MicroPython and on CircuitPython, so it imports nothing that may be missing.
_PROBE = """
import sys, gc, os
def has(name):
    try:
        __import__(name)
        return 1
    except ImportError:
        return 0
def get(f, other):
    try:
        return f()
    except Exception:
        return other
def uid():
    import machine
    return "".join("%%02x" %% b for b in machine.unique_id())
def frozen():
    path = sys.path[:]
    loaded = sys.modules.pop("evcc", None)  # boot.py imports it, from wherever it is
    sys.path[:] = [".frozen"]
    try:
        return has("evcc")
    finally:
        sys.path[:] = path
        if loaded:
            sys.modules["evcc"] = loaded
def medium():
    block = bytearray(512)
    if sys.platform == "rp2":
        import rp2
        rp2.Flash().readblocks(0, block)
    elif sys.platform == "esp32":
        from flashbdev import bdev
        bdev.readblocks(0, block)
    else:
        import pyb
        pyb.Flash(start=0).readblocks(0, block)
    return "littlefs" if b"littlefs" in block else "FAT" if block[510:] == b"\\x55\\xaa" else ""
i = sys.implementation
root = %r
gc.collect()
s = get(lambda: os.statvfs(root), (0,) * 10)
print(repr({
    "name": i[0], "version": tuple(i[1][:3]), "platform": sys.platform,
    "machine": getattr(i, "_machine", ""), "mpy": getattr(i, "_mpy", 0),
    "heap": gc.mem_free() + gc.mem_alloc() if hasattr(gc, "mem_alloc") else 0,
    "heap_free": gc.mem_free() if hasattr(gc, "mem_free") else 0,
    "flash": s[1] * s[2], "flash_free": s[1] * s[3], "block": s[0],
    "missing": [m for m in %r if not has(m)],
    "uid": get(uid, ""), "frozen": get(frozen, 0), "medium": get(medium, ""), "root": root,
}))
"""


@dataclass(frozen=True)
class Facts:
    """A board as it describes itself.

    heap, flash: bytes in total; heap_free, flash_free: bytes; `block`: the bytes that a file takes
    at least; `frozen`: the module is part of the firmware; `uid`: of the chip, hexadecimal, ""
    where it has none; `mpy`: `sys.implementation._mpy`; `missing`: modules that the board lacks;
    `root`: see `Repl.root`.
    """

    port: str
    name: str
    version: tuple[int, ...]
    platform: str
    machine: str
    mpy: int
    heap: int
    heap_free: int
    flash: int
    flash_free: int
    block: int
    missing: tuple[str, ...]
    uid: str
    frozen: bool
    medium: str
    root: str

    @property
    def mpy_version(self) -> tuple[int, int]:
        """(major, sub) of the bytecode that the board loads; (0, 0) for none."""
        return self.mpy & 0xFF, self.mpy >> 8 & 3

    @property
    def architecture(self) -> str:
        """The architecture of native code, as mpy-cross names it; "" for none."""
        number = self.mpy >> 10 & 0x3F
        return _ARCHITECTURES[number] if number < len(_ARCHITECTURES) else ""

    @property
    def text_version(self) -> str:
        """The version of MicroPython as text."""
        return ".".join(map(str, self.version))

    def as_data(self) -> dict[str, object]:
        """These facts as plain data, for --json."""
        return {
            "port": self.port,
            "uid": self.uid,
            "machine": self.machine,
            "platform": self.platform,
            "micropython": self.text_version,
            "mpy": f"{self.mpy_version[0]}.{self.mpy_version[1]}",
            "architecture": self.architecture,
            "heap": self.heap,
            "heap_free": self.heap_free,
            "flash": self.flash,
            "flash_free": self.flash_free,
            "file_system": self.medium,
            "root": self.root,
            "frozen": self.frozen,
        }


def ask(repl: Repl) -> Facts:
    """Ask a board for its facts at its prompt. Raises: DeviceError."""
    answer = repl.run(_PROBE % (repl.root, MODULES))
    try:
        return Facts(
            port=repl.device,
            **{
                **answer,
                "missing": tuple(answer["missing"]),
                "frozen": bool(answer["frozen"]),
            },
        )
    except (TypeError, KeyError) as error:
        raise DeviceError("script", f"the board describes itself as {answer!r:.200}") from error


def _kib(count: int) -> str:
    return f"{count / 1024:.0f} KiB"


def _heap(facts: Facts) -> str | None:
    needed = HEAP_FROZEN if facts.frozen else HEAP
    if facts.heap >= needed:
        return None
    return (
        f"{_kib(facts.heap)} of heap, and the module takes {_kib(needed)}. With the module frozen"
        f" into the firmware it takes {_kib(HEAP_FROZEN)} (firmware/manifest.py); an ESP32-S3 with"
        " PSRAM needs the firmware variant for it"
    )


def _flash(facts: Facts) -> str | None:
    if facts.flash >= FLASH:
        return None
    return f"{_kib(facts.flash)} of file system, and the module takes {_kib(FLASH)}"


def _python(facts: Facts) -> str | None:
    if facts.name == "micropython":
        return None
    return f"it runs {facts.name}: flash MicroPython first, --firmware FILE"


def _version(facts: Facts) -> str | None:
    if facts.version >= OLDEST:
        return None
    oldest = ".".join(map(str, OLDEST))
    return f"MicroPython {facts.text_version} is older than {oldest}: --firmware FILE updates it"


def _modules(facts: Facts) -> str | None:
    if not facts.missing:
        return None
    return f"its firmware lacks {', '.join(facts.missing)}: take the board's standard firmware"


def _bytecode(facts: Facts) -> str | None:
    major, sub = facts.mpy_version
    if major == MPY_MAJOR:
        return None
    return f"it loads bytecode {major}.{sub}, and mpy-cross makes {MPY_MAJOR}: update mpy-cross"


def _identifier(facts: Facts) -> str | None:
    """The chip's number becomes a folder's name and a name on the wire."""
    if re.fullmatch(r"[0-9a-f]{4,64}", facts.uid):
        return None
    return "machine.unique_id() gives no number to tell this board by"


def _root(facts: Facts) -> str | None:
    if facts.root in ROOTS:
        return None
    return (
        f"it starts in {facts.root}, and the module takes its flash: take its SD card out, or make"
        " an empty file /flash/SKIPSD, and press reset"
    )


REQUIREMENTS: tuple[tuple[str, Callable[[Facts], str | None]], ...] = (
    ("python", _python),
    ("version", _version),
    ("modules", _modules),
    ("bytecode", _bytecode),
    ("identifier", _identifier),
    ("root", _root),
    ("heap", _heap),
    ("flash", _flash),
)


_FIRMWARE = ("python", "version")  # requirements of which the others are consequences


def refusals(facts: Facts) -> list[str]:
    """The reasons for which the module cannot run on this board, each a sentence.

    Another Python, or an old one, is the only reason: it lacks other things, too.
    """
    reasons = {name: text for name, check in REQUIREMENTS if (text := check(facts)) is not None}
    other = [reasons[name] for name in _FIRMWARE if name in reasons]
    return other[:1] or list(reasons.values())


def require(facts: Facts) -> None:
    """Raise DeviceError("unfit") with the reasons of all refusals."""
    reasons = refusals(facts)
    if reasons:
        raise DeviceError("unfit", "; ".join(reasons))
