"""Fuzz target: the readers of text: identifiers, names of roots, the JSON form of a message,
access tokens."""

import atexit
import contextlib
import json
import tempfile
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import rsa

from evcc import exi, ids
from evcc.iso15118_2.messages import distinguished_name
from plugvault import exi_json
from plugvault.opcp.tokens import TokenError, Tokens
from plugvault.pki import issuer_names
from plugvault.pools import clients
from plugvault.pools.caller import OEM, Caller
from plugvault.store import SqlStore

_NOW = 1_790_000_000
_MESSAGE = {
    "V2G_Message": {
        "Header": {"SessionID": "0102030405060708"},
        "Body": {"AuthorizationReq": {"Id": "id1", "GenChallenge": "AAAAAAAAAAAAAAAAAAAAAA=="}},
    }
}


@cache
def _tokens() -> Tokens:
    folder = tempfile.TemporaryDirectory(prefix="plugvault-fuzz-")
    atexit.register(folder.cleanup)
    store = SqlStore.sqlite(Path(folder.name) / "clients.sqlite")
    return Tokens("http://pool", lambda: _NOW, rsa.generate_private_key(65537, 2048), store)


def seeds() -> Iterator[bytes]:
    client = clients.new_credentials()
    with _tokens()._store.write() as records:
        caller = Caller("Maker", frozenset({OEM}), frozenset({"PVT"}))
        clients.register(records, caller, client, "fuzz", _NOW)
    yield _tokens().issue(*client, "http://pool").encode()
    yield json.dumps(_MESSAGE).encode()
    yield b"DE-PVT-C0000000-1"
    yield b'C=DE;O="Maker, Inc.",OID.2.5.4.3=#0c03414243+commonName=V2G\\ Root \\C3\\A4'
    yield b"/C=DE/O=A/B\\+C/CN=V2G Root \\xC3\\xA4/DC=V2G"
    yield b"<Name(C=DE,O=Maker\\, Inc.,CN=V2G Root CA,DC=V2G)>"
    yield "PVTP000000000000\u0661".encode()


def check_name(text: str) -> None:
    """A name in any spelling is the same name in that of RFC 4514, which needs no tolerance."""
    attributes = issuer_names.read(text).attributes
    if attributes and len(dict(attributes)) == len(attributes):
        again = issuer_names.read(distinguished_name(dict(attributes)))
        if again.attributes != attributes or again.tolerances:
            raise AssertionError("two forms of one name")


def target(data: bytes) -> None:
    """Each reader gives a value in its one form, or its own error."""
    text = data.decode("utf-8", "replace")
    for read, error in ((ids.parse_emaid, ids.IdError), (ids.parse_pcid, ids.IdError)):
        try:
            value = read(text)
        except error:
            continue
        if read(value) != value or not value.isascii():
            raise AssertionError("two forms of one identifier")
    check_name(text)
    try:
        message = exi_json.from_json(exi_json.loads(data.decode("utf-8", "surrogateescape")))
        exi.encode(message)
    except exi.ExiError:
        pass
    with contextlib.suppress(TokenError):
        _tokens().read(text)
