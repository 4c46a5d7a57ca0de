"""Why CCP gives a vehicle its contract at a station, or does not: every check on one request.

For the operator of the ecosystem. The checks are the rows of `vehicle_request.REQUEST` and
`installation.INSTALL`, in the order in which CCP runs them. Nothing is changed, and no partner is
asked.
"""

from dataclasses import dataclass, field

from plugvault.pools import checks, installation, vehicle_request
from plugvault.pools.checks import S
from plugvault.pools.errors import PoolError, WithheldError
from plugvault.pools.refusals import CAUSES, REQUEST_CAUSES
from plugvault.pools.repositories import Records

OK, FAILED, NOT_CHECKED = "ok", "failed", "not checked"
_ROWS = [name for table in (vehicle_request.REQUEST, installation.INSTALL) for name, _ in table]


@dataclass(frozen=True)
class CheckResult:
    """The result of one check. `check`: name of a row; `verdict`: OK, FAILED or NOT_CHECKED;
    `detail`: the reason."""

    check: str
    verdict: str = NOT_CHECKED
    detail: str = ""


@dataclass
class Explanation:
    """The result of the checks on one request.

    `pcid`: as far as it could be read; `emaid`: of the contract that CCP gives, None without one;
    `cause`: a key of `refusals`, "" with a contract; `tolerances`: of `issuer_names.TOLERANCES`.
    """

    pcid: str = ""
    emaid: str | None = None
    cause: str = ""
    meaning: str = ""
    remedy: str = ""
    tolerances: list[str] = field(default_factory=list)
    checks: list[CheckResult] = field(default_factory=list)


def explain(records: Records, raw: bytes, now: float) -> Explanation:
    """Run every check on a CertificateInstallationReq (EXI), until one fails. Raises no PoolError:
    a check that fails is part of the result."""
    explanation = Explanation()
    passed: list[str] = []
    failed = ""  # the detail of the check that failed
    try:
        _explain(records, raw, now, explanation, passed)
    except PoolError as error:
        failed = _explain_failure(explanation, _ROWS[len(passed)], error)
    results = [CheckResult(name, OK) for name in passed]
    if explanation.cause:
        results.append(CheckResult(_ROWS[len(passed)], FAILED, failed))
    explanation.checks = [*results, *map(CheckResult, _ROWS[len(results) :])]
    return explanation


def _explain(
    records: Records, raw: bytes, now: float, explanation: Explanation, passed: list[str]
) -> None:
    request = vehicle_request.read_request(raw)
    passed.append(_ROWS[0])
    _run(vehicle_request.REQUEST[1:], request, passed)
    explanation.pcid = request.pcid
    subject = installation.prepare(records, request, request.pcid, now)
    _run(installation.INSTALL, subject, passed)
    explanation.emaid = subject.contract.emaid
    explanation.tolerances = sorted(subject.listed_root.tolerances)


def _run(table: checks.Table[S], subject: S, passed: list[str]) -> None:
    for name, check in table:
        check(subject)
        passed.append(name)


def _explain_failure(explanation: Explanation, name: str, error: PoolError) -> str:
    """Set cause, meaning and remedy. Returns the detail of the failed check."""
    if isinstance(error, WithheldError):
        explanation.cause, detail = error.cause, error.circumstances
    else:
        explanation.cause, detail = f"bad-{name}", " ".join(error.detail.splitlines())
    cause = {**CAUSES, **REQUEST_CAUSES}[explanation.cause]
    explanation.meaning, explanation.remedy = cause.meaning, cause.remedy
    return detail
