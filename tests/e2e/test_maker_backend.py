"""The maker's backend by itself: an operator acts, and the contract is in the real car's token."""

from __future__ import annotations

from fixtures.fleet import PCID, Garage, until

INSTALL, REMOVE, CHOOSE = "install", "remove", "choose"


def test_a_contract_reaches_the_car_without_anybody_calling_anything(garage: Garage):
    garage.arrives()
    emaid = garage.world.mo_v2g.contract(PCID)
    until(lambda: garage.work("done") == [(INSTALL, emaid)], "installed")
    held = garage.held()
    assert held[emaid].active
    assert held[emaid].custody == "L1+"


def test_what_comes_while_the_car_is_away_waits_for_it(garage: Garage):
    emaid = garage.world.mo.contract(PCID)
    until(lambda: garage.work("waiting") == [(INSTALL, emaid)], "seen")
    assert garage.held() == {}
    garage.arrives()
    until(lambda: garage.work("done") == [(INSTALL, emaid)], "installed")
    assert set(garage.held()) == {emaid}


def test_a_restart_loses_nothing_and_does_nothing_twice(garage: Garage):
    first = garage.world.mo.contract(PCID)
    until(lambda: garage.work("waiting") == [(INSTALL, first)], "seen")
    garage.stop()
    second = garage.world.mo_v2g.contract(PCID)  # nobody listens
    garage.start()
    garage.arrives()
    wanted = [(INSTALL, first), (INSTALL, second)]
    until(lambda: garage.work("done") == wanted, "both are installed")
    assert set(garage.held()) == {first, second}
    garage.stop()
    garage.start()
    garage.arrives()
    third = garage.world.mo.contract(PCID)
    until(lambda: garage.work("done") == [*wanted, (INSTALL, third)], "only the new one")
    assert garage.work() == [*wanted, (INSTALL, third)]


def test_a_bundle_that_the_car_has_already_is_no_failure(garage: Garage):
    """As after a stop between the installation and the note of it."""
    garage.arrives()
    emaid = garage.world.mo.contract(PCID)
    until(lambda: garage.work("done") == [(INSTALL, emaid)], "installed")
    (work,) = garage.backend.backlog.history(PCID)
    garage.leaves()
    garage.backend.backlog.add(PCID, emaid, INSTALL, work.message)
    garage.arrives()
    until(lambda: garage.work("done") == [(INSTALL, emaid)] * 2, "found in the car")


def test_a_contract_that_ends_is_taken_out_of_the_car(garage: Garage):
    garage.arrives()
    emaid = garage.world.mo.contract(PCID)
    other = garage.world.mo_v2g.contract(PCID)
    until(lambda: len(garage.work("done")) == 2, "installed")
    garage.world.mo.terminate(emaid)
    until(lambda: (REMOVE, emaid) in garage.work("done"), "removed")
    assert set(garage.held()) == {other}


def test_a_contract_that_ends_before_the_car_comes_never_gets_in(garage: Garage):
    emaid = garage.world.mo.contract(PCID)
    garage.world.mo.terminate(emaid)
    until(lambda: (REMOVE, emaid) in garage.work(), "seen")
    garage.arrives()
    until(lambda: garage.work("done") == [(REMOVE, emaid)], "was not in the car")
    assert garage.held() == {}


def test_the_customer_chooses_and_sees(garage: Garage):
    garage.arrives()
    first, second = garage.world.mo.contract(PCID), garage.world.mo_v2g.contract(PCID)
    until(lambda: len(garage.work("done")) == 2, "installed")
    seen = garage.backend.customer_view(PCID)
    assert (seen.pcid, seen.reachable) == (PCID, True)
    assert [(c.emaid, c.default, c.in_vehicle, c.active) for c in seen.contracts] == [
        (first, True, True, True),
        (second, False, True, False),
    ]
    garage.leaves()
    garage.backend.choose(PCID, second)
    away = {c.emaid: c for c in garage.backend.customer_view(PCID).contracts}
    assert (away[second].default, away[second].active) == (True, None)
    assert away[second].waiting == (CHOOSE,)
    garage.arrives()
    until(lambda: (CHOOSE, second) in garage.work("done"), "chosen in the car")
    assert garage.held()[second].active


def test_a_contract_is_checked_again_when_it_has_waited(garage: Garage):
    emaid = garage.world.mo.contract(PCID)
    until(lambda: garage.work("waiting") == [(INSTALL, emaid)], "seen")
    (work,) = garage.backend.backlog.waiting(PCID)
    changed = bytearray(work.message)
    changed[-200] ^= 1
    garage.backend.backlog.finish(work, "replaced")
    garage.backend.backlog.add(PCID, emaid, INSTALL, bytes(changed))
    garage.arrives()
    until(lambda: garage.work("rejected") == [(INSTALL, emaid)], "not forwarded")
    assert garage.held() == {}


def test_another_car_on_the_line_gets_nothing(garage: Garage):
    """Whoever answers for the PCID must have the key of its provisioning certificate."""
    emaid = garage.world.mo.contract(PCID)
    until(lambda: garage.work("waiting") == [(INSTALL, emaid)], "seen")
    key = garage.world.telematics_key
    other = garage.world.station.key.point
    tried = []

    def connect(_: bytes):
        maker = garage.car.maker(key, other)
        tried.append(maker)
        return maker

    garage.backend.arrives(PCID, connect)
    until(lambda: tried and garage.backend.customer_view(PCID).reachable is False, "refused")
    assert garage.work("waiting") == [(INSTALL, emaid)]
    assert garage.held() == {}
