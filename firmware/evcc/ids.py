"""Identifiers: EMAID (contract) and PCID (vehicle): parse, normalise.

EMAID: ISO 15118-2 Annex H: country (2 letters), provider (3), instance (9), optional check
digit; hyphens between the parts may be left out. PCID: WMI (3) and 14 or 15 more characters.

`parse_emaid` does not refuse a wrong check digit (`evcc.check_digit`): the ecosystem's own
published samples have wrong ones.
"""

from evcc.errors import EvccError

INSTANCE_END = 14  # characters of an EMAID before its check digit
_ALNUM = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ"
_UPPER_CASE = frozenset(_ALNUM)
_EITHER_CASE = frozenset(_ALNUM + _ALNUM[10:].lower())
_HYPHEN_AFTER = (2, 5, 14)


class IdError(EvccError):
    """A text that is no identifier of that kind."""

    REASONS = ("length", "character", "hyphen")


def parse_emaid(text: str) -> str:
    """An EMAID as 14 or 15 upper-case characters without hyphens.

    Raises: IdError("hyphen" | "character" | "length").
    """
    if len(text) in (14, 15) and _UPPER_CASE.issuperset(text) and min(text[:2]) > "9":
        return text  # the form in certificates needs no loop
    out = ""
    hyphen = False
    for c in text:
        if c == "-":
            if hyphen or len(out) not in _HYPHEN_AFTER:
                raise IdError("hyphen", "only between the parts of an EMAID")
            hyphen = True
            continue
        hyphen = False
        if c not in _EITHER_CASE or (len(out) < 2 and c.isdigit()):
            raise IdError("character", "in an EMAID")
        out += c.upper()
        if len(out) > 15:
            break
    if hyphen:
        raise IdError("hyphen", "at the end of an EMAID")
    if len(out) not in (14, 15):
        raise IdError("length", "an EMAID has 14 or 15 characters")
    return out


def is_same_emaid(emaid: str, other: str) -> bool:
    """Whether two parsed EMAIDs name one contract: the check digit may be left out."""
    return emaid[:INSTANCE_END] == other[:INSTANCE_END]


def parse_pcid(text: str) -> str:
    """A PCID, 17 or 18 letters and digits, in the case it is written in.

    Compare two with `.upper()`: pools hold both cases. Raises: IdError("length" | "character").
    """
    if len(text) not in (17, 18):
        raise IdError("length", "a PCID has 17 or 18 characters")
    if not _EITHER_CASE.issuperset(text):
        raise IdError("character", "in a PCID")
    return text
