"""What the pools keep, and the store they are given.

A record is a plain value; changing one is putting a new one with the same key. `Records` is one
transaction: all of it happens or nothing. Private keys have no place in any record.
"""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol

from plugvault.contract.bundle import ISO2


@dataclass(frozen=True)
class Root:
    """A root certificate in RCP. `kind`: "V2G", "MO", "OEM" or "PE"; key: `root_id`."""

    root_id: str
    kind: str
    certificate: bytes
    fingerprint: str
    namespace: str = ISO2


@dataclass(frozen=True)
class Provisioning:
    """A vehicle's provisioning certificate in PCP; key: `vehicle` and `namespace`.

    `vehicle`: the PCID in upper case; `pcid`: as its certificate writes it; `v2g_roots`: key
    identifiers of the V2G roots in the vehicle, lower-case hexadecimal, joined by commas.
    """

    vehicle: str
    namespace: str
    pcid: str
    certificate: bytes
    sub2: bytes | None
    sub1: bytes
    root: bytes
    v2g_roots: str = ""
    previous_pcid: str | None = None

    @property
    def subs(self) -> list[bytes]:
        """Sub2 first, as messages have them."""
        return [self.sub2, self.sub1] if self.sub2 else [self.sub1]


@dataclass(frozen=True)
class Contract:
    """A signed contract bundle in CCP; key: `emaid` and `namespace`.

    `message`: the CertificateInstallationRes in EXI, without a session; `delivered`: Unix
    seconds, None before the vehicle or its maker got it.
    """

    emaid: str
    namespace: str
    vehicle: str
    pcid: str
    certificate: bytes
    message: bytes
    root_fingerprint: str
    default: bool
    not_before: int
    not_after: int
    metadata: str | None = None
    delivered: int | None = None


class Roots(Protocol):
    def get(self, root_id: str) -> Root | None: ...
    def all(self, kind: str | None = None) -> Sequence[Root]: ...
    def by_fingerprint(self, fingerprint: str) -> Root | None: ...
    def put(self, root: Root) -> None: ...


class Vehicles(Protocol):
    def get(self, vehicle: str, namespace: str) -> Provisioning | None: ...
    def put(self, provisioning: Provisioning) -> None: ...


class Contracts(Protocol):
    def get(self, emaid: str, namespace: str) -> Contract | None: ...
    def of_vehicle(self, vehicle: str, namespace: str) -> Sequence[Contract]: ...
    def put(self, contract: Contract) -> None: ...
    def delete(self, emaid: str, namespace: str) -> None: ...


class Records(Protocol):
    """One transaction over everything the pools keep."""

    @property
    def roots(self) -> Roots: ...
    @property
    def vehicles(self) -> Vehicles: ...
    @property
    def contracts(self) -> Contracts: ...


class Store(Protocol):
    """Opens transactions. `write` is atomic: an exception inside undoes all of it."""

    def read(self) -> AbstractContextManager[Records]: ...
    def write(self) -> AbstractContextManager[Records]: ...
