"""A user's locale changes no result: under Turkish rules "I" is not the capital of "i"."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

# Prints the outcomes of a new event, of the same event again, and of a statement on two rows.
SCRIPT = """
import locale, pathlib, sys
assert locale.setlocale(locale.LC_CTYPE) == "tr_TR.UTF-8"
from plugvault.roles.state_file import StateFile, is_new_event
state = StateFile(pathlib.Path(sys.argv[1]), "CREATE TABLE IF NOT EXISTS pairs (a, b)")
with state.transaction() as run:
    print(is_new_event(run, "event"), is_new_event(run, "event"))
    print(run("INSERT INTO pairs VALUES (1, 2), (3, 4)", ()), run("DELETE FROM pairs", ()))
"""


# Prints how many of two DH points a store of the pools says it has forgotten, and whether it
# knows the third.
STORE = """
import pathlib, sys
from plugvault.pools.records import Seen
from plugvault.store import SqlStore
store = SqlStore.sqlite(pathlib.Path(sys.argv[1]))
with store.write() as records:
    records.seen.add([Seen(bytes([i]), b"h", b"k", until) for i, until in enumerate((1, 1, 9))])
    print(records.seen.forget(5, 10))
with store.read() as records:
    print([seen.mark for seen in records.seen.known([b"\\0", b"\\1", b"\\2"])])
store.close()
"""

REQUESTS = """
import sys
from plugvault.cli.app import main
assert open(sys.argv[1]).encoding.lower().replace("-", "") == "iso88599"
main(["requests", "--json", sys.argv[1], "--env", sys.argv[2]])
"""


def locale_of(folder: Path, encoding: str) -> dict[str, str]:
    """The environment of a user with a Turkish locale in this encoding, made here."""
    name = f"tr_TR.{encoding}"
    command = ["localedef", "-i", "tr_TR", "-f", encoding, str(folder / name)]
    try:
        subprocess.run(command, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("no sources of locales here: apt-get install locales")
    return {**os.environ, "LOCPATH": str(folder), "LC_ALL": name, "PYTHONUTF8": "0"}


@pytest.fixture
def turkish(tmp_path: Path) -> dict[str, str]:
    """The environment of a user with a Turkish locale, made here."""
    return locale_of(tmp_path, "UTF-8")


def printed(script: str, *arguments: object, env: dict[str, str]) -> str:
    """The output of a script, which must end well and without a word of error."""
    ended = subprocess.run(
        [sys.executable, "-c", script, *map(str, arguments)],
        env=env,
        capture_output=True,
        encoding="utf-8",
        check=False,
    )
    assert ended.stderr == ""
    return ended.stdout


def test_a_new_event_is_new_under_a_turkish_locale(turkish: dict[str, str], tmp_path: Path):
    assert printed(SCRIPT, tmp_path / "state.sqlite", env=turkish) == "True False\n2 2\n"


def test_the_pools_store_counts_its_rows_under_a_turkish_locale(
    turkish: dict[str, str], tmp_path: Path
):
    assert printed(STORE, tmp_path / "pools.sqlite", env=turkish) == "2\n[b'\\x02']\n"


def test_a_file_in_utf8_is_read_as_such_under_a_locale_of_another_encoding(tmp_path: Path):
    file, env = tmp_path / "one.http", tmp_path / "env.json"
    file.write_text("### Müller ğ\nGET {{url}}\n", encoding="utf-8")
    values = {"Straße": {"url": "http://127.0.0.1:1/Süd"}}
    env.write_text(json.dumps(values, ensure_ascii=False), encoding="utf-8")
    line = printed(REQUESTS, file, env, env=locale_of(tmp_path, "ISO-8859-9"))
    assert json.loads(line)["title"] == "Müller ğ"


def test_no_code_reads_or_writes_text_in_the_encoding_of_the_users_locale():
    # ruff's PLW1514 sees this where a line says that a name is a path, and the rest is seen here.
    places = [
        f"{file.relative_to(ROOT)}:{call.lineno}"
        for folder in ("host/plugvault", "firmware")
        for file in (ROOT / folder).rglob("*.py")
        for call in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(call, ast.Call) and _is_of_the_locale(call)
    ]
    assert places == []


def _is_of_the_locale(call: ast.Call) -> bool:
    name = call.func.attr if isinstance(call.func, ast.Attribute) else ""
    if name == "fdopen":
        mode = call.args[1] if len(call.args) > 1 else ast.Constant("r")
        is_text = not (isinstance(mode, ast.Constant) and "b" in str(mode.value))
    else:
        is_text = name in ("read_text", "write_text")
    return is_text and not any(keyword.arg == "encoding" for keyword in call.keywords)


def test_no_code_trusts_the_row_count_of_pythons_sqlite():
    files = (ROOT / "host/plugvault").rglob("*.py")
    assert [file.name for file in files if ".rowcount" in file.read_text(encoding="utf-8")] == [
        "transaction.py"
    ]
