"""A car erased from a board: its files and its keys, and nothing else."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from both.memory import KeyList
from evcc.contracts import Contracts
from evcc.ports.files import Files
from evcc.ports.slots import SlotFiles
from fixtures.unix_board import PICO, UID, UnixBoard
from plugvault.board import configuration, erasure
from plugvault.board.configuration import BoardUart
from plugvault.board.folder import Board, Boards
from plugvault.tokens import probes, subprocess_probe
from plugvault.vault_service.callers import VaultCaller

MAKER = b"\x04" + bytes(64)
OF_A_CAR = ["contracts", "chain-00ff", "identity", "provisioning-key", "revoked", "time", "trust"]
ON_FAT = ["contracts.a", "contracts.b", "chain-00ff.a", "time.b"]
OF_THE_USER = ["notes.txt", "time.txt", "main.py", "chain-letter"]


@pytest.fixture
def board(tmp_path: Path, softhsm: Path) -> Board:
    """The record of the board on this computer, with a token made here."""
    return Boards(tmp_path / "data").make(PICO)


def fill(unix_board: UnixBoard, folder: str, names: list[str]) -> None:
    with unix_board.repl() as repl:
        repl.run(f"import os\nos.mkdir({folder!r})")
        for name in names:
            repl.write(f"{repl.root}{folder}/{name}", b"x")


def test_files_of_the_car_go_from_both_stores_and_those_of_the_user_stay(
    any_board: UnixBoard, board: Board
) -> None:
    with any_board.repl() as repl:
        root = repl.root
    config = configuration.make(BoardUart(1), UID, MAKER, root, store="old")
    any_board.put("config.json", config)
    fill(any_board, "old", [*OF_A_CAR, "time.new", *OF_THE_USER])
    fill(any_board, "store", ON_FAT)
    with any_board.repl() as repl:
        paths = erasure.find(repl, "store")
        assert len(paths) == len(OF_A_CAR) + 1 + len(ON_FAT)
        assert erasure.erase(repl, board, paths) == 0
        assert erasure.find(repl, "store") == []
    left = set(any_board.files())
    assert left == {"config.json", *(f"old/{name}" for name in OF_THE_USER)}


@pytest.mark.parametrize("configured", ["store", "store/", "./store", "/store", "//store/"])
def test_store_of_another_spelling_is_one_store_and_each_file_is_listed_once(
    configured: str, any_board: UnixBoard
) -> None:
    with any_board.repl() as repl:
        root = repl.root
    if configured.startswith("/"):
        configured = root.rstrip("/") + configured
    settings = json.loads(configuration.make(BoardUart(1), UID, MAKER, root))
    any_board.put("config.json", json.dumps({**settings, "store": configured}).encode())
    fill(any_board, "store", OF_A_CAR)
    with any_board.repl() as repl:
        assert erasure.find(repl, "store") == sorted(f"{root}store/{name}" for name in OF_A_CAR)


def test_files_of_a_store_in_the_root_have_the_paths_of_the_root(unix_board: UnixBoard) -> None:
    unix_board.put("identity", b"x")
    with unix_board.repl() as repl:
        assert erasure.find(repl, "/") == ["/identity"]


def test_board_with_a_damaged_configuration_or_without_a_store_has_no_files_to_erase(
    unix_board: UnixBoard,
) -> None:
    unix_board.put("config.json", b"{")
    with unix_board.repl() as repl:
        assert erasure.find(repl, "store") == []


def with_token_of_the_user(board: Board, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Board:
    """The board in another folder, where its token is one that the user has named."""
    location = board.configuration().location
    pin = tmp_path / "pin"
    pin.touch(mode=0o600)
    pin.write_text(board.pin)
    monkeypatch.setenv("PLUGVAULT_TOKEN", location.label)
    monkeypatch.setenv("PLUGVAULT_MODULE", str(location.module))
    monkeypatch.setenv("SOFTHSM2_CONF", str(location.conf))
    monkeypatch.setenv("PLUGVAULT_PIN", f"file:{pin}")
    return Boards(tmp_path / "other").make(PICO)


def make_key(board: Board, claim: bytes, name: str = UID) -> str:
    """A car's provisioning key in the board's token; its point."""
    vault = board.configuration().open()
    try:
        vault.claim(VaultCaller(name.encode()).owner(claim))
        return bytes(vault.generate_provisioning_key()).hex()
    finally:
        vault.close()


def points(board: Board) -> set[str]:
    token = board.configuration()
    keys = subprocess_probe.run(probes.list_keys, location=token.location, pin=token.pin)
    return {key["point"] for key in keys}


def test_every_key_in_the_boards_own_token_is_destroyed(
    unix_board: UnixBoard, board: Board
) -> None:
    for claim in (b"", bytes(8), bytes(range(8))):
        make_key(board, claim)
    assert len(points(board)) == 3
    with unix_board.repl() as repl:
        assert erasure.erase(repl, board, []) == 3
    assert points(board) == set()


@pytest.mark.parametrize("kind, store", [(Files, "store"), (SlotFiles, "store"), (Files, "")])
def test_only_keys_of_this_board_are_destroyed_in_a_token_of_the_user(
    kind: Callable[[str], Files],
    store: str,
    unix_board: UnixBoard,
    board: Board,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    board = with_token_of_the_user(board, tmp_path, monkeypatch)
    contracts = Contracts(kind(str(tmp_path / "store")))
    contracts.recover(KeyList([]))
    make_key(board, contracts.owner)
    others = {make_key(board, contracts.owner, "another"), make_key(board, b"unknown.")}
    if store:
        fill(unix_board, store, [])
    for path in (tmp_path / "store").iterdir():
        unix_board.put(f"{store}/{path.name}".lstrip("/"), path.read_bytes())
    with unix_board.repl() as repl:
        assert erasure.erase(repl, board, erasure.find(repl, store)) == 1
    assert points(board) == others
