"""The entry point of the command, and `plugvault doctor`."""

import json
import os
import pwd
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
import typer

import plugvault
from plugvault import interfaces, runtimes
from plugvault.cli import app, doctor
from plugvault.station import discovery
from plugvault.tokens import nss, softhsm

HEAVY = ("fastapi", "sqlalchemy", "uvicorn", "httpx", "pkcs11", "joserfc")


def run(*arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "plugvault.cli.app", *arguments],
        env={**os.environ, **env},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_the_base_of_the_errors_of_a_line_is_found_at_any_place_in_the_order() -> None:
    class Base(Exception):
        def format_message(self) -> str:
            return ""

    class Usage(Base):
        def format_message(self) -> str:
            return "usage"

    class Between(Usage):
        pass

    class Bad(Between):
        pass

    assert app._error_of_a_line(Bad) is Base
    found = app._error_of_a_line(typer.BadParameter)
    assert issubclass(typer.BadParameter, found)
    assert found.exit_code == 1
    assert not issubclass(typer.Exit, found)


def test_version_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert app.main(["--version"]) == 0
    assert capsys.readouterr().out == f"plugvault {plugvault.__version__}\n"


def test_no_argument_shows_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert app.main([]) == 0
    output = capsys.readouterr().out
    assert all(name in output for name in app.COMMANDS)


def test_unknown_command_is_refused_with_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    assert app.main(["inspekt"]) == 2
    assert "did you mean `inspect`" in capsys.readouterr().err


def test_command_with_a_missing_library_says_so(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(app.COMMANDS, "exi", ("plugvault.cli.not_there", "app", ""))
    assert app.main(["exi"]) == 2
    assert "make" in capsys.readouterr().err
    assert app.main(["--version"]) == 0


@pytest.mark.parametrize("name", app.COMMANDS)
def test_every_command_has_help(name: str) -> None:
    ended = run(name, "--help")
    assert ended.returncode == 0, ended.stderr
    assert f"plugvault {name}" in ended.stdout


def test_exi_starts_without_the_ecosystem() -> None:
    code = (
        "import sys\nfrom plugvault.cli.app import main\n"
        "try: main(['exi', '--help'])\nexcept SystemExit: pass\n"
        f"print('heavy:', [name for name in {HEAVY} if name in sys.modules])"
    )
    ended = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert "heavy: []" in ended.stdout


def test_a_terminal_without_unicode_gets_ascii_signs(tmp_path: Path) -> None:
    vectors = Path(__file__).parents[1] / "vectors" / "certificates.json"
    (tmp_path / "root").write_text(json.loads(vectors.read_text())["forever_root"])
    ended = run("inspect", str(tmp_path / "root"), PYTHONIOENCODING="ascii")
    assert ended.returncode == 0, ended.stderr
    assert "?  certificates readable" in ended.stdout


def test_doctor_gives_the_same_findings_as_json() -> None:
    ended = run("doctor", "--json")
    report = json.loads(ended.stdout)
    assert report["well"] == (ended.returncode == 0)
    assert {"Python", "packages", "token library"} <= {row["what"] for row in report["findings"]}


def test_doctor_without_a_token_library_names_the_remedy(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("PLUGVAULT_PKCS11_MODULE", raising=False)
    monkeypatch.setattr(softhsm, "_MODULES", ())
    with pytest.raises(SystemExit) as ended:
        app.main(["doctor"])
    assert ended.value.code == 1
    output = capsys.readouterr().out
    assert "sudo apt-get install softhsm2" in output
    assert "cannot run yet" in output


def test_doctor_without_nss_names_the_remedy_and_lets_the_main_job_run(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(nss, "_MODULES", ())
    (missing,) = doctor.strong_token()
    assert (missing.good, missing.needed) == (False, False)
    assert "apt-get install libnss3" in missing.mend


def test_doctor_says_what_to_do_for_an_interface_that_a_station_cannot_use() -> None:
    ended = run("doctor", "--interface", "eth77")
    assert ended.returncode == 1
    assert "there is no interface 'eth77'" in ended.stdout
    assert "use one of: lo" in ended.stdout
    assert "a station at eth77 cannot run yet" in ended.stdout


@pytest.mark.xdist_group("sdp")  # one station alone answers on an interface
def test_doctor_finds_the_port_of_sdp_in_use() -> None:
    assert doctor.interface("lo").good
    with discovery.listen(interfaces.link_local("lo")):
        finding = doctor.interface("lo")
    assert (finding.good, "port 15118" in finding.found) == (False, True)


def test_doctor_without_postgresql_names_the_remedy_and_lets_the_main_job_run(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(doctor, "SERVERS", tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path))
    (missing,) = doctor.postgresql()
    assert (missing.good, missing.needed) == (False, False)
    assert "`make test` unpacks one" in missing.mend


def test_doctor_names_the_postgresql_that_the_set_up_has_unpacked(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    server = tmp_path / "plugvault/postgresql/15.18-0+deb12u1/bin/postgres"
    server.parent.mkdir(parents=True)
    server.write_text("#!/bin/sh\necho PostgreSQL 15.18\n")
    server.chmod(0o755)
    monkeypatch.setattr(doctor, "SERVERS", tmp_path / "none")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    (finding,) = doctor.postgresql()
    assert (finding.good, finding.found) == (True, f"PostgreSQL 15.18, {server}")


@pytest.fixture
def wheel(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """An installed package, without a checkout, a home, a cache or a token library."""
    monkeypatch.setattr(doctor, "_ROOT", tmp_path)
    for name in ("HOME", "XDG_CACHE_HOME", "PLUGVAULT_PKCS11_MODULE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(pwd, "getpwuid", {}.__getitem__)  # the user is in no list
    for module in (nss, softhsm):
        monkeypatch.setattr(module, "_MODULES", ())
    monkeypatch.setattr(doctor, "SERVERS", tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path))
    runtimes.get.cache_clear()
    yield
    runtimes.get.cache_clear()


def test_doctor_of_an_installed_package_names_commands_that_work_there(wheel: None) -> None:
    findings = {finding.what: finding for finding in doctor.examine()}
    assert [what for what, it in findings.items() if it.mend.startswith("`make`")] == []
    assert findings["token library"].mend == "sudo apt-get install softhsm2"
    assert not findings["cache"].needed


def test_doctor_of_an_installed_package_names_pip_for_missing_packages(
    wheel: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doctor, "_version", lambda name: None if name == "rich" else "1")
    (finding,) = doctor.packages()
    assert (finding.found, finding.good) == ("not installed: rich", False)
    assert finding.mend == f"{sys.executable} -m pip install rich"


@pytest.mark.parametrize(("megabytes", "is_enough"), [(5, True), (4, False)])
def test_doctor_demands_the_space_of_a_demo_and_no_more(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, megabytes: int, is_enough: bool
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=megabytes << 20))
    temporary, cache = doctor.disk()
    assert (temporary.what, temporary.good, temporary.needed) == (
        "temporary files",
        is_enough,
        True,
    )
    assert not cache.needed


def test_doctor_names_the_newest_postgresql(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for version in ("9.6", "15", "17"):
        server = tmp_path / version / "bin" / "postgres"
        server.parent.mkdir(parents=True)
        server.write_text(f"#!/bin/sh\necho PostgreSQL {version}\n")
        server.chmod(0o755)
    monkeypatch.setattr(doctor, "SERVERS", tmp_path)
    (finding,) = doctor.postgresql()
    assert finding.good
    assert finding.found.startswith("PostgreSQL 17,")


def test_doctor_names_the_variable_that_names_a_missing_library() -> None:
    ended = run("doctor", PLUGVAULT_PKCS11_MODULE="/nowhere/libsofthsm2.so")
    assert ended.returncode == 1
    assert "/nowhere/libsofthsm2.so does not exist" in ended.stdout
    assert "unset it" in ended.stdout


@pytest.mark.parametrize(
    "arguments",
    [[], ["--version"], ["doctor"], ["doctor", "--json"], ["exi", "--help"]],
    ids=" ".join,
)
def test_output_that_cannot_be_written_is_one_clear_line(arguments: list[str]) -> None:
    with Path("/dev/full").open("w", encoding="utf-8") as full:
        ended = subprocess.run(
            [sys.executable, "-m", "plugvault.cli.app", *arguments],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            timeout=60,
            check=False,
        )
    assert (ended.returncode, ended.stderr) == (1, "plugvault: No space left on device\n")


def without(streams: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """The end of a command that the shell has started without these streams: "<&- >&-"."""
    command = [sys.executable, "-m", "plugvault.cli.app", *arguments]
    return subprocess.run(
        ["sh", "-c", f'exec "$@" {streams}', "sh", *command],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


CHAIN = str(Path(__file__))  # no certificate: the report goes to stderr


@pytest.mark.parametrize(
    ("streams", "arguments", "status"),
    [
        (">&-", ["--version"], 0),
        (">&-", ["cases", "list"], 0),
        (">&- 2>&-", ["cases", "list"], 0),
        (">&- 2>&-", ["inspect", CHAIN], 2),
        ("<&- >&- 2>&-", ["inspect", "-"], 2),
        ("2>&-", ["inspekt"], 2),
    ],
)
def test_a_command_without_a_stream_ends_as_with_it(
    streams: str, arguments: list[str], status: int
) -> None:
    ended = without(streams, *arguments)
    assert (ended.returncode, ended.stderr) == (status, "")


@pytest.mark.parametrize(
    ("arguments", "status"),
    [
        (["inspect", "-"], 2),
        (["exi", "decode", "-"], 1),
        (["exi", "encode", "--lines", "-"], 1),
        (["ecosystem", "--data", ".", "explain-request", "-"], 2),
    ],
)
def test_a_closed_standard_input_is_named(arguments: list[str], status: int) -> None:
    ended = without("<&-", *arguments)
    assert (ended.returncode, ended.stdout) == (status, "")
    assert "standard input is closed: name a file" in ended.stderr
    assert len(ended.stderr.splitlines()) == 1


def test_a_file_opened_later_takes_no_missing_streams_number() -> None:
    code = (
        "import os; from plugvault.cli import streams; streams.open_missing();"
        "print('lost'); number = os.open('/dev/null', os.O_RDONLY); os._exit(number)"
    )
    ended = subprocess.run(
        ["sh", "-c", 'exec "$@" <&- >&- 2>&-', "sh", sys.executable, "-c", code], check=False
    )
    assert ended.returncode == 3


def test_an_error_of_a_file_names_it(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def broken(_: list[str]) -> int:
        (tmp_path / "nothing").read_bytes()
        return 0

    monkeypatch.setattr(app, "_dispatch", broken)
    assert app.main([]) == 1
    expected = f"plugvault: {tmp_path / 'nothing'}: No such file or directory\n"
    assert capsys.readouterr().err == expected


def test_doctor_with_a_file_that_is_no_token_library_says_so(tmp_path: Path) -> None:
    module = tmp_path / "libsofthsm2.so"
    module.write_text("not a library")
    ended = run("doctor", PLUGVAULT_PKCS11_MODULE=str(module))
    assert ended.returncode == 1
    assert str(module) in ended.stdout
    assert "Traceback" not in ended.stdout + ended.stderr


def test_doctor_without_micropython_still_lets_the_main_job_run(
    softhsm: Path, tmp_path: Path
) -> None:
    ended = run("doctor", "--json", XDG_CACHE_HOME=str(tmp_path))
    report = json.loads(ended.stdout)
    wheel = next(row for row in report["findings"] if row["what"] == "MicroPython wheel")
    assert not wheel["good"]
    assert wheel["mend"]
    assert report["well"]
