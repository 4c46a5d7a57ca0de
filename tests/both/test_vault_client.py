"""The client of a vault service, against a peer that lies or drips."""

from evcc.ports import clock
from evcc.vault import PROVISIONING, VaultError, service
from helpers import raises

REQUEST_MS = 20000  # that the vault may hold the module


class Drip:
    """A line with its own time: a byte of `data` comes every 2.4 s. Stands in for the clock."""

    def __init__(self, data):
        self.now, self.data = 0, data

    def ticks_ms(self):
        return self.now

    def write(self, data):
        pass

    def read(self, n, timeout_ms):
        if not timeout_ms:
            return b""
        self.now += min(timeout_ms, 2400)
        if timeout_ms < 2400 or not self.data:
            return b""
        piece, self.data = self.data[:1], self.data[1:]
        return piece

    def close(self):
        pass


def held_ms(data, *shared):
    line = Drip(data)
    service.clock = line
    try:
        raises(VaultError, "unavailable", service.connect(line, *shared).public, PROVISIONING)
    finally:
        service.clock = clock
    return line.now


def test_a_drip_holds_the_module_no_longer_than_a_request_may_take():
    whole = (8100).to_bytes(2, "big") + bytes(8100)
    late = service.pack(77, 0, [b"x"]) * 3000
    for data in (whole, late):
        assert held_ms(data) <= REQUEST_MS
        assert held_ms(data, "board", bytes(32)) <= REQUEST_MS


def test_an_owner_has_eight_bytes_or_none():
    vault = service.connect(Drip(b""))
    for length in (1, 7, 9, 16):
        raises(VaultError, "refused", vault.claim, bytes(length))
    vault.claim(bytes(8))
    vault.claim(b"")
