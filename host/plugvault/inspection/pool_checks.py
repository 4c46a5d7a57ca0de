"""The checks of CPS and CCP on an artefact: the rows of their own tables, in their own order.

A row that needs the pools is listed as not checked. As in the pools, no row runs after a failed
one.
"""

from collections.abc import Callable, Iterable
from typing import Any

from evcc.x509 import CertificateError
from plugvault.contract.data import ContractData
from plugvault.inspection.report import Report, Scope
from plugvault.pools import ccp, checks, cps, installation, vehicle_request
from plugvault.pools.errors import PoolError

Row = tuple[str, Callable[..., None]]
_PUBLIC: tuple[Row, ...] = (*checks.BUNDLE, *checks.CONTRACT_DATA, *vehicle_request.REQUEST)


def check_bundle(report: Report, message: dict[str, Any], scope: Scope) -> None:
    """Check a decoded CertificateInstallationRes, as CCP does before it stores it."""
    _run(report, "CCP", ccp.STORE, _submission(scope, message))


def check_contract_data(report: Report, data: ContractData, scope: Scope) -> None:
    """Check an operator's contract data, as the CPS does before it signs them."""
    submission = _submission(scope, None)
    submission.data = data
    _run(report, "CPS", cps.SIGN, submission)


def check_request(report: Report, message: dict[str, Any]) -> None:
    """Check a decoded CertificateInstallationReq, as CCP does before it gives out a contract."""
    rows: list[Row] = [*vehicle_request.REQUEST, *installation.INSTALL]
    _run(report, "CCP", rows, vehicle_request.VehicleRequest(message))


def _submission(scope: Scope, message: dict[str, Any] | None) -> checks.Submission:
    def anchors(*_kinds: str) -> list[bytes]:
        return [anchor.der for anchor in scope.anchors]

    return checks.Submission(anchors=anchors, now=scope.at, message=message)


def _run(report: Report, pool: str, rows: Iterable[Row], subject: object) -> None:
    failed = False
    for row in rows:
        name, check = row
        verdict, detail = None, "needs the pools"
        if failed:
            detail = "an earlier check failed"
        elif row in _PUBLIC:
            try:
                check(subject)
                verdict, detail = True, ""
            except PoolError as error:
                verdict, detail = _is_unknown_root(error), error.detail
                failed = verdict is False
        report.add(f"{pool}: {name}", verdict, detail)


def _is_unknown_root(error: PoolError) -> bool | None:
    """The verdict of a failed row: open where the root is none of the given trust anchors."""
    cause = error.__cause__
    untrusted = isinstance(cause, CertificateError) and cause.reason == "untrusted"
    return None if untrusted else False
