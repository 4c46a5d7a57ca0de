"""The PKI of the test cases that a command makes."""

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Annotated

import typer
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from plugvault.cases.files import CasesError
from plugvault.cases.pki import Given

NEW = "new"
Pki = Annotated[
    str,
    typer.Option(
        metavar="DIR|new",
        help="The PKI: the folder of `plugvault pki import` or of a sandbox's --data, so that "
        "the vehicle keeps its roots; new: one from the seed.",
    ),
]
_DAY = 86_400


@contextmanager
def given(pki: str) -> Iterator[Given]:
    """{slot: (certificate, private key or None)} of the PKI in a folder; {} for a new PKI. Its
    tokens are open in the context.

    Raises CasesError("pki") for a folder without certificates, EvccError.
    """
    if pki == NEW:
        yield {}
        return
    from plugvault.ecosystem import imported  # with all of an ecosystem: slow to import
    from plugvault.ecosystem.folder import Folder

    if not any(Path(pki, "certificates").glob("*.pem")):
        raise CasesError(
            "pki",
            f"{pki} has no certificates/*.pem: `plugvault pki import` makes such a folder, and so "
            "does `plugvault sandbox --data`",
        )
    with ExitStack() as stack:
        members = imported.members(stack, Folder(Path(pki)))
        yield {
            slot: (x509.load_der_x509_certificate(member.der), _on_a_curve(member.key))
            for slot, member in members.items()
        }


def today(pki: Given) -> int:
    """Today at 00:00 UTC in Unix seconds; the first second of a given certificate that begins
    later."""
    begins = [int(certificate.not_valid_before_utc.timestamp()) for certificate, _ in pki.values()]
    return max(int(time.time()) // _DAY * _DAY, *begins, 0)


def _on_a_curve(key: object) -> ec.EllipticCurvePrivateKey | None:
    return key if isinstance(key, ec.EllipticCurvePrivateKey) else None
