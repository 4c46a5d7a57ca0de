"""The output of `plugvault board`: a custody is a bench's wherever it is shown."""

from __future__ import annotations

import json

from fixtures.unix_flashing import LinkedBoard

BENCH = "The board's keys are in a token on this computer, over the link: a bench, and no car."


def test_custody_is_that_of_the_bench_wherever_a_command_shows_it(
    linked_board: LinkedBoard,
) -> None:
    linked_board.flash()
    linked_board.command("provision")
    air = linked_board.command("install")
    assert (air["path"], air["custody"], air["vault"]) == ("over the air", "L1+", "link")
    text = linked_board.text("install", "--at-station")
    assert "is installed at the station, custody L1+\n" in text
    assert BENCH in text
    contracts = linked_board.command("contracts")
    assert [contract["vault"] for contract in contracts] == ["link", "link"]
    for command in ("contracts", "status"):
        text = linked_board.text(command)
        assert "L1+" in text
        assert BENCH in text
    status = linked_board.command("status")
    assert (status["vault"], len(status["contracts"])) == ("link", 2)


def test_log_shows_the_events_of_a_module_that_starts(linked_board: LinkedBoard) -> None:
    linked_board.flash()
    linked_board.board.put("store/time", b"damaged")
    linked_board.board.start_module()
    lines = linked_board.text("log", "--seconds", "2", "--json").splitlines()
    events = [line for line in map(json.loads, lines) if line["channel"] == "event"]
    assert events[0]["text"].startswith("unable start: damaged: the latest time")
    assert "unable start: damaged" in linked_board.text("log", "--seconds", "2")
