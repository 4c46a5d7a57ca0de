"""Reports of `inspect` about the certificates of `tests/vectors`, and their checks by verdict."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

from evcc import x509
from plugvault.inspection import inspect
from plugvault.inspection.report import FAILED, Report, Scope
from world import NOW, World

VECTORS = Path(__file__).parent / "vectors"
MADE = {
    name: bytes.fromhex(text)
    for name, text in json.loads((VECTORS / "certificates.json").read_text()).items()
}
MADE_AT = 1767225600  # within the validity of the certificates in tests/vectors
HUBJECT_AT = 1640995200  # 2022-01-01, within the validity of most published samples
VEHICLE = "signature as the vehicle checks it"
SIGNED_INFO = "signature of SignedInfo"
POOLS = ("CCP: ", "CPS: ")  # how the rows of the pools' tables begin


def scope_of(world: World, *, trust: bool = True) -> Scope:
    """The scope of an inspection at the world's time, with or without its roots as anchors."""
    anchors = tuple(x509.parse(der) for _, der in world.anchors)
    return Scope(NOW, anchors if trust else ())


def verdicts(report: Report, verdict: str) -> list[str]:
    """The names of the checks with this verdict, without the rows of the pools."""
    return [
        check.check
        for check in report.checks
        if check.verdict == verdict and not check.check.startswith(POOLS)
    ]


def pool_rows(report: Report, verdict: str) -> list[str]:
    """The names of the pools' checks with this verdict."""
    return [
        check.check
        for check in report.checks
        if check.verdict == verdict and check.check.startswith(POOLS)
    ]


def failed(report: Report) -> list[str]:
    return verdicts(report, FAILED)


def made(*names: str) -> Report:
    """The report on certificates of tests/vectors, as one PEM file."""
    pem = b"".join(
        b"-----BEGIN CERTIFICATE-----\n"
        + base64.encodebytes(MADE[name])
        + b"-----END CERTIFICATE-----\n"
        for name in names
    )
    return inspect(pem, Scope(MADE_AT, (x509.parse(MADE["root"]),)))


def body(message: dict[str, Any]) -> dict[str, Any]:
    response: dict[str, Any] = message["V2G_Message"]["Body"]["CertificateInstallationRes"]
    return response


def as_json(document: Any) -> bytes:
    return json.dumps(document).encode()
