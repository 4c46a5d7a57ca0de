"""EXI: known bytes from named sources, and every way to say no, by hand-made bits."""

from evcc import exi
from evcc.exi import ExiError, grammar, reader
from helpers import needs_heap, raises

C14N = "http://www.w3.org/TR/canonical-exi/"

# Up to the end of SessionID (empty), up to the start of the body's content, and to the end.
SESSION = "10000000 1001100 0 0 0 00000000 0 "
BODY = SESSION + "10 0 "
END = " 0 0"
STOP = BODY + "011111 0 "  # SessionStopReq, up to ChargingSession's value


def octets(text: str) -> bytes:
    """Bits as text, padded with zeros."""
    bits = "".join(text.split())
    bits += "0" * (-len(bits) % 8)
    return bytes([int(bits[i : i + 8], 2) for i in range(0, len(bits), 8)])


def message(body: dict, session: bytes = b"") -> dict:
    return {"V2G_Message": {"Header": {"SessionID": session}, "Body": body}}


def refused(reason: str, text: str) -> str:
    return raises(ExiError, reason, exi.decode, octets(text)).detail


def unwritable(reason: str, body: dict) -> str:
    return raises(ExiError, reason, exi.encode, message(body)).detail


# -- known bytes ------------------------------------------------------------------------------


def test_annex_j_authorization_req_fragment():
    # ISO 15118-2 Annex J.2
    value = {"Id": "ID1", "GenChallenge": b"Some Random Data"}
    encoded = exi.fragment("AuthorizationReq", value)
    assert encoded.hex() == "80040152510c40829b7b6b2902930b73237b6902230ba309e8"


def test_annex_j_signed_info_in_the_schema_of_xmldsig_alone():
    # ISO 15118-2 Annex J.2
    digest = "d1b5e03d0065bee56b317984453051eb54ca18fc0e0916174f8b3c77a98f4aa9"
    value = {
        "CanonicalizationMethod": {"Algorithm": C14N},
        "SignatureMethod": {"Algorithm": "http://www.w3.org/2001/04/xmldsig-more#ecdsa-sha256"},
        "Reference": [
            {
                "URI": "#ID1",
                "Transforms": {"Transform": [{"Algorithm": C14N}]},
                "DigestMethod": {"Algorithm": "http://www.w3.org/2001/04/xmlenc#sha256"},
                "DigestValue": bytes.fromhex(digest),
            }
        ],
    }
    assert exi.fragment("SignedInfo", value, "xmldsig").hex() == (
        "808112b43a3a381d1797bbbbbb973b999737b93397aa2917b1b0b737b734b1b0b616b2bc3497a1ab43a3a381"
        "d1797bbbbbb973b999737b933979918181897981a17bc36b63239b4b396b6b7b93291b2b1b239b096b9b4309"
        "91a9b220623494431025687474703a2f2f7777772e77332e6f72672f54522f63616e6f6e6963616c2d657869"
        "2f4852d0e8e8e0745e5eeeeeee5cee665cdee4ce5e646060625e60685ef0dad8cadcc646e6d0c2646a6c841a"
        "36bc07a00cb7dcad662f3088a60a3d6a99431f81c122c2e9f1678ef531e9552370"
    )


def test_emaid_fragment_uses_the_relaxed_grammar():
    # The digest in Hubject's published CertificateInstallationRes is over these bytes.
    value = {"Id": "ID4", "value": "EMP99CQAPAB004"}
    encoded = exi.fragment("eMAID", value)
    assert encoded.hex() == "80ec0202a4a21a40041153540e4e50d4505410508c0c0d3d3d00"


def test_emaid_fragment_typed_is_the_peers_form():
    # libcbv2g, encode_iso2_exiFragment
    value = {"Id": "id4", "value": "DEABCC123ABC56"}
    assert exi.fragment("eMAID", value).hex() == (
        "80ec0202b4b21a40041111505090d0cc4c8cd05090cd4dbd3d00"
    )
    assert exi.fragment("eMAID", value, typed=True).hex() == (
        "80ec02b4b21a041111505090d0cc4c8cd05090cd4d9e80"
    )


def test_negative_response_reads_and_writes():
    # OPCP 1.0.0, ccp.v1.json, negative example (Hubject GmbH)
    data = bytes.fromhex(
        "8098020a8f71b5d5047d91c100c21a8279031b2b93a24b739ba30b6361039ba30ba3ab98861820100240200"
        "40330008000330008000330019800"
    )
    decoded = exi.decode(data)
    header = decoded["V2G_Message"]["Header"]
    assert header["SessionID"] == bytes.fromhex("2A3DC6D75411F647")
    assert header["Notification"] == {
        "FaultCode": "UnknownError",
        "FaultMsg": "CPO certInstall status",
    }
    response = decoded["V2G_Message"]["Body"]["CertificateInstallationRes"]
    assert response["ResponseCode"] == "FAILED_NoCertificateAvailable"
    assert response["DHpublickey"] == {"Id": "0", "value": b"\0"}
    assert response["eMAID"] == {"Id": "0", "value": "0"}
    assert exi.encode(decoded) == data


def test_app_protocol_response_reads_and_writes():
    # EXIficient engine, values of our own
    value = {"ResponseCode": "OK_SuccessfulNegotiation", "SchemaID": 1}
    data = exi.encode({"supportedAppProtocolRes": value}, "sap")
    assert data.hex() == "80400040"
    assert exi.decode(data, "sap") == {"supportedAppProtocolRes": value}


def test_a_message_coded_by_hand_reads_and_writes():
    data = octets(STOP + "0 1 0 0" + END)
    assert exi.decode(data) == message({"SessionStopReq": {"ChargingSession": "Pause"}})
    assert exi.encode(message({"SessionStopReq": {"ChargingSession": "Pause"}})) == data


def test_input_may_be_a_memoryview():
    data = octets(BODY + "100011 0")
    assert exi.decode(memoryview(data)) == exi.decode(bytearray(data)) == message({})


def test_every_name_unpacks_and_is_found_again():
    for schema in ("iso2", "sap", "xmldsig"):
        tables = grammar.load(schema)
        for index in range(len(tables.tables.OFFSETS) // 2):
            name = tables.name(index)
            assert name[0] > " " and tables.find(name, index, 1) == index
            # Octets that stand for pairs are no text, even if they look like UTF-8.
            try:
                packed = str(tables._pack(name.encode()), "utf-8")
            except UnicodeError:
                continue
            assert packed == name or tables.find(packed, index, 1) < 0


# -- values -----------------------------------------------------------------------------------


def test_serial_number_of_any_size_survives():
    for serial in (0, 1, 127, 128, -1, -129, 1 << 160, (1 << 255) - 19, -(1 << 200)):
        value = {"X509IssuerName": "CN=x", "X509SerialNumber": serial}
        request = {"Id": "a", "OEMProvisioningCert": b"\x30"}
        request["ListOfRootCertificateIDs"] = {"RootCertificateID": [value]}
        sent = message({"CertificateInstallationReq": request})
        assert exi.decode(exi.encode(sent)) == sent


def test_integers_at_the_ends_of_their_types_survive():
    for value in (-32768, -1, 0, 32767):
        for multiplier in (-3, 0, 3):
            target = {"Multiplier": multiplier, "Unit": "V", "Value": value}
            status = {"EVReady": True, "EVErrorCode": "NO_ERROR", "EVRESSSOC": 100}
            sent = message(
                {
                    "PreChargeReq": {
                        "DC_EVStatus": status,
                        "EVTargetVoltage": target,
                        "EVTargetCurrent": target,
                    }
                }
            )
            assert exi.decode(exi.encode(sent)) == sent


def test_text_beyond_ascii_survives():
    for text in (
        "é",
        "grüße €",
        "\u54c3ab",
        "\U0001f50c plug",
        "x" * 200 + "ß",
        "\x7f\x80\u07ff\u0800\uffff",
    ):
        sent = message({"ServiceDiscoveryReq": {"ServiceScope": text}})
        assert exi.decode(exi.encode(sent)) == sent


def test_text_at_every_bit_offset_survives():
    for length in range(70):
        entry = {"VersionNumberMajor": 2, "VersionNumberMinor": 0, "SchemaID": 1, "Priority": 1}
        entry["ProtocolNamespace"] = "urn:iso:15118:2:2013:MsgDef" + "x" * length
        other_entry = dict(entry)
        other_entry["ProtocolNamespace"] = "y" * length
        sent = {"supportedAppProtocolReq": {"AppProtocol": [entry, other_entry, entry]}}
        assert exi.decode(exi.encode(sent, "sap"), "sap") == sent


def test_both_forms_of_an_empty_value():
    # EXIficient writes the bare end; libcbv2g the explicit length 0.
    assert exi.decode(octets("10000000 1001100 0 0 1 000 10 0 100011 0")) == message({})
    assert exi.decode(octets("10000000 1001100 0 0 0 00000000 0 10 0 100011 0")) == message({})
    bare = "8098004010608309840361800d86002800"  # EXIficient, values of our own
    decoded = exi.decode(bytes.fromhex(bare))["V2G_Message"]["Body"]["CertificateInstallationRes"]
    assert decoded["DHpublickey"] == {"Id": "a", "value": b""}
    assert decoded["eMAID"] == {"Id": "", "value": ""}


def test_a_bare_end_is_no_enumeration_value():
    refused("value", STOP + "1 000 0" + END)


def test_lists_keep_their_order_and_end_where_the_schema_says():
    for count in (1, 2, 3, 4):
        subs = [bytes([i]) * 3 for i in range(count)]
        chain = {"Certificate": b"\x30", "SubCertificates": {"Certificate": subs}}
        sent = message(
            {"PaymentDetailsReq": {"eMAID": "x" * 14, "ContractSignatureCertChain": chain}}
        )
        assert exi.decode(exi.encode(sent)) == sent


def test_a_list_of_1024_items_survives():
    needs_heap(1 << 19)
    value = {"Multiplier": 0, "Unit": "W", "Value": 1}
    entries = [{"RelativeTimeInterval": {"start": i}, "PMax": value} for i in range(1024)]
    schedule = {"SAScheduleTupleID": 1, "PMaxSchedule": {"PMaxScheduleEntry": entries}}
    body = {
        "ChargeParameterDiscoveryRes": {
            "ResponseCode": "OK",
            "EVSEProcessing": "Finished",
            "SAScheduleList": {"SAScheduleTuple": [schedule]},
            "AC_EVSEChargeParameter": {
                "AC_EVSEStatus": {
                    "NotificationMaxDelay": 0,
                    "EVSENotification": "None",
                    "RCD": False,
                },
                "EVSENominalVoltage": value,
                "EVSEMaxCurrent": value,
            },
        }
    }
    sent = message(body)
    assert exi.decode(exi.encode(sent)) == sent
    entries.append(entries[0])
    assert "PMaxScheduleEntry" in unwritable("bounds", body)


def test_trailing_zero_octets_are_ignored():
    data = octets(STOP + "0 0 0 0" + END)
    assert exi.decode(data + bytes(9)) == exi.decode(data)


# -- bytes it refuses -------------------------------------------------------------------------


def test_refuses_another_header():
    for first in (0x00, 0x81, 0xA0, 0x24):
        data = bytes([first]) + octets(STOP + "0 0 0 0" + END)[1:]
        raises(ExiError, "header", exi.decode, data)


def test_refuses_an_empty_document():
    raises(ExiError, "truncated", exi.decode, b"")
    raises(ExiError, "truncated", exi.decode, b"\x80")


def test_refuses_every_truncation():
    entry = {"ProtocolNamespace": "urn:x", "VersionNumberMajor": 2, "VersionNumberMinor": 300}
    entry["SchemaID"] = 255
    entry["Priority"] = 20
    data = exi.encode({"supportedAppProtocolReq": {"AppProtocol": [entry, entry]}}, "sap")
    for size in range(len(data)):
        error = raises(ExiError, None, exi.decode, data[:size], "sap")
        assert error.reason in ("truncated", "length"), error


def test_refuses_to_make_up_zeros_that_are_not_there():
    data = octets(STOP + "0 0 0 0" + END)
    assert data[-1] == 0 and exi.decode(data)
    raises(ExiError, "truncated", exi.decode, data[:-1])


def test_refuses_other_octets_after_the_end():
    data = octets(STOP + "0 0 0 0" + END)
    raises(ExiError, "trailing", exi.decode, data + b"\0\x01")
    raises(ExiError, "trailing", exi.decode, data[:-1] + bytes([data[-1] | 1]))


def test_refuses_an_element_that_is_no_root():
    count = len(grammar.load("iso2").roots())
    assert count < 127
    for code in (count, 127):
        text = "10000000 " + "".join(str(code >> i & 1) for i in range(6, -1, -1))
        raises(ExiError, "event", exi.decode, octets(text + "0" * 64))


def test_refuses_abstract_elements():
    refused("unsupported", BODY + "000010 0 0 0")  # BodyElement
    tables = grammar.load("iso2")
    roots = [tables.name(i) for i in tables.roots()]
    text = "{:07b}".format(roots.index("BodyElement"))
    refused("event", "10000000 " + text + " 0 0 0")
    unwritable("unsupported", {"BodyElement": {}})
    raises(ExiError, "unsupported", exi.encode, {"BodyElement": {}})


def test_refuses_event_codes_the_state_does_not_have():
    assert refused("event", BODY + "100101 0 0 0").startswith("V2G_Message/Body")


def test_refuses_undeclared_events():
    refused("unsupported", BODY + "100100 000 0 0 0")  # from the body's first state
    refused("unsupported", SESSION + "11 000 0 0 0")
    refused("unsupported", "10000000 1001100 0 0 1 001 0 0 0 0")  # xsi:type
    refused("event", "10000000 1001100 0 0 1 111 0 0 0 0")
    refused("unsupported", STOP + "0 1 1 0 0 0")  # something after a value


def test_refuses_references_to_earlier_values():
    for size in ("00000000", "00000001"):
        # ServiceDiscoveryReq, ServiceScope
        refused("value", BODY + "011011 00 0 " + size + " 0 0 0" + "0" * 16)


def test_refuses_a_length_beyond_the_end():
    detail = refused("length", "10000000 1001100 0 0 0 00001001 " + "0" * 40)
    assert detail.startswith("V2G_Message/Header/SessionID: ")
    huge = "11111111 11111111 11111111 11111111 00001111 "
    refused("length", "10000000 1001100 0 0 0 " + huge + "0" * 40)
    refused("length", BODY + "011011 00 0 " + huge + "0" * 40)
    refused("value", "10000000 1001100 0 0 0 " + "11111111" * 6 + "0" * 40)


def test_refuses_numbers_outside_their_type():
    # ServiceDetailReq, ServiceID: unsignedShort of 65536
    refused("value", BODY + "011001 0 0 10000000 10000000 00000100 0 0" + END)
    decoded = exi.decode(octets(BODY + "011001 0 0 11111111 11111111 00000011 0 0" + END))
    assert decoded["V2G_Message"]["Body"] == {"ServiceDetailReq": {"ServiceID": 65535}}
    # CableCheckReq, DC_EVStatus: EVRESSSOC of 101 in seven bits
    status = BODY + "000011 0 0 0 1 0 0 0 0000 0 0 0 "
    assert exi.decode(octets(status + "1100100 0 0 0" + END))
    refused("value", status + "1100101 0 0 0" + END)


def test_refuses_an_unknown_enumeration_value():
    # SessionSetupRes, ResponseCode: 26 of 26 values in five bits
    detail = refused("value", BODY + "011110 0 0 11010 0" + "0" * 90)
    assert detail.startswith("V2G_Message/Body/SessionSetupRes/ResponseCode: ")


def test_refuses_an_integer_without_end():
    # ServiceDetailReq, ServiceID
    refused("value", BODY + "011001 0 0 " + "10000000 " * 300 + "00000000 0 0" + END)


def test_refuses_numbers_that_are_no_character():
    start = BODY + "011011 00 0 "  # ServiceDiscoveryReq, ServiceScope
    for point in ("10000000 10110000 00000011", "11111111 11111111 01111111"):  # D800, 1FFFFF
        refused("value", start + "00000011 " + point + " 0 0" + END)


def test_refuses_more_items_than_the_schema_has():
    # Four sub-certificates of no octets, then a fifth where only the end is left
    chain = BODY + "010001 0 0 00000010 0 0 01 0 00000000 0 00 "
    four = "0 0 00000000 0 " + "00 0 00000000 0 " * 3
    assert exi.decode(octets(chain + four + "0 0 0" + END))
    refused("unsupported", chain + four + "1 00 0 0" + END)


def test_refuses_lists_without_end_where_the_schema_has_no_bound():
    algorithm = {"Algorithm": ""}
    reference = {"DigestMethod": algorithm, "DigestValue": b""}
    info = {"CanonicalizationMethod": algorithm, "SignatureMethod": algorithm}
    info["Reference"] = [reference] * grammar.MOST
    signature = {"SignedInfo": info, "SignatureValue": {"value": b""}}
    sent = {"Signature": signature}
    data = exi.encode(sent, "xmldsig")
    assert exi.decode(data, "xmldsig") == sent
    info["Reference"] = [reference] * (grammar.MOST + 1)
    raises(ExiError, "bounds", exi.encode, sent, "xmldsig")
    # One more, by hand: the same bits once more before the end.
    info["Reference"] = [reference]
    bits = "".join("{:08b}".format(b) for b in exi.encode(sent, "xmldsig"))
    info["Reference"] = [reference] * 2
    two = "".join("{:08b}".format(b) for b in exi.encode(sent, "xmldsig"))
    at = 0
    while bits[at] == two[at]:
        at += 1
    item = two[at : at + len(two.rstrip("0")) - len(bits.rstrip("0"))]

    def forged(more):  # two items, and so many more
        number, size = int(two[:at], 2), at + len(item) * more + len(two) - at
        for _ in range(more):
            number = number << len(item) | int(item, 2)
        number = (number << len(two) - at | int(two[at:], 2)) << -size % 8
        return number.to_bytes((size + 7) // 8, "big")

    info["Reference"] = [reference] * grammar.MOST
    assert exi.decode(forged(grammar.MOST - 2), "xmldsig") == sent
    raises(ExiError, "bounds", exi.decode, forged(grammar.MOST - 1), "xmldsig")


def test_refuses_wildcards_and_mixed_text():
    algorithm = {"Algorithm": ""}
    signed = {"CanonicalizationMethod": algorithm, "SignatureMethod": algorithm}
    signed["Reference"] = [{"DigestMethod": algorithm, "DigestValue": b""}]
    sent = {"SignedInfo": signed}
    good = exi.encode(sent, "xmldsig")
    bits = "".join("{:08b}".format(b) for b in good)
    # header, 6-bit root, first state of SignedInfo (2 bits), method (1), Algorithm (1 + 8)
    roots = grammar.bits(len(grammar.load("xmldsig").roots()))
    at = 8 + roots + 2 + 1 + 8
    assert bits[at : at + 2] == "01"  # EE
    for code in ("00", "10", "11"):  # SE(*), CH, what is undeclared
        forged = octets(bits[:at] + code + bits[at + 2 :])
        raises(ExiError, "unsupported", exi.decode, forged, "xmldsig")


# -- messages it refuses ----------------------------------------------------------------------


def test_names_the_member_that_is_missing():
    assert unwritable("missing", {"SessionStopReq": {}}) == (
        "V2G_Message/Body/SessionStopReq/ChargingSession: required"
    )
    error = raises(ExiError, "missing", exi.encode, {"V2G_Message": {"Body": {}}})
    assert error.detail.startswith("V2G_Message/Header: ")


def test_never_drops_a_member():
    detail = unwritable("unknown", {"SessionStopReq": {"ChargingSession": "Pause", "Foo": 1}})
    assert detail.startswith("V2G_Message/Body/SessionStopReq/Foo: ")
    both = {"SessionStopReq": {"ChargingSession": "Pause"}, "SessionStopRes": {}}
    unwritable("unknown", both)  # a choice takes one


def test_refuses_values_of_another_type():
    for value in (1, b"x", None, ["Pause"], {}):
        unwritable("type", {"SessionStopReq": {"ChargingSession": value}})
    for value in ("1", b"1", 1.0, True, None):
        unwritable("type", {"ServiceDetailReq": {"ServiceID": value}})
    for value in ("00", 5, None, [0]):
        unwritable("type", {"SessionSetupReq": {"EVCCID": value}})
    for value in ([], "x", None):
        unwritable("type", {"SessionSetupReq": value})
    reference = {"X509IssuerName": "x", "X509SerialNumber": 1}
    for roots in (reference, "x", None, 7):
        request = {"Id": "a", "OEMProvisioningCert": b""}
        request["ListOfRootCertificateIDs"] = {"RootCertificateID": roots}
        unwritable("type", {"CertificateInstallationReq": request})


def test_a_boolean_is_no_number_and_a_number_no_boolean():
    unwritable("type", {"ServiceDetailReq": {"ServiceID": False}})
    status = {"EVReady": 1, "EVErrorCode": "NO_ERROR", "EVRESSSOC": 1}
    unwritable("type", {"CableCheckReq": {"DC_EVStatus": status}})


def test_refuses_values_out_of_range():
    unwritable("value", {"SessionStopReq": {"ChargingSession": "Sleep"}})
    unwritable("value", {"SessionStopReq": {"ChargingSession": "OK"}})  # of another enumeration
    unwritable("value", {"SessionStopReq": {"ChargingSession": ""}})
    unwritable("value", {"SessionStopReq": {"ChargingSession": "Terminate\0Pause"}})
    for service in (-1, 65536, 1 << 70):
        unwritable("value", {"ServiceDetailReq": {"ServiceID": service}})
    for charge in (-1, 101):
        status = {"EVReady": True, "EVErrorCode": "NO_ERROR", "EVRESSSOC": charge}
        unwritable("value", {"CableCheckReq": {"DC_EVStatus": status}})
    unwritable("value", {"ServiceDiscoveryReq": {"ServiceScope": chr(0xD800)}})


def test_refuses_lists_of_the_wrong_length():
    for count in (0, 5):
        chain = {"Certificate": b"", "SubCertificates": {"Certificate": [b""] * count}}
        request = {"eMAID": "", "ContractSignatureCertChain": chain}
        detail = unwritable("bounds" if count else "missing", {"PaymentDetailsReq": request})
        assert detail.startswith("V2G_Message/Body/PaymentDetailsReq/ContractSignatureCertChain/")


def test_a_heap_that_runs_out_is_no_fault_of_the_message():
    def runs_out(*_):
        raise MemoryError

    real, reader._document = reader._document, runs_out
    try:
        raises(MemoryError, None, exi.decode, octets(STOP + "00" + END))
    finally:
        reader._document = real


def test_leaves_the_message_as_it_was():
    chain = {"Certificate": b"", "SubCertificates": {"Certificate": [b"1", b"2"]}}
    request = {"eMAID": "", "ContractSignatureCertChain": chain}
    exi.encode(message({"PaymentDetailsReq": request}))
    assert chain == {"Certificate": b"", "SubCertificates": {"Certificate": [b"1", b"2"]}}
    assert sorted(request) == ["ContractSignatureCertChain", "eMAID"]


def test_refuses_unknown_schemas_and_elements():
    raises(ExiError, "unknown", exi.decode, b"\x80\0", "din")
    raises(ExiError, "unknown", exi.encode, {"Foo": {}})
    raises(ExiError, "unknown", exi.encode, {"SAProvisioningCertificateChain": {}})  # no root
    raises(ExiError, "unknown", exi.encode, {"Pause": {}})  # a value's name
    raises(ExiError, "unknown", exi.fragment, "Foo", {})
    raises(ExiError, "unknown", exi.fragment, "Algorithm", "x")  # an attribute
    raises(ExiError, "unknown", exi.fragment, "SessionID", b"")  # in two namespaces
    for nonsense in ({}, {"V2G_Message": {}, "Signature": {}}, [], None):
        raises(ExiError, "type", exi.encode, nonsense)


def test_relaxed_fragment_drops_nothing_either():
    raises(ExiError, "unknown", exi.fragment, "eMAID", {"Id": "a", "value": "b", "Foo": 1})
    raises(ExiError, "missing", exi.fragment, "eMAID", {"value": "b"})
    raises(ExiError, "type", exi.fragment, "eMAID", {"Id": "a", "value": 1})


def test_states_are_forgotten_and_made_again():
    """So a small heap keeps the states of one session at most."""
    value = message({"SessionStopReq": {"ChargingSession": "Terminate"}})
    data = exi.encode(value)
    assert grammar.load("iso2")._states
    exi.forget()
    assert not grammar.load("iso2")._states
    assert exi.decode(data) == value
    assert exi.encode(value) == data
