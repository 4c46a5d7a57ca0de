"""All test cases, in order, and the selection of some."""

import fnmatch

from plugvault.cases.case import Case
from plugvault.cases.groups import (
    decode,
    identifiers,
    key_transport,
    paths,
    response_code,
    session,
    signature,
    storage,
    timing,
)

# id: the title of the group
GROUPS = {
    "EN": "the message as EXI, and by its schema",
    "RC": "the ResponseCode",
    "SE": "session, order and replay",
    "PA": "the certificate paths of CPS and contract",
    "SG": "the signature of the CPS",
    "EM": "the EMAID",
    "KT": "key transport",
    "ST": "several contracts, and a full store",
    "TI": "slow, late and incomplete responses, at `station:` alone",
}

CASES: tuple[Case, ...] = tuple(
    case
    for group in (
        decode,
        response_code,
        session,
        paths,
        signature,
        identifiers,
        key_transport,
        storage,
        timing,
    )
    for case in group.CASES
)
BY_ID = {case.id: case for case in CASES}
SLOTS = {case.id: slot for slot, case in enumerate(CASES)}


def select(*patterns: str) -> list[Case]:
    """The cases whose id matches one of these patterns ("KT-*"), in order; without a pattern all
    cases."""
    return [
        case
        for case in CASES
        if not patterns or any(fnmatch.fnmatchcase(case.id, pattern) for pattern in patterns)
    ]
