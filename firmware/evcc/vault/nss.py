"""NSS softoken's differences from PKCS#11: its files, and its private keys.

Files: SQLite flushes what it writes, but not the folder after it has removed its journal. A power
cut at that moment can bring the journal back, which undoes the key. So the folder is flushed.

Private keys: NSS stores a private key under its public point, which the template must contain. An
unwrapped key may derive even if its template forbids it; in a copy of the key the flag holds.
"""

from evcc.ports.files import flush_path

from .backend import TokenFiles
from .cryptoki import CKA_DERIVE, CKA_NSS_DB
from .opening import Dialect

_FOLDER = "configDir='sql:"

DIALECT = Dialect(lambda point: [(CKA_NSS_DB, point)], (CKA_DERIVE,))


class NssFiles(TokenFiles):
    """The database folder of an NSS token. options: the string for NSS's C_Initialize."""

    def __init__(self, options: str) -> None:
        self._options = options

    def flush(self, label: str) -> None:
        before, match, _ = self._options.partition("' tokenDescription='" + label + "'")
        if match:
            flush_path(before[before.rfind(_FOLDER) + len(_FOLDER) :])
