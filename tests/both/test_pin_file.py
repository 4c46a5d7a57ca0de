"""A PIN file: what is in it has one meaning, on every interpreter, or none."""

import os

from evcc.vault import VaultError, pin
from helpers import raises

SECRET = b"4711-0815"
GOOD = {
    SECRET: "4711-0815",
    SECRET + b"\n": "4711-0815",
    SECRET + b"\r\n": "4711-0815",
    b"47 11": "47 11",
    "café".encode(): "café",
    b"0": "0",
}
BAD = {
    b"": "is empty",
    b"\n": "is empty",
    b"\r\n": "is empty",
    SECRET + b"\r": "more than one line",
    SECRET + b"\n\n": "more than one line",
    SECRET + b"\nsecond": "more than one line",
    b"\n" + SECRET: "more than one line",
    SECRET + b"\t": "control character",
    SECRET + b"\0": "control character",
    SECRET + b"\x7f": "control character",
    b" " + SECRET: "a space",
    SECRET + b" ": "a space",
    SECRET + b" \n": "a space",
    b" ": "a space",
    b"\xef\xbb\xbf" + SECRET: "byte order mark",
    b"\xff\xfe4\x007\x00": "UTF-8",
    SECRET + b"\xff": "UTF-8",
    SECRET + b"\xed\xa0\x80": "UTF-8",
    SECRET + b"\xc0\xaf": "UTF-8",
}


def test_a_pin_file_has_one_line_and_one_meaning():
    for data, text in GOOD.items():
        assert pin.text_of(data) == text, data


def test_a_pin_file_of_two_meanings_is_refused_without_a_word_of_it():
    for data, words in BAD.items():
        error = raises(VaultError, "pin", pin.text_of, data)
        assert words in error.detail, (data, error.detail)
        assert "4711" not in str(error)


def test_a_file_that_others_may_use_is_refused():
    path = "/tmp/pin-" + "".join(["%02x" % b for b in os.urandom(16)])
    with open(path, "wb") as file:
        file.write(SECRET)
    try:
        for mode in ("644", "640", "604", "620", "601"):
            assert os.system("chmod %s %s" % (mode, path)) == 0
            assert "chmod 600" in raises(VaultError, "pin", pin.of_file, path).detail
        for mode in ("600", "400"):
            assert os.system("chmod %s %s" % (mode, path)) == 0
            assert pin.of_file(path) == "4711-0815"
    finally:
        os.remove(path)


def test_a_file_that_is_not_there_is_named():
    name = "none-%s" % "".join(["%02x" % b for b in os.urandom(8)])
    assert name in raises(VaultError, "pin", pin.of_file, name).detail
