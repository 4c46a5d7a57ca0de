"""`exec:`, a command for each message: its exit status is the answer, 0 accepted, 1 refused.

Sanitizers and Python end a program that crashes with 1 too. So the sanitizers are told to end with
another status, and a report of a crash on standard error counts as one at any status.

In the command, these words stand for:

    {message}    a file with the message, EXI
    {elements}   a folder with its elements, decoded (`elements.py`)
    {trust}      a folder with the roots: V2G.der, MO.der, OEM.der
    {at}         the time, Unix seconds
    {session}    the SessionID of the open request, hexadecimal digits; empty: none is open
    {emaid}      the EMAID that this request names; empty: none
    {store}      the module's own folder, empty when a case begins. It is the module's state, but
                 for files whose names begin with a dot
"""

import contextlib
import hashlib
import os
import selectors
import shlex
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO, cast

from plugvault import guardian
from plugvault.campaign import elements
from plugvault.campaign.cases import CampaignError
from plugvault.campaign.vocabulary import (
    ACCEPTED,
    REFUSED,
    Answer,
    Begin,
    Hello,
    ModuleError,
    clean,
)
from plugvault.temporary import temporary_folder

# word of the command: the abilities that the module has with it
_ABILITIES = {
    "{trust}": ("trust",),
    "{at}": ("clock",),
    "{store}": ("reset", "state"),
}
_SANITIZERS = ("ASAN_OPTIONS", "UBSAN_OPTIONS", "LSAN_OPTIONS")
_CRASH = "exitcode=99"  # in place of a sanitizer's 1
_REPORTS = (b"ERROR: AddressSanitizer", b"runtime error:", b"Traceback (most recent call last)")
_MOST_SAID = 300  # characters of standard error
_KEPT = 4096  # bytes of it, which hold those characters and each report that two reads cut
_PART = 1 << 16
_MOST_STATE = 256 << 20  # bytes of all files in {store}, of which one may be sparse


class CommandModule:
    """A module that is a command for each message. seconds: for one run of it. Each call raises
    ModuleError; CampaignError when the command cannot be started."""

    def __init__(self, command: str, seconds: float) -> None:
        self._seconds = seconds
        try:
            self._words = shlex.split(command)
        except ValueError as error:
            raise CampaignError("module", f"exec:{command}: {error}") from error
        if not self._has("{message}") and not self._has("{elements}"):
            raise CampaignError("module", "exec: the command has no {message} and no {elements}")
        try:
            self._stack = contextlib.ExitStack()
            self._folder = self._stack.enter_context(temporary_folder(large=True)).resolve()
            self._store = self._folder / "store"
            self._store.mkdir()
        except OSError as error:
            raise CampaignError("module", f"exec: no temporary folder: {error}") from error
        self._begin: Begin | None = None

    def hello(self) -> Hello:
        can = (ability for word, able in _ABILITIES.items() if self._has(word) for ability in able)
        return Hello(Path(self._words[0]).name, can=frozenset(can))

    def begin(self, begin: Begin) -> None:
        trust = self._folder / "trust"
        with _folder_of_the_module():
            trust.mkdir(exist_ok=True)
            for kind, der in begin.trust:
                (trust / f"{kind}.der").write_bytes(der)
            if begin.reset:
                shutil.rmtree(self._store)
                self._store.mkdir()
        self._begin = begin

    def install(self, message: bytes) -> Answer:
        with _folder_of_the_module():
            (self._folder / "message.exi").write_bytes(message)
            if self._has("{elements}"):
                try:
                    elements.write(self._folder / "elements", message)
                except elements.ElementsError as error:
                    raise ModuleError("not-given", error.detail) from error
        command = [self._filled(word) for word in self._words]
        try:
            status, said, has_report = _ended(command, self._seconds)
        except subprocess.TimeoutExpired:
            raise ModuleError("timeout", f"no end within {self._seconds:g} s") from None
        except OSError as error:
            raise CampaignError("module", f"{command[0]}: {error.strerror}") from error
        if status not in (0, 1) or has_report:
            raise ModuleError("crash", f"exit status {status}: {said or 'no output'}")
        self._check_store()
        return Answer(REFUSED if status else ACCEPTED, reason=said)

    def sign(self, emaid: str, digest: bytes) -> bytes:
        raise ModuleError("unable", "a command for each message does not sign")

    def state(self) -> str:
        """A digest over the files of `{store}`, and over the targets of its links."""
        self._check_store()
        state, left = hashlib.sha256(), _MOST_STATE
        with _folder_of_the_module():
            for file in sorted(self._store.rglob("[!.]*")):
                if not file.is_symlink() and not file.is_file():
                    continue
                left -= file.lstat().st_size
                if left < 0:
                    text = f"{{store}} has more than {_MOST_STATE >> 20} MB"
                    raise ModuleError("crash", text)
                content = os.fsencode(file.readlink()) if file.is_symlink() else file.read_bytes()
                name = os.fsencode(file.relative_to(self._store))
                state.update(name + b"\0" + hashlib.sha256(content).digest())
        return state.hexdigest()

    def _check_store(self) -> None:
        """Raises ModuleError("crash") for a `{store}` that is gone or a link to elsewhere."""
        with _folder_of_the_module():
            is_whole = self._store.is_dir() and self._store.resolve() == self._store
        if not is_whole:
            raise ModuleError("crash", "the command has removed or replaced {store}")

    def close(self) -> None:
        # Files that cannot be removed, and folders that the module has nested too deep.
        with contextlib.suppress(OSError, RecursionError):
            self._stack.close()

    def _has(self, word: str) -> bool:
        return any(word in part for part in self._words)

    def _filled(self, word: str) -> str:
        begin = self._begin
        session = b"" if begin is None or begin.session is None else begin.session
        values = {
            "{message}": str(self._folder / "message.exi"),
            "{elements}": str(self._folder / "elements"),
            "{trust}": str(self._folder / "trust"),
            "{store}": str(self._store),
            "{at}": str(begin.at if begin else 0),
            "{session}": session.hex(),
            "{emaid}": (begin.emaid or "") if begin else "",
        }
        for name, value in values.items():
            word = word.replace(name, value)
        return word


@contextlib.contextmanager
def _folder_of_the_module() -> Iterator[None]:
    """Raises ModuleError("crash") for an error at the files that the command can change."""
    try:
        yield
    except (OSError, RecursionError) as error:
        raise ModuleError("crash", clean(f"its folder cannot be used: {error}")) from error


def _ended(command: list[str], seconds: float) -> tuple[int, str, bool]:
    """(exit status, the last characters of standard error, whether it holds a report of a crash)
    of a command in a process group of its own.

    Raises OSError; TimeoutExpired, after the end of the whole group.
    """
    deadline = time.monotonic() + seconds
    process = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        env=_environment(),
        start_new_session=True,
    )
    with guardian.guarded(process, group=True):
        try:
            said, has_report = _said(process, deadline)
            process.wait(max(deadline - time.monotonic(), 0))
        except BaseException:  # the time-out, or the end of the campaign
            end_group(process)
            raise
    return process.returncode, said, has_report


def _said(process: subprocess.Popen[bytes], deadline: float) -> tuple[str, bool]:
    """The last part of standard error, read to its end, because a module may write any number of
    bytes.

    Raises TimeoutExpired.
    """
    last, has_report = b"", False
    with cast(IO[bytes], process.stderr) as stream, selectors.DefaultSelector() as selector:
        selector.register(stream, selectors.EVENT_READ)
        while (left := deadline - time.monotonic()) > 0:
            if not selector.select(left):
                continue
            part = os.read(stream.fileno(), _PART)
            if not part:
                return last.decode(errors="replace").strip()[-_MOST_SAID:], has_report
            last += part
            has_report = has_report or any(report in last for report in _REPORTS)
            last = last[-_KEPT:]
    raise subprocess.TimeoutExpired(process.args, 0)


def end_group(process: subprocess.Popen[bytes]) -> None:
    """Kill a process that leads its group, and every process of the group."""
    with contextlib.suppress(ProcessLookupError):  # it has ended
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _environment() -> dict[str, str]:
    options = {
        name: ":".join(filter(None, (os.environ.get(name), _CRASH))) for name in _SANITIZERS
    }
    return {**os.environ, **options}
