"""The module's configuration: what is not known, or of another type, is an error."""

import json

from evcc import config
from evcc.config import ConfigError
from helpers import raises

MAKER = "04" + "5a" * 64
TCP = {"kind": "tcp", "host": "127.0.0.1", "port": 5000}
TOKEN = {"kind": "pkcs11", "module": "/x.so", "token": "car", "pin_file": "pin"}
URI = "pkcs11:token=car?module-path=/x.so&pin-source=file:/p"


def whole(**changes):
    said = {"link": TCP, "vault": TOKEN, "store": "store", "maker": MAKER}
    said.update(changes)
    return said


def but(table, **changes):
    """The table with these changed; None: without."""
    made = dict(table)
    made.update(changes)
    return {key: value for key, value in made.items() if value is not None}


GOOD = (
    whole(),
    whole(legacy_emaid=True),
    whole(link={"kind": "tty", "path": "/dev/ttyS0"}),
    whole(link={"kind": "uart", "number": 1, "baud": 9600, "tx": 4, "rx": 5}),
    whole(vault={"kind": "link"}),
    whole(vault={"kind": "link", "name": "car", "key_file": "key"}),
    whole(vault={"kind": "service", "socket": "/run/vault"}),
    whole(vault={"kind": "service", "host": "h", "port": 1, "name": "car", "key_file": "key"}),
    whole(vault={"kind": "pkcs11", "token": URI}),
    whole(vault=but(TOKEN, serial="01", options="", minimum_custody="L2", provisioning="")),
    whole(vault=but(TOKEN, token=None, serial="01")),
)
BAD = (
    (but(whole(), store=None), "store is missing"),
    (whole(stroe="store"), "stroe: nobody knows"),
    (whole(store=1), "store is a text"),
    (whole(legacy_emaid=1), "legacy_emaid is true or false"),
    (whole(legacy_emaid="false"), "legacy_emaid is true or false"),
    (whole(link=[]), "link is an object"),
    (whole(link={}), "link: kind is one of"),
    (whole(link={"kind": "usb"}), "link: kind is one of"),
    (whole(link={"kind": ["tcp"]}), "link: kind is one of"),
    (whole(link=but(TCP, port="5000")), "port is a number"),
    (whole(link=but(TCP, port=True)), "port is a number"),
    (whole(link=but(TCP, port=5000.0)), "port is a number"),
    (whole(link=but(TCP, baud=9600)), "baud: nobody knows"),
    (whole(vault=but(TOKEN, pin="4711")), "pin: nobody knows"),
    (whole(vault=but(TOKEN, module=None)), "module is missing"),
    (whole(vault=but(TOKEN, pin_file=None)), "pin_file is missing"),
    (whole(vault=but(TOKEN, token=None)), "token: "),
    (whole(vault=but(TOKEN, token=URI)), "module is said twice"),
    (whole(vault=but(TOKEN, token=URI, module=None)), "pin_file is said twice"),
    (whole(vault=but(TOKEN, token="pkcs11:serial=1", serial="1")), "said twice"),
    (whole(vault=but(TOKEN, token="pkcs11:tokn=car")), "the known attributes are"),
    (whole(vault={"kind": "service"}), "either socket, or host and port"),
    (whole(vault={"kind": "service", "host": "h"}), "either socket, or host and port"),
    (
        whole(vault={"kind": "service", "socket": "s", "host": "h", "port": 1}),
        "either socket, or host and port",
    ),
    (whole(vault={"kind": "link", "name": "car"}), "name and key_file"),
    (whole(maker=MAKER[2:]), "maker: 65 bytes"),
    (whole(maker="05" + MAKER[2:]), "maker: 65 bytes"),
    (whole(maker=MAKER[:-1] + "g"), "maker: 65 bytes"),
    (whole(maker=" " + MAKER[1:]), "maker: 65 bytes"),
)


def test_a_whole_configuration_is_taken():
    for said in GOOD:
        assert config.checked(said)["maker"][0] == 4


def test_what_is_wrong_is_named():
    for said, words in BAD:
        error = raises(ConfigError, "config", config.checked, said)
        assert words in error.detail, (said, error.detail)
        assert "4711" not in str(error)


def test_a_token_is_named_in_pieces_or_by_a_uri():
    by_uri = config.token({"token": URI})
    assert by_uri == ("/x.so", "pkcs11:token=car", "/p")
    assert config.token(TOKEN) == ("/x.so", "car", "pin")
    both = config.token(but(TOKEN, serial="a b"))
    assert both == ("/x.so", "pkcs11:token=car;serial=a%20b", "pin")


def test_a_file_is_one_object_in_utf_8():
    text = json.dumps(whole())
    assert config.parse(text.encode())["store"] == "store"
    assert config.parse(b" " + text.encode() + b"\r\n")["store"] == "store"
    for data in (
        b"",
        b"[]",
        b"null",
        b'"text"',
        text.encode() + b"}",
        text.encode() + text.encode(),
        b"\xef\xbb\xbf" + text.encode(),
        text.encode().replace(b"store", b"st\xffre"),
        text.encode().replace(b"127", b"\xed\xa0\x80"),
    ):
        raises(ConfigError, "config", config.parse, data)
