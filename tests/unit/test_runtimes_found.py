"""`plugvault.runtimes`: the interpreters it finds, and the files it ignores."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from plugvault import runtimes

ANSWER = "plugvault {version} {bits} {modules}"


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty cache, and no interpreter of the system's own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(runtimes, "SYSTEM", tmp_path / "none")
    runtimes.get.cache_clear()
    yield tmp_path / "plugvault/micropython"
    runtimes.get.cache_clear()


def install(
    folder: Path, version: str = "1.25.0", bits: int = 64, modules: str = "ffi asyncio"
) -> Path:
    """A program that answers as an interpreter would."""
    folder.mkdir(parents=True)
    program = folder / "micropython"
    answer = ANSWER.format(version=version, bits=bits, modules=modules)
    program.write_text(f"#!/bin/sh\necho {answer}\n")
    program.chmod(0o755)
    return program


def test_nothing_but_this_python_in_an_empty_cache(cache: Path) -> None:
    assert [runtime.name for runtime in runtimes.find()] == ["cpython"]


def test_newest_version_is_taken_and_1_25_is_newer_than_1_9(cache: Path) -> None:
    install(cache / "debian-1.9.4-1", "1.9.4")
    newest = install(cache / "debian-1.25.0+ds-1", "1.25.0")
    runtime = runtimes.get("debian")
    assert runtime is not None
    assert (runtime.argv, runtime.version, runtime.has_ffi) == ((str(newest),), "1.25.0", True)


def test_interpreter_without_ffi_is_not_debians(cache: Path) -> None:
    install(cache / "debian-1.25", modules="asyncio")
    assert runtimes.get("debian") is None


def test_64_bits_are_not_debian32(cache: Path) -> None:
    install(cache / "debian32-1.25", bits=64)
    assert runtimes.get("debian32") is None


def test_a_broken_interpreter_gives_way_to_an_older_one(cache: Path) -> None:
    install(cache / "wheel-1.28").write_text("#!/bin/sh\nexit 3\n")
    older = install(cache / "wheel-1.27", modules="")
    runtime = runtimes.get("wheel")
    assert runtime is not None
    assert runtime.argv == (str(older),)
    assert not runtime.has_ffi


def test_a_half_installed_interpreter_is_never_seen(cache: Path) -> None:
    install(cache / ".new-x1y2z3")
    assert [runtime.name for runtime in runtimes.find()] == ["cpython"]


def test_unknown_name_is_an_error_that_lists_the_known(cache: Path) -> None:
    with pytest.raises(ValueError, match="debian32"):
        runtimes.get("pypy")


def test_environment_names_the_firmware_and_the_frozen_modules(cache: Path) -> None:
    install(cache / "wheel-1.28", modules="")
    runtime = runtimes.get("wheel")
    assert runtime is not None
    path = runtime.env(Path("/extra"))["MICROPYPATH"].split(":")
    assert path == ["/extra", str(runtimes.firmware()), ".frozen"]
    assert (runtimes.firmware() / "evcc/errors.py").is_file()


def test_environment_keeps_the_callers(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOFTHSM2_CONF", "here")
    cpython = runtimes.get("cpython")
    assert cpython is not None
    assert cpython.env()["SOFTHSM2_CONF"] == "here"
    assert cpython.env()["PYTHONPATH"].split(os.pathsep) == [str(runtimes.firmware())]


def test_interpreter_that_can_drive_a_token_gets_the_allocator_set_for_it(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(cache / "debian-1.25")
    runtime = runtimes.get("debian")
    assert runtime is not None
    monkeypatch.delenv("GLIBC_TUNABLES", raising=False)
    assert runtime.env()["GLIBC_TUNABLES"] == runtimes.ALLOCATOR["GLIBC_TUNABLES"]
    monkeypatch.setenv("GLIBC_TUNABLES", "the callers")
    assert runtime.env()["GLIBC_TUNABLES"] == "the callers"
