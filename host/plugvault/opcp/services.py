"""What the HTTP face needs from outside, handed over once."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from fastapi import Request

from plugvault.opcp.tokens import Tokens
from plugvault.pki.issue import Authority
from plugvault.pools.cps import Signer
from plugvault.pools.records import Store


@dataclass(frozen=True)
class Services:
    """`signers`: the CPS under each V2G root. `enrolment`: the issuing CA for each name EST
    serves ("oem", ...). `operator`: the MO CA for operators without an own PKI. `ocsp`: the
    responder's address for certificates issued here. `clock()`: Unix seconds."""

    store: Store
    tokens: Tokens
    signers: Sequence[Signer]
    enrolment: Mapping[str, Authority] = field(repr=False)
    operator: Authority | None
    ocsp: str | None
    clock: Callable[[], float]


def services(request: Request) -> Services:
    """The services of the running application (a FastAPI dependency)."""
    found: Services = request.app.state.services
    return found
