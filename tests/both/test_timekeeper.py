from evcc.ports.files import StoreError
from evcc.record import pack
from evcc.timekeeper import FILE, RELEASE, STEP, TimeError, Timekeeper
from helpers import raises
from memory import MemoryFiles

NOW = 1_800_000_000


class Clocks:
    def __init__(self, now=NOW):
        self.now = now
        self.ticks = 5_000

    def keeper(self, files):
        return Timekeeper(files, lambda: self.now, lambda: self.ticks)


def test_a_clock_that_is_set_back_does_not_turn_the_time_back():
    files, clocks = MemoryFiles(), Clocks()
    time = clocks.keeper(files)
    assert time.now() == NOW
    clocks.now -= 400_000
    assert time.now() == NOW
    assert clocks.keeper(files).now() == NOW
    clocks.now = NOW + 1
    assert clocks.keeper(files).now() == NOW + 1


def test_a_restart_loses_less_than_a_step():
    files, clocks = MemoryFiles(), Clocks()
    time = clocks.keeper(files)
    time.now()
    clocks.now = NOW + STEP - 1
    assert time.now() == NOW + STEP - 1
    clocks.now = 0
    assert clocks.keeper(files).now() == NOW
    clocks.now = NOW + STEP
    time.now()
    clocks.now = 0
    assert clocks.keeper(files).now() == NOW + STEP


def test_the_makers_time_counts_forward_and_backward_and_runs_on():
    files, clocks = MemoryFiles(), Clocks()
    time = clocks.keeper(files)
    time.now()
    for new_time in (NOW + 1_000_000, NOW - 1_000_000):
        time.set(new_time)
        clocks.ticks += 2_500
        clocks.now += 77_777  # the clock jumps
        assert time.now() == new_time + 2
        clocks.now = 0
        assert clocks.keeper(files).now() == new_time


def test_a_time_that_cannot_be_stored_is_refused():
    files, clocks = MemoryFiles(), Clocks()
    time = clocks.keeper(files)
    time.now()
    files.budget = 0
    raises(StoreError, "full", time.set, NOW - 9)
    assert time.now() == NOW


def test_the_time_is_known_on_a_full_disk():
    assert Clocks().keeper(MemoryFiles(budget=0)).now() == NOW


def test_a_file_that_is_no_time_is_damaged():
    for stored in (b"?", pack([]), pack([b"1234567"]), pack([bytes(8), b""])):
        files = MemoryFiles()
        files.content[FILE] = stored
        raises(TimeError, "damaged", Clocks().keeper, files)


def test_a_new_car_believes_a_clock_that_is_not_before_the_release():
    for now, source in ((0, ""), (RELEASE - STEP - 1, ""), (RELEASE, "clock"), (NOW, "clock")):
        time = Clocks(now).keeper(MemoryFiles())
        assert time.source() == source, now
        if source:
            assert time.trusted() == now
        else:
            raises(TimeError, "clock", time.trusted)


def test_a_clock_behind_the_lowest_possible_time_is_not_believed_until_the_maker_sends_the_time():
    files, clocks = MemoryFiles(), Clocks()
    clocks.keeper(files).now()
    clocks.now = NOW - STEP - 1
    time = clocks.keeper(files)
    assert time.source() == ""
    raises(TimeError, "clock", time.trusted)
    assert time.now() == NOW  # the lowest possible time
    time.set(NOW + 7)
    assert (time.source(), time.trusted()) == ("maker", NOW + 7)
    clocks.now = 0
    assert clocks.keeper(files).source() == ""
    clocks.now = NOW + 8
    assert clocks.keeper(files).trusted() == NOW + 8


def test_a_clock_that_is_set_back_while_the_car_runs_is_not_believed_any_more():
    clocks = Clocks()
    time = clocks.keeper(MemoryFiles())
    assert time.trusted() == NOW
    clocks.now = NOW - STEP
    assert time.trusted() == NOW
    clocks.now -= 1
    raises(TimeError, "clock", time.trusted)


def test_the_makers_time_sets_the_clock_chip():
    chip = []
    time = Timekeeper(MemoryFiles(), lambda: 0, lambda: 0, chip.append)
    time.set(NOW)
    assert chip == [NOW]


def test_a_time_that_can_no_longer_be_stored_is_reported_once():
    errors = []
    time = Timekeeper(MemoryFiles(budget=0), lambda: NOW, lambda: 0, None, errors.append)
    time.now()
    time.now()
    assert [error.reason for error in errors] == ["full"]
