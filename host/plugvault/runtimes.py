"""The interpreters of this machine that can run the EV module.

    cpython    the Python that runs this
    wheel      MicroPython of the PyPI wheel: recent, no `ffi`
    debian     Debian's MicroPython: with `ffi`, so the module drives a PKCS#11 token by itself
    debian32   the same with 32 bits, as on boards: for figures of memory

`tools/setup` installs them into the cache folder; here they are found and their modules listed.
"""

import errno
import functools
import importlib.util
import os
import pwd
import re
import stat
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

NAMES = ("cpython", "wheel", "debian", "debian32")
SYSTEM = Path("/usr/bin/micropython")
# A default of the environment of each process that drives a token: SoftHSM allocates hundreds of
# small numbers for one signature, and a larger thread cache of glibc serves them.
ALLOCATOR = {"GLIBC_TUNABLES": "glibc.malloc.tcache_count=127"}

_PROBE = """
import sys
modules = []
for name in ("ffi", "cryptolib", "asyncio"):
    try:
        __import__(name)
        modules.append(name)
    except ImportError:
        pass
version = [str(part) for part in sys.implementation[1] if part != ""]
bits = 64 if sys.maxsize > 2**31 else 32
print("plugvault", ".".join(version[:3]) + "-".join([""] + version[3:]), bits, " ".join(modules))
"""


@dataclass(frozen=True)
class Runtime:
    """An interpreter and its abilities.

    `argv`: the start of its command line; options and the script follow. `bits`: 32 or 64.
    """

    name: str
    argv: tuple[str, ...]
    version: str
    bits: int
    has_ffi: bool
    has_cryptolib: bool

    @property
    def micropython(self) -> bool:
        """Whether this is a MicroPython."""
        return self.name != "cpython"

    def heap(self, size: str) -> tuple[str, ...]:
        """Options for a heap of `size` bytes ("160k", "4M"); none for CPython."""
        return ("-X", f"heapsize={size}") if self.micropython else ()

    def env(self, *paths: Path) -> dict[str, str]:
        """An environment in which `paths`, then the firmware's folder, can be imported."""
        folders = [str(path) for path in (*paths, firmware())]
        if not self.micropython:
            return {**os.environ, "PYTHONPATH": ":".join(folders)}
        defaults = ALLOCATOR if self.has_ffi else {}
        return {**defaults, **os.environ, "MICROPYPATH": ":".join([*folders, ".frozen"])}


def firmware() -> Path:
    """The folder that holds the `evcc` package."""
    spec = importlib.util.find_spec("evcc")
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError("the evcc package is not installed; `make` installs it")
    return Path(spec.origin).parent.parent


def program() -> Path:
    """The folder of the module's `main.py` and `boot.py`: beside `evcc` in a clone; inside this
    package when it is installed, because they are no top-level modules. Raises
    ModuleNotFoundError."""
    installed = Path(__file__).with_name("firmware")
    return installed if installed.is_dir() else firmware()


def cache() -> Path:
    """The folder into which set-up installs interpreters."""
    base = os.environ.get("XDG_CACHE_HOME") or _home() / ".cache"
    return Path(base).absolute() / "plugvault"  # processes with other folders use it


def _home() -> Path:
    """This user's folder, as `tools/setup` finds it; for a user without, one that is not there."""
    try:
        return Path(os.environ.get("HOME") or pwd.getpwuid(os.getuid()).pw_dir or "/nonexistent")
    except KeyError:
        return Path("/nonexistent")


def run_folder() -> Path:
    """A folder for files that processes of this user share, made when missing.

    No other user can write to it. Raises OSError, also for a folder that another user can use.
    """
    base = os.environ.get("XDG_RUNTIME_DIR")
    folder = Path(base) / "plugvault" if base else cache() / "run"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    status = folder.lstat()
    private = status.st_uid == os.geteuid() and not status.st_mode & 0o077
    if not (private and stat.S_ISDIR(status.st_mode)):
        words = "must be a folder of this user alone, mode 0700: remove it, or set XDG_RUNTIME_DIR"
        raise PermissionError(errno.EPERM, words, str(folder))
    return folder


def find() -> list[Runtime]:
    """Every interpreter of this machine, in the order of `NAMES`."""
    return [runtime for name in NAMES if (runtime := get(name)) is not None]


@functools.cache
def get(name: str) -> Runtime | None:
    """The interpreter called `name`, one of `NAMES`, or None if it is not on this machine. Raises
    ValueError for another name."""
    if name not in NAMES:
        raise ValueError(f"no runtime is called {name!r}; there are {', '.join(NAMES)}")
    if name == "cpython":
        return cpython()
    candidates = (_probe(name, path) for path in _candidates(name))
    return next((runtime for runtime in candidates if runtime is not None), None)


def cpython() -> Runtime:
    """The Python that runs this program."""
    version = ".".join(map(str, sys.version_info[:3]))
    bits = 64 if sys.maxsize > 2**31 else 32
    return Runtime("cpython", (sys.executable,), version, bits, has_ffi=False, has_cryptolib=False)


def _candidates(name: str) -> list[Path]:
    """Paths to try for `name`: the system's own, then the cache, newest first."""
    paths = (cache() / "micropython").glob(f"{name}-*/micropython")
    cached = sorted(paths, key=lambda path: _natural(path.parent.name), reverse=True)
    return [SYSTEM, *cached] if name == "debian" else cached


def _natural(text: str) -> list[tuple[int, str]]:
    """A sort key that puts version 1.9 before 1.25."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", text)]


def _probe(name: str, path: Path) -> Runtime | None:
    """The interpreter at `path`; None if it does not run or is not `name`."""
    try:
        answer = subprocess.run(
            [path, "-c", _PROBE], capture_output=True, text=True, timeout=10, check=True
        ).stdout.split()
    except (OSError, subprocess.SubprocessError):
        return None
    if answer[:1] != ["plugvault"]:
        return None
    _, version, bits, *modules = answer
    if name.startswith("debian") and "ffi" not in modules:
        return None  # another build, without the module that this runtime is for
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
