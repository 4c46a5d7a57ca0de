"""A stored file is read as it was written, or is "damaged": also with a right checksum.

A store is one row of `STORES`.
"""

import binascii
import json
import struct

from evcc import exi, p256, x509
from evcc.contracts import INDEX, Contracts
from evcc.errors import EvccError
from evcc.identity import FILE as IDENTITY
from evcc.identity import Identity, IdentityError
from evcc.iso15118_2 import messages
from evcc.record import RecordError, numbers, pack, text, unpack
from evcc.revocation import FILE as REVOKED
from evcc.revocation import Revocation
from evcc.timekeeper import FILE as TIME
from evcc.timekeeper import Timekeeper
from evcc.trust import FILE as TRUST
from evcc.trust import MAX_ANCHORS, Trust, TrustError
from helpers import needs_heap, raises, vector
from memory import KeyList, MemoryFiles
from noise import Chance
from test_contracts import filled, install

_made = json.loads(vector("certificates.json"))
NOW = 1767225600  # 2026-01-01
ROUNDS = 600  # alterations of each store


def der(name):
    return bytes.fromhex(_made[name])


def pcid():
    return x509.parse(der("provisioning")).names["CN"].encode()


def open_trust(files):
    trust = Trust(files, None)
    return [trust.region()] + [c.names for c in trust.anchors("V2G", "MO", "OEM")]


def open_identity(files):
    identity = Identity(files, None)
    return [identity.pcid] + [
        x509.parse(encoded).names for encoded in [identity.certificate] + identity.subs if encoded
    ]


def open_contracts(files):
    """As a start and a session read it."""
    contracts = Contracts(files)
    contracts.recover(KeyList([]))
    return [
        (c.emaid, c.operator, c.custody, c.active, c.valid(NOW), len(contracts.envelopes))
        for c in contracts.all()
    ]


def open_chain(files):
    contracts = filled(1, Cut(files, CHAIN))
    (contract,) = contracts.all()
    messages_ = contracts.recover(KeyList([contract.key]))
    chain = contracts.chain(contract.emaid)
    body = messages.payment_details_req(contract.emaid, chain)
    exi.encode(messages.envelope(b"\1", "PaymentDetailsReq", body))
    return messages_, contract.lost


class Cut:
    """Files of which one is read from other files, and never written."""

    def __init__(self, files, name):
        self.files, self.name, self.rest = files, name, MemoryFiles()

    def read(self, name):
        return (self.files if name == self.name else self.rest).read(name)

    def write(self, name, *parts):
        if name != self.name:
            self.rest.write(name, *parts)

    def delete(self, name):
        self.rest.delete(name)

    def names(self):
        return sorted(self.rest.names() + [self.name])


def open_time(files):
    return [Timekeeper(files, lambda: NOW, lambda: 0).now()]


def open_revoked(files):
    revocation = Revocation(files)
    root = x509.parse(der("root"))
    return [len(revocation), revocation.is_stale(NOW), revocation.includes(root)]


def of_contracts():
    files = MemoryFiles()
    contracts = filled(2, files)
    install(contracts, 3)
    return unpack(files.read(INDEX))


CHAIN = "chain-" + "00" * 16  # of the contract that `filled` makes first

# file, what it holds, how it is opened and all of it looked at
STORES = (
    (TRUST, lambda: [b"EU", b"V2G", der("root"), b"MO", der("other_root")], open_trust),
    (TRUST, lambda: [b"EU"], open_trust),
    (IDENTITY, lambda: [pcid(), der("provisioning"), der("sub2"), der("sub1")], open_identity),
    (IDENTITY, lambda: [pcid()], open_identity),
    (INDEX, of_contracts, open_contracts),
    (CHAIN, lambda: [b"leaf 0", b"sub 2", b"sub 1"], open_chain),
    (TIME, lambda: [NOW.to_bytes(8, "big")], open_time),
    (REVOKED, lambda: [bytes(3) + b"\1", b"\xff" * 4, bytes(32)], open_revoked),
)

MALFORMED = (  # what is no UTF-8 by RFC 3629
    b"\x80",
    b"\xc3",
    b"\xff",
    b"\xc1\x81",  # overlong: A
    b"\xc0\x80",
    b"\xe0\x9f\xbf",
    b"\xf0\x8f\xbf\xbf",
    b"\xed\xa0\x80",  # surrogates
    b"\xed\xbf\xbf",
    b"\xf4\x90\x80\x80",  # above U+10FFFF
    b"\xf7\xbf\xbf\xbf",
    b"\xf8\x88\x80\x80\x80",
)


def _drop(chance, fields, i):
    fields.pop(i)


def _none(chance, fields, i):
    while fields:
        fields.pop()


def _repeat(chance, fields, i):
    fields.insert(i, fields[chance.below(len(fields))])


def _many(chance, fields, i):
    if sum([len(field) for field in fields]) < 9000:  # a board's heap is no place for more
        fields += fields[i:] * chance.below(20)


def _swap(chance, fields, i):
    j = chance.below(len(fields))
    fields[i], fields[j] = fields[j], fields[i]


def _empty(chance, fields, i):
    fields[i] = b""


def _cut(chance, fields, i):
    fields[i] = fields[i][: chance.below(len(fields[i]) + 1)]


def _lengthen(chance, fields, i):
    fields[i] += chance.bytes(1 + chance.below(20))


def _replace(chance, fields, i):
    fields[i] = chance.bytes(chance.below(40))


def _ones(chance, fields, i):
    fields[i] = b"\xff" * len(fields[i])


def _flip(chance, fields, i):
    if fields[i]:
        at = chance.below(len(fields[i]))
        bit = bytes([fields[i][at] ^ 1 << chance.below(8)])
        fields[i] = fields[i][:at] + bit + fields[i][at + 1 :]


def _no_text(chance, fields, i):
    fields[i] = MALFORMED[chance.below(len(MALFORMED))] + fields[i]


ALTERATIONS = (
    _drop,
    _none,
    _repeat,
    _many,
    _swap,
    _empty,
    _cut,
    _lengthen,
    _replace,
    _ones,
    _flip,
    _no_text,
)


def sealed(body):
    """The body of a record with the checksum that fits."""
    return body + struct.pack(">I", binascii.crc32(body) & 0xFFFFFFFF)


def altered(chance, fields):
    fields = list(fields)
    for _ in range(1 + chance.below(3)):
        if fields:
            ALTERATIONS[chance.below(len(ALTERATIONS))](chance, fields, chance.below(len(fields)))
    body = bytearray(pack(fields)[:-4])
    if not chance.below(4):  # the counts and lengths between the fields too
        body[chance.below(min(len(body), 8))] = chance.below(256)
    if not chance.below(8):
        body = body[: chance.below(len(body))]
    return sealed(bytes(body))


def test_store_altered_with_right_checksum_is_damaged_not_a_crash():
    needs_heap(1 << 19)
    for name, fields, look in STORES:
        files = MemoryFiles()
        files.write(name, pack(fields()))
        expected = look(files)
        refused = 0
        for seed in range(ROUNDS):
            files.write(name, altered(Chance(seed), fields()))
            try:
                look(files)
            except EvccError as error:
                assert error.reason == "damaged", (name, seed, str(error))
                refused += 1
        assert ROUNDS // 9 < refused < ROUNDS, (name, refused)
        files.write(name, pack(fields()))
        assert look(files) == expected


def damaged(error, name, fields, look):
    files = MemoryFiles()
    files.write(name, pack(fields))
    raises(error, "damaged", look, files)


def test_each_way_in_which_a_trust_store_can_be_wrong():
    root = der("root")
    for fields in (
        [],
        [b"EU", b"V2G"],
        [b""],
        [b"x" * 17],
        [b"\xed\xa0\x80"],
        [b"EU", b"CPS", root],
        [b"EU", b"\xff", root],
        [b"EU", b"V2G", root[:-1]],
        [b"EU", b"V2G", b""],
        [b"EU"] + [b"V2G", root] * (MAX_ANCHORS + 1),
    ):
        damaged(TrustError, TRUST, fields, open_trust)
    files = MemoryFiles()
    files.write(TRUST, pack([b"x" * 16] + [b"V2G", root] * MAX_ANCHORS))
    assert len(open_trust(files)) == 1 + MAX_ANCHORS


def test_each_way_in_which_an_identity_can_be_wrong():
    leaf, sub = der("provisioning"), der("sub2")
    contract_leaf = der("contract")
    for fields in (
        [],
        [b""],
        [b"PVTP000000000001"],
        [b"\xed\xa0\x80" + b"P" * 16],
        [pcid(), leaf[:-1]],
        [pcid(), b""],
        [pcid(), contract_leaf],
        [pcid(), leaf, b"junk"],
        [pcid(), leaf] + [sub] * 5,
    ):
        damaged(IdentityError, IDENTITY, fields, open_identity)
    files = MemoryFiles()
    files.write(IDENTITY, pack([pcid(), leaf] + [sub] * 4))
    assert len(open_identity(files)) == 6


def test_a_field_is_text_or_numbers_of_just_that_layout_or_damaged():
    assert text("grüße \U0001f50c".encode()) == "grüße \U0001f50c"
    for bad in MALFORMED:
        raises(RecordError, "damaged", text, b"a" + bad)
    layout = ">QQB"
    packed = struct.pack(layout, 1, 253402300799, 1)
    assert numbers(layout, packed) == (1, 253402300799, 1)
    for size in (0, 1, 16, 18):
        raises(RecordError, "damaged", numbers, layout, (packed + b"x")[:size])


def test_counts_and_lengths_that_do_not_fit_are_damage_whatever_the_checksum():
    body = bytearray(pack([b"one", b"", b"three"])[:-4])
    good = [b"one", b"", b"three"]
    assert unpack(sealed(bytes(body))) == good
    for at, value in ((0, 0), (2, 1), (3, 2), (3, 4), (4, 1), (5, 2), (5, 4), (10, 1), (12, 6)):
        changed = bytearray(body)
        changed[at] = value
        raises(RecordError, "damaged", unpack, sealed(bytes(changed)))
    for size in range(len(body)):
        raises(RecordError, "damaged", unpack, sealed(bytes(body[:size])))


def test_only_roots_that_are_valid_now_and_sign_themselves_become_anchors():
    trust = Trust(MemoryFiles(), p256.verify)
    trust.install("EU", [("V2G", der("root"))], NOW)
    for name, now in (
        ("sub1", NOW),
        ("not_ca_root", NOW),
        ("forged_root", NOW),
        ("renamed_root", NOW),
        ("root", x509.parse(der("root")).not_before - 1),
        ("root", x509.parse(der("root")).not_after + 1),
    ):
        raises(TrustError, "not-an-anchor", trust.install, "NA", [("V2G", der(name))], now)
    assert (trust.region(), len(trust.anchors("V2G"))) == ("EU", 1)


def test_a_car_takes_the_certificate_of_its_own_key_and_name_only_and_keeps_its_name():
    leaf = x509.parse(der("provisioning"))
    chain = [der("provisioning"), der("sub2"), der("sub1")]
    vault = OneKey(leaf.point)
    roots = [x509.parse(der("root"))]
    identity = Identity(MemoryFiles(), vault)
    raises(IdentityError, "pcid", identity.install, chain, roots, NOW)
    identity.request("PVTP0000000000009", "Maker", None)
    raises(IdentityError, "pcid", identity.install, chain, roots, NOW)
    identity.request(pcid().decode(), "Maker", None)
    vault.point = b"\4" + bytes(64)
    raises(IdentityError, "key", identity.install, chain, roots, NOW)
    vault.point = leaf.point
    identity.install(chain, roots, NOW)
    raises(IdentityError, "pcid", identity.request, "PVTP0000000000009", "Maker", None)
    assert (identity.pcid, identity.certificate) == (pcid().decode(), chain[0])


class OneKey:
    """A vault with one key, as much of it as an identity asks for."""

    def __init__(self, point):
        self.point = point

    def public(self, key):
        return self.point

    def sign(self, key, digest):
        return digest + digest

    def verify(self, point, digest, signature):
        return p256.verify(point, digest, signature)
