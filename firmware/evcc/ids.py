"""Identifiers: EMAID (contract) and PCID (vehicle): parse, normalise, check digit.

EMAID: ISO 15118-2 Annex H: country (2 letters), provider (3), instance (9), optional check
digit; hyphens between the parts may be left out. PCID: WMI (3) and 14 or 15 more characters.

`emaid_check_digit` computes a check digit for the caller to compare. `parse_emaid` does not refuse
a wrong one: the ecosystem's own published samples have wrong ones.
"""

from evcc.errors import EvccError

_ALNUM = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ"
_UPPER_CASE = frozenset(_ALNUM)
_EITHER_CASE = frozenset(_ALNUM + _ALNUM[10:].lower())
_HYPHEN_AFTER = (2, 5, 14)

# Annex H.1: each character as q1 + 2*q2 + 4*r1 + 16*r2, in the order of _ALNUM.
_CODE = bytes.fromhex("0010200414240818280212220616260a1a2a0111210515250919290313230717270b1b2b")


class IdError(EvccError):
    """A text that is no identifier of that kind."""

    REASONS = ("length", "character", "hyphen")


def parse_emaid(text: str) -> str:
    """An EMAID as 14 or 15 upper-case characters without hyphens.

    Raises: IdError.
    """
    if len(text) in (14, 15) and _UPPER_CASE.issuperset(text) and min(text[:2]) > "9":
        return text  # as certificates have it
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


def emaid_check_digit(emaid: str) -> str:
    """The check digit of an EMAID's first 14 characters (normalised; a 15th is ignored).

    Two sums of (a, b)*M^i over i = 1..14, by Horner's rule from the last character.
    Raises: IdError.
    """
    emaid = parse_emaid(emaid)
    q1 = q2 = r1 = r2 = 0
    for i in range(13, -1, -1):
        code = _CODE[_ALNUM.index(emaid[i])]
        q1, q2 = q1 + (code & 1), q2 + (code >> 1 & 1)
        r1, r2 = r1 + (code >> 2 & 3), r2 + (code >> 4)
        q1, q2 = q2, q1 + q2
        r1, r2 = r2, r1 + 2 * r2
    r1, r2 = 2 * r2, 2 * r1 + r2
    code = q1 % 2 + 2 * (q2 % 2) + 4 * (r1 % 3) + 16 * (r2 % 3)
    return _ALNUM[_CODE.index(bytes([code]))]


def parse_pcid(text: str) -> str:
    """A PCID, 17 or 18 letters and digits, in the case it is written in.

    Compare two with `.upper()`: pools hold both cases. Raises: IdError.
    """
    if len(text) not in (17, 18):
        raise IdError("length", "a PCID has 17 or 18 characters")
    if not _EITHER_CASE.issuperset(text):
        raise IdError("character", "in a PCID")
    return text


def provider(emaid: str) -> str:
    """Country and provider of an EMAID: its first five characters, as in `DEABC`.

    Raises: IdError.
    """
    return parse_emaid(emaid)[:5]
