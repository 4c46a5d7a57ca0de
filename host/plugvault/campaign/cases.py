"""The cases of a folder, as `plugvault.cases.files` writes it."""

import hashlib
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from evcc.errors import EvccError
from plugvault import json_file
from plugvault.cases.case import EITHER, Timing

FORMAT, VERSION = "plugvault-cases", 1
ROOTS = ("V2G", "MO", "OEM")
_FACTS = ("title", "requirement", "because", "gain", "changed", "editions")  # of a report


class CampaignError(EvccError):
    """The campaign cannot continue. The text says what to do."""

    REASONS = ("cases", "module", "known")


@dataclass(frozen=True)
class Message:
    """One message of a case. session: of the open request, 8 bytes; None: no request is open.
    may_be_refused: True for a message before the case's own that a full store may refuse."""

    name: str
    exi: bytes
    session: bytes | None
    may_be_refused: bool = False


@dataclass(frozen=True)
class CampaignCase:
    """One case. `facts`: its row of the manifest, with title, reason and change."""

    id: str
    must: str
    stage: str
    emaid: str | None
    twin: Message
    before: tuple[Message, ...]
    message: Message
    after: Message
    timing: Timing | None
    facts: dict[str, Any]


@dataclass(frozen=True)
class Campaign:
    """All cases of a folder. trust: [(kind, DER)]. at: Unix seconds. sha256: of the manifest, as
    the name of exactly these cases. station: certificate chain and key of a station, PEM.
    left_out: {case that was not made: the reason}."""

    cases: tuple[CampaignCase, ...]
    trust: tuple[tuple[str, bytes], ...]
    at: int
    seed: int
    vehicle: str
    sha256: str
    station: bytes = b""
    left_out: dict[str, str] = field(default_factory=dict)


def read(folder: Path, patterns: tuple[str, ...] = ()) -> Campaign:
    """The cases of a folder; patterns: of ids, none: all.

    Raises CampaignError("cases") for a folder without a manifest, for another format, for a file
    that is not below the folder, for a message that is not the one of the manifest, and when no
    case matches.
    """
    try:
        text = (folder / "manifest.json").read_bytes()
        manifest = json_file.parse(text)
        if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
            raise ValueError("its manifest.json is no manifest of this format")
        if manifest["version"] != VERSION:
            raise CampaignError("cases", f"{folder}: a manifest of another version")
        rows = [row for row in manifest["cases"] if _matches(row["id"], patterns)]
        campaign = Campaign(
            cases=tuple(_case(folder, row) for row in rows),
            trust=tuple(_root(folder, anchor) for anchor in manifest["trust"]),
            at=manifest["at"],
            seed=manifest["seed"],
            vehicle=manifest["vehicle"]["subject"],
            sha256=hashlib.sha256(text).hexdigest(),
            station=_station(folder, manifest),
            left_out={
                row["id"]: row["why"]
                for row in manifest.get("left_out", [])
                if _matches(row["id"], patterns)
            },
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        fault = f"{folder} holds no cases ({_fault(error)}); `plugvault cases make` makes them"
        raise CampaignError("cases", fault) from error
    if not campaign.cases:
        raise CampaignError("cases", f"no case of {folder} matches {', '.join(patterns)}")
    return campaign


def _fault(error: Exception) -> str:
    """The words for an error in the manifest's content; others have their own."""
    if isinstance(error, KeyError):
        return f"the manifest has no {error}"
    if isinstance(error, TypeError | AttributeError):
        return "a member of the manifest has another type than this format's"
    if isinstance(error, OSError):
        return f"{Path(str(error.filename)).name}: {error.strerror}"
    return str(error)


def _station(folder: Path, manifest: dict[str, Any]) -> bytes:
    """b"" in cases of an earlier version, or of a PKI without a station's key."""
    return _content(folder, manifest["station"]) if manifest.get("station") else b""


def _root(folder: Path, anchor: dict[str, Any]) -> tuple[str, bytes]:
    """(kind, DER). The kind becomes the name of a file."""
    if anchor["kind"] not in ROOTS:
        kinds = ", ".join(ROOTS)
        raise CampaignError("cases", f"{anchor['kind']!r} is no kind of root: {kinds}")
    return anchor["kind"], _content(folder, anchor["file"])


def _content(folder: Path, name: str) -> bytes:
    """The content of a file below the folder: the manifest may be another's."""
    file = folder / name
    if not file.resolve().is_relative_to(folder.resolve()):
        raise CampaignError("cases", f"{name!r} of the manifest is not below {folder}")
    return file.read_bytes()


def _matches(ident: str, patterns: tuple[str, ...]) -> bool:
    return not patterns or any(fnmatchcase(ident, pattern) for pattern in patterns)


def _case(folder: Path, row: dict[str, Any]) -> CampaignCase:
    if missing := [name for name in _FACTS if name not in row]:
        raise CampaignError("cases", f"a case of the manifest has no {missing[0]}")
    return CampaignCase(
        id=row["id"],
        must=row["must"],
        stage=row["stage"],
        emaid=row["emaid"],
        twin=_message(folder, row["twin"]),
        before=tuple(_message(folder, entry) for entry in row["before"]),
        message=_message(folder, row["message"]),
        after=_message(folder, row["after"]),
        timing=Timing(**row["timing"]) if row.get("timing") else None,
        facts=row,
    )


def _message(folder: Path, entry: dict[str, Any]) -> Message:
    exi = _content(folder, entry["file"])
    if hashlib.sha256(exi).hexdigest() != entry["sha256"]:
        raise CampaignError("cases", f"{entry['file']} is not the message of the manifest")
    session = entry["session"]
    return Message(
        entry["file"],
        exi,
        None if session is None else bytes.fromhex(session),
        entry.get("must") == EITHER,
    )
