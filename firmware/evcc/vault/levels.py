"""The words for custody, and how what a token says and what the car wrote down are one.

A token's word can have been altered where its files lie, the car's store can have been where it
lies. So the car compares them, and never says better than both.
"""

LEVELS = ("L1", "L1+", "L2", "L3")  # what of a key was ever outside: `custody`
# Below every level: who had the key before, nobody knows.
EXTRACTABLE = "extractable"  # it can leave its token, or could
IMPORTED = "imported"  # written into the token from outside
UNATTESTED = "unattested"  # this library attests nothing, of no key
WORDS = (EXTRACTABLE, IMPORTED, UNATTESTED) + LEVELS  # the lowest first


def lower(one: str, other: str) -> str:
    """The lower of two; a word that nobody knows attests nothing."""
    if one == other:
        return one
    places = [WORDS.index(word if word in WORDS else UNATTESTED) for word in (one, other)]
    return WORDS[min(places)]


def told(token: str, store: str) -> str:
    """Of a key that is in both. token: what the token says; store: what the car wrote down. A
    token that attests nothing takes the store's word."""
    return store if token == UNATTESTED else lower(token, store)
