"""NSS's files after a key was made, and before anybody relies on it.

SQLite flushes what it writes, but not the folder after it has removed its journal: when the power
goes then, the journal may be there again, and undoes the key. So the folder is flushed after it.
"""

from evcc.ports.files import flush_path

_FOLDER = "configDir='sql:"


def flush(options: str, label: str) -> None:
    """options: what NSS was initialised with ("": it is not NSS); label: of the token."""
    before, found, _ = options.partition("' tokenDescription='" + label + "'")
    if found:
        flush_path(before[before.rfind(_FOLDER) + len(_FOLDER) :])
