"""The words for custody, and the valid word where the token and the car's store disagree.

The token's word can be altered in the token's files, the store's in the car's files. So the car
compares the two and uses the lower.
"""

LEVELS = ("L1", "L1+", "L2", "L3")  # the parts of a key that were ever outside: see `custody`
# Below every level: former holders of the key are unknown.
EXTRACTABLE = "extractable"  # it can leave its token, or could
IMPORTED = "imported"  # written into the token from outside
UNATTESTED = "unattested"  # this library attests nothing about any key
WORDS = (EXTRACTABLE, IMPORTED, UNATTESTED) + LEVELS  # the lowest first


def lower(a: str, b: str) -> str:
    """The lower of two words; an unknown word attests nothing."""
    if a == b:
        return a
    places = [WORDS.index(word if word in WORDS else UNATTESTED) for word in (a, b)]
    return WORDS[min(places)]


def reconcile(token: str, store: str) -> str:
    """The custody of a key that is in the token and in the store, from the word of each. A token
    that attests nothing leaves the store's word as it is."""
    return store if token == UNATTESTED else lower(token, store)
