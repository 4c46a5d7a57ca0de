"""The two certificate paths of a message, judged as a vehicle judges them [`evcc.chain`]."""

from collections.abc import Iterator
from typing import NamedTuple

from evcc import chain, x509
from evcc.x509 import Certificate
from plugvault.explanation.circumstances import UNKNOWN, Circumstances
from plugvault.explanation.steps import Message, Step
from plugvault.pki.verify import verify_p256


class _Path(NamedTuple):
    """kinds: of the roots that may stand above; is_vouched: the CPS's signature stands in for an
    unknown root."""

    element: str
    title: str
    role: str
    kinds: tuple[str, ...]
    is_vouched: bool


_PATHS = (
    _Path("SAProvisioningCertificateChain", "CPS path", chain.CPS, ("V2G",), False),
    _Path("ContractSignatureCertChain", "contract path", chain.CONTRACT, ("V2G", "MO"), True),
)


def explain_paths(message: Message, circumstances: Circumstances = UNKNOWN) -> list[Step]:
    """The steps of both paths: the certificates, the leaf's role, the dates, and the path to a
    root."""
    return [step for path in _PATHS for step in _path(path, message["body"], circumstances)]


def _path(path: _Path, body: Message, circumstances: Circumstances) -> Iterator[Step]:
    element = body[path.element]
    ders = [element["Certificate"], *element.get("SubCertificates", {}).get("Certificate", [])]
    certificates = []
    for number, der in enumerate(ders):
        try:
            certificates.append(x509.parse(der))
        except x509.CertificateError as error:
            place = f"sub-CA certificate {number}" if number else "leaf"
            yield Step(f"{path.title}, {place}", der, False, str(error))
    if len(certificates) < len(ders):
        return
    names = ", ".join(_title(certificate) for certificate in certificates)
    yield Step(f"{path.title}, certificates", names)
    judged = [_role(path, certificates[0]), *_dates(path, certificates, circumstances.at)]
    yield from judged
    if all(step.good is not False for step in judged):
        yield _trust(path, certificates, circumstances)


def _role(path: _Path, leaf: Certificate) -> Step:
    try:
        chain.check_role(leaf, path.role)
    except x509.CertificateError as error:
        return Step(f"{path.title}, role of the leaf", _title(leaf), False, str(error))
    return Step(f"{path.title}, role of the leaf", _title(leaf), True)


def _dates(path: _Path, certificates: list[Certificate], at: int | None) -> Iterator[Step]:
    if at is None:
        return
    faults = []
    for certificate in certificates:
        try:
            chain.check_current(certificate, at)
        except x509.CertificateError as error:
            faults.append(str(error))
    yield Step(f"{path.title}, dates", f"at {at}", not faults, "; ".join(faults))


def _trust(path: _Path, certificates: list[Certificate], circumstances: Circumstances) -> Step:
    name = f"{path.title}, to a root"
    anchors = [root for kind, root in circumstances.anchors if kind in path.kinds]
    if not circumstances.anchors:
        return Step(name, "", None, "no root is known: name the vehicle's with --trust FILE")
    try:
        root = chain.validate(
            certificates[0],
            certificates[1:],
            anchors,
            path.role,
            circumstances.at,
            verify_p256,
            transitive=path.is_vouched,
        )
    except x509.CertificateError as error:
        return Step(name, "", False, str(error))
    if root is None:
        return Step(name, "none of those given", True, "the signature of the CPS vouches for it")
    return Step(name, _title(root), True)


def _title(certificate: Certificate) -> str:
    domain = certificate.names.get("DC")
    return certificate.names.get("CN", "no CN") + (f" (DC={domain})" if domain else "")
