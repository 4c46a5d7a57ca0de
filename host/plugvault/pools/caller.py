"""Who calls a pool, and what is theirs: vehicles by WMI, contracts by provider [OPCP 1.0.0].

Identifiers are read here too, with the words OPCP refuses them in, because every pool does it
first and in the same way.
"""

from dataclasses import dataclass
from functools import lru_cache

from evcc import ids
from plugvault.pools.errors import PoolError

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
ANY = "*"  # a scope that is everyone's: only the open mode gives it


@dataclass(frozen=True)
class Caller:
    """`roles`: of the constants above; `wmis`: 3 characters each; `providers`: 5 each, as in
    "DEPVA"; `operators`: of charge points, 5 each, as in "DEPVC". ANY in one of them is all.
    `client_id`: whose access token it was."""

    name: str
    roles: frozenset[str]
    wmis: frozenset[str] = frozenset()
    providers: frozenset[str] = frozenset()
    operators: frozenset[str] = frozenset()
    client_id: str = ""

    @property
    def signature(self) -> str:
        """Who this is, for the audit trail."""
        return f"{self.name} ({self.client_id})" if self.client_id else self.name

    def has_vehicle(self, pcid: str) -> bool:
        """Whether the PCID's WMI is the caller's."""
        return _has(self.wmis, pcid[:3].upper())

    def owns_vehicle(self, pcid: str) -> None:
        """Raises PoolError("forbidden") unless the PCID's WMI is the caller's."""
        _owns(self.wmis, pcid[:3].upper(), "WMI of the PCID")

    def owns_contract(self, emaid: str) -> None:
        """Raises PoolError("forbidden") unless the EMAID's provider is the caller's."""
        _owns(self.providers, emaid[:5], "provider of the EMAID")

    def owns_station(self, operator: str) -> None:
        """Raises PoolError("forbidden") unless the operator ("DEPVC") is the caller's."""
        _owns(self.operators, operator, "operator of the EVSEID")


def _has(scopes: frozenset[str], wanted: str) -> bool:
    return wanted in scopes or ANY in scopes


def _owns(scopes: frozenset[str], wanted: str, what: str) -> None:
    if not _has(scopes, wanted):
        raise PoolError("forbidden", f"The {what} does not belong to the caller.")


@lru_cache(maxsize=512)  # each rule of a request asks again
def read_pcid(text: str) -> str:
    """A PCID in the case it is written in."""
    try:
        return ids.parse_pcid(text)
    except ids.IdError as error:
        raise PoolError("invalid", f'pcid : must match "{PCID_PATTERN}"') from error


@lru_cache(maxsize=512)
def read_emaid(text: str) -> str:
    """An EMAID, upper case and without hyphens, whatever way it is written."""
    try:
        return ids.parse_emaid(text)
    except ids.IdError as error:
        raise PoolError("invalid", f'emaid : must match "{EMAID_PATTERN}"') from error
