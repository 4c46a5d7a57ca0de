"""The fixtures of every test. Fixtures of one area live in `tests/fixtures/AREA.py`."""

import os
import signal
from collections import Counter
from pathlib import Path

import hypothesis
import pytest

from plugvault import runtimes

HERE = Path(__file__).parent
ROOT = HERE.parent

# A shell has what it starts in the background ignore SIGINT, and so would every process that a
# test starts and then asks to end.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

pytest.register_assert_rewrite("fixtures")  # they import each other before they are plugins

collect_ignore = ["both"]  # test_runtimes.py runs those, on every interpreter
pytest_plugins = [
    f"fixtures.{path.stem}" for path in sorted((HERE / "fixtures").glob("[a-z]*.py"))
]

# Two cores shared with token processes: a deadline per example would measure the neighbours.
# Under CI the same examples every time: a red run there is about the change, not about luck.
hypothesis.settings.register_profile("here", deadline=None)
hypothesis.settings.register_profile("ci", deadline=None, derandomize=True)
hypothesis.settings.load_profile("ci" if os.environ.get("CI") else "here")


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of published vectors beside the project; the folder is no part of it, and may be
    absent."""
    folder = ROOT.parent / "shared"
    if not folder.is_dir():
        pytest.skip("no ../shared beside the project: its published vectors are not here")
    return folder


def pytest_make_parametrize_id(val: object) -> str | None:
    """A name for longer bytes and for PEM: a new key or signature differs in each process, and
    pytest-xdist wants the same names."""
    if isinstance(val, bytes) and len(val) > 16:
        return "bytes"
    return "PEM" if isinstance(val, str) and "-----BEGIN" in val else None


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Refuse a pytest that ignores the groups of pytest-xdist: one worker at a time has the port
    of SDP, and the emulated board."""
    if getattr(config.option, "loadgroup", False):
        for item in items:
            group = item.get_closest_marker("xdist_group")
            if group is not None and not item.nodeid.endswith(f"@{group.args[0]}"):
                raise pytest.UsageError(f"{item.nodeid} is not in its group {group.args[0]}")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the number of evcc tests on each interpreter, and the figures of the emulated board:
    the tests record both as properties."""
    ran: Counter[str] = Counter()
    figures = []
    for reports in terminalreporter.stats.values():
        for report in reports:
            if getattr(report, "when", None) == "call":
                for name, value in report.user_properties:
                    if name.startswith("evcc "):
                        ran[name.removeprefix("evcc ")] += int(value)
                    elif name.startswith("board "):
                        figures.append(f"{name}: {value:,}")
    if ran:
        names = [*runtimes.NAMES, "board"]
        counts = ", ".join(f"{name} {ran[name]}" for name in names if name in ran)
        terminalreporter.write_line(f"evcc tests: {counts}")
    for line in figures:
        terminalreporter.write_line(line)
