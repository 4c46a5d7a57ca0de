"""The module's configuration: an unknown setting or another type is an error."""

import json

from evcc import config
from evcc.config import ConfigError
from helpers import raises

MAKER = "04" + "5a" * 64
TCP = {"kind": "tcp", "host": "127.0.0.1", "port": 5000}
TOKEN = {"kind": "pkcs11", "module": "/x.so", "token": "car", "pin_file": "pin"}
NETWORK = {"interface": "eth1"}
URI = "pkcs11:token=car?module-path=/x.so&pin-source=file:/p"


def configuration(**changes):
    settings = {"link": TCP, "vault": TOKEN, "store": "store", "maker": MAKER}
    settings.update(changes)
    return settings


def but(table, **changes):
    """The table with these changed; None: without."""
    changed = dict(table)
    changed.update(changes)
    return {key: value for key, value in changed.items() if value is not None}


GOOD = (
    configuration(),
    configuration(legacy_emaid=True),
    configuration(insecure_contract=True),
    configuration(network=NETWORK),
    configuration(network=but(NETWORK, tls="required", ocsp=True, trace="trace")),
    configuration(network=but(NETWORK, tls="none", address="fe80::1", port=49152)),
    configuration(link={"kind": "tty", "path": "/dev/ttyS0"}),
    configuration(link={"kind": "uart", "number": 1, "baud": 9600, "tx": 4, "rx": 5}),
    configuration(vault={"kind": "link"}),
    configuration(vault={"kind": "link", "name": "car", "key_file": "key"}),
    configuration(vault={"kind": "service", "socket": "/run/vault"}),
    configuration(
        vault={"kind": "service", "host": "h", "port": 1, "name": "car", "key_file": "key"}
    ),
    configuration(vault={"kind": "pkcs11", "token": URI}),
    configuration(
        vault=but(TOKEN, serial="01", options="", minimum_custody="L2", provisioning="")
    ),
    configuration(vault=but(TOKEN, token=None, serial="01")),
)
BAD = (
    (but(configuration(), store=None), "store is missing"),
    (configuration(stroe="store"), "stroe: unknown key"),
    (configuration(store=1), "store is a text"),
    (configuration(legacy_emaid=1), "legacy_emaid is true or false"),
    (configuration(insecure_contract="no"), "insecure_contract is true or false"),
    (configuration(legacy_emaid="false"), "legacy_emaid is true or false"),
    (configuration(link=[]), "link is an object"),
    (configuration(link={}), "link: kind is one of"),
    (configuration(link={"kind": "usb"}), "link: kind is one of"),
    (configuration(link={"kind": ["tcp"]}), "link: kind is one of"),
    (configuration(link=but(TCP, port="5000")), "port is a number"),
    (configuration(link=but(TCP, port=True)), "port is a number"),
    (configuration(link=but(TCP, port=5000.0)), "port is a number"),
    (configuration(link=but(TCP, baud=9600)), "baud: unknown key"),
    (configuration(vault=but(TOKEN, pin="4711")), "pin: unknown key"),
    (configuration(vault=but(TOKEN, module=None)), "module is missing"),
    (configuration(vault=but(TOKEN, pin_file=None)), "pin_file is missing"),
    (configuration(vault=but(TOKEN, token=None)), "token: "),
    (configuration(vault=but(TOKEN, token=URI)), "module is said twice"),
    (configuration(vault=but(TOKEN, token=URI, module=None)), "pin_file is said twice"),
    (configuration(vault=but(TOKEN, token="pkcs11:serial=1", serial="1")), "said twice"),
    (configuration(vault=but(TOKEN, token="pkcs11:tokn=car")), "the known attributes are"),
    (configuration(vault={"kind": "service"}), "either socket, or host and port"),
    (configuration(vault={"kind": "service", "host": "h"}), "either socket, or host and port"),
    (
        configuration(vault={"kind": "service", "socket": "s", "host": "h", "port": 1}),
        "either socket, or host and port",
    ),
    (configuration(vault={"kind": "link", "name": "car"}), "name and key_file"),
    (configuration(maker=MAKER[2:]), "maker: 65 bytes"),
    (configuration(maker="05" + MAKER[2:]), "maker: 65 bytes"),
    (configuration(maker=MAKER[:-1] + "g"), "maker: 65 bytes"),
    (configuration(maker=" " + MAKER[1:]), "maker: 65 bytes"),
    (configuration(network={}), "network: interface is missing"),
    (configuration(network=NETWORK["interface"]), "network is an object"),
    (configuration(network=but(NETWORK, tsl="none")), "network: tsl: unknown key"),
    (configuration(network=but(NETWORK, tls=True)), "network: tls is a text"),
    (configuration(network=but(NETWORK, tls="maybe")), "network: tls is required, optional"),
    (configuration(network=but(NETWORK, tls="none", ocsp=True)), "ocsp needs tls: required"),
    (configuration(network=but(NETWORK, interface="")), "network: interface is 1 to 15"),
    (configuration(network=but(NETWORK, interface="../eth1")), "network: interface is 1 to 15"),
    (configuration(network=but(NETWORK, port=1)), "network: address and port, or neither"),
    (configuration(network=but(NETWORK, address="a.b", port=1)), "network: address is IPv6"),
    (configuration(network=but(NETWORK, address="::1", port=0)), "network: port is 1 to 65535"),
)


def test_a_complete_configuration_is_accepted():
    for settings in GOOD:
        assert config.checked(settings)["maker"][0] == 4


def test_each_wrong_setting_is_named():
    for settings, words in BAD:
        error = raises(ConfigError, "config", config.checked, settings)
        assert words in error.detail, (settings, error.detail)
        assert "4711" not in str(error)


def test_a_token_is_named_in_pieces_or_by_a_uri():
    by_uri = config.token({"token": URI})
    assert by_uri == ("/x.so", "pkcs11:token=car", "/p")
    assert config.token(TOKEN) == ("/x.so", "car", "pin")
    both = config.token(but(TOKEN, serial="a b"))
    assert both == ("/x.so", "pkcs11:token=car;serial=a%20b", "pin")


def test_a_file_is_one_object_in_utf_8():
    text = json.dumps(configuration())
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
