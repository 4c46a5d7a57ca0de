"""The form of the messages, and the fields read from the station's."""

from evcc import exi
from evcc.iso15118_2 import messages
from scripted import OFFERED, but

SESSION_ID = bytes(range(8))


def over_the_wire(name, body):
    return messages.opened(exi.decode(exi.encode(messages.envelope(SESSION_ID, name, body))))


def test_every_request_survives_the_wire():
    for name, body in (
        ("SessionSetupReq", messages.session_setup_req(b"\2\0\0\0\0\1")),
        ("ServiceDiscoveryReq", messages.service_discovery_req()),
        ("ServiceDetailReq", messages.service_detail_req(messages.CERTIFICATE_SERVICE)),
        (
            "PaymentServiceSelectionReq",
            messages.payment_service_selection_req("Contract", [(1, None), (2, 1)]),
        ),
        ("PaymentDetailsReq", messages.payment_details_req("DEPVT000000001", [b"leaf", b"sub"])),
        ("AuthorizationReq", messages.authorization_req("id1", bytes(16))),
        ("SessionStopReq", messages.session_stop_req()),
    ):
        assert over_the_wire(name, body) == (SESSION_ID, name, body, None)


def test_the_offer_is_iso_15118_2_only():
    body = messages.supported_app_protocol_req()
    message = {"supportedAppProtocolReq": body}
    assert exi.decode(exi.encode(message, "sap"), "sap") == message
    (offer,) = body["AppProtocol"]
    assert offer["ProtocolNamespace"] == "urn:iso:15118:2:2013:MsgDef"
    assert (offer["VersionNumberMajor"], offer["VersionNumberMinor"]) == (2, 0)


def test_serial_numbers_of_twenty_bytes_survive():
    class Root:
        serial = (1 << 159) + 1

        def __init__(self):
            self.names = {"CN": "R"}

    body = messages.certificate_installation_req("id1", b"leaf", [Root()])
    _, _, read, _ = over_the_wire("CertificateInstallationReq", body)
    assert read == body


def test_a_body_may_be_empty():
    message = {"V2G_Message": {"Header": {"SessionID": SESSION_ID}, "Body": {}}}
    assert messages.opened(exi.decode(exi.encode(message))) == (SESSION_ID, "", {}, None)


def test_a_document_that_is_no_message_has_no_body():
    bare = exi.decode(exi.encode({"SessionStopReq": messages.session_stop_req()}))
    assert messages.opened(bare) == (messages.NO_SESSION, "", {}, None)


def test_a_chain_of_one_has_no_sub_certificates():
    assert messages.certificate_chain([b"leaf"]) == {"Certificate": b"leaf"}
    for ders in ([b"leaf"], [b"leaf", b"sub2", b"sub1"]):
        assert messages.certificates(messages.certificate_chain(ders)) == ders


def test_services_are_read_where_there_are_any():
    assert messages.services(OFFERED["ServiceDiscovery"]) == [2]
    assert messages.services(but("ServiceDiscovery", ServiceList=None)["ServiceDiscovery"]) == []


def test_only_the_installation_parameter_set_is_taken():
    def offered(*sets):
        parameter_sets = [
            {"ParameterSetID": number, "Parameter": [{"Name": name, kind: value}]}
            for number, name, kind, value in sets
        ]
        return {"ServiceParameterList": {"ParameterSet": parameter_sets}}

    update = (1, "Service", "stringValue", "Update")
    installation = (7, "Service", "stringValue", "Installation")
    assert messages.parameter_set(OFFERED["ServiceDetail"], "Installation") == 1
    assert messages.parameter_set(offered(update, installation), "Installation") == 7
    assert messages.parameter_set(offered(update), "Installation") is None
    assert messages.parameter_set(offered((1, "Service", "intValue", 1)), "Installation") is None
    other_set = (1, "Other", "stringValue", "Installation")
    assert messages.parameter_set(offered(other_set), "Installation") is None
    assert messages.parameter_set({}, "Installation") is None


def test_names_are_written_in_one_order_and_escaped():
    names = {"DC": "V2G", "C": "DE", "CN": "Root", "O": 'A, B + "C"'}
    assert messages.distinguished_name(names) == 'CN=Root,O=A\\, B \\+ \\"C\\",C=DE,DC=V2G'
    assert messages.distinguished_name({"CN": "#1"}) == "CN=\\#1"
    assert messages.distinguished_name({"CN": " 1"}) == "CN=\\ 1"
