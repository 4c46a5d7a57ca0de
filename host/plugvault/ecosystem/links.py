"""The credentials of an ecosystem for its partners: `partners.json` in its folder, mode 0600.

`plugvault ecosystem partners link` writes the file, and so does a sandbox of several ecosystems.
Every process uses a change from its next request to a partner on. Each machine has its own copy.
"""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path

from plugvault import file_lock, json_file
from plugvault.ecosystem.folder import FolderError, write
from plugvault.federation.clients import Link

_FILE = "partners.json"


class Links(Mapping[str, Link]):
    """The links by the partners' names; a changed file is read again at the next use. `directory`:
    the ecosystem's folder. Every method raises FolderError("unknown") for a damaged file."""

    def __init__(self, directory: Path) -> None:
        self._file = directory / _FILE
        self._read: tuple[object, dict[str, Link]] = (None, {})

    def __getitem__(self, name: str) -> Link:
        return self._current()[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._current())

    def __len__(self) -> int:
        return len(self._current())

    def save(self, new: Mapping[str, Link]) -> None:
        """Add these links, or replace those of the same names. Raises OSError."""
        # One command at a time changes the file; a running sandbox holds the folder's own lock.
        with file_lock.locked(self._file.with_name(f".{_FILE}.lock")):
            links = {name: vars(link) for name, link in {**self._current(), **new}.items()}
            write(self._file, json.dumps(links, indent=1).encode())

    def _current(self) -> dict[str, Link]:
        try:
            status = self._file.stat()
        except FileNotFoundError:
            return {}
        version = (status.st_ino, status.st_mtime_ns, status.st_size)
        if version != self._read[0]:
            self._read = (version, _links(self._file))
        return self._read[1]


def _links(file: Path) -> dict[str, Link]:
    """The links in a file. Raises FolderError("unknown"), OSError."""
    try:
        links = {name: Link(**link) for name, link in json_file.read(file).items()}
        if not all(isinstance(text, str) for link in links.values() for text in _texts(link)):
            raise TypeError("a member that is no text")
    except (ValueError, TypeError, AttributeError) as error:
        detail = "move it away, and enter each partner again: `plugvault ecosystem partners link`"
        raise FolderError("unknown", f"{file} is damaged: {detail}") from error
    return links


def _texts(link: Link) -> list[object]:
    return [text for name, text in vars(link).items() if name != "trust" or text is not None]
