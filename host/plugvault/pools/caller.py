"""The caller of a pool with its roles and scopes, and how identifiers are read [OPCP 1.0.0].

Rights are in `pools.authorization`. Invalid identifiers are refused in OPCP's words.
"""

from dataclasses import dataclass
from functools import lru_cache

from evcc import ids
from plugvault.pools.errors import PoolError
from plugvault.printable import printable

PCID_PATTERN = r"^[a-zA-Z0-9]{17,18}$"
EMAID_PATTERN = r"^[A-Za-z]{2}[-]?\w{3}[-]?\w{9}[-]?(\w{1})?$"

OEM = "OEM"
CPO = "CPO"
MO_EXTERNAL_PKI = "MO_EXTERNAL_PKI"
MO_HUBJECT_PKI = "MO_HUBJECT_PKI"
CPS = "CPS"
ADMIN = "ADMIN"
PEER = "PEER"  # another ecosystem
OPERATORS = frozenset({MO_EXTERNAL_PKI, MO_HUBJECT_PKI})
ANY = "*"  # a scope of everything: only the open mode and the command line give it


@dataclass(frozen=True)
class Caller:
    """The client of an access token.

    `roles`: of the constants above; `wmis`: 3 characters each; `providers`: 5 each, as in "DEPVA";
    `operators`: of charge points, 5 each, as in "DEPVC". ANY in one of these sets stands for every
    identifier. `client_id`: the client's identifier at the token endpoint, "" for the command
    line.
    """

    name: str
    roles: frozenset[str]
    wmis: frozenset[str] = frozenset()
    providers: frozenset[str] = frozenset()
    operators: frozenset[str] = frozenset()
    client_id: str = ""

    @property
    def signature(self) -> str:
        """Name and client_id, for the audit trail."""
        return f"{self.name} ({self.client_id})" if self.client_id else self.name


def check_name(text: str) -> None:
    """Refuse a company's name without a visible character, or with a control character, which
    would change the terminals and logs that show it. Raises PoolError("invalid")."""
    if not text.strip() or printable(text) != text:
        raise PoolError("invalid", "name : must be given, in characters that can be shown")


@lru_cache(maxsize=512)  # several checks of one request read the same text
def read_pcid(text: str) -> str:
    """The PCID, its case unchanged. Raises PoolError("invalid")."""
    try:
        return ids.parse_pcid(text)
    except ids.IdError as error:
        raise PoolError("invalid", f'pcid : must match "{PCID_PATTERN}"') from error


@lru_cache(maxsize=512)
def read_emaid(text: str) -> str:
    """The EMAID in upper case and without hyphens. Raises PoolError("invalid")."""
    try:
        return ids.parse_emaid(text)
    except ids.IdError as error:
        raise PoolError("invalid", f'emaid : must match "{EMAID_PATTERN}"') from error
