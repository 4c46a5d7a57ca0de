"""EM: the EMAID of the message, and that of the certificate."""

from typing import Any

from plugvault.cases.case import ACCEPT, EITHER, REFUSE, Case
from plugvault.cases.scene import EMAID, OTHER_EMAID, Scene

_ANNEX = "ISO 15118-2, Annex H"
_SAME = "The EMAID of the message is that of the certificate [V2G2-823]."
_NO_EMAID = "The common name of a contract certificate is an EMAID."
_PATH = "contract-path"
_OTHERS = "A driver charges on another driver's contract number, or the car shows a wrong one."


def _certified(common_name: str, emaid: str | None = None) -> Any:
    """A contract with this common name; emaid: of the message, in place of the same."""
    return lambda scene: {"contract": scene.contract(common_name), "emaid": emaid}


def _refused(
    number: int, title: str, because: str, common_name: str, emaid: str, stage: str = "emaid"
) -> Case:
    return Case(
        f"EM-{number:03}",
        title,
        REFUSE,
        _ANNEX,
        because,
        _OTHERS,
        stage,
        change=_certified(common_name, emaid),
    )


def _other(scene: Scene) -> dict[str, Any]:
    return {"emaid": OTHER_EMAID}


CASES = [
    Case(
        "EM-001",
        "an EMAID of 14 characters, without check digit",
        ACCEPT,
        _ANNEX,
        "The check digit is optional.",
        change=_certified(EMAID[:14]),
    ),
    Case(
        "EM-002",
        "hyphens in the certificate's common name",
        ACCEPT,
        _ANNEX,
        "The hyphens between the parts may be written or left out.",
        change=_certified("DE-PVT-000000001-2", EMAID),
    ),
    Case(
        "EM-003",
        "small letters in the certificate's common name",
        EITHER,
        _ANNEX,
        "Case carries no meaning; a reader that compares bytes refuses.",
        change=_certified(EMAID.lower(), EMAID),
    ),
    Case(
        "EM-004",
        "a wrong check digit in both places",
        EITHER,
        _ANNEX,
        "The check digit is for people who type; published samples have wrong ones.",
        change=_certified(EMAID[:14] + "9"),
    ),
    Case(
        "EM-005",
        "the check digit in the certificate alone",
        EITHER,
        _ANNEX,
        "The same contract, written in two ways.",
        change=_certified(EMAID, EMAID[:14]),
    ),
    Case(
        "EM-010",
        "another EMAID in the message than in the certificate",
        REFUSE,
        "V2G2-823",
        _SAME,
        _OTHERS,
        "emaid",
        change=_other,
    ),
    _refused(11, "an EMAID that differs in one character", _SAME, EMAID, "DEPVT0000000022"),
    _refused(12, "another provider in the message", _SAME, EMAID, "DEPVX0000000012"),
    _refused(13, "a common name that is no EMAID", _NO_EMAID, "A driver", EMAID, _PATH),
    _refused(14, "a common name that begins like the EMAID", _NO_EMAID, EMAID + "X", EMAID, _PATH),
    _refused(15, "hyphens in wrong places", _NO_EMAID, "DEP-VT0-00000001-2", EMAID, _PATH),
]
