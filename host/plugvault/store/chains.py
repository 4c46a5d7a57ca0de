"""Certificate chains above leaf certificates, each stored once under a number.

A row of this table never changes, so `StoreCache` may keep rows in memory. It also keeps the
roots, with the version that the database gives them.
"""

from dataclasses import dataclass, field
from functools import cache
from hashlib import sha256
from typing import Any

from sqlalchemy import Executable, bindparam, select

from evcc.x509 import CertificateError
from plugvault.pki import path
from plugvault.pools.records import Root
from plugvault.store import tables
from plugvault.store.rows import INSERT
from plugvault.store.transaction import Transaction

MOST = 4096  # chains in memory; an ecosystem has some hundred

Chain = tuple[bytes, ...]

_table = tables.chains.c
_CERTIFICATES = select(_table.certificates).where(_table.chain == bindparam("chain"))
_NUMBER = select(_table.chain).where(_table.digest == bindparam("digest"))


@dataclass
class StoreCache:
    """Committed rows of one database, for all transactions of one process: chains by number and
    numbers by chain, MOST at most; and `roots` with their version."""

    roots: tuple[int, tuple[Root, ...]] = (-1, ())
    numbers: dict[Chain, int] = field(default_factory=dict)
    chains: dict[int, Chain] = field(default_factory=dict)

    def add(self, number: int, chain: Chain) -> None:
        """Add a chain. A full cache is emptied first."""
        if len(self.chains) >= MOST:
            self.numbers, self.chains = {}, {}
        self.numbers[chain] = number
        self.chains[number] = chain


class Chains:
    """The chains, within one transaction. A chain is a tuple of DER certificates."""

    def __init__(self, transaction: Transaction, cache: StoreCache) -> None:
        self._transaction, self._cache = transaction, cache

    def get(self, number: int) -> Chain:
        """The chain with a number that `number` gave."""
        cached = self._cache.chains.get(number)
        if cached is not None:
            return cached
        ((packed,),) = self._transaction.rows(_CERTIFICATES, {"chain": number})
        chain = unpack(packed)
        self._cache_when_committed(number, chain)
        return chain

    def number(self, chain: Chain) -> int:
        """The number of a chain. A new chain gets one."""
        cached = self._cache.numbers.get(chain)
        if cached is not None:
            return cached
        row = row_of(chain)
        self._transaction.run(_insert(self._transaction.database), row)
        ((number,),) = self._transaction.rows(_NUMBER, row)
        self._cache_when_committed(int(number), chain)
        return int(number)

    def identities(self, number: int) -> list[tuple[str, str]]:
        """(issuer, serial) of the chain's sub-CAs. Roots are left out: a revoked root ends nothing
        by itself, because an administrator decides about it."""
        try:
            certificates = [path.read_any(der) for der in self.get(number)]
        except CertificateError:
            return []
        return [
            path.identity(certificate)
            for certificate in certificates
            if certificate.subject != certificate.issuer
        ]

    def _cache_when_committed(self, number: int, chain: Chain) -> None:
        self._transaction.on_commit.append(lambda: self._cache.add(number, chain))


def row_of(chain: Chain) -> dict[str, bytes]:
    """The row of a chain: its certificates, each after its length in 4 bytes, and their
    SHA-256."""
    packed = b"".join(len(der).to_bytes(4, "big") + der for der in chain)
    return {"digest": sha256(packed).digest(), "certificates": packed}


def unpack(packed: bytes) -> Chain:
    """The chain in the column `certificates` of a row: the inverse of `row_of`."""
    certificates, start = [], 0
    while start < len(packed):
        end = start + 4 + int.from_bytes(packed[start : start + 4], "big")
        certificates.append(packed[start + 4 : end])
        start = end
    return tuple(certificates)


@cache
def _insert(database: str) -> Executable:
    values: dict[str, Any] = {name: bindparam(name) for name in ("digest", "certificates")}
    insert = INSERT[database](tables.chains).values(values)
    statement: Executable = insert.on_conflict_do_nothing()
    return statement
