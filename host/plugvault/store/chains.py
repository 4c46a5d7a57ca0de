"""What stands above many certificates, kept once: a chain has a number, and nothing changes it.

So its number may be kept in memory, with the roots, which have a version in the database.
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

MOST = 4096  # chains kept in memory: the world has some hundred

Chain = tuple[bytes, ...]

_table = tables.chains.c
_CERTIFICATES = select(_table.certificates).where(_table.chain == bindparam("chain"))
_NUMBER = select(_table.chain).where(_table.digest == bindparam("digest"))


@dataclass
class Memory:
    """What one process knows of one database: `roots` with their version, and chains."""

    roots: tuple[int, tuple[Root, ...]] = (-1, ())
    numbers: dict[Chain, int] = field(default_factory=dict)
    chains: dict[int, Chain] = field(default_factory=dict)

    def learn(self, number: int, chain: Chain) -> None:
        if len(self.chains) >= MOST:
            self.numbers, self.chains = {}, {}
        self.numbers[chain] = number
        self.chains[number] = chain


class Chains:
    """The chains, within one transaction. Only what is committed goes into the memory."""

    def __init__(self, transaction: Transaction, memory: Memory) -> None:
        self._transaction, self._memory = transaction, memory

    def get(self, number: int) -> Chain:
        known = self._memory.chains.get(number)
        if known is not None:
            return known
        ((packed,),) = self._transaction.rows(_CERTIFICATES, {"chain": number})
        chain = unpack(packed)
        self._learn(number, chain)
        return chain

    def number(self, chain: Chain) -> int:
        """The chain's number, given to it when it is new."""
        known = self._memory.numbers.get(chain)
        if known is not None:
            return known
        row = row_of(chain)
        self._transaction.run(_new(self._transaction.database), row)
        ((number,),) = self._transaction.rows(_NUMBER, row)
        self._learn(int(number), chain)
        return int(number)

    def identities(self, number: int) -> list[tuple[str, str]]:
        """What the chain's sub-CAs would be revoked as. A root that is revoked ends nothing by
        itself: people decide that."""
        try:
            found = [path.read_any(der) for der in self.get(number)]
        except CertificateError:
            return []
        return [path.identity(one) for one in found if one.subject != one.issuer]

    def _learn(self, number: int, chain: Chain) -> None:
        self._transaction.committed.append(lambda: self._memory.learn(number, chain))


def row_of(chain: Chain) -> dict[str, bytes]:
    packed = b"".join(len(der).to_bytes(4, "big") + der for der in chain)
    return {"digest": sha256(packed).digest(), "certificates": packed}


def unpack(packed: bytes) -> Chain:
    found, at = [], 0
    while at < len(packed):
        end = at + 4 + int.from_bytes(packed[at : at + 4], "big")
        found.append(packed[at + 4 : end])
        at = end
    return tuple(found)


@cache
def _new(database: str) -> Executable:
    values: dict[str, Any] = {name: bindparam(name) for name in ("digest", "certificates")}
    insert = INSERT[database](tables.chains).values(values)
    made: Executable = insert.on_conflict_do_nothing()
    return made
