"""Trace the changes that a process makes to files, and kill it just before one of them.

    calls, code = follow(fork(function), folder)  # all of them: [("ftruncate", "a.object")]
    calls, code = follow(fork(function), folder, 7)  # killed (SIGKILL) before the 8th

    python tests/tracing.py FOLDER COMMAND...        # the calls of another program, as JSON

By ptrace, which needs no help of the process: C libraries and every interpreter are traced alike.
The traced calls change a file below `folder`, flush one (`fsync`), or send through a socket. Linux
on amd64 or arm64, from one thread only; no other thread of the process may write.
"""

import ctypes
import json
import os
import signal
import struct
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

_TRACEME, _SYSCALL, _SETOPTIONS, _GET_SYSCALL_INFO = 0, 24, 0x4200, 0x420E
_TRACESYSGOOD, _EXITKILL = 1, 1 << 20
_ENTRY = 1
_SYSCALL_STOP = signal.SIGTRAP | 0x80

# name -> (which argument is the file: a descriptor, or a path), by machine
_BY_DESCRIPTOR = {
    "write": (1, 64),
    "pwrite64": (18, 68),
    "writev": (20, 66),
    "ftruncate": (77, 46),
    "fsync": (74, 82),
    "fdatasync": (75, 83),
    "sendto": (44, 206),
}
_BY_PATH = {  # -> number, and which argument is the path (None: no such call there)
    "rename": ((82, 0), None),
    "renameat": ((264, 1), (38, 1)),
    "renameat2": ((316, 1), (276, 1)),
    "unlink": ((87, 0), None),
    "unlinkat": ((263, 1), (35, 1)),
    "mkdir": ((83, 0), None),
    "mkdirat": ((258, 1), (34, 1)),
}
_OPEN = ((2, 0), (257, 1)), (None, (56, 1))  # open, openat: a change when it may create or empty
_CREATES = os.O_CREAT | os.O_TRUNC

_libc = ctypes.CDLL(None, use_errno=True)
_libc.ptrace.restype = ctypes.c_long
_libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]


def fork(function: Callable[[], None]) -> int:
    """A child that will run `function` and end, once it is followed; its process id."""
    child = os.fork()
    if child:
        return child
    code = 1
    try:
        _ptrace(_TRACEME, 0, 0, 0)
        os.kill(os.getpid(), signal.SIGSTOP)
        function()
        code = 0
    finally:
        os._exit(code)


def follow(
    child: int, folder: Path, before: int | None = None, victims: Sequence[int] = (0,)
) -> tuple[list[tuple[str, str]], int]:
    """Let the child run; just before its call number `before`, kill `victims` (0: the child).

    Returns its calls (name, the file's name) and how it ended: its exit code, or the negative
    number of the signal."""
    machine = os.uname().machine == "aarch64"
    names = _tables(machine)
    calls: list[tuple[str, str]] = []
    os.waitpid(child, 0)
    _ptrace(_SETOPTIONS, child, 0, _TRACESYSGOOD | _EXITKILL)
    pending = 0
    while True:
        _ptrace(_SYSCALL, child, 0, pending)
        _, status = os.waitpid(child, 0)
        if not os.WIFSTOPPED(status):
            return calls, os.waitstatus_to_exitcode(status)
        stopped = os.WSTOPSIG(status)
        pending = stopped if stopped not in (_SYSCALL_STOP, signal.SIGTRAP) else 0
        if stopped != _SYSCALL_STOP:
            continue
        call = _change(child, names, folder)
        if call is None:
            continue
        if len(calls) == before:
            for victim in victims:
                os.kill(victim or child, signal.SIGKILL)
            if 0 in victims:
                return calls, os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        calls.append(call)


def _tables(arm: bool) -> dict[int, tuple[str, str, int]]:
    names = {pair[arm]: (name, "descriptor", 0) for name, pair in _BY_DESCRIPTOR.items()}
    for name, pair in _BY_PATH.items():
        if (row := pair[arm]) is not None:
            names[row[0]] = (name, "path", row[1])
    for row in _OPEN[arm]:
        if row is not None:
            names[row[0]] = ("create", "open", row[1])
    return names


def _change(
    child: int, names: dict[int, tuple[str, str, int]], folder: Path
) -> tuple[str, str] | None:
    """The next operation of the child on a file in the folder, or None."""
    info = ctypes.create_string_buffer(88)
    _ptrace(_GET_SYSCALL_INFO, child, len(info), ctypes.addressof(info))
    if info.raw[0] != _ENTRY:
        return None
    number, *arguments = struct.unpack_from("<7Q", info.raw, 24)
    if number not in names:
        return None
    name, kind, at = names[number]
    if kind == "descriptor":
        path = _link(child, arguments[0])
    elif kind == "open" and not arguments[at + 1] & _CREATES:
        return None
    else:
        path = _string(child, arguments[at])
        if not path.startswith("/"):
            path = _link(child, -1) + "/" + path
    if path.startswith("socket:"):
        return name, "socket"
    if not Path(path).is_relative_to(folder):
        return None
    return name, Path(path).name


def _link(child: int, descriptor: int) -> str:
    name = "cwd" if descriptor < 0 else f"fd/{descriptor}"
    try:
        return str(Path(f"/proc/{child}/{name}").readlink())
    except OSError:
        return ""


def _string(child: int, address: int) -> str:
    with Path(f"/proc/{child}/mem").open("rb", buffering=0) as memory:
        memory.seek(address)
        return os.fsdecode(memory.read(512).partition(b"\0")[0])


def _ptrace(request: int, pid: int, address: int, data: int) -> None:
    if _libc.ptrace(request, pid, address, data) < 0:
        raise OSError(ctypes.get_errno(), f"ptrace request {request:#x}")


def main(folder: str, *command: str) -> int:
    calls, code = follow(fork(lambda: os.execvp(command[0], command)), Path(folder))
    print(json.dumps(calls))
    return code


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
