"""The interpreters the EV module can run under, on this machine.

    cpython    the Python that runs this
    wheel      MicroPython of the PyPI wheel: recent, no `ffi`
    debian     Debian's MicroPython: with `ffi`, so the module drives a PKCS#11 token by itself
    debian32   the same, 32 bits wide as boards are: for figures of memory

`tools/setup` puts them into the cache folder; this only finds them and asks each what it can do.
It installs nothing.
"""

import errno
import functools
import importlib.util
import os
import re
import stat
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

NAMES = ("cpython", "wheel", "debian", "debian32")
SYSTEM = Path("/usr/bin/micropython")
# Beneath the environment of a process that drives a token: SoftHSM makes and frees hundreds of
# little numbers for one signature, which glibc keeps at hand if it is told so.
ALLOCATOR = {"GLIBC_TUNABLES": "glibc.malloc.tcache_count=127"}

_ASK = """
import sys
found = []
for name in ("ffi", "cryptolib", "asyncio"):
    try:
        __import__(name)
        found.append(name)
    except ImportError:
        pass
version = [str(part) for part in sys.implementation[1] if part != ""]
bits = 64 if sys.maxsize > 2**31 else 32
print("plugvault", ".".join(version[:3]) + "-".join([""] + version[3:]), bits, " ".join(found))
"""


@dataclass(frozen=True)
class Runtime:
    """An interpreter and what it can do.

    `argv`: how a command line begins; options and the script follow. `bits`: 32 or 64.
    """

    name: str
    argv: tuple[str, ...]
    version: str
    bits: int
    has_ffi: bool
    has_cryptolib: bool

    @property
    def micropython(self) -> bool:
        return self.name != "cpython"

    def heap(self, size: str) -> tuple[str, ...]:
        """Options that give the interpreter a heap of `size` bytes ("160k", "4M"), if it asks."""
        return ("-X", f"heapsize={size}") if self.micropython else ()

    def env(self, *paths: Path) -> dict[str, str]:
        """A whole environment in which `paths`, then the firmware's folder, can be imported."""
        folders = [str(path) for path in (*paths, firmware())]
        if not self.micropython:
            return {**os.environ, "PYTHONPATH": ":".join(folders)}
        beneath = ALLOCATOR if self.has_ffi else {}
        return {**beneath, **os.environ, "MICROPYPATH": ":".join([*folders, ".frozen"])}


def firmware() -> Path:
    """The folder that holds the `evcc` package."""
    spec = importlib.util.find_spec("evcc")
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError("the evcc package is not installed; `make` installs it")
    return Path(spec.origin).parent.parent


def program() -> Path:
    """The folder that holds the module's `main.py` and `boot.py`: beside `evcc`, but in a package
    that was installed in this one, for they are no modules of everybody's."""
    installed = Path(__file__).with_name("firmware")
    return installed if installed.is_dir() else firmware()


def cache() -> Path:
    """The folder that set-up keeps interpreters in."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "plugvault"


def run_folder() -> Path:
    """A folder for what processes of this user share while they run, made when missing; nobody
    else can put anything there. Raises OSError, also for a folder that is not this user's alone.
    """
    base = os.environ.get("XDG_RUNTIME_DIR")
    folder = Path(base) / "plugvault" if base else cache() / "run"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    found = folder.lstat()
    alone = found.st_uid == os.geteuid() and not found.st_mode & 0o077
    if not (alone and stat.S_ISDIR(found.st_mode)):
        words = "must be a folder of this user alone, mode 0700: remove it, or set XDG_RUNTIME_DIR"
        raise PermissionError(errno.EPERM, words, str(folder))
    return folder


def find() -> list[Runtime]:
    """Every interpreter there is, in the order of `NAMES`."""
    return [runtime for name in NAMES if (runtime := get(name)) is not None]


@functools.cache
def get(name: str) -> Runtime | None:
    """The interpreter called `name`, one of `NAMES`, or None if it is not on this machine."""
    if name not in NAMES:
        raise ValueError(f"no runtime is called {name!r}; there are {', '.join(NAMES)}")
    if name == "cpython":
        return cpython()
    candidates = (_asked(name, path) for path in _candidates(name))
    return next((runtime for runtime in candidates if runtime is not None), None)


def cpython() -> Runtime:
    """The Python that runs this."""
    version = ".".join(map(str, sys.version_info[:3]))
    bits = 64 if sys.maxsize > 2**31 else 32
    return Runtime("cpython", (sys.executable,), version, bits, has_ffi=False, has_cryptolib=False)


def _candidates(name: str) -> list[Path]:
    """Where `name` may be, the best first: the system's own, then the cache, newest first."""
    found = (cache() / "micropython").glob(f"{name}-*/micropython")
    cached = sorted(found, key=lambda path: _natural(path.parent.name), reverse=True)
    return [SYSTEM, *cached] if name == "debian" else cached


def _natural(text: str) -> list[tuple[int, str]]:
    """A sort key that puts version 1.9 before 1.25."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", text)]


def _asked(name: str, path: Path) -> Runtime | None:
    """Ask the interpreter at `path` what it is; None if it does not run or is another."""
    try:
        answer = subprocess.run(
            [path, "-c", _ASK], capture_output=True, text=True, timeout=10, check=True
        ).stdout.split()
    except (OSError, subprocess.SubprocessError):
        return None
    if answer[:1] != ["plugvault"]:
        return None
    _, version, bits, *modules = answer
    if name.startswith("debian") and "ffi" not in modules:
        return None  # a micropython of somebody else's making, without what this one is for
    if name == "debian32" and int(bits) != 32:
        return None
    return Runtime(
        name,
        (str(path),),
        version,
        int(bits),
        has_ffi="ffi" in modules,
        has_cryptolib="cryptolib" in modules,
    )
