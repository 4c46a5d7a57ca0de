"""The trail of what people decided: who did what, to what, when; nobody can edit it unseen.

Each line's digest covers the line before it, so that a change behind the store's back breaks the
chain from there on. The database refuses edits as well; this finds those made without asking it.
A trail that lost its end is whole as far as it goes: `verify` finds that only against a digest
that somebody noted elsewhere.
"""

import hashlib
import json
from dataclasses import dataclass

from plugvault.pools.records import AuditEntry
from plugvault.pools.repositories import Records

_PAGE = 1000


@dataclass(frozen=True)
class Verdict:
    """`lines`: that were good; `head`: the digest of the last of them, to be noted elsewhere;
    `broken`: the sequence of the first line that is not what was written, None when all are;
    `cut`: the digest asked for is not in the trail, so its end, or all of it, is gone."""

    lines: int
    head: str
    broken: int | None = None
    cut: bool = False


def note(records: Records, who: str, action: str, subject: str, detail: str, now: float) -> None:
    """Write a line, in the transaction of what it tells of.

    `who`: a `Caller.signature`, or the part of the system that acts by itself; `action`: in a few
    words, such as "root added"; `subject`: what it was done to; `detail`: what else a reader
    needs. No secret, and nothing that tells how many vehicles a maker has.
    """
    records.audit.add(AuditEntry(int(now), who, action, subject, detail))


def digest(before: str, entry: AuditEntry) -> str:
    """SHA-256 in hexadecimal over the digest before and this entry's own words."""
    words = [before, entry.at, entry.who, entry.action, entry.subject, entry.detail]
    return hashlib.sha256(json.dumps(words).encode()).hexdigest()


def verify(records: Records, head: str = "") -> Verdict:
    """Walk the whole trail. `head`: a digest noted earlier, which must still be in it."""
    lines, before, seen, sequence = 0, "", not head, 0
    while page := records.audit.since(sequence, _PAGE):
        for entry in page:
            if entry.digest != digest(before, entry):
                return Verdict(lines, before, broken=entry.sequence)
            lines, before, sequence = lines + 1, entry.digest, entry.sequence
            seen = seen or before == head
    return Verdict(lines, before, cut=not seen)
