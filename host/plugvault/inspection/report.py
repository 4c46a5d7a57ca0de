"""What an inspection gives: what is in an artefact, and each check with its verdict."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from evcc.x509 import Certificate

OK = "ok"
FAILED = "failed"
NOT_CHECKED = "not checked"


class UnreadableError(Exception):
    """The bytes are nothing this world knows, or are broken; the text says what was tried."""


@dataclass(frozen=True)
class Scope:
    """What an inspection may lean on.

    at: seconds since 1970, the time validity is judged at. anchors: the roots the user trusts.
    """

    at: int
    anchors: tuple[Certificate, ...] = ()


@dataclass(frozen=True)
class Check:
    """One check: its name, OK, FAILED or NOT_CHECKED, and why or what was seen."""

    check: str
    verdict: str
    detail: str


@dataclass
class Report:
    """What one artefact is and says.

    kind: a few words. content: JSON-able. checks: in the order they were made. certificates: the
    DER of what may serve as trust anchors elsewhere.
    """

    kind: str
    content: dict[str, Any] = field(default_factory=dict)
    checks: list[Check] = field(default_factory=list)
    certificates: list[bytes] = field(default_factory=list)

    def add(self, check: str, good: bool | None, detail: str = "") -> None:
        """One more check; `good` is None where it could not be made."""
        verdict = NOT_CHECKED if good is None else OK if good else FAILED
        self.checks.append(Check(check, verdict, detail))

    def include(self, other: "Report", prefix: str) -> None:
        """Take over the checks of a part, each with a prefix that says which part."""
        self.checks += [
            Check(f"{prefix}: {c.check}" if prefix else c.check, c.verdict, c.detail)
            for c in other.checks
        ]

    @property
    def ok(self) -> bool:
        """No check failed."""
        return all(check.verdict != FAILED for check in self.checks)


def listed(items: Iterable[str]) -> str:
    return ", ".join(items)
