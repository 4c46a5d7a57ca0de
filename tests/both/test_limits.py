"""The exact limits: what passes at each, and is refused one beyond. The numbers stand here again,
so that a changed constant is noticed too."""

import os

from evcc import chain, der, exi, ids, record, signature, telematics, trust, x509
from evcc.contracts import ContractError, Contracts
from evcc.envelopes import MISMATCHED, EnvelopeError, Envelopes
from evcc.exi import grammar as g
from evcc.exi import reader
from evcc.iso15118_2 import installation
from evcc.iso15118_2.messages import envelope
from evcc.link import frame, mux, v2gtp
from evcc.ports.files import Files, StoreError
from evcc.ports.stream import PortError
from evcc.revocation import Revocation, RevocationError
from evcc.session_engine import SessionError
from helpers import raises
from memory import MemoryFiles
from scripted import OFFERED, answer
from test_chain import NOW, ROOT, SUBS, c, changed
from test_contracts import filled
from test_queues import Bench
from test_session import reach
from test_signature import part, sign, verify
from test_stores import der as made
from test_telematics import _pair
from test_x509 import CRITICAL, certificate, extension, h, name


def yes(*_):
    return True


# -- what each row does with its number --


def padded_certificate(n):
    plain = len(certificate(extensions=[extension("eku", bytes(400))]))
    data = certificate(extensions=[extension("eku", bytes(400 + n - plain))])
    assert len(data) == n
    return x509.parse(data)


def envelopes_opened(n):
    envelopes = Envelopes()
    for i in range(n):
        envelopes.add(
            b"car", b"\4" + i.to_bytes(32, "big") + bytes(32), b"wrapped", b"certificate %d" % i
        )


def mismatched(n):
    """And one more that might match."""
    envelopes = Envelopes()
    for i in range(n + 1):
        envelopes.add(b"car", b"\4" + bytes([i]) * 64, b"wrapped", b"certificate")
        envelopes.settle(b"\4" + bytes([i]) * 64, MISMATCHED)


def revoked_in_a_file(n):
    files = MemoryFiles()
    files.content["revoked"] = record.pack([b"\0\0\0\1", b"\0\0\0\2", bytes(16 * n)])
    Revocation(files)


def organisation(n):
    maker, car = _pair()
    answer_ = maker.ask(car, b"provision.csr", b"PVTP0000000000001", b"o" * n, b"DE")
    if answer_[0] != b"ok":
        raise telematics.RequestRefusedError(answer_[1].decode())


def anchors(n):
    trust.Trust(MemoryFiles(), yes).install("EU", [("V2G", made("root"))] * n, NOW)


def region(n):
    trust.Trust(MemoryFiles(), yes).install("x" * n, [], NOW)


def subs(n):
    spare = ["plain%d" % (1 + i % 3) for i in range(n - 2)]
    return path("contract", list(SUBS) + spare)


def path(leaf, names, now=NOW, anchors=ROOT):
    return chain.validate(
        c(leaf), [c(n) for n in names], [c(n) for n in anchors], chain.CONTRACT, now, yes
    )


def depth(n):
    """A path of n certificates with its root."""
    cas = [c(name) for name in ("plain3", "plain2", "plain1")][5 - n :]
    leaf = changed("contract_of_five", issuer=cas[0].subject, aki=cas[0].ski)
    return chain.validate(leaf, cas, [c("root")], chain.CONTRACT, NOW, yes)


def below(n):
    """n CA certificates below a CA whose path length is 1."""
    cas = [c(name) for name in ("plain3", "plain2")][2 - n :] + [changed("plain1", path_length=1)]
    leaf = changed("contract_of_five", issuer=cas[0].subject, aki=cas[0].ski)
    chain.MAX_PATH, limit = 9, chain.MAX_PATH
    try:
        return chain.validate(leaf, cas, [c("root")], chain.CONTRACT, NOW, yes)
    finally:
        chain.MAX_PATH = limit


def path_length(n):
    value = der.tlv(der.SEQUENCE, h("0101ff"), der.unsigned(n.to_bytes(2, "big")))
    return x509.parse(certificate(extensions=[extension("bc", value, CRITICAL)]))


def unused_bits(n):
    value = bytes([3, 2, n, 0x80])
    return x509.parse(certificate(extensions=[extension("ku", value, CRITICAL)]))


def serial(n):
    return x509.parse(certificate(serial=der.unsigned(b"\xff" * n)))


def number_of_a_signature(n):
    value = der.tlv(der.SEQUENCE, der.unsigned(b"\x7f" * n), h("020101"))
    return der.raw_signature(value, 0, len(value))


def long_length(n):
    return der.header(b"\x04\x81" + bytes([n]) + bytes(n), 0, n + 3)


def longer_length(n):
    return der.header(b"\x04\x82" + n.to_bytes(2, "big") + bytes(n), 0, n + 4)


def references(n):
    parts = [part("id%d" % i) for i in range(n)]
    return verify(sign(*parts), *parts)


def number_of_ecdsa(n):
    if not signature.in_range(bytes(31) + b"\1" + n.to_bytes(32, "big")):
        raise signature.SignatureError("signature")
    return signature.in_range(n.to_bytes(32, "big") + bytes(31) + b"\1") or 1 // 0


def request_in_pieces(n):
    maker, car = _pair()
    word = maker.ask(car, b"begin", n.to_bytes(4, "big"), bytes(32))
    if word != [b"ok"]:
        raise telematics.RequestRefusedError(word[1].decode())


def nonce(n):
    _, car = _pair()
    if not car.vehicle.receive(b"\x01" + bytes(n)):
        raise telematics.RequestRefusedError("request")


def v2gtp_payload(n):
    assert v2gtp.PayloadReader().feed(v2gtp.encode(bytes(n))) == [bytes(n)]


def session_payload(n):
    session = reach("SessionSetup")
    header = v2gtp.encode(b"")[:4] + n.to_bytes(4, "big")
    session.receive(header, 100)
    if session.error is not None:
        raise session.error


def session_id(n):
    session = reach("SessionSetup")
    session.receive(answer("SessionSetup", OFFERED["SessionSetup"], b"\1" * n), 100)
    if session.error is not None:
        raise session.error


def challenge(n):
    session = reach("PaymentDetails")
    body = dict(OFFERED["PaymentDetails"])
    body["GenChallenge"] = bytes(n)
    session.receive(answer("PaymentDetails", body), 100)
    if session.error is not None:
        raise session.error


def ongoing(n):
    """The station says "Ongoing" for the last time n milliseconds after the first."""
    session = reach("Authorization")
    body = dict(OFFERED["Authorization"])
    body["EVSEProcessing"] = "Ongoing"
    session.receive(answer("Authorization", body), 100)
    session.timeout(session.deadline())
    session._deadline = 1 << 30
    session.receive(answer("Authorization", body), 100 + n)
    if session.error is not None:
        raise session.error


def too_early(n):
    """The question is asked again n milliseconds after "Ongoing"."""
    session = reach("Authorization")
    body = dict(OFFERED["Authorization"])
    body["EVSEProcessing"] = "Ongoing"
    session.receive(answer("Authorization", body), 100)
    if session.timeout(100 + n) == ([], []):
        raise SessionError("unsolicited")


def response(n):
    """Read a negative answer of n bytes."""
    body = dict(OFFERED["CertificateInstallation"])
    body["ResponseCode"] = "FAILED"
    data = exi.encode(envelope(b"\1", "CertificateInstallationRes", body))
    data += bytes(n - len(data))
    request = installation.InstallationRequest.at_station(b"\1")
    try:
        installation.install(data, request, None, Contracts(MemoryFiles()), None, NOW)
    except installation.RejectedError as e:
        if e.reason != "response-code":
            raise


def octets_of_an_integer(n):
    data = octets("0" + "10000000" * (n - 1) + "00000000")
    reader._integer(None, (None, None), data + bytes(4), 8 * len(data), 0)


def octets(bits):
    bits += "0" * (-len(bits) % 8)
    return bytes([int(bits[i : i + 8], 2) for i in range(0, len(bits), 8)])


def file_name(n):
    folder = "/tmp/limits-%s" % os.urandom(6).hex()
    try:
        Files(folder).read("x" * n)
    finally:
        os.rmdir(folder)


def socket_path(n):
    try:
        from evcc.ports import unix

        unix.connect("/" + "x" * (n - 1))
    except PortError as e:
        if "longer" in e.detail:
            raise


def frame_body(n):
    frames = frame.FrameReader(300).feed(frame.encode(b"\1" * n))
    if not frames:
        raise mux.LinkError("too-long")
    assert frame.unseal(frames[0]) == b"\1" * n


def numbered_ahead(n):
    """A frame so many numbers ahead of the one that is missing is kept."""
    link = mux.Mux(1)
    link._peer = 2
    link._arrived(bytes([0xE0, n, 0, 0, 0, 0, 0]) + b"\0\0\1x")
    if not link._early:
        raise mux.LinkError("full")


def dated(which, attribute):
    """The last or first second of one certificate of a path, n seconds ago."""

    def at(n):
        path = {name: c(name) for name in ("contract", "sub2", "sub1", "root")}
        path[which] = changed(which, **{attribute: NOW - n})
        subs = [path["sub2"], path["sub1"]]
        chain.validate(path["contract"], subs, [path["root"]], chain.CONTRACT, NOW, yes)

    return at


def common_names(n):
    return x509.parse(certificate(subject=name(*[("CN", "A")] * n)))


N = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
CERTIFICATE = x509.CertificateError


def slots(n):
    filled(n - 1).admit("DEABCC00000009X", b"new", NOW)


def revoked(n):
    Revocation(MemoryFiles()).install(1, 2, [bytes(16)] * n)


MOST = (  # what, the most there may be, how to try it, what one more is refused with
    ("bytes of a certificate", 800, padded_certificate, CERTIFICATE, "size"),
    ("bytes of a serial number", 20, serial, CERTIFICATE, "serial"),
    ("path length", 127, path_length, CERTIFICATE, "extension"),
    ("unused bits of a key usage", 7, unused_bits, CERTIFICATE, "extension"),
    ("common names", 1, common_names, CERTIFICATE, "name"),
    ("sub-CAs of a message", 4, subs, CERTIFICATE, "too-long"),
    ("certificates of a path", 4, depth, CERTIFICATE, "too-long"),
    ("CAs below one of path length 1", 1, below, CERTIFICATE, "path-length"),
    ("seconds after the last, leaf", 0, dated("contract", "not_after"), CERTIFICATE, "expired"),
    ("seconds after the last, sub-CA", 0, dated("sub2", "not_after"), CERTIFICATE, "expired"),
    ("seconds after the last, anchor", 0, dated("root", "not_after"), CERTIFICATE, "expired"),
    ("bytes of r or s", 32, number_of_a_signature, der.DerError, "value"),
    ("bytes of DER we write", 65535, lambda n: der.tlv(4, bytes(n)), der.DerError, "length"),
    ("s of ECDSA", N - 1, number_of_ecdsa, signature.SignatureError, "signature"),
    ("references", 4, references, signature.SignatureError, "references"),
    ("contracts", 5, slots, ContractError, "full"),
    ("revoked certificates", 256, revoked, RevocationError, "list"),
    ("revoked certificates in a file", 256, revoked_in_a_file, RevocationError, "damaged"),
    ("envelopes", 128, envelopes_opened, EnvelopeError, "full"),
    ("keys that do not match", 4, mismatched, EnvelopeError, "locked"),
    ("bytes of an organisation", 64, organisation, telematics.RequestRefusedError, "request"),
    ("anchors", 16, anchors, trust.TrustError, "too-many"),
    ("characters of a region", 16, region, trust.TrustError, "region"),
    ("bytes of a field", 65535, lambda n: record.pack([bytes(n)]), ValueError, None),
    (
        "characters of an EMAID",
        15,
        lambda n: ids.parse_emaid("DE" + "A" * (n - 2)),
        ids.IdError,
        "length",
    ),
    ("characters of a PCID", 18, lambda n: ids.parse_pcid("A" * n), ids.IdError, "length"),
    (
        "bytes of a request in pieces",
        10240,
        request_in_pieces,
        telematics.RequestRefusedError,
        "too-long",
    ),
    ("bytes of a nonce", 32, nonce, telematics.RequestRefusedError, "request"),
    ("bytes of V2GTP", 8192, v2gtp_payload, v2gtp.V2gtpError, "too-long"),
    ("bytes of a session's message", 8192, session_payload, SessionError, "frame"),
    ("bytes of a session id", 8, session_id, SessionError, "session-id"),
    ("bytes of a challenge", 16, challenge, SessionError, "challenge"),
    ("milliseconds of Ongoing", 59999, ongoing, SessionError, "ongoing-timeout"),
    ("bytes of a response", 8192, response, installation.RejectedError, "message"),
    ("octets of an integer", 256, octets_of_an_integer, reader.Fault, "value"),
    ("characters of a file's name", 64, file_name, StoreError, "name"),
    ("bytes of a socket's path", 107, socket_path, PortError, "unavailable"),
    ("bytes of a frame's body", 300, frame_body, mux.LinkError, "too-long"),
    ("numbers ahead of the one missing", 31, numbered_ahead, mux.LinkError, "full"),
)

LEAST = (  # what, the least there must be, how to try it, what one less is refused with
    ("bytes of a certificate", 1, lambda n: x509.parse(bytes(n)), CERTIFICATE, "size"),
    (
        "seconds since the first, leaf",
        0,
        dated("contract", "not_before"),
        CERTIFICATE,
        "not-yet-valid",
    ),
    (
        "seconds since the first, sub-CA",
        0,
        dated("sub2", "not_before"),
        CERTIFICATE,
        "not-yet-valid",
    ),
    (
        "seconds since the first, anchor",
        0,
        dated("root", "not_before"),
        CERTIFICATE,
        "not-yet-valid",
    ),
    ("a length in two octets", 128, long_length, der.DerError, "length"),
    ("a length in three octets", 256, longer_length, der.DerError, "length"),
    ("s of ECDSA", 1, number_of_ecdsa, signature.SignatureError, "signature"),
    ("characters of a region", 1, region, trust.TrustError, "region"),
    (
        "characters of an EMAID",
        14,
        lambda n: ids.parse_emaid("DE" + "A" * (n - 2)),
        ids.IdError,
        "length",
    ),
    ("characters of a PCID", 17, lambda n: ids.parse_pcid("A" * n), ids.IdError, "length"),
    ("bytes of a nonce", 32, nonce, telematics.RequestRefusedError, "request"),
    ("bytes of a session id", 1, session_id, SessionError, "session-id"),
    ("bytes of a challenge", 16, challenge, SessionError, "challenge"),
    ("milliseconds between questions", 250, too_early, SessionError, "unsolicited"),
    ("characters of a file's name", 1, file_name, StoreError, "name"),
)


def test_the_maximum_passes_and_one_more_is_refused():
    for label, most, attempt, error, reason in MOST:
        _passes(label, attempt, most)
        _refused(label, error, reason, attempt, most + 1)


def test_the_minimum_passes_and_one_less_is_refused():
    for label, least, attempt, error, reason in LEAST:
        if label != "bytes of a certificate":
            _passes(label, attempt, least)
        _refused(label, error, reason, attempt, least - 1)


def _passes(name, attempt, n):
    try:
        attempt(n)
    except Exception as e:  # noqa: BLE001 - it names the row
        raise AssertionError("{}: {} does not pass: {!r}".format(name, n, e))


def _refused(name, error, reason, attempt, n):
    try:
        raises(error, reason, attempt, n)
    except AssertionError as e:
        raise AssertionError("{}: {}: {}".format(name, n, e))


def test_each_channel_carries_its_longest_message_and_no_longer_one():
    longest = {mux.CONTROL: 4096, mux.SESSION: 8200, mux.TELEMATICS: 4096, mux.VAULT: 4096}
    longest[mux.LOG] = 512
    waits = {mux.CONTROL: 9216, mux.SESSION: 9216, mux.TELEMATICS: 9216, mux.VAULT: 5120}
    waits[mux.LOG] = 4096
    assert longest == mux.LIMITS and waits == mux.QUEUES and mux.EACH == 32
    for channel, limit in longest.items():
        sender = mux.Mux(1)
        raises(mux.LinkError, "too-long", sender.send, channel, bytes(limit + 1))
        sender.send(channel, bytes(limit))
        for extra, accepted in ((0, True), (1, False)):  # as it comes in
            receiver = mux.Mux(1)
            total = (limit + extra).to_bytes(3, "big")
            receiver._collect(bytes([0xC0 | channel, 0, 0, 0, 0, 0, 0]) + total + b"x")
            assert (channel in receiver._parts) == accepted
            assert receiver.refused == extra
        receiver._collect(bytes([0xC0 | 9, 0, 0, 0, 0, 0, 0]) + b"\0\0\1")  # no such channel
        assert 9 not in receiver._parts
        full = mux.Mux(1, {channel: 1 << 20}, waits)
        raises(mux.LinkError, "full", full.send, channel, bytes(waits[channel] - 31))
        full.send(channel, bytes(waits[channel] - 32))


def test_the_limits_of_unread_and_unsent_messages_are_equal():
    bench = Bench()
    for extra in (1, 0):
        bench.line._take(mux.LOG, bytes(4096 - 32 + extra))
        assert bench.line.dropped == {mux.LOG: 1}
        assert len(bench.line.inbox) == 1 - extra
    bench.line._take(mux.LOG, b"")
    assert bench.line.dropped == {mux.LOG: 2}


# -- numbers of EXI, by hand-made bits --

BOUNDED = {  # kind, least, most
    "iso2": (
        (g.INTEGER, -32768, 32767),
        (g.INTEGER, -2147483648, 2147483647),
        (g.INTEGER, -(1 << 63), (1 << 63) - 1),
        (g.UNSIGNED, 0, 65535),
        (g.UNSIGNED, 0, 86400),
        (g.UNSIGNED, 0, 16777214),
        (g.UNSIGNED, 0, 4294967295),
        (g.UNSIGNED, 0, (1 << 64) - 1),
        (g.BITS, -3, 3),
        (g.BITS, 0, 100),
        (g.BITS, 0, 255),
        (g.BITS, -128, 127),
        (g.BITS, 1, 255),
        (g.BITS, 1, 3),
    ),
    "sap": ((g.UNSIGNED, 0, 4294967295), (g.BITS, 0, 255), (g.BITS, 1, 20)),
    "xmldsig": (),
}


def bounded_types(tables):
    """Return {(kind, least, most): detail for the reader} of the schema's bounded numbers."""
    types, visited = {}, set()
    waiting = []
    for index in tables.roots():
        flags, place = tables.element(index)
        kind, detail = tables.type(flags, place)
        if kind == g.COMPLEX:
            waiting.append(detail)
    while waiting:
        state = waiting.pop()
        if state[3] in visited:
            continue
        visited.add(state[3])
        if state[2] is None:
            tables.fill(state)
        for code in range(len(state[2])):
            flagged, _, detail, after, _, full = tables.event(state[2], code)
            kind = flagged & g.KIND
            waiting += [s for s in (after, full) if s is not None]
            if kind == g.COMPLEX:
                waiting.append(detail)
            elif kind == g.BITS:
                types[kind, detail[0], detail[0] + detail[1]] = detail
            elif kind in (g.INTEGER, g.UNSIGNED) and detail != (None, None):
                types[kind, detail[0], detail[1]] = detail
    return types


def in_bits(kind, detail, number):
    if kind == g.BITS:
        code = number - detail[0]
        if not 0 <= code < 1 << detail[2]:
            return None  # has no code
        return "".join([str(code >> i & 1) for i in range(detail[2] - 1, -1, -1)])
    sign = ""
    if kind == g.INTEGER:
        sign, number = ("1", -number - 1) if number < 0 else ("0", number)
    if number < 0:
        return None
    groups = []
    while True:
        more = number >> 7
        groups.append(("1" if more else "0") + "{:07b}".format(number & 0x7F))
        if not more:
            return sign + "".join(groups)
        number = more


def test_every_bounded_number_of_the_schemas_is_read_within_its_bounds_only():
    for schema, expected in BOUNDED.items():
        tables = g.load(schema)
        types = bounded_types(tables)
        assert set(types) == set(expected), schema
        for kind, least, most in expected:
            detail = types[kind, least, most]
            for number in (least, most, least - 1, most + 1):
                bits = in_bits(kind, detail, number)
                if bits is None:
                    continue
                data = octets(bits) + bytes(4)
                read = reader._READ[kind], tables, detail, data, 8 * len(data), 0
                if least <= number <= most:
                    assert read[0](*read[1:]) == (number, len(bits))
                else:
                    raises(reader.Fault, "value", *read)


def test_a_number_one_beyond_its_type_is_refused_in_a_whole_message():
    status = {"EVReady": True, "EVErrorCode": "NO_ERROR", "EVRESSSOC": 100}
    for least, most in ((-32768, 32767),):
        for good, bad in ((least, least - 1), (most, most + 1)):
            target = {"Multiplier": 0, "Unit": "V", "Value": good}
            current = {"Multiplier": 0, "Unit": "A", "Value": 5}
            body = {"DC_EVStatus": status, "EVTargetVoltage": target, "EVTargetCurrent": current}
            data = exi.encode(envelope(b"\1", "PreChargeReq", body))
            assert exi.decode(data)
            bits = "".join(["{:08b}".format(octet) for octet in data])
            old = in_bits(g.INTEGER, None, good)
            assert bits.count(old) == 1
            forged = octets(bits.replace(old, in_bits(g.INTEGER, None, bad)))
            error = raises(exi.ExiError, "value", exi.decode, forged)
            assert error.detail.startswith("V2G_Message/Body/PreChargeReq/EVTargetVoltage/Value")
