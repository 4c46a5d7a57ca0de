from evcc.ports.files import StoreError
from evcc.record import pack, unpack
from evcc.revocation import FILE, NEVER, ROOM, Revocation, RevocationError, name
from helpers import raises
from memory import MemoryFiles

NOW = 1_800_000_000


class Certificate:
    def __init__(self, serial, issuer=b"issuer"):
        self.serial = serial
        self.issuer = issuer


def listed(files, *serials):
    revocation = Revocation(files)
    revocation.install(NOW, NOW + 9, [name(b"issuer", serial) for serial in serials])
    return revocation


def test_a_certificate_is_known_by_its_issuer_and_serial_number():
    files = MemoryFiles()
    for revocation in (listed(files, 1, 2**159), Revocation(files)):
        assert revocation.includes(Certificate(1)) and revocation.includes(Certificate(2**159))
        assert not revocation.includes(Certificate(2))
        assert not revocation.includes(Certificate(1, b"another"))


def test_a_list_is_stale_from_the_second_after_its_end():
    revocation = listed(MemoryFiles(), 1)
    assert not revocation.is_stale(NOW + 9)
    assert revocation.is_stale(NOW + 10)
    assert not Revocation(MemoryFiles()).is_stale(NOW)


def test_a_list_without_an_end_is_never_stale():
    revocation = Revocation(MemoryFiles())
    revocation.install(NOW, NEVER, [])
    assert not revocation.is_stale(NEVER)


def test_an_older_list_is_refused_and_one_of_the_same_second_is_not():
    revocation = listed(MemoryFiles(), 1)
    raises(RevocationError, "older", revocation.install, NOW - 1, NOW + 9, [])
    revocation.install(NOW, NOW + 9, [])
    assert len(revocation) == 0


def test_a_list_from_the_future_gives_way_at_the_makers_time_and_never_without_it():
    ahead = listed(MemoryFiles(), 1)
    raises(RevocationError, "older", ahead.install, NOW - 2, NEVER, [])
    raises(RevocationError, "older", ahead.install, NOW - 2, NEVER, [], NOW)
    assert len(ahead) == 1
    ahead.install(NOW - 2, NEVER, [], NOW - 1)
    assert ahead.issued == NOW - 2 and len(ahead) == 0


def test_a_list_takes_its_room_and_no_more():
    revocation = listed(MemoryFiles(), *range(ROOM))
    assert len(revocation) == ROOM
    names = [name(b"issuer", serial) for serial in range(ROOM + 1)]
    raises(RevocationError, "list", revocation.install, NOW, NOW, names)


def test_a_list_that_cannot_be_stored_changes_nothing():
    files = MemoryFiles()
    revocation = listed(files, 1)
    files.budget = 0
    raises(StoreError, "full", revocation.install, NOW, NOW + 9, [])
    assert revocation.includes(Certificate(1))


def test_dates_and_names_are_whole():
    revocation = Revocation(MemoryFiles())
    for bad in ((0, 9, []), (9, 8, []), (9, 9, [b"n" * 15]), (9, 9, [b"n" * 17])):
        raises(RevocationError, "list", revocation.install, *bad)


def test_a_stored_list_that_is_not_whole_is_damaged():
    files = MemoryFiles()
    listed(files, 1)
    fields = unpack(files.content[FILE])
    for stored in (
        b"?",
        pack(fields[:2]),
        pack([b""] + fields[1:]),
        pack(fields[:2] + [b"n" * 15]),
    ):
        files.content[FILE] = stored
        raises(RevocationError, "damaged", Revocation, files)
