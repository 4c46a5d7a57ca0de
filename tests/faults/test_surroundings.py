"""What happens around an installation: the disk, the token, its PIN, other programs.

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
    """A car whose token and contracts are on a disk of 1 MiB."""
    provider = PROVIDERS[request.param]
    module_of(provider)
    if os.geteuid() != 0 or not mount(short_dir, "rw"):
        pytest.skip("a full disk needs the right to mount a small one (root)")
    made = None
    try:
        made = Ground(world, CarToken(short_dir, provider))
        yield made
    finally:
        if made is not None:
            made.close()
        subprocess.run(["umount", "-l", short_dir], check=True)


def fill(folder: Path, left: int) -> Path:
    """Leave so many bytes free."""
    disk = os.statvfs(folder)
    file = folder / "fill"
    file.write_bytes(bytes(disk.f_bavail * disk.f_frsize - left))
    return file


def test_full_disk_at_any_write(small_ground: Ground, some: Some) -> None:
    """From no room at all to enough: whatever could still be written, and what not."""
    ground = small_ground
    seen: Counter[str] = Counter()
    for left in some(range(0, 40 * BLOCK, BLOCK), 6):
        ground.restore()
        filler = fill(ground.token.folder, left)
        done = ground.installs()
        assert "died" not in ground("look")
        filler.unlink()
        now = ground.survived()
        assert (now == "new") == done
        seen[now] += 1
    assert set(seen) == {"old", "new"}
    print(f"full disk: {dict(seen)}")


def test_read_only_disk(small_ground: Ground) -> None:
    ground = small_ground
    assert mount(ground.token.folder, "remount,ro")
    assert not ground.installs()
    seen = ground("look")
    if ground.token.provider is SOFTHSM:
        assert [one[3] for one in seen["contracts"]] == [True, True], "what is there signs"
    else:  # NSS opens no database that it may not write
        assert "cannot be written" in seen["error"]
    assert mount(ground.token.folder, "remount,rw")
    assert ground.survived() == "old"


def test_token_taken_away_and_brought_back(each_ground: Ground) -> None:
    ground = each_ground
    away = ground.tokens.rename(ground.token.folder / "away")
    assert not ground.installs()
    assert "error" in ground("look")
    if ground.tokens.exists():
        assert not any(one.is_file() for one in ground.tokens.rglob("*")), "made anew"
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


def test_pin_changed_outside(each_ground: Ground) -> None:
    ground, token = each_ground, each_ground.token
    location = [str(token.module), str(token.conf or ""), token.location.options, token.label]

    def change(old: str, new: str) -> None:
        command = [sys.executable, "-c", CHANGE, *location]
        subprocess.run(command, input=f"{old} {new}", text=True, check=True)

    change(token.pin, "another-pin")
    assert not ground.installs()
    said = ground("look")["error"]
    assert said.startswith("pin")
    assert token.pin not in said
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


def test_another_program_on_the_same_token(each_ground: Ground, whole: bool) -> None:
    """It makes and destroys keys of its own all the while: they stay its own, and ours ours.

    NSS refuses one of two who write at once, and says so: then nothing has happened. SoftHSM, one
    time in hundreds, does not find what it has just made, and the other program asks again.
    """
    ground, token = each_ground, each_ground.token
    location = [str(token.module), str(token.conf or ""), token.location.options, token.label]
    other = subprocess.Popen(
        [sys.executable, "-c", OTHER, *location],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert other.stdin is not None
    assert other.stdout is not None
    other.stdin.write(token.pin + "\n")
    other.stdin.flush()
    assert other.stdout.readline() == "ready\n"
    refused = 0
    for _ in range(50 if whole else 4):
        ground.renew()
        done = ground.installs()
        seen = ground("look")
        refused += not done or "error" in seen
        assert "contracts" in seen or seen.get("error", "").startswith("unavailable"), seen
        if "error" not in seen:
            assert seen["contracts"][0][1:] == [ground.new if done else ground.old, False, True]
            assert seen["contracts"][1][1:] == [ground.other, False, True]
            ours = [key for key in seen["keys"] if key]  # theirs has no name while it is made
            assert len(ours) == 3, seen
        if done:
            ground.old = ground.new
    made, errors = other.communicate("\n", timeout=60)
    assert other.returncode == 0, errors
    assert int(made) > 0
    seen = ground("look")
    assert [one[1:] for one in seen["contracts"]] == [
        [ground.old, False, True],
        [ground.other, False, True],
    ]
    if token.provider is SOFTHSM:
        assert refused == 0
    print(f"{made.strip()} keys of another program, {refused} times refused")
