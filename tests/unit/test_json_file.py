"""JSON from outside: each fault is one error with words, and one place reads it."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from plugvault import json_file
from plugvault.cli.vehicle.garage import GarageError, _kept
from plugvault.ecosystem.folder import FolderError
from plugvault.ecosystem.links import Links
from plugvault.json_file import JsonError
from plugvault.roles.connections import Answer, Request

PLUGVAULT = Path(json_file.__file__).parent
DEEP = b"[" * 200_000


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (b"", "not JSON: Expecting value: line 1 column 1"),
        (b'{"a":', "not JSON"),
        (DEEP, "JSON nested too deep"),
        (DEEP.decode(), "JSON nested too deep"),
        (b"9" * 5000, "JSON with a number of more than 4300 digits"),
        (b"-" + b"9" * 5000, "JSON with a number of more than 4300 digits"),
        (b'"M\xfcller"', "not JSON: no text in UTF-8"),
        (b"\xff\xfe\xfd", "not JSON"),
    ],
)
def test_each_fault_is_one_error_in_words(text: bytes | str, words: str) -> None:
    with pytest.raises(JsonError) as caught:
        json_file.parse(text)
    assert words in str(caught.value)
    assert "sys." not in str(caught.value)


def test_a_file_with_a_byte_order_mark_is_read(tmp_path: Path) -> None:
    file = tmp_path / "a.json"
    file.write_text('{"name": "Müller"}', encoding="utf-8-sig")
    assert json_file.read(file) == {"name": "Müller"}


def test_an_answer_that_is_nested_too_deep_is_as_bad_as_any_other() -> None:
    with pytest.raises(ValueError, match="nested too deep"):
        Answer(Request("GET", "/"), 200, DEEP).json()


@pytest.mark.parametrize(
    "content",
    [
        b"[",
        DEEP,
        b"[]",
        b"null",
        b'{"p1": 1}',
        b'{"p1": {"client_id": "c"}}',
        b'{"p1": {"client_id": 1, "client_secret": "s", "audience": "https://x"}}',
        b'{"p1": {"client_id": "c", "client_secret": "s", "audience": "https://x", "trust": 1}}',
    ],
    ids=lambda content: content[:60].decode(),
)
def test_damaged_credentials_for_partners_name_their_file(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "partners.json").write_bytes(content)
    with pytest.raises(FolderError, match=r"partners\.json is damaged.*partners link") as caught:
        list(Links(tmp_path))
    assert caught.value.reason == "unknown"


@pytest.mark.parametrize("content", [b"[", DEEP, b"[]", b"1"])
def test_a_damaged_file_of_a_kept_vehicle_is_named(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "vehicle.json").write_bytes(content)
    with pytest.raises(GarageError, match=r"vehicle\.json .*another --keep folder"):
        _kept(tmp_path)


def test_no_other_place_reads_json_from_a_file() -> None:
    places = [
        f"{file.relative_to(PLUGVAULT)}:{call.lineno}"
        for file in PLUGVAULT.rglob("*.py")
        for call in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(call, ast.Call) and ast.unparse(call.func) == "json.loads"
        if re.search(r"\.read_(text|bytes)\(", ast.unparse(call))
    ]
    assert places == []
