"""The words of an error for a user."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from evcc.vault import VaultError
from plugvault.cli import words


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (VaultError("refused", "another token"), "another token"),
        (VaultError("refused"), "refused"),
        (OSError(errno.ENOSPC, "No space left on device"), "No space left on device"),
        (OSError("no link-local address"), "no link-local address"),
        (ValueError("--sandbox or --data"), "--sandbox or --data"),
    ],
)
def test_an_error_has_its_detail_or_cause(error: Exception, text: str) -> None:
    assert words.of(error) == text


def test_an_error_of_a_file_begins_with_its_name(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="nothing") as caught:
        (tmp_path / "nothing").read_bytes()
    assert words.of(caught.value) == f"{tmp_path / 'nothing'}: No such file or directory"
