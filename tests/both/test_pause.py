"""A slow board serves its link within a message: the computation calls `pause` often."""

import json

from evcc import exi, x509
from evcc.exi.grammar import forget, load
from evcc.iso15118_2 import messages
from evcc.pause import set_pause
from helpers import Pauses, vector

calls = []
DER = bytes.fromhex(json.loads(vector("certificates.json"))["contract"])


def counted(action):
    """How often `action` calls `pause`."""
    del calls[:]
    set_pause(Pauses(lambda: calls.append(1)))
    try:
        action()
    finally:
        set_pause(None)
    return len(calls)


def _message():
    body = messages.payment_details_req("DEPVT0000000012", [DER] * 3)
    return messages.envelope(bytes(8), "PaymentDetailsReq", body)


def test_reading_and_writing_a_message_pause():
    forget()
    assert counted(lambda: exi.encode(_message())) > 10
    message = exi.encode(_message())
    assert counted(lambda: exi.decode(message)) >= 4, "known states too, at each element"
    assert counted(lambda: exi.fragment("DHpublickey", {"Id": "a", "value": b"b"})) >= 1


def test_loading_the_tables_of_a_schema_pauses():
    forget()
    assert counted(lambda: load("iso2")) == 1
    assert counted(lambda: load("iso2")) == 0


def test_reading_a_certificate_pauses():
    assert counted(lambda: x509.parse(DER)) >= 2, "before it, and before its names"
    assert counted(lambda: x509.parse(DER).names) > counted(lambda: x509.parse(DER))


def test_nothing_is_called_without_a_module():
    del calls[:]
    exi.decode(exi.encode(_message()))
    assert calls == []
