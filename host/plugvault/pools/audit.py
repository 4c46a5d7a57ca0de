"""The audit trail: the actor, action, subject and time of each decision, protected by digests.

The digest of a line covers the line before it, so an edit breaks the chain from there on. The
database refuses edits as well; the digests show an edit of the database file itself. A trail that
lost its last lines is still a valid chain: `verify` finds that only with a digest that was noted
outside the database.
"""

import hashlib
import json
from dataclasses import dataclass

from plugvault.pools.records import AuditEntry
from plugvault.pools.repositories import Records

_PAGE = 1000


@dataclass(frozen=True)
class Verdict:
    """The result of `verify`.

    `lines`: the number of valid lines; `head`: the digest of the last of them, to be noted outside
    the database; `broken`: the sequence of the first changed line, or None; `cut`: True when the
    digest that was noted earlier is not in the trail, so that its end or all of it is lost.
    """

    lines: int
    head: str
    broken: int | None = None
    cut: bool = False


def note(records: Records, who: str, action: str, subject: str, detail: str, now: float) -> None:
    """Write a line, in the transaction of the action.

    `who`: a `Caller.signature`, or a part of the system; `action`: a few words, such as "root
    added"; `subject`: the object of the action; `detail`: further information. No line has a
    secret or shows the number of a maker's vehicles.
    """
    records.audit.add(AuditEntry(int(now), who, action, subject, detail))


def digest(before: str, entry: AuditEntry) -> str:
    """SHA-256 in hexadecimal over the digest of the line before and this entry."""
    fields = [before, entry.at, entry.who, entry.action, entry.subject, entry.detail]
    return hashlib.sha256(json.dumps(fields).encode()).hexdigest()


def verify(records: Records, head: str = "") -> Verdict:
    """Check the whole trail. `head`: a digest noted earlier, which must still be in it; "" for
    none. Raises nothing for a broken trail: `Verdict` says it."""
    lines, before, seen, sequence = 0, "", not head, 0
    while page := records.audit.since(sequence, _PAGE):
        for entry in page:
            if entry.digest != digest(before, entry):
                return Verdict(lines, before, broken=entry.sequence)
            lines, before, sequence = lines + 1, entry.digest, entry.sequence
            seen = seen or before == head
    return Verdict(lines, before, cut=not seen)
