"""The result of an inspection: the content of an artefact, and each check with its verdict."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from evcc.x509 import Certificate
from plugvault.explanation import KeyAgreement

OK = "ok"
FAILED = "failed"
NOT_CHECKED = "not checked"


class UnreadableError(Exception):
    """Bytes of an unknown or broken format. The text names the attempt."""


@dataclass(frozen=True)
class Scope:
    """The assumptions of an inspection.

    at: the time of the checks, Unix seconds. anchors: the roots that the user trusts. is_now: `at`
    is the present, which a capture replaces by its own time. keylog: the text of a TLS key log.
    contract_point: the public key of the contract that the session has named, 65 bytes. key: the
    provisioning key of a test vehicle.
    """

    at: int
    anchors: tuple[Certificate, ...] = ()
    is_now: bool = False
    keylog: bytes = b""
    contract_point: bytes | None = None
    key: KeyAgreement | None = None


@dataclass(frozen=True)
class Check:
    """One check: its name, OK, FAILED or NOT_CHECKED, and the reason or the checked value."""

    check: str
    verdict: str
    detail: str


@dataclass
class Report:
    """The report of one artefact.

    kind: a few words. content: for JSON. checks: in their order. certificates: DER of the
    certificates that may serve as trust anchors of another inspection.
    """

    kind: str
    content: dict[str, Any] = field(default_factory=dict)
    checks: list[Check] = field(default_factory=list)
    certificates: list[bytes] = field(default_factory=list)

    def add(self, check: str, good: bool | None, detail: str = "") -> None:
        """Add a check. `good`: whether it succeeded; None when it could not be made."""
        verdict = NOT_CHECKED if good is None else OK if good else FAILED
        self.checks.append(Check(check, verdict, detail))

    def include(self, part: "Report", prefix: str) -> None:
        """Add the checks of a part, each with the prefix that names the part."""
        self.checks += [
            Check(f"{prefix}: {c.check}" if prefix else c.check, c.verdict, c.detail)
            for c in part.checks
        ]

    @property
    def ok(self) -> bool:
        """Whether no check failed."""
        return all(check.verdict != FAILED for check in self.checks)


def listed(items: Iterable[str]) -> str:
    """Texts, separated by commas."""
    return ", ".join(items)
