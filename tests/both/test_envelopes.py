from evcc.envelopes import MISMATCHED, MISMATCHES, OPENED, EnvelopeError, Envelopes
from helpers import raises

CAR = b"\4" + b"car" * 21 + b"!"
POINT = b"\4" + b"x" * 32 + b"y" * 32
NEGATED = b"\4" + b"x" * 32 + b"Y" * 32
OTHER = b"\4" + b"z" * 32 + b"y" * 32
WRAPPED, LEAF = b"w" * 48, b"certificate"


def added(point=POINT, wrapped=WRAPPED, leaf=LEAF, room=4):
    envelopes = Envelopes(room)
    envelopes.add(CAR, point, wrapped, leaf)
    return envelopes


def fill(envelopes, count, first=0):
    for n in range(first, first + count):
        envelopes.add(CAR, point(n), WRAPPED, b"certificate %d" % n)


def point(n):
    return b"\4" + bytes([n]) * 64


def reread(envelopes, room=4):
    return Envelopes(room, envelopes.packed())


def test_a_point_that_comes_with_another_envelope_or_certificate_was_seen():
    for envelopes in (added(), reread(added())):
        for wrapped, leaf in ((b"W" + WRAPPED[1:], LEAF), (WRAPPED, b"another")):
            raises(EnvelopeError, "seen", envelopes.check, CAR, POINT, wrapped, leaf)
            raises(EnvelopeError, "seen", envelopes.add, CAR, POINT, wrapped, leaf)


def test_the_negated_point_is_the_same_one():
    raises(EnvelopeError, "seen", added().check, CAR, NEGATED, b"W" * 48, LEAF)


def test_the_same_envelope_may_be_asked_for_again():
    envelopes = added()
    envelopes.add(CAR, POINT, WRAPPED, LEAF)
    envelopes.settle(POINT, OPENED)
    envelopes.add(CAR, POINT, WRAPPED, LEAF)
    assert len(envelopes) == 1


def test_another_point_is_another_envelope():
    added().check(CAR, OTHER, WRAPPED, LEAF)


def test_an_envelope_that_did_not_match_is_not_tried_again():
    envelopes = added()
    envelopes.settle(POINT, MISMATCHED)
    raises(EnvelopeError, "mismatched", reread(envelopes).check, CAR, POINT, WRAPPED, LEAF)
    assert reread(envelopes).mismatches == 1


def test_the_fifth_mismatch_locks_and_the_fourth_does_not():
    envelopes = Envelopes(MISMATCHES + 1)
    for n in range(MISMATCHES):
        assert not reread(envelopes, MISMATCHES + 1).locked
        envelopes.add(CAR, point(n), WRAPPED, LEAF)
        envelopes.settle(point(n), MISMATCHED)
    for locked in (envelopes, reread(envelopes, MISMATCHES + 1)):
        assert locked.locked
        raises(EnvelopeError, "locked", locked.check, CAR, OTHER, WRAPPED, LEAF)
    envelopes.mismatches = 0
    envelopes.check(CAR, OTHER, WRAPPED, LEAF)
    raises(EnvelopeError, "mismatched", envelopes.check, CAR, point(0), WRAPPED, LEAF)


def test_a_full_table_takes_no_more_and_forgets_nothing():
    envelopes = Envelopes(4)
    fill(envelopes, 4)
    raises(EnvelopeError, "full", envelopes.add, CAR, OTHER, WRAPPED, LEAF)
    raises(EnvelopeError, "seen", reread(envelopes).check, CAR, point(0), b"W" * 48, LEAF)
    fill(envelopes, 4)  # the same again


def test_a_new_provisioning_key_begins_anew():
    envelopes = added()
    envelopes.settle(POINT, MISMATCHED)
    envelopes.add(OTHER, POINT, b"W" * 48, LEAF)
    assert len(envelopes) == 1 and envelopes.mismatches == 0
    raises(EnvelopeError, "seen", reread(envelopes).check, OTHER, POINT, WRAPPED, LEAF)


def test_only_an_opened_envelope_counts_as_opened():
    envelopes = added()
    assert not envelopes.opened(LEAF)
    envelopes.settle(POINT, OPENED)
    assert reread(envelopes).opened(LEAF) and not envelopes.opened(b"another")


def test_an_incomplete_table_is_damaged():
    packed = bytes(added().packed())
    for stored in (packed[:-1], packed + b"\0", packed[:5], packed[:-1] + b"\3"):
        raises(EnvelopeError, "damaged", Envelopes, 4, stored)
    five = Envelopes(5)
    fill(five, 5)
    raises(EnvelopeError, "damaged", Envelopes, 4, five.packed())


def test_reserved_room_is_for_sixteen_entries_and_no_block_grows_meanwhile():
    envelopes = Envelopes(17)
    for n in (0, 16):
        envelopes.reserve()
        size = len(envelopes._table)
        fill(envelopes, min(16, 17 - n), first=n)
        assert len(envelopes._table) == size
    assert len(envelopes) == 17 and len(reread(envelopes, 17)) == 17
