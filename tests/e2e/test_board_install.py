"""The installation on a board as the firmware's README describes it, without a board."""

from __future__ import annotations

import functools
import http.server
import subprocess
import threading
from pathlib import Path

import pytest

from plugvault import runtimes

FIRMWARE = Path(__file__).parents[2] / "firmware"


def test_mip_installs_the_module_and_it_runs_from_there(tmp_path: Path) -> None:
    wheel = runtimes.get("wheel")
    if wheel is None:
        pytest.skip("no wheel interpreter here; `make` fetches it")

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *args: object) -> None:
            pass

    handler = functools.partial(Quiet, directory=str(FIRMWARE))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}/package.json"
        script = (
            f"import mip; mip.install({url!r}, target={str(tmp_path / 'lib')!r})\n"
            f"import sys; sys.path[:] = [{str(tmp_path / 'lib')!r}, '.frozen']\n"
            "import evcc.module; print(evcc.module.__file__)"
        )
        process = subprocess.run(
            [*wheel.argv, "-c", script],
            env=wheel.env(),
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        server.shutdown()
    assert process.returncode == 0, process.stderr
    assert process.stdout.strip().endswith(str(tmp_path / "lib/evcc/module.py"))
