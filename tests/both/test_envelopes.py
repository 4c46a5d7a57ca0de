from evcc import envelopes as module
from evcc.envelopes import ASKED, MISMATCHED, MISMATCHES, OPENED, EnvelopeError, Envelopes
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


def test_a_full_table_reserves_no_room_and_the_last_step_none_beyond_it():
    envelopes = Envelopes(17)
    fill(envelopes, 17)
    size = len(envelopes._table)
    envelopes.reserve()
    assert len(envelopes._table) == size == len(envelopes.packed())


def test_a_table_grows_while_its_former_bytes_are_still_written():
    envelopes = Envelopes(17)
    fill(envelopes, 16)
    former = envelopes.packed()
    before = bytes(former)
    envelopes.reserve()
    fill(envelopes, 1, first=16)
    assert bytes(former) == before and len(envelopes) == 17


def test_what_was_not_stored_is_taken_back():
    """A new entry, a repeated one, that of another provisioning key, and a state."""
    envelopes = added()
    envelopes.settle(POINT, OPENED)
    before = bytes(envelopes.packed())
    for change in (
        lambda: envelopes.add(CAR, OTHER, WRAPPED, LEAF),
        lambda: envelopes.add(CAR, POINT, WRAPPED, LEAF),
        lambda: envelopes.add(OTHER, POINT, WRAPPED, LEAF),
        lambda: envelopes.settle(POINT, ASKED),
    ):
        change()
        envelopes.undo()
        assert bytes(envelopes.packed()) == before


def test_an_outcome_of_an_unknown_envelope_takes_back_no_other():
    envelopes = added()
    before = bytes(envelopes.packed())
    envelopes.settle(OTHER, OPENED)
    envelopes.undo()
    assert bytes(envelopes.packed()) == before


def test_a_heap_that_runs_out_leaves_the_table_as_it_was():
    for provisioning, dh_point in ((CAR, OTHER), (OTHER, POINT)):
        count, is_added = 0, False
        while not is_added:
            envelopes = added()
            before = bytes(envelopes.packed())
            is_added = succeeds(count, envelopes.add, provisioning, dh_point, WRAPPED, LEAF)
            assert is_added or bytes(envelopes.packed()) == before
            count += 1
        assert count > 4


def test_a_change_is_taken_back_without_heap():
    envelopes = added()
    before = bytes(envelopes.packed())
    envelopes.settle(POINT, OPENED)
    assert succeeds(0, envelopes.undo)
    assert bytes(envelopes.packed()) == before


def succeeds(hashes, change, *arguments):
    """Whether a change succeeds with a heap that suffices for so many hashes."""
    real, left = module._hash, [None] * hashes

    def hash_of(data):
        if not left:
            raise MemoryError
        left.pop()
        return real(data)

    module._hash = hash_of
    try:
        change(*arguments)
    except MemoryError:
        return False
    finally:
        module._hash = real
    return True
