"""What an ecosystem calls its partners with: `partners.json` in its folder, for its owner alone.

Written by `plugvault ecosystem partners link` and at the birth of a ring; what has changed is in
use from the next question on, in every process. Each machine has a copy of its own.
"""

import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path

from plugvault import file_lock
from plugvault.ecosystem.folder import write
from plugvault.federation.peers import Link

_FILE = "partners.json"


class Links(Mapping[str, Link]):
    """By the partners' names. `directory`: the ecosystem's folder."""

    def __init__(self, directory: Path) -> None:
        self._file = directory / _FILE
        self._read: tuple[object, dict[str, Link]] = (None, {})

    def __getitem__(self, name: str) -> Link:
        return self._now()[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._now())

    def __len__(self) -> int:
        return len(self._now())

    def keep(self, new: Mapping[str, Link]) -> None:
        """Add these, or replace those of the same names. Raises OSError."""
        # One command at a time changes the file; the folder's own lock is a running sandbox's.
        with file_lock.locked(self._file.with_name(f".{_FILE}.lock")):
            kept = {name: vars(link) for name, link in {**self._now(), **new}.items()}
            write(self._file, json.dumps(kept, indent=1).encode())

    def _now(self) -> dict[str, Link]:
        if not os.access(self._file, os.F_OK):  # asked for each request; an exception costs more
            return {}
        found = self._file.stat()
        version = (found.st_ino, found.st_mtime_ns, found.st_size)
        if version != self._read[0]:
            said = json.loads(self._file.read_text())
            self._read = (version, {name: Link(**link) for name, link in said.items()})
        return self._read[1]
