"""The surroundings of an installation: the disk, the token, its PIN, other programs.

The car has the old contract or the new one, as soon as it can work again; nothing is made anew.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from fixtures.grounds import Ground
from fixtures.tokens import CarToken, module_of
from plugvault.tokens.providers import PROVIDERS, SOFTHSM
from world import World

Some = Callable[..., list[Any]]
SIZE = 1 << 20
BLOCK = 4096


def mount(folder: Path, options: str) -> bool:
    """A small disk of its own at `folder`."""
    command = ["mount", "-t", "tmpfs", "-o", f"size={SIZE},mode=700,{options}", "tmpfs", folder]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


@pytest.fixture(params=PROVIDERS)
def small_ground(
    request: pytest.FixtureRequest, world: World, short_dir: Path
) -> Iterator[Ground]:
    """A car with its token and contracts on a disk of 1 MiB."""
    provider = PROVIDERS[request.param]
    module_of(provider)
    if os.geteuid() != 0 or not mount(short_dir, "rw"):
        pytest.skip("a full disk needs the right to mount a small one (root)")
    opened = None
    try:
        opened = Ground(world, CarToken(short_dir, provider))
        yield opened
    finally:
        if opened is not None:
            opened.close()
        subprocess.run(["umount", "-l", short_dir], check=True)


def fill(folder: Path, free: int) -> Path:
    """Leave so many bytes free."""
    disk = os.statvfs(folder)
    file = folder / "fill"
    file.write_bytes(bytes(disk.f_bavail * disk.f_frsize - free))
    return file


def test_a_full_disk_at_any_write_costs_no_contract(small_ground: Ground, some: Some) -> None:
    """From no free block to enough: a different write fails each time."""
    ground = small_ground
    seen: Counter[str] = Counter()
    for free in some(range(0, 40 * BLOCK, BLOCK), 6):
        ground.restore()
        filler = fill(ground.token.folder, free)
        installed = ground.installs()
        assert "died" not in ground("look")
        filler.unlink()
        now = ground.survived()
        assert (now == "new") == installed
        seen[now] += 1
    assert set(seen) == {"old", "new"}
    print(f"full disk: {dict(seen)}")


def test_a_read_only_disk_costs_no_contract(small_ground: Ground) -> None:
    ground = small_ground
    assert mount(ground.token.folder, "remount,ro")
    assert not ground.installs()
    seen = ground("look")
    if ground.token.provider is SOFTHSM:
        assert [contract[3] for contract in seen["contracts"]] == [True, True], (
            "what is there signs"
        )
    else:  # NSS opens no database that it may not write
        assert "cannot be written" in seen["error"]
    assert mount(ground.token.folder, "remount,rw")
    assert ground.survived() == "old"


def test_a_token_that_was_away_has_its_keys_again(each_ground: Ground) -> None:
    ground = each_ground
    away = ground.tokens.rename(ground.token.folder / "away")
    assert not ground.installs()
    assert "error" in ground("look")
    if ground.tokens.exists():
        assert not any(file.is_file() for file in ground.tokens.rglob("*")), "made anew"
        ground.tokens.rmdir()
    away.rename(ground.tokens)
    assert ground.survived() == "old"


CHANGE = """
import sys
from plugvault.cryptoki.hsm import Hsm
module, conf, options, label = sys.argv[1:]
old, new = sys.stdin.read().split()
with Hsm(module, conf or None, options) as hsm:
    hsm.token(label, old).session.set_pin(old, new)
"""


def test_a_pin_changed_outside_is_reported_and_costs_no_contract(each_ground: Ground) -> None:
    ground, token = each_ground, each_ground.token
    location = [str(token.module), str(token.conf or ""), token.location.options, token.label]

    def change(old: str, new: str) -> None:
        command = [sys.executable, "-c", CHANGE, *location]
        subprocess.run(command, input=f"{old} {new}", text=True, check=True)

    change(token.pin, "another-pin")
    assert not ground.installs()
    error = ground("look")["error"]
    assert error.startswith("pin")
    assert token.pin not in error
    change("another-pin", token.pin)
    assert ground.survived() == "old"


OTHER = """
import select, sys
from evcc.vault import VaultError
from plugvault.cryptoki.hsm import Hsm
module, conf, options, label = sys.argv[1:]
pin = sys.stdin.readline().strip()
with Hsm(module, conf or None, options) as hsm:
    token = hsm.token(label, pin)
    print("ready", flush=True)
    made = []
    while not select.select([sys.stdin], [], [], 0)[0]:
        try:
            made.append(token.generate(f"key {len(made)}"))
            if len(made) > 10:
                with token.call():
                    for half in token.pair(f"key {len(made) - 10}"):
                        half.destroy()
        except VaultError as error:
            print(error, file=sys.stderr)
    for key in (made[0], *made[-9:]):
        try:
            key.sign_digest(bytes(32))
        except VaultError as error:
            print(error, file=sys.stderr)
            token.key(key.label).sign_digest(bytes(32))
    print(len(made))
"""


def test_another_program_on_the_same_token_costs_no_contract(
    each_ground: Ground, whole: bool
) -> None:
    """It makes and destroys keys of its own all the while: they stay its own, and ours ours.

    NSS refuses one of two concurrent writers with an error and no effect. SoftHSM, one
    time in hundreds, does not find what it has just made, and the other program asks again.
    """
    ground, token = each_ground, each_ground.token
    location = [str(token.module), str(token.conf or ""), token.location.options, token.label]
    process = subprocess.Popen(
        [sys.executable, "-c", OTHER, *location],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(token.pin + "\n")
    process.stdin.flush()
    assert process.stdout.readline() == "ready\n"
    refused = 0
    for _ in range(50 if whole else 4):
        ground.renew()
        installed = ground.installs()
        seen = ground("look")
        refused += not installed or "error" in seen
        assert "contracts" in seen or seen.get("error", "").startswith("unavailable"), seen
        if "error" not in seen:
            assert seen["contracts"][0][1:] == [
                ground.new if installed else ground.old,
                False,
                True,
            ]
            assert seen["contracts"][1][1:] == [ground.other, False, True]
            ours = [key for key in seen["keys"] if key]  # theirs has no name while it is made
            assert len(ours) == 3, seen
        if installed:
            ground.old = ground.new
    count, errors = process.communicate("\n", timeout=60)
    assert process.returncode == 0, errors
    assert int(count) > 0
    seen = ground("look")
    assert [contract[1:] for contract in seen["contracts"]] == [
        [ground.old, False, True],
        [ground.other, False, True],
    ]
    if token.provider is SOFTHSM:
        assert refused == 0
    print(f"{count.strip()} keys of another program, {refused} times refused")
