"""The selection of a token by the file, the environment and the options, and their errors."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from evcc.vault import VaultError
from plugvault.tokens import find_module
from plugvault.tokens.selection import Selection, choose, choose_roles

SECRET = "0815-4711-secret"
ALL = """
module = "{module}"
token = "car 17"
pin = "file:{pin}"
minimum_custody = "L2"

[role.v2g]
module = "/usr/lib/vendor.so"
token = "v2g root"
pin = "file:{pin}"
options = "some"
"""


@pytest.fixture
def pin_file(tmp_path: Path) -> Path:
    file = tmp_path / "pin"
    file.write_text(SECRET)
    file.chmod(0o600)
    return file


@pytest.fixture
def config(tmp_path: Path, pin_file: Path, softhsm: Path) -> Path:
    file = tmp_path / "plugvault.toml"
    file.write_text(ALL.format(pin=pin_file, module=softhsm))
    return file


def refused(**settings: Any) -> str:
    """Return the detail of the refusal, by either of the two functions."""
    settings = {"environ": {}, **settings}
    with pytest.raises(VaultError) as caught:  # noqa: PT012 - either call may raise
        choose_roles(settings.get("file"), settings["environ"])
        choose(**settings)
    assert SECRET not in str(caught.value)
    return caught.value.detail


def test_without_a_setting_no_token_is_chosen() -> None:
    assert choose({"token": None}, environ={}) == Selection()


def test_a_file_names_the_car_s_token_and_those_of_roles(config: Path, softhsm: Path) -> None:
    for arguments in (
        {"file": config, "environ": {}},
        {"environ": {"PLUGVAULT_CONFIG": str(config)}},
    ):
        chosen, v2g = choose(**arguments).vault, choose_roles(**arguments)["v2g"]
        assert chosen
        assert (chosen.location.module, chosen.location.label) == (softhsm, "car 17")
        assert (chosen.pin, chosen.minimum_custody) == (SECRET, "L2")
        assert (v2g.location.label, v2g.location.options, v2g.pin) == ("v2g root", "some", SECRET)
        assert SECRET not in repr(chosen) + repr(v2g)


def test_an_option_counts_before_a_variable_and_that_before_the_file(
    config: Path, tmp_path: Path
) -> None:
    environ = {"PLUGVAULT_TOKEN": "of the environment", "SOFTHSM2_CONF": "/some/conf"}
    chosen = choose(file=config, environ=environ).vault
    assert chosen
    assert (chosen.location.label, chosen.location.conf) == (
        "of the environment",
        Path("/some/conf"),
    )
    options = {"token": "said", "pin": None, "conf": "/said/conf"}
    chosen = choose(options, config, environ).vault
    assert chosen
    assert (chosen.location.label, chosen.location.conf) == ("said", Path("/said/conf"))
    assert chosen.pin == SECRET


def test_the_pin_variable_names_the_source_of_the_pin(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("CAR_PIN", SECRET)
    chosen = choose(environ={"PLUGVAULT_TOKEN": "car", "PLUGVAULT_PIN": "env:CAR_PIN"}).vault
    assert chosen
    assert chosen.pin == SECRET
    detail = refused(environ={"PLUGVAULT_TOKEN": "car", "PLUGVAULT_PIN": SECRET})
    assert "never the PIN" in detail


def test_another_library_is_not_taken_for_softhsm(
    softhsm: Path, pin_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The choice of one token does not count where throw-away ones are made."""
    environ = {"PLUGVAULT_MODULE": "/usr/lib/vendor.so", "PLUGVAULT_TOKEN": "car"}
    monkeypatch.setenv("PLUGVAULT_MODULE", "/usr/lib/vendor.so")
    chosen = choose({"pin": f"file:{pin_file}"}, environ=environ).vault
    assert chosen
    assert chosen.location.module == Path("/usr/lib/vendor.so")
    assert find_module() == softhsm
    chosen = choose({"token": "car", "pin": f"file:{pin_file}"}, environ={}).vault
    assert chosen
    assert chosen.location.module == softhsm


def test_a_minimum_counts_for_a_throw_away_token_too() -> None:
    assert choose({"minimum_custody": "L3"}, environ={}) == Selection(minimum_custody="L3")


@pytest.mark.parametrize(
    "text, words",
    [
        ("token =", "is not TOML"),
        ("tokn = 'car'", "tokn: texts by the names module, token, serial, pin"),
        ("token = 17", "token: texts"),
        ("minimum_custody = 'L4'", "minimum_custody is one of L1, L1+, L2, L3"),
        ("token = 'car'", "where is its PIN?"),
        ("pin = 'file:/pin'", "say --token LABEL"),
        ("[role.v2g]\npin = 'prompt'", "[role.v2g] lacks token"),
        ("[role.v2g]\ntoken = 'car'", "[role.v2g] car: where is its PIN?"),
        ("[role.v2g]\nminimum_custody = 'L2'", "[role.v2g] minimum_custody: texts"),
        ("role = 'v2g'", "role"),
    ],
)
def test_an_error_in_a_file_is_reported(tmp_path: Path, text: str, words: str) -> None:
    file = tmp_path / "plugvault.toml"
    file.write_text(text)
    assert words in refused(file=file)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    assert "none.toml: No such file" in refused(file=tmp_path / "none.toml")
