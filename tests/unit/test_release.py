"""The files of a release: their names and contents, and the same bytes each time."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest

import plugvault
from fixtures.disks import on_small_disk
from plugvault.cases import catalogue

ROOT = Path(__file__).parents[2]
NAME = f"plugvault-{plugvault.__version__}"
VECTORS = f"{NAME}-case-vectors"


def made(out: Path, umask: int, zone: str) -> Path:
    command = [sys.executable, ROOT / "tools/release.py", out]
    subprocess.run(command, check=True, umask=umask, env={**os.environ, "TZ": zone})
    return out


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made(tmp_path_factory.mktemp("release"), 0o022, "UTC")


def test_a_release_has_wheel_sources_vectors_and_digests(release: Path) -> None:
    names = {f"{NAME}-py3-none-any.whl", f"{NAME}.tar.gz", f"{VECTORS}.zip"}
    assert {file.name for file in release.iterdir()} == {*names, "SHA256SUMS"}
    rows = (release / "SHA256SUMS").read_text().splitlines()
    digests = {name: digest for digest, name in (row.split("  ") for row in rows)}
    assert digests == {
        name: hashlib.sha256((release / name).read_bytes()).hexdigest() for name in names
    }


def test_the_vectors_of_a_release_are_all_cases_with_schema_and_check(release: Path) -> None:
    with zipfile.ZipFile(release / f"{VECTORS}.zip") as archive:
        content = {name: archive.read(name) for name in archive.namelist()}
    files = ("case_vectors.json", "schema.json", "check.py", "LICENSE")
    assert list(content) == [f"{VECTORS}/{name}" for name in files]
    vectors = json.loads(content[f"{VECTORS}/case_vectors.json"])
    tests = [test["case"] for group in vectors["testGroups"] for test in group["tests"]]
    assert tests == [case.id for case in catalogue.CASES if case.timing is None]
    schema = ROOT / "tools/case_vectors/schema.json"
    assert content[f"{VECTORS}/{vectors['schema']}"] == schema.read_bytes()


def test_the_wheel_of_a_release_has_both_packages_and_the_board_s_files(release: Path) -> None:
    with zipfile.ZipFile(release / f"{NAME}-py3-none-any.whl") as wheel:
        names = set(wheel.namelist())
    assert {"plugvault/cli/app.py", "evcc/car.py", "plugvault/firmware/main.py"} <= names
    assert not [name for name in names if name.startswith(("tests", "tools"))]


def test_doctor_of_the_wheel_agrees_with_its_demo(release: Path, tmp_path: Path) -> None:
    """Without a checkout, a home, a cache, MicroPython or much room. The dependencies are those
    of this interpreter."""
    site, small = tmp_path / "site", tmp_path / "small"
    small.mkdir()
    with zipfile.ZipFile(release / f"{NAME}-py3-none-any.whl") as wheel:
        wheel.extractall(site)
    changes = {"PYTHONPATH": str(site), "TMPDIR": str(small), "XDG_CACHE_HOME": "/proc/none"}
    environment = {**os.environ, **changes}
    environment.pop("HOME", None)

    def run(*arguments: str) -> dict[str, Any]:
        ended = subprocess.run(
            on_small_disk(small, sys.executable, "-m", "plugvault.cli.app", *arguments, "--json"),
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert ended.returncode == 0, ended.stdout + ended.stderr
        report: dict[str, Any] = json.loads(ended.stdout)
        return report

    report = run("doctor")
    findings = {row["what"]: row for row in report["findings"]}
    assert report["well"]
    assert findings["temporary files"]["found"].startswith(f"{small}, ")
    assert not findings["cache"]["good"]
    assert not findings["MicroPython wheel"]["good"]
    assert [row for row in findings.values() if row["mend"].startswith("`make`")] == []
    assert run("demo", "--runtime", "cpython")["ok"]


def test_a_release_made_again_has_the_same_bytes(release: Path, tmp_path: Path) -> None:
    """With other rights of files, and in another zone of time."""
    again = made(tmp_path / "again", 0o077, "Asia/Tokyo")
    assert (again / "SHA256SUMS").read_bytes() == (release / "SHA256SUMS").read_bytes()


def test_vectors_that_do_not_open_end_the_release(
    tmp_path: Path, release: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    spec = importlib.util.spec_from_file_location("release", ROOT / "tools/release.py")
    assert spec
    assert spec.loader
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    folder = tmp_path / "tools/case_vectors"
    folder.mkdir(parents=True)
    (folder / "check.py").write_bytes((ROOT / "tools/case_vectors/check.py").read_bytes())
    with zipfile.ZipFile(release / f"{VECTORS}.zip") as archive:
        vectors = json.loads(archive.read(f"{VECTORS}/case_vectors.json"))
    for group in vectors["testGroups"]:
        for test in group["tests"]:
            test["result"] = "valid"
    (folder / "wrong.json").write_text(json.dumps(vectors))
    (folder / "__main__.py").write_text(
        f"import shutil, sys; shutil.copy({str(folder / 'wrong.json')!r}, sys.argv[1])"
    )
    with pytest.raises(SystemExit):
        tool.write_vectors(tmp_path, tmp_path / "vectors.zip")
    assert "KT-045: valid, and does not open" in capsys.readouterr().err
    assert not (tmp_path / "vectors.zip").exists()
