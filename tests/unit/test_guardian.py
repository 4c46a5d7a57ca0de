"""Commands of other makers that cannot be guarded are not left to themselves."""

from __future__ import annotations

import subprocess

import pytest

from plugvault import guardian


@pytest.mark.parametrize("group", [True, False])
def test_a_command_without_a_guardian_is_killed(group: bool, monkeypatch: pytest.MonkeyPatch):
    def no_room(line: str) -> None:
        raise OSError("no room for a process")

    monkeypatch.setattr(guardian._GUARDIAN, "tell", no_room)
    command = subprocess.Popen(["sleep", "60"], start_new_session=True)
    with pytest.raises(OSError, match="no room"):
        guardian.watch(command, group=group)
    assert command.returncode == -9
