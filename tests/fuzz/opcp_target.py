"""Fuzz target: what the ecosystem reads from outside: signed XML, PKCS#10, EXI requests."""

import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from bundles import VEHICLE, signed
from evcc import csr
from plugvault.contract.iso15118_2 import xml
from plugvault.contract.iso15118_2.bundle import to_exi
from plugvault.contract.iso15118_2.response import ResponseError, with_session_id
from plugvault.pki import request
from plugvault.pki.keys import raw_signer
from plugvault.pools.errors import PoolError
from plugvault.pools.vehicle_request import read_request
from world import PCID, point


def seeds() -> Iterator[bytes]:
    yield xml.write(signed())
    yield to_exi(signed())
    yield csr.build(PCID, "Example", "DE", point(VEHICLE), raw_signer(VEHICLE))


def target(data: bytes) -> None:
    """Each reader gives a value or its own error, and nothing else."""
    with suppress(xml.XmlError):
        xml.read(data)
    with suppress(request.RequestError):
        request.read(data)
    with suppress(PoolError):
        read_request(data)
    with suppress(ResponseError):
        with_session_id(data, b"12345678")
