"""The input of the ecosystem from outside: any bytes give a value or the one typed error."""

from __future__ import annotations

import base64

from hypothesis import example, given
from hypothesis import strategies as st

from bundles import VEHICLE, signed
from evcc import csr
from plugvault.contract.iso15118_2 import xml
from plugvault.contract.iso15118_2.bundle import to_exi
from plugvault.contract.iso15118_2.response import ResponseError, with_session_id
from plugvault.contract.iso15118_2.xml import XmlError
from plugvault.pki import request
from plugvault.pki.keys import raw_signer
from plugvault.pki.request import RequestError
from plugvault.pools.errors import PoolError
from plugvault.pools.vehicle_request import BAD_EXI, read_request
from world import PCID, point

DOCUMENT = xml.write(signed())
RESPONSE = to_exi(signed())
REQUEST = csr.build(PCID, "Example", "DE", point(VEHICLE), raw_signer(VEHICLE))


@st.composite
def mutated(draw: st.DrawFn, original: bytes) -> bytes:
    """`original` with a few bytes set, cut out or put in."""
    data = bytearray(original)
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(data)))
        data[at : at + draw(st.integers(0, 8))] = draw(st.binary(max_size=8))
    return bytes(data)


@given(st.one_of(st.binary(max_size=400), mutated(DOCUMENT)))
@example(b"<a>" * 10_000)
@example(b"<!DOCTYPE a [<!ENTITY b 'bb'><!ENTITY c '&b;&b;'>]><a>&c;</a>")
@example(b"\xff\xfe<\x00a\x00/\x00>\x00")
def test_any_bytes_are_a_bundle_or_an_error(data: bytes):
    try:
        read = xml.read(data)
    except XmlError:
        return
    assert xml.read(xml.write(read)) == read


@given(st.one_of(st.binary(max_size=300), mutated(REQUEST)), st.booleans())
@example(b"-----BEGIN", False)
@example(b"-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n-----END CERTIFICATE REQUEST-----", True)
def test_any_bytes_are_a_certificate_request_or_an_error(data: bytes, encoded: bool):
    try:
        read = request.read(base64.b64encode(data) if encoded else data)
    except RequestError:
        return
    assert read.common_name
    assert read.organisation


@given(st.one_of(st.binary(max_size=300), mutated(RESPONSE)))
def test_any_bytes_are_a_request_of_a_vehicle_or_bad_exi(data: bytes):
    try:
        assert read_request(data).session_id
    except PoolError as error:
        assert error.detail.startswith(BAD_EXI)


@given(st.one_of(st.binary(max_size=64), mutated(RESPONSE)), st.binary(min_size=1, max_size=8))
def test_any_message_gets_the_session_id_or_an_error(data: bytes, session_id: bytes):
    try:
        changed = with_session_id(data, session_id)
    except ResponseError:
        return
    assert with_session_id(changed, session_id) == changed
