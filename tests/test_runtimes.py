"""Every test of the EV module, on every interpreter: the files of `tests/both`, one process each.

`tests/both/run.py` does the running; this starts it and hands on what it prints. An interpreter
that set-up could not provide is skipped here, but under CI, on Debian for amd64, that is a
failure: there set-up can provide them all.
"""

import os
import platform
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from plugvault import runtimes

BOTH = Path(__file__).parent / "both"
FILES = sorted(BOTH.glob("test_*.py"))
HEAP = "4M"
TIMEOUT = 120  # seconds; the slowest file takes a few


def required(name: str) -> bool:
    """Whether set-up is able to provide this interpreter here, so that its absence is a fault."""
    release = platform.freedesktop_os_release()
    debian_amd64 = release["ID"] == "debian" and platform.machine() == "x86_64"
    return bool(os.environ.get("CI")) and debian_amd64 and name in ("wheel", "debian")


@pytest.fixture(params=runtimes.NAMES)
def runtime(request: pytest.FixtureRequest) -> runtimes.Runtime:
    found = runtimes.get(request.param)
    if found is None and required(request.param):
        pytest.fail(f"set-up did not provide the interpreter {request.param!r}; run make")
    if found is None:
        pytest.skip(f"no interpreter {request.param!r} here; make says why")
    return found


def run(runtime: runtimes.Runtime, *files: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*runtime.argv, *runtime.heap(HEAP), str(BOTH / "run.py"), *map(str, files)],
        env=runtime.env(),
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
        check=False,
    )


@pytest.mark.parametrize("file", FILES, ids=lambda path: path.stem)
def test_evcc(
    runtime: runtimes.Runtime, file: Path, record_property: Callable[[str, object], None]
) -> None:
    ended = run(runtime, file)
    lines = ended.stdout.splitlines()
    record_property(f"evcc {runtime.name}", sum(line.startswith("ok ") for line in lines))
    if ended.returncode:
        failed = ", ".join(line[5:] for line in lines if line.startswith("FAIL "))
        pytest.fail(f"{failed or 'died'}\n{ended.stdout}{ended.stderr}", pytrace=False)
    if lines and all(line.startswith("skip ") for line in lines[:-1]):
        pytest.skip("; ".join(sorted({line.split(": ", 1)[-1] for line in lines[:-1]})))


def test_runner_reports_a_failure(runtime: runtimes.Runtime, tmp_path: Path) -> None:
    file = tmp_path / "test_bad.py"
    file.write_text("def test_lie():\n    assert 1 == 2\n\ndef test_truth():\n    pass\n")
    ended = run(runtime, file)
    assert ended.returncode == 1
    assert "FAIL test_lie" in ended.stdout
    assert "ok test_truth" in ended.stdout
    assert ended.stdout.splitlines()[-1] == "1 passed, 1 failed, 0 skipped"


def test_runner_reports_a_file_that_does_not_load(
    runtime: runtimes.Runtime, tmp_path: Path
) -> None:
    file = tmp_path / "test_broken.py"
    file.write_text("import no_such_module\n")
    ended = run(runtime, file)
    assert ended.returncode == 1
    assert "FAIL test_broken" in ended.stdout


def test_runner_does_not_call_nothing_a_success(runtime: runtimes.Runtime, tmp_path: Path) -> None:
    file = tmp_path / "test_empty.py"
    file.write_text("")
    assert run(runtime, file).returncode == 1
