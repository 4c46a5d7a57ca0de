"""The power goes at any moment of an installation: what the medium has is the old or the new.

What the store did to its folder is recorded, and the disk is a model: a file's bytes are there for
sure once it is flushed, a name once its folder is; unflushed bytes may be there, in part, or not,
independent of earlier ones. Every possible state is checked, after every step.
"""

from __future__ import annotations

import builtins
import hashlib
import itertools
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from evcc.contracts import ContractError, Contracts
from evcc.ports import files as port
from evcc.ports.files import Files
from fixtures.cars import STORED, Car
from fixtures.grounds import Ground
from plugvault import runtimes
from world import EMAID, NOW

TRACING = Path(__file__).parents[1] / "tracing.py"


class Recorder:
    """`os` and `open` as `ports.files` uses them, with all that it changes in `steps`."""

    def __init__(self) -> None:
        self.steps: list[tuple[Any, ...]] = []
        self._inodes = itertools.count(1)
        self._open: dict[int, Any] = {}

    def __getattr__(self, name: str) -> Any:
        return getattr(os, name)

    def open(self, path: str, mode: Any, *_: Any) -> Any:
        if isinstance(mode, int):  # of the folder, to flush it
            descriptor = os.open(path, mode)
            self._open[descriptor] = "folder"
            return descriptor
        file = builtins.open(path, mode)  # noqa: PTH123, SIM115 - it stands for `open`
        if "w" in mode:
            inode = next(self._inodes)
            self._open[file.fileno()] = inode
            self.steps.append(("create", Path(path).name, inode))
            return Written(file, inode, self.steps)
        return file

    def fsync(self, descriptor: int) -> None:
        opened = self._open[descriptor]
        self.steps.append(("flush-folder",) if opened == "folder" else ("flush", opened))
        os.fsync(descriptor)

    def close(self, descriptor: int) -> None:
        del self._open[descriptor]
        os.close(descriptor)

    def rename(self, old: str, new: str) -> None:
        self.steps.append(("rename", Path(old).name, Path(new).name))
        os.rename(old, new)  # noqa: PTH104

    def remove(self, path: str) -> None:
        self.steps.append(("remove", Path(path).name))
        os.remove(path)  # noqa: PTH107


class Written:
    def __init__(self, file: Any, inode: int, steps: list[tuple[Any, ...]]) -> None:
        self._file, self._inode, self._steps = file, inode, steps
        self.flush, self.fileno = file.flush, file.fileno

    def __enter__(self) -> Written:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def write(self, data: bytes) -> int:
        self._steps.append(("write", self._inode, bytes(data)))
        return int(self._file.write(data))


def media(before: dict[str, bytes], steps: list[tuple[Any, ...]]) -> Iterator[dict[str, bytes]]:
    """Every state that a disk can be in when the power goes after `steps`.

    Bytes that are not flushed: all, none, or half of them. Names that are not flushed: any of the
    changes may have reached the medium and any not.
    """
    data: dict[int, list[bytes]] = {}  # inode -> what it may hold
    names: dict[str, int | bytes] = dict(before)  # for sure
    pending: list[tuple[Any, ...]] = []
    for step in steps:
        kind = step[0]
        if kind == "write":
            written = data.get(step[1], [b""])[0] + step[2]
            data[step[1]] = [written, b"", written[: len(written) // 2], bytes(len(written))]
        elif kind == "flush":
            data[step[1]] = data[step[1]][:1]
        elif kind == "flush-folder":
            names = changed(names, pending)
            pending = []
        elif kind != "vault":
            if kind == "create":
                data[step[2]] = [b""]
            pending.append(step)
    for n in range(len(pending) + 1):
        for chosen in itertools.combinations(pending, n):
            yield from contents(changed(names, chosen), data)


def changed(names: dict[str, Any], steps: Any) -> dict[str, Any]:
    names = dict(names)
    for kind, *arguments in steps:
        if kind == "create":
            names[arguments[0]] = arguments[1]
        elif kind == "remove":
            names.pop(arguments[0], None)
        elif arguments[0] in names:  # a rename of what is not there changes nothing
            names[arguments[1]] = names.pop(arguments[0])
    return names


def contents(names: dict[str, Any], data: dict[int, list[bytes]]) -> Iterator[dict[str, bytes]]:
    unknown = [name for name, value in names.items() if isinstance(value, int)]
    for choice in itertools.product(*(data[names[name]] for name in unknown)):
        yield {**names, **dict(zip(unknown, choice, strict=True))}


class Watched:
    """A vault that records its deletions as steps too: they are permanent."""

    def __init__(self, vault: Any, steps: list[tuple[Any, ...]]) -> None:
        self._vault, self._steps = vault, steps

    def __getattr__(self, name: str) -> Any:
        return getattr(self._vault, name)

    def delete(self, key: bytes) -> None:
        self._steps.append(("vault", key))


@pytest.fixture
def recorder(monkeypatch: pytest.MonkeyPatch) -> Recorder:
    recording = Recorder()
    monkeypatch.setattr(port, "os", recording)
    monkeypatch.setattr(port, "open", recording.open, raising=False)
    return recording


def content(path: str) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in Path(path).iterdir()}


def assert_complete(contracts: Contracts, gone: set[bytes]) -> None:
    """Assert that every contract has its chain and an undeleted key."""
    for contract in contracts.all():
        assert contract.key not in gone
        leaf = contracts.chain(contract.emaid)[0]
        assert hashlib.sha256(leaf).digest()[:16] == contract.fingerprint


def cut(car: Car, recorder: Recorder, folder: Path, operation: str) -> int:
    """Run the operation with a power cut after each step; return the number of disk states."""
    do = operations(car, Watched(car.vault, recorder.steps))[operation]
    before, old = content(car.folder), state(car.contracts)
    recorder.steps.clear()
    do()
    steps, new = list(recorder.steps), state(car.contracts)
    assert old != new
    checked = 0
    for n in range(len(steps) + 1):
        gone = {step[1] for step in steps[:n] if step[0] == "vault"}
        outcomes = set()
        for medium in unique(media(before, steps[:n])):
            put(folder, medium)
            contracts = Contracts(Files(str(folder)))
            assert_complete(contracts, gone)
            state_ = state(contracts)
            assert state_ in (old, new), (steps[:n], sorted(medium))
            outcomes.add(state_ == new)
            checked += 1
        assert n or outcomes == {False}
    assert outcomes == {True}, "a completed operation is durable"
    print(f"{operation}: {checked} states of a disk after {len(steps)} steps")
    return checked


@pytest.mark.parametrize("operation", ["renew", "add", "delete", "choose"])
def test_power_cut_at_every_write_leaves_old_or_new_contract(
    car: Car, recorder: Recorder, tmp_path: Path, operation: str
) -> None:
    assert cut(car, recorder, tmp_path / "cut", operation) > 10


class Killed(BaseException):
    """A SIGKILL: no `except Exception` catches it."""


def test_power_cut_after_a_start_that_followed_a_kill(
    car: Car, recorder: Recorder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed when the index with the contract is written and not yet flushed. The start finds it
    and removes the old key: from then on every state of the index must name the new key."""
    renew = operations(car, car.vault)["renew"]
    before = content(car.folder)
    recorder.steps.clear()

    def killed(path: str) -> None:
        renamed = [step for step in recorder.steps if step[:2] == ("rename", "contracts.new")]
        if len(renamed) == 2 and recorder.steps[-1] is renamed[1]:  # the first has the envelope
            raise Killed
        flush(path)

    flush = port.flush_path
    with monkeypatch.context() as patched:
        patched.setattr(port, "flush_path", killed)
        with pytest.raises(Killed):
            renew()
    steps = recorder.steps
    Contracts(Files(car.folder)).recover(Watched(car.vault, steps))
    (removed,) = (at for at, step in enumerate(steps) if step[0] == "vault")
    for n in range(removed + 1, len(steps) + 1):
        for medium in unique(media(before, steps[:n])):
            put(tmp_path / "cut", medium)
            assert_complete(Contracts(Files(str(tmp_path / "cut"))), {steps[removed][1]})


@pytest.mark.parametrize("forgotten", ["flush", "flush_path"])
def test_a_store_that_does_not_flush_is_detected(
    car: Car,
    recorder: Recorder,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    forgotten: str,
) -> None:
    """The model is worth something: without either flush a contract is lost in it."""
    monkeypatch.setattr(port, forgotten, lambda _: None)
    with pytest.raises((AssertionError, ContractError)):
        cut(car, recorder, tmp_path / "cut", "renew")


def operations(car: Car, vault: Any) -> dict[str, Callable[[], Any]]:
    """A car with two contracts, and what can be done to them."""
    car.installs(car.world.response(car.point))  # EMAID

    def install(emaid: str) -> None:
        contract = car.world.new_contract(emaid, not_before=NOW - 60)
        car.install(car.world.response(car.point, contract=contract), vault=vault)

    return {
        "renew": lambda: install(STORED),
        "add": lambda: install("DEPVT000000004"),
        "delete": lambda: vault.delete(car.contracts.delete(EMAID)),
        "choose": lambda: car.contracts.choose(EMAID),
    }


def state(contracts: Contracts) -> list[tuple[Any, ...]]:
    return [(c.emaid, c.key, c.fingerprint, c.active) for c in contracts.all()]


def unique(media_: Iterator[dict[str, bytes]]) -> list[dict[str, bytes]]:
    return [dict(medium_) for medium_ in {tuple(sorted(medium.items())) for medium in media_}]


def put(path: Path, medium: dict[str, bytes]) -> None:
    path.mkdir(exist_ok=True)
    for file in path.iterdir():
        file.unlink()
    for name, data in medium.items():
        (path / name).write_bytes(data)


STORE = """
import sys
from evcc.ports.files import Files
files = Files(sys.argv[1] + "/store")
files.write("contracts", b"what counts")
files.delete("contracts")
"""


@pytest.mark.parametrize("name", [name for name in runtimes.NAMES if name != "debian32"])
def test_every_interpreter_flushes_in_this_order(tmp_path: Path, name: str) -> None:
    """Trace the system calls: `flush` differs between interpreters."""
    runtime = runtimes.get(name)
    if runtime is None:
        pytest.skip(f"no interpreter {name!r} here; make says why")
    script = tmp_path / "store.py"
    script.write_text(STORE)
    command = [*runtime.argv, str(script), str(tmp_path)]
    ended = subprocess.run(
        [sys.executable, TRACING, tmp_path, *command],
        env=runtime.env(),
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    kinds = {"renameat": "rename", "renameat2": "rename", "unlinkat": "unlink", "mkdirat": "mkdir"}
    calls = [(kinds.get(call, call), file_name) for call, file_name in json.loads(ended.stdout)]
    new = "contracts.new"
    assert calls == [
        ("mkdir", "store"),
        ("fsync", tmp_path.name),
        ("fsync", "store"),
        ("create", new),
        ("write", new),
        ("fsync", new),
        ("rename", new),
        ("fsync", "store"),
        ("unlink", "contracts"),
        ("fsync", "store"),
    ]


def until_committed(ground: Ground, runtime: str) -> list[tuple[str, ...]]:
    """The changes of files by an installation: from the index that has the envelope, up to the
    one that names the new key."""
    calls = [tuple(call) for call in ground("install", **ground.on(runtime))["calls"]]
    begun, committed = (at for at, call in enumerate(calls) if call == ("rename", "contracts.new"))
    return calls[begun:committed]


@pytest.mark.parametrize("runtime", ["cpython", "debian"])
def test_softhsm_is_made_to_flush_before_the_contract_is_committed(
    ground: Ground, runtime: str
) -> None:
    """It does not by itself; the index must not outlive the key that it names."""
    calls = until_committed(ground, runtime)
    last = {file_name: at for at, (call, file_name) in enumerate(calls) if call == "write"}
    created = {
        file_name
        for call, file_name in calls
        if call == "create" and file_name.endswith(".object")
    }
    created -= {"token.object"}
    assert len(created) >= 2
    for file_name in created:
        assert ("fsync", file_name) in calls[last[file_name] :]
    (folder,) = (folder_.name for folder_ in ground.token.store.tokens.iterdir())
    assert ("fsync", folder) in calls[max(last[file_name] for file_name in created) :]


@pytest.mark.parametrize("runtime", ["cpython", "debian"])
@pytest.mark.parametrize("each_token", ["nss"], indirect=True)
def test_nss_cannot_take_a_key_back_once_its_contract_is_committed(
    each_ground: Ground, runtime: str
) -> None:
    """A journal of SQLite's that is there again would undo the key."""
    calls = until_committed(each_ground, runtime)
    removed = [at for at, call in enumerate(calls) if call[0] == "unlink"]
    assert {calls[at][1] for at in removed} == {"key4.db-journal", "cert9.db-journal"}
    assert ("fsync", each_ground.token.label) in calls[removed[-1] :]
