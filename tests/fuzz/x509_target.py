"""Fuzz target: evcc.x509.parse on any bytes, and evcc.chain on what it makes of them."""

import json
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from evcc import chain, x509

VECTORS = Path(__file__).parent.parent / "vectors"
NOW = 1767225600


def seeds() -> Iterator[bytes]:
    made = json.loads((VECTORS / "certificates.json").read_text())
    for text in made.values():
        yield bytes.fromhex(text)


_GOOD = [x509.parse(data) for data in list(seeds())[:3]]


def target(data: bytes) -> None:
    """Only CertificateError may come out of reading it, and of using it in any place of a path."""
    try:
        cert = x509.parse(data)
    except x509.CertificateError:
        return
    root, sub1, sub2 = _GOOD
    for leaf, subs, anchors in (
        (cert, [sub2, sub1], [root]),
        (sub2, [cert, sub1, cert], [root]),
        (sub2, [sub1], [cert, root]),
    ):
        for role in (chain.CPS, chain.CPO, chain.CONTRACT, chain.PROVISIONING):
            with suppress(x509.CertificateError):
                chain.validate(leaf, subs, anchors, role, NOW, lambda *_: True, transitive=True)
    with suppress(x509.CertificateError):
        chain.is_anchor(cert, NOW, lambda *_: True)
