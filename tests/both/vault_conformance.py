"""The requirements of every vault, with any key store, on every interpreter.

    INTERPRETER vault_conformance.py CASES pkcs11 MODULE LABEL EMPTY_LABEL OPTIONS     < PIN
    INTERPRETER vault_conformance.py CASES service SOCKET EMPTY_SOCKET
    INTERPRETER vault_conformance.py CASES tcp PORT EMPTY_PORT                         < KEY

Each `on_empty_*` function takes a vault whose token has no key yet, each `on_car_*` one whose
provisioning key is the known one that CASES was sealed for; so have the `OWNERS`, each by itself.
`on_own_*` is for a vault in the process itself, `on_served_*` for one that others share.
CASES (JSON, bytes in hex) has "provisioning" (a point), "opens", "refused" and "congruent":
envelopes, and what must become of each.
`tests/unit/test_vault_conformance.py` makes tokens and cases, and runs this.
"""

import json
import sys

from evcc import p256, p256_curve
from evcc.vault import PROVISIONING, VaultError
from helpers import raises

DIGEST = bytes(range(32))
LEVELS = ("L1", "L1+", "L2", "L3")
OWNERS = [b"owner %02d" % n for n in range(4)]
MISMATCHES = 4  # that no owner is locked out for


def on_empty_provisioning_key_is_made_once(vault, cases):
    raises(VaultError, "not-found", vault.public, PROVISIONING)
    raises(VaultError, "not-found", vault.sign, PROVISIONING, DIGEST)
    raises(VaultError, "not-found", vault.custody, PROVISIONING)
    assert vault.keys() == []
    point = vault.generate_provisioning_key()
    assert p256_curve.on_curve(point)
    raises(VaultError, "exists", vault.generate_provisioning_key)
    assert vault.public(PROVISIONING) == point
    assert vault.keys() == [(PROVISIONING, point)]
    assert vault.custody(PROVISIONING) == "L3"


def on_served_provisioning_key_is_deleted_by_no_client(vault, cases):
    vault.claim(b"servedby")
    point = vault.generate_provisioning_key()
    raises(VaultError, "refused", vault.delete, PROVISIONING)
    assert vault.public(PROVISIONING) == point
    vault.sign(PROVISIONING, DIGEST)


def on_own_provisioning_key_deleted_is_gone_and_another_can_be_made(vault, cases):
    vault.claim(b"ownowner")
    before = vault.generate_provisioning_key()
    vault.claim(b"neighbor")
    raises(VaultError, "not-found", vault.delete, PROVISIONING)
    vault.claim(b"ownowner")
    assert vault.public(PROVISIONING) == before
    vault.delete(PROVISIONING)
    raises(VaultError, "not-found", vault.sign, PROVISIONING, DIGEST)
    raises(VaultError, "not-found", vault.delete, PROVISIONING)
    assert vault.generate_provisioning_key() != before
    vault.delete(PROVISIONING)
    assert vault.keys() == []


def on_car_known_answer_opens(vault, cases):
    """Every envelope that must open: the key found in it signs for the point it belongs to."""
    for case in cases["opens"]:
        key = open_case(vault, case)
        try:
            assert len(key) == 16, case["name"]
            assert vault.public(key) == case["public"], case["name"]
            signature = vault.sign(key, DIGEST)
            assert p256.verify(case["public"], DIGEST, signature), case["name"]
        finally:
            vault.delete(key)


def on_car_refuses_every_bad_envelope_and_keeps_nothing_of_it(vault, cases):
    owners, mismatches = OWNERS[:], 0
    for case in cases["refused"]:
        if case["reason"] == "key-mismatch":
            if mismatches % MISMATCHES == 0:
                vault.claim(owners.pop(0))
            mismatches += 1
        before = vault.keys()
        try:
            open_case(vault, case)
        except VaultError as e:
            assert e.reason == case["reason"], (case["name"], str(e))
        else:
            raise AssertionError("opened: " + case["name"])
        assert vault.keys() == before, case["name"]
    vault.claim(b"")
    assert len(cases["refused"]) > 20


def on_car_scalar_out_of_range_is_refused_where_it_is_seen(vault, cases):
    """n + 5 for 5. A scalar that stays in the token is not seen; the key is the same."""
    for case in cases["congruent"]:
        try:
            key = open_case(vault, case)
        except VaultError as e:
            assert e.reason == "key-mismatch", str(e)
            continue
        assert vault.custody(key) in ("L2", "L3")
        assert p256.verify(case["public"], DIGEST, vault.sign(key, DIGEST))
        vault.delete(key)


def on_car_keys_live_side_by_side(vault, cases):
    first, second = cases["opens"][:2]
    keys = [open_case(vault, first), open_case(vault, second), open_case(vault, first)]
    try:
        assert len(set(keys)) == 3
        listed = dict(vault.keys())
        assert listed == {
            PROVISIONING: cases["provisioning"],
            keys[0]: first["public"],
            keys[1]: second["public"],
            keys[2]: first["public"],
        }
        vault.delete(keys.pop())
        remaining = vault.keys()
        assert sorted(pair[0] for pair in remaining) == sorted(keys + [PROVISIONING])
        for key, case in zip(keys, (first, second)):
            assert p256.verify(case["public"], DIGEST, vault.sign(key, DIGEST))
            assert vault.custody(key) in LEVELS
    finally:
        for key in keys:
            vault.delete(key)


def on_car_id_of_another_owners_key_is_refused(vault, cases):
    """NSS would put the new key in the place of the other owner's."""
    first, second = cases["opens"][:2]
    key = open_case(vault, first)
    vault.claim(OWNERS[3])
    try:
        raises(VaultError, "exists", open_case, vault, second, key)
    finally:
        vault.claim(b"")
    assert p256.verify(first["public"], DIGEST, vault.sign(key, DIGEST))
    vault.delete(key)


def on_car_deleted_key_is_gone(vault, cases):
    key = open_case(vault, cases["opens"][0])
    vault.sign(key, DIGEST)
    vault.delete(key)
    raises(VaultError, "not-found", vault.sign, key, DIGEST)
    raises(VaultError, "not-found", vault.delete, key)
    raises(VaultError, "not-found", vault.public, key)
    raises(VaultError, "not-found", vault.custody, key)


def on_car_unknown_keys_are_not_found(vault, cases):
    for key in (b"", b"\0" * 16, b"provisionin", b"provisioning\0", b"\xff" * 15, b"\0" * 17):
        raises(VaultError, "not-found", vault.public, key)
        raises(VaultError, "not-found", vault.sign, key, DIGEST)
        raises(VaultError, "not-found", vault.delete, key)


def on_car_signs_only_a_whole_digest(vault, cases):
    for digest in (b"", DIGEST[:31], DIGEST + b"\0", DIGEST + DIGEST):
        raises(VaultError, "digest-length", vault.sign, PROVISIONING, digest)
        raises(
            VaultError, "digest-length", vault.verify, cases["provisioning"], digest, b"\1" * 64
        )


def on_car_verifies_only_the_signature_of_that_digest_and_point(vault, cases):
    point = cases["provisioning"]
    good = vault.sign(PROVISIONING, DIGEST)
    assert len(good) == 64
    assert vault.verify(point, DIGEST, good) is True
    n = p256.N.to_bytes(32, "big")
    zero = bytes(32)
    other_point = cases["opens"][0]["public"]
    for bad in (
        (point, DIGEST[:31] + b"\xff", good),
        (other_point, DIGEST, good),
        (point, DIGEST, good[:32] + flip(good[32:])),
        (point, DIGEST, flip(good[:32]) + good[32:]),
        (point, DIGEST, zero + good[32:]),
        (point, DIGEST, good[:32] + zero),
        (point, DIGEST, n + good[32:]),
        (point, DIGEST, good[:32] + n),
        (point, DIGEST, b"\xff" * 64),
        (point, DIGEST, good[:63]),
        (point, DIGEST, good + b"\0"),
        (point, DIGEST, b""),
        (point[:33], DIGEST, good),
        (flip(point), DIGEST, good),
        (b"\4" + zero + zero, DIGEST, good),
        (b"", DIGEST, good),
        (b"\0", DIGEST, good),
    ):
        assert vault.verify(*bad) is False, bad


def on_car_random_is_as_long_as_asked_and_bounded(vault, cases):
    assert [len(vault.random(n)) for n in (1, 16, 256)] == [1, 16, 256]
    assert vault.random(16) != vault.random(16)
    raises(VaultError, "refused", vault.random, 0)
    raises(VaultError, "refused", vault.random, 257)


def on_car_offers_no_raw_ecdh_and_no_secret(vault, cases):
    """The whole of what a caller can reach; a new name here is a decision, not an accident."""
    names = sorted(name for name in dir(type(vault)) if not name.startswith("_"))
    assert names == [
        "claim",
        "close",
        "custody",
        "delete",
        "generate_provisioning_key",
        "keys",
        "open_contract_key",
        "pause",
        "public",
        "random",
        "sign",
        "verify",
    ], names


def on_car_another_owner_sees_and_touches_nothing_of_it(vault, cases):
    mine = vault.public(PROVISIONING)
    key = open_case(vault, cases["opens"][0])
    try:
        vault.claim(b"neighbor")
        assert vault.keys() == []
        for name in (PROVISIONING, key):
            raises(VaultError, "not-found", vault.public, name)
            raises(VaultError, "not-found", vault.sign, name, DIGEST)
        raises(VaultError, "not-found", vault.delete, key)
        assert vault.generate_provisioning_key() != mine
        assert vault.keys() == [(PROVISIONING, vault.public(PROVISIONING))]
    finally:
        vault.claim(b"")
    assert vault.public(PROVISIONING) == mine
    assert len(vault.sign(key, DIGEST)) == 64
    vault.delete(key)


def on_car_an_owner_has_eight_bytes_or_none(vault, cases):
    raises(VaultError, "refused", vault.claim, b"seven b")


def on_car_a_key_has_the_id_that_was_asked_for_once(vault, cases):
    case = cases["opens"][0]
    arguments = (case["scheme"], case["dh"], case["wrapped"], case["aad"], case["public"])
    assert vault.open_contract_key(*arguments, key=b"sixteen bytes id") == b"sixteen bytes id"
    raises(VaultError, "exists", vault.open_contract_key, *arguments, key=b"sixteen bytes id")
    vault.delete(b"sixteen bytes id")


def open_case(vault, case, key=b"") -> bytes:
    return vault.open_contract_key(
        case["scheme"], case["dh"], case["wrapped"], case["aad"], case["public"], key
    )


def flip(data: bytes) -> bytes:
    return data[:-1] + bytes((data[-1] ^ 1,))


def functions(prefix: str) -> list:
    """[(name, function)] of this module whose names begin so, in alphabetical order."""
    names = globals()
    return [(name, names[name]) for name in sorted(names) if name.startswith(prefix)]


def load(path: str) -> dict:
    """CASES, its hex turned into bytes."""
    with open(path, encoding="utf-8") as file:
        cases = json.load(file)
    for case in cases["opens"] + cases["refused"] + cases["congruent"]:
        for name in ("dh", "wrapped", "aad", "public"):
            case[name] = bytes.fromhex(case[name])
    cases["provisioning"] = bytes.fromhex(cases["provisioning"])
    return cases


def main(arguments: list) -> int:
    from run import outcome

    cases, kind = load(arguments[0]), arguments[1]
    if kind == "pkcs11":
        from evcc.vault import pkcs11

        pin = sys.stdin.readline().strip()
        module, label, empty, options = arguments[2:]
        open_car = lambda: pkcs11.open(module, label, pin, options)  # noqa: E731
        open_empty = lambda: pkcs11.open(module, empty, pin, options)  # noqa: E731
    elif kind == "tcp":
        from evcc.ports import tcp
        from evcc.vault import service

        shared = "car", bytes.fromhex(sys.stdin.readline().strip())
        local = "127.0.0.1"
        port, empty_port = int(arguments[2]), int(arguments[3])
        open_car = lambda: service.connect(  # noqa: E731
            lambda: tcp.connect(local, port), *shared
        )
        open_empty = lambda: service.connect(  # noqa: E731
            lambda: tcp.connect(local, empty_port), *shared
        )
    else:
        from evcc.ports import unix
        from evcc.vault import service

        label, empty = arguments[2:]
        open_car = lambda: service.connect(lambda: unix.connect(label))  # noqa: E731
        open_empty = lambda: service.connect(lambda: unix.connect(empty))  # noqa: E731
    outcomes = []
    for prefix, opened in (
        ("on_empty_", open_empty),
        ("on_own_" if kind == "pkcs11" else "on_served_", open_empty),
        ("on_car_", open_car),
    ):
        vault = opened()
        for name, function in functions(prefix):
            outcomes.append(outcome(name, lambda f=function, v=vault: f(v, cases)))
        vault.close()
    return 1 if "FAIL" in outcomes or not outcomes else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
