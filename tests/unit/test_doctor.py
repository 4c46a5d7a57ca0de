"""`plugvault doctor`: whether the demo can run, as the demo itself finds."""

from __future__ import annotations

import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest

from plugvault.cli import doctor


@pytest.mark.parametrize("free, enough", [(8, True), (1, False)])
def test_a_small_folder_for_temporary_files_is_missing_only_where_no_demo_runs(
    free: int, enough: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = SimpleNamespace(free=free << 20)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    finding = next(iter(doctor.disk()))
    assert (finding.what, finding.good) == ("temporary files", enough)
