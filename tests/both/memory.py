"""The surroundings of the stores in memory: files that can fail, a vault with keys only."""

from evcc.ports.files import StoreError
from evcc.vault import VaultError


def point(key):
    """The entry of `KeyList` for the public half of a key."""
    return b"\4" + key


class MemoryFiles:
    """A `ports.files.Files` whose writes fail once `budget` of them are done (None: never).

    `stuck`: the error of each removal, as when the medium has turned read-only; None: there is
    none.
    """

    def __init__(self, budget=None):
        self.content = {}
        self.budget = budget
        self.stuck = None

    def read(self, name):
        return self.content.get(name)

    def write(self, name, *parts):
        if self.budget is not None:
            if self.budget == 0:
                raise StoreError("full", name)
            self.budget -= 1
        self.content[name] = b"".join([bytes(part) for part in parts])

    def delete(self, name):
        if self.stuck:
            raise self.stuck
        self.content.pop(name, None)

    def names(self):
        return sorted(self.content)


class KeyList:
    """The part of a vault that `Contracts.recover` uses. halves: keys with one missing half;
    torn: keys that are listed and do not sign; level: the custody of each."""

    def __init__(self, keys, halves=(), torn=(), level="L3"):
        self.level = level
        self.held = list(keys)
        self.halves = halves
        self.torn = torn

    def claim(self, owner):
        self.owner = owner

    def keys(self):
        return [(key, b"" if key in self.halves else point(key)) for key in self.held]

    def public(self, key):
        return point(key)

    def random(self, n):
        return bytes(n)

    def custody(self, key):
        return self.level

    def sign(self, key, digest):
        if key in self.torn:
            raise VaultError("unavailable", "C_Sign: 0x5")
        return key + digest

    def verify(self, of, digest, signature):
        return signature == of[1:] + digest

    def delete(self, key):
        self.held.remove(key)
