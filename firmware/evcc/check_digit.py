"""The check digit of an EMAID (ISO 15118-2 Annex H), for callers to compare. No board needs it."""

from evcc.ids import parse_emaid

_ALNUM = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ"

# Annex H.1: each character as q1 + 2*q2 + 4*r1 + 16*r2, in the order of _ALNUM.
_CODE = bytes.fromhex("0010200414240818280212220616260a1a2a0111210515250919290313230717270b1b2b")


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
