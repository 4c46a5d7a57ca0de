"""`plugvault flash --erase-car`: the way out for a board that another folder made a car, and for
one whose store is damaged."""

from __future__ import annotations

from pathlib import Path

import pytest

from fixtures.flashing import Record
from fixtures.unix_board import UID
from fixtures.unix_flashing import LinkedBoard
from plugvault.board.errors import DeviceError


def test_board_of_another_data_folder_is_named_and_becomes_an_empty_car(
    linked_board: LinkedBoard, tmp_path: Path
) -> None:
    linked_board.flash()
    first = linked_board.command("provision")
    old_points, old_data = linked_board.points(), linked_board.data
    linked_board.data = tmp_path / "another folder"
    record = Record()
    linked_board.flash(record)
    assert record.steps[-2:] == ["car", "time"]
    for command in (["provision"], ["install"], ["install", "--at-station"]):
        refusal = linked_board.command(*command)["error"]
        assert refusal["reason"] == "state"
        assert refusal["detail"].startswith(
            f"the board's certificate, {first['pcid']}, is of another maker: "
        )
        assert "`plugvault flash --erase-car`" in refusal["detail"]
    erased = linked_board.flash_by_command("--erase-car", "--yes")
    assert erased.exit_code == 0, erased.output
    assert f"board provision {UID} --data '{tmp_path}/another folder'`" in erased.output
    second = linked_board.command("provision")
    assert second["pcid"] != first["pcid"]
    assert linked_board.command("install")["custody"] == "L1+"
    linked_board.data = old_data
    assert linked_board.points() == old_points


def test_erased_car_has_no_file_and_no_key_of_before_and_the_next_one_has_its_custody(
    linked_board: LinkedBoard,
) -> None:
    linked_board.flash()
    linked_board.command("provision")
    emaid = linked_board.command("install")["emaid"]
    before, points = linked_board.command("status"), linked_board.points()
    files = {path for path in linked_board.board.files() if path.startswith("store/")}
    result = linked_board.flash(erase_car=True)
    assert {path.removeprefix("/flash/") for path in result["car"]["files"]} == files
    assert result["car"]["keys"] == len(points) == 2
    status = result["status"]
    assert (status["pcid"], status["certified"], status["anchors"]) == ("", False, 0)
    assert status["contracts"] == []
    assert status["custody"] == before["custody"]
    assert linked_board.points().isdisjoint(points)
    assert before["contracts"][0]["emaid"] == emaid
    assert linked_board.command("provision")["pcid"] != before["pcid"]


def test_token_that_was_lost_is_told_as_a_certificate_for_another_key(
    linked_board: LinkedBoard,
) -> None:
    linked_board.flash()
    pcid = linked_board.command("provision")["pcid"]
    for record in (linked_board.data / "boards").glob("*/board.json"):
        record.unlink()
    linked_board.flash()
    detail = linked_board.command("provision")["error"]["detail"]
    assert detail.startswith(f"the board's certificate, {pcid}, is for another key: ")


def test_damaged_index_is_told_with_the_way_out_which_ends_with_an_answer(
    linked_board: LinkedBoard,
) -> None:
    linked_board.flash()
    linked_board.board.put("store/contracts", b"damaged")
    with pytest.raises(DeviceError, match=r"state: start: damaged: the contract index: .*--erase"):
        linked_board.flash()
    result = linked_board.flash(erase_car=True)
    assert result["status"]["contracts"] == []
