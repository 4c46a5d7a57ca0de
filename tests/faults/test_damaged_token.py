"""The token's files are damaged: every one cut off at every length, and with bits turned over.

The contracts of other files work; the damaged one works too, or is named and not used; and every
process with the token goes on. A changed bit of `token.object` may cost the token (its label, its
PIN, the key that encrypts the others): that is then reported, and no key is made again.
"""

from __future__ import annotations

import contextlib
import shutil
import sqlite3
import subprocess
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from evcc.vault import PROVISIONING, VaultError
from evcc.vault.cryptoki import CKA_CLASS, CKA_ID, CKO_PRIVATE_KEY
from fixtures.grounds import CONTRACTS, Ground
from plugvault import runtimes

Some = Callable[..., list[Any]]
STEP = 7
OWNER = "token.object"


def files(ground: Ground) -> list[Path]:
    """Return the files of the token, without the configuration of its library."""
    paths = [path_ for path_ in ground.tokens.rglob("*") if path_.is_file()]
    paths = [path_ for path_ in paths if path_.suffix not in (".lock", ".conf")]
    return sorted(paths, key=lambda path_: (path_.name == OWNER, path_.name))


def outcome(ground: Ground, file: Path) -> str:
    """Start the car; return how many of the two contracts sign. A lost one must be named."""
    seen, is_one_key = ground("look"), file.name != OWNER and file.suffix != ".db"
    if "error" in seen:
        assert not is_one_key, seen
        return "no token: " + seen["error"].split(":")[0]
    assert "died" not in seen, seen
    lost = 0
    for emaid, (named, _, is_lost, signs) in zip(CONTRACTS, seen["contracts"], strict=True):
        assert named == emaid
        assert is_lost or signs is True, seen
        if is_lost:
            lost += 1
            assert any(emaid in sentence for sentence in seen["found"]), seen
    assert lost <= 1 or not is_one_key
    return f"{2 - lost} of 2"


def damaged(
    ground: Ground, cases: list[tuple[Path, int, bytes]]
) -> tuple[Counter[str], list[Any]]:
    seen: Counter[str] = Counter()
    wrong = []
    for file, where, data in cases:
        ground.restore()
        file.write_bytes(data)
        try:
            seen[outcome(ground, file)] += 1
        except AssertionError as error:
            wrong.append((file.name, where, str(error)))
    return seen, wrong


def turned_over(data: bytes, at: int) -> bytes:
    """`data` with one bit of the byte at `at` changed."""
    return data[:at] + bytes((data[at] ^ 1 << at % 8,)) + data[at + 1 :]


def test_token_files_cut_off_anywhere_cost_one_key_at_most(ground: Ground, some: Some) -> None:
    cases = [
        (file, n, file.read_bytes()[:n])
        for file in files(ground)
        for n in range(0, file.stat().st_size, STEP)
    ]
    seen, wrong = damaged(ground, some(cases, 20))
    assert wrong == []
    assert set(seen) == {"2 of 2", "1 of 2"}, "a token that is cut off comes back"
    print(f"cut off: {dict(seen)}")


def test_a_changed_bit_in_a_key_file_costs_one_key_at_most(ground: Ground, some: Some) -> None:
    cases = []
    for file in files(ground):
        data = file.read_bytes()
        cases += [(file, at, turned_over(data, at)) for at in range(len(data))]
    seen, wrong = damaged(ground, some(cases, 20))
    assert wrong == []
    assert seen["1 of 2"]
    print(f"one bit: {dict(seen)}")


@pytest.mark.parametrize("each_token", ["nss"], indirect=True)
def test_nss_files_damaged_anywhere_cost_nothing_once_they_are_restored(
    each_ground: Ground, some: Some
) -> None:
    """All keys of NSS are in two files: a truncated file costs the whole token. It is reported, no
    process dies, and no key or contract is removed or made anew."""
    ground = each_ground
    seen: Counter[str] = Counter()
    wrong = []
    for file in files(ground):
        data = file.read_bytes()
        places = range(0, len(data), STEP)
        for at, is_cut in some([(at, is_cut) for is_cut in (True, False) for at in places], 8):
            file.write_bytes(data[:at] if is_cut else turned_over(data, at))
            try:
                seen[outcome(ground, file)] += 1
            except AssertionError as error:
                wrong.append((file.name, at, is_cut, str(error)))
            file.write_bytes(data)
    assert wrong == []
    assert ground.survived() == "old"
    assert seen["no token: unavailable"]
    print(f"NSS: {dict(seen)}")


@pytest.mark.parametrize("each_token", ["nss"], indirect=True)
@pytest.mark.parametrize(
    ("name", "table", "column", "value"),
    [
        ("cert9.db", "nssPublic", "a10a", b"\1\1"),  # CKA_VERIFY
        ("cert9.db", "nssPublic", "a3", b"\xff"),  # CKA_LABEL
        ("key4.db", "nssPrivate", "a100", b"\0\0\3"),  # CKA_KEY_TYPE, of which `sign` asks
        ("key4.db", "nssPrivate", "a100", b"\0\0\4\3"),
    ],
)
def test_unreadable_attribute_costs_one_key(
    each_ground: Ground, name: str, table: str, column: str, value: bytes
) -> None:
    """Values that python-pkcs11 cannot read."""
    file = next(file_ for file_ in files(each_ground) if file_.name == name)
    with contextlib.closing(sqlite3.connect(file)) as database, database:
        where = f"id = (SELECT max(id) FROM {table})"
        database.execute(f"UPDATE {table} SET {column} = ? WHERE {where}", (value,))
    assert outcome(each_ground, file) == "1 of 2"


def poison(file: Path) -> None:
    """Damage the encrypted CKA_ID of a private key, so that every search by id fails.

    A changed bit of the block before the last, or of the IV, changes that bit of the last block's
    plain text [CBC]: here of the padding, which is then wrong.
    """
    data = file.read_bytes()
    attribute = b"".join(n.to_bytes(8, "big") for n in (0x102, 3))  # CKA_ID, of the kind "bytes"
    at = data.index(attribute) + len(attribute)
    end = at + 8 + int.from_bytes(data[at : at + 8], "big")
    file.write_bytes(data[: end - 17] + bytes((data[end - 17] ^ 1,)) + data[end - 16 :])


def private_files(ground: Ground) -> list[Path]:
    """Return the files of the private keys, which are longer than those of public keys."""
    return sorted(files(ground)[:-1], key=lambda path_: path_.stat().st_size)[-3:]


def test_one_damaged_key_does_not_hide_the_others_from_every_search(ground: Ground) -> None:
    seen: Counter[str] = Counter()
    for file in private_files(ground):
        ground.restore()
        poison(file)
        with pytest.raises(VaultError, match="unavailable"):
            found_by_id(ground)
        result = outcome(ground, file)
        assert ground.installs() == (result == "1 of 2"), (
            "a contract wants the provisioning key only"
        )
        seen[result] += 1
    assert seen == {"1 of 2": 2, "2 of 2": 1}  # the third key is the provisioning key


def found_by_id(ground: Ground) -> None:
    """Search for each key by its id. Raises: VaultError where the search fails."""
    vault = ground.token.open()
    try:
        for key in (PROVISIONING, *(bytes([n]) * 16 for n in range(3))):
            vault._backend.find([(CKA_CLASS, CKO_PRIVATE_KEY), (CKA_ID, key)])
    finally:
        vault.close()


ENUMERATE = """
import sys
from evcc.vault import pkcs11
vault = pkcs11.open(sys.argv[1], sys.argv[2], sys.stdin.readline().strip())
signed = 0
for key, point in vault.keys():
    if point:
        signed += vault.verify(point, bytes(32), vault.sign(key, bytes(32)))
print(signed)
"""


def enumerated(ground: Ground) -> subprocess.CompletedProcess[str]:
    """The run of a module that drives the token itself: it prints the number of keys that sign."""
    runtime = runtimes.get("debian")
    if runtime is None:
        pytest.skip("no interpreter 'debian' here; make says why")
    return subprocess.run(
        [*runtime.argv, "-c", ENUMERATE, ground.token.module, ground.token.label],
        env={**runtime.env(), **ground.token.store.env()},
        input=ground.token.pin + "\n",
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


def test_one_damaged_key_does_not_hide_the_others_from_the_module(ground: Ground) -> None:
    poison(private_files(ground)[0])
    ended = enumerated(ground)
    assert ended.stdout.strip() == "2", ended.stderr


def owner(ground: Ground) -> Path:
    (token_file,) = [file for file in files(ground) if file.name == OWNER]
    return token_file


def number_of_the_empty_slot(ground: Ground) -> None:
    """In the last eight digits of the serial number, all but the first of which are none now."""
    file = owner(ground)
    data, last = file.read_bytes(), file.parent.name.encode()[-8:]
    assert data.count(last) == 1
    file.write_bytes(data.replace(last, b"1\xff" + last[2:]))


def test_serial_number_of_the_empty_slot_ends_no_process_and_costs_nothing(
    ground: Ground,
) -> None:
    number_of_the_empty_slot(ground)
    assert outcome(ground, owner(ground)) == "2 of 2"
    number_of_the_empty_slot(ground)
    ended = enumerated(ground)
    assert ended.stdout.strip() == "3", ended.stderr


def test_copy_of_a_token_ends_no_process_and_is_reported(ground: Ground) -> None:
    folder = owner(ground).parent
    copy = folder.with_name("copy")
    shutil.copytree(folder, copy)
    for error in (ground("look")["error"], enumerated(ground).stderr):
        assert "unavailable: one serial number for two tokens" in error
        assert str(folder) in error
        assert str(copy) in error
    shutil.rmtree(copy)
    assert outcome(ground, owner(ground)) == "2 of 2"
