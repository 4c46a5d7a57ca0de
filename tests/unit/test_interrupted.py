"""A process that a test starts can be interrupted, in background runs too."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

TESTS = Path(__file__).parent.parent

STARTS = """
import conftest, subprocess, sys
child = "import signal; print(signal.getsignal(signal.SIGINT) is signal.SIG_IGN)"
subprocess.run([sys.executable, "-c", child], check=True)
"""


def test_a_process_receives_sigint_from_tests_in_the_background_too() -> None:
    """A shell makes its background processes ignore the signal."""
    shell = ["sh", "-c", 'trap "" INT; exec "$@"', "sh", sys.executable, "-c", STARTS]
    process = subprocess.run(shell, cwd=TESTS, capture_output=True, text=True, check=True)
    assert process.stdout.strip() == "False"
