"""The reported custody of imported keys, and of labels that claim too much."""

from __future__ import annotations

import hashlib
import json
import subprocess
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

import envelopes
import world
from evcc.contracts import Contract, Contracts
from evcc.identity import KEY_FILE, Identity
from evcc.ports.files import Files
from evcc.record import pack
from evcc.vault import PROVISIONING, VaultError, levels
from evcc.vault import cryptoki as p11
from evcc.vault.cryptoki import imported_pair
from evcc.vault.pkcs11 import TokenVault, custody_by_scheme
from evcc.vault.schemes import SCHEMES
from fixtures.tokens import CarToken
from plugvault import runtimes
from plugvault.cryptoki import hsm
from plugvault.tokens import adoption

FFI = """
import json, sys
from evcc.vault import PROVISIONING, VaultError, pkcs11
module, label, options, minimum = sys.argv[1:]
try:
    vault = pkcs11.open(module, label, sys.stdin.readline().strip(), options, minimum)
    print(json.dumps([vault.custody(key) for key, _ in vault.keys()]))
except VaultError as error:
    print(json.dumps([error.reason, error.detail]))
"""
CLAIMS = (p11.CKA_LOCAL, p11.CKA_ALWAYS_SENSITIVE, p11.CKA_NEVER_EXTRACTABLE)


@pytest.fixture(autouse=True)
def _closed() -> Iterator[None]:
    """Close every token after a test, also after a failure."""
    yield
    for library in list(hsm._libraries.values()):
        hsm._libraries.pop(library.path).unload()


@pytest.fixture
def vault(each_token: CarToken) -> Iterator[TokenVault]:
    opened = each_token.open()
    yield opened
    opened.close()


def through_ffi(token: CarToken, minimum: str = "") -> list[str]:
    """Return the custody of every key from MicroPython's vault, or its refusal to open."""
    runtime = runtimes.get("debian")
    if runtime is None:
        pytest.skip("no interpreter 'debian' here; make says why")
    script = token.folder / "script.py"
    script.write_text(FFI)
    location = token.location
    arguments = [str(script), str(location.module), location.label, location.options, minimum]
    ended = subprocess.run(
        [*runtime.argv, *arguments],
        env={**runtime.env(), **location.env()},
        input=token.pin + "\n",
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    custodies: list[str] = json.loads(ended.stdout)
    return custodies


def bring(vault: TokenVault, key: bytes, label: bytes, *claims: tuple[int, Any]) -> None:
    """Import a key pair from outside, with the strictest flags and with the claims."""
    private_key = envelopes.new_key()
    scalar = bytearray(private_key.private_numbers().private_value.to_bytes(32, "big"))
    public, private = imported_pair(SCHEMES["iso2"], key, label, world.point(private_key))
    private += [*claims, (p11.CKA_VALUE, scalar)]
    vault._backend.create(public)
    try:
        vault._backend.create(private)
    except VaultError:  # NSS, which files it by its point
        vault._backend.create([*private, (p11.CKA_NSS_DB, world.point(private_key))])


def claiming(vault: TokenVault, key: bytes, label: bytes) -> int:
    """Import with each claim; return how many claims the token accepted."""
    accepted = 0
    for claim in CLAIMS:
        try:
            bring(vault, key, label, (claim, True))
        except VaultError:
            for handle in vault._backend.find([(p11.CKA_ID, key)]):
                vault._backend.destroy(handle)
            continue
        accepted += 1
        assert vault.custody(key) == "imported", hex(claim)
        vault.delete(key)
    return accepted


def test_imported_key_is_not_called_l3(each_token: CarToken) -> None:
    vault = each_token.open()
    accepted = claiming(vault, PROVISIONING, b"plugvault-provisioning")
    assert accepted == (3 if each_token.provider.name == "nss" else 0)  # NSS accepts these claims
    bring(vault, PROVISIONING, b"plugvault-provisioning")
    assert vault.custody(PROVISIONING) == "imported"
    vault.close()
    assert through_ffi(each_token) == ["imported"]


def test_a_key_that_was_made_in_its_token_is_called_l3(each_token: CarToken) -> None:
    vault = each_token.open()
    vault.generate_provisioning_key()
    assert vault.custody(PROVISIONING) == "L3"
    vault.close()
    assert through_ffi(each_token) == ["L3"]


@pytest.mark.parametrize("minimum", levels.LEVELS)
def test_a_minimum_refuses_an_imported_provisioning_key(car_token: CarToken, minimum: str) -> None:
    vault = car_token.open()
    bring(vault, PROVISIONING, b"plugvault-provisioning")
    vault.close()
    with pytest.raises(VaultError, match=r"^custody: .* asked for"):
        car_token.open(minimum_custody=minimum)


def test_a_minimum_refuses_an_imported_key_through_ffi_too(car_token: CarToken) -> None:
    vault = car_token.open()
    bring(vault, PROVISIONING, b"plugvault-provisioning")
    vault.close()
    assert through_ffi(car_token, "L1") == [
        "custody",
        "L1 is asked for, the provisioning key is imported",
    ]


def test_a_minimum_refuses_another_owner_s_imported_key_at_its_claim(
    car_token: CarToken,
) -> None:
    owner = b"8 random"
    plain = car_token.open()
    label = b"plugvault-provisioning " + owner.hex().encode()
    bring(plain, PROVISIONING + owner, label)
    plain.close()
    vault = car_token.open(minimum_custody="L1")
    with pytest.raises(VaultError, match=r"^custody: "):
        vault.claim(owner)
    with pytest.raises(VaultError, match=r"^custody: "):
        vault.sign(PROVISIONING, bytes(32))
    vault.close()


def test_a_key_that_was_made_to_leave_is_called_extractable(vault: TokenVault) -> None:
    common = [
        (p11.CKA_TOKEN, True),
        (p11.CKA_ID, PROVISIONING),
        (p11.CKA_LABEL, b"plugvault-provisioning"),
    ]
    curve = [(p11.CKA_PRIVATE, False), (p11.CKA_VERIFY, True), (p11.CKA_EC_PARAMS, key_curve())]
    flags = [(p11.CKA_PRIVATE, True), (p11.CKA_SIGN, True), (p11.CKA_DERIVE, True)]
    flags += [(p11.CKA_SENSITIVE, True), (p11.CKA_EXTRACTABLE, True)]
    vault._backend.generate(common + curve, common + flags)
    assert vault.custody(PROVISIONING) == "extractable"


def key_curve() -> bytes:
    return b"\x06\x08\x2a\x86\x48\xce\x3d\x03\x01\x07"


@pytest.mark.parametrize(
    "words, expected", [("L3", ""), ("L1", "L1"), ("L9", "imported"), ("", "imported")]
)
def test_a_label_above_its_tokens_level_counts_as_the_lower(
    vault: TokenVault, words: str, expected: str
) -> None:
    """expected: "" for the best level of this token."""
    key = bytes(range(16))
    bring(vault, key, b"plugvault-contract " + words.encode())
    assert vault.custody(key) == (expected or custody_by_scheme(vault)["iso2"][0])


def test_a_contract_key_that_can_leave_is_not_called_by_its_label(vault: TokenVault) -> None:
    key = bytes(range(16))
    common = [(p11.CKA_TOKEN, True), (p11.CKA_ID, key), (p11.CKA_LABEL, b"plugvault-contract L3")]
    curve = [(p11.CKA_PRIVATE, False), (p11.CKA_VERIFY, True), (p11.CKA_EC_PARAMS, key_curve())]
    flags = [(p11.CKA_PRIVATE, True), (p11.CKA_SIGN, True)]
    flags += [(p11.CKA_SENSITIVE, True), (p11.CKA_EXTRACTABLE, True)]
    vault._backend.generate(common + curve, common + flags)
    assert vault.custody(key) == "extractable"


class Store:
    """A car's identity on a token, and what it wrote down."""

    def __init__(self, vault: TokenVault, folder: str) -> None:
        self.vault, self.files = vault, Files(folder)
        self.identity = Identity(self.files, vault)
        self.point = self.identity.point()

    def told(self) -> str:
        """After a restart."""
        return Identity(self.files, self.vault).custody()


@pytest.fixture
def store(vault: TokenVault, tmp_path: Any) -> Store:
    return Store(vault, str(tmp_path / "store"))


def attests(vault: TokenVault, word: str) -> Callable[[bytes], str]:
    return lambda key: word


def test_the_recorded_custody_counts_where_the_token_agrees(store: Store) -> None:
    assert store.told() == "L3"


@pytest.mark.parametrize(
    "token, expected", [("L3", "L3"), ("imported", "imported"), ("unattested", "L3")]
)
def test_without_attestation_of_the_token_the_record_counts(
    store: Store, monkeypatch: pytest.MonkeyPatch, token: str, expected: str
) -> None:
    monkeypatch.setattr(store.vault, "_origin", lambda private: token)
    assert store.told() == expected


def test_changed_flags_in_the_token_do_not_raise_the_recorded_custody(
    store: Store,
) -> None:
    digest = hashlib.sha256(store.point).digest()
    store.files.write(KEY_FILE, pack([digest, b"imported"]))
    assert store.told() == "imported"
    store.files.write(KEY_FILE, pack([digest, b"L9"]))
    assert store.told() == "unattested"


def test_a_key_the_car_did_not_make_is_unattested(store: Store) -> None:
    store.vault.delete(PROVISIONING)
    store.vault.generate_provisioning_key()
    assert store.told() == "unattested"


@pytest.mark.parametrize("damaged", [b"", b"junk", pack([b"one field"])])
def test_a_damaged_record_attests_nothing(store: Store, damaged: bytes) -> None:
    store.files.write(KEY_FILE, damaged)
    assert store.told() == "unattested"


def test_a_key_without_a_record_has_the_custody_of_its_token(store: Store) -> None:
    store.files.delete(KEY_FILE)
    assert store.told() == "L3"


def test_a_key_is_not_made_when_its_record_cannot_be_written(
    vault: TokenVault, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = Files(str(tmp_path / "store"))
    identity = Identity(files, vault)

    def full(name: str, data: bytes) -> None:
        raise OSError("full")

    monkeypatch.setattr(files, "write", full)
    with pytest.raises(OSError, match="full"):
        identity.point()
    assert vault.keys() == []


@pytest.mark.parametrize("index, token, expected", [("L1+", "L1", "L1"), ("L1", "L1+", "L1")])
def test_the_custody_of_a_contract_is_the_lower_of_index_and_token(
    car_token: CarToken, tmp_path: Any, index: str, token: str, expected: str
) -> None:
    vault, files = car_token.open(), Files(str(tmp_path / "store"))
    contracts = Contracts(files)
    contracts.recover(vault)
    key, leaf = bytes(16), b"a leaf"
    label = f"plugvault-contract {token} {contracts.owner.hex()}".encode()
    bring(vault, key, label)
    public = hashlib.sha256(vault.public(key)).digest()
    mark = hashlib.sha256(leaf).digest()[:16]
    contracts.commit(Contract("DEPVT0000000012", key, public, index, "O", 1, 2, mark), [leaf])
    again = Contracts(files)
    again.recover(vault)
    assert [contract.custody for contract in again.all()] == [expected]
    vault.close()


def test_the_trial_of_a_tokens_attestation_leaves_nothing(vault: TokenVault) -> None:
    vault.generate_provisioning_key()
    before = len(vault._backend.find([]))
    vault.custody(PROVISIONING)
    assert len(vault._backend.find([])) == before


# Keys of one's own.


def adoptable(vault: TokenVault, label: bytes = b"mine", key: bytes = b"\x01") -> bytes:
    """A key pair that another program made in the token; its point."""
    common = [(p11.CKA_TOKEN, True), (p11.CKA_ID, key), (p11.CKA_LABEL, label)]
    curve = [(p11.CKA_PRIVATE, False), (p11.CKA_VERIFY, True), (p11.CKA_EC_PARAMS, key_curve())]
    flags = [(p11.CKA_PRIVATE, True), (p11.CKA_SIGN, True), (p11.CKA_DERIVE, True)]
    flags += [(p11.CKA_SENSITIVE, True), (p11.CKA_EXTRACTABLE, False)]
    pair = vault._backend.generate(common + curve, common + flags)
    return vault._backend.attribute(pair[0], p11.CKA_EC_POINT)[-65:]


def test_an_adopted_key_is_the_provisioning_key_and_stays_unchanged(
    each_token: CarToken,
) -> None:
    vault = each_token.open()
    point = adoptable(vault)
    before = len(vault._backend.find([]))
    adopted = adoption.adopt(vault, "mine")
    assert adopted["point"] == point.hex()
    assert adopted["custody"] == "L3"
    assert len(vault._backend.find([])) == before
    vault.close()
    car = each_token.location.open(each_token.pin, "", adopted["provisioning"])
    assert car.public(PROVISIONING) == point
    assert car.keys() == [(PROVISIONING, point)]
    key = car.open_contract_key(*envelopes.envelope(point, envelopes.KNOWN_KEY).values())
    assert len(car.sign(key, bytes(32))) == 64
    car.delete(key)
    with pytest.raises(VaultError, match=r"^exists"):
        car.generate_provisioning_key()
    with pytest.raises(VaultError, match=r"^refused"):
        car.delete(PROVISIONING)
    assert len(car._backend.find([])) == before
    car.close()


def test_an_adopted_key_is_found_through_ffi_too(each_token: CarToken) -> None:
    vault = each_token.open()
    point = adoptable(vault)
    name = adoption.adopt(vault, "01")["provisioning"]
    vault.close()
    runtime = runtimes.get("debian")
    if runtime is None:
        pytest.skip("no interpreter 'debian' here; make says why")
    script = each_token.folder / "script.py"
    script.write_text(
        "import sys\nfrom evcc.vault import PROVISIONING, pkcs11\n"
        "v = pkcs11.open(*sys.argv[1:3], sys.stdin.readline().strip(), *sys.argv[3:])\n"
        "print(v.public(PROVISIONING).hex(), v.custody(PROVISIONING))\n"
    )
    location = each_token.location
    ended = subprocess.run(
        [
            *runtime.argv,
            str(script),
            str(location.module),
            location.label,
            location.options,
            "",
            name,
        ],
        env={**runtime.env(), **location.env()},
        input=each_token.pin + "\n",
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.stdout.split() == [point.hex(), "L3"], ended.stderr


def test_an_adopted_key_is_one_car_s_alone(car_token: CarToken) -> None:
    vault = car_token.open()
    adoptable(vault)
    name = adoption.adopt(vault, "mine")["provisioning"]
    vault.close()
    with car_token.service(provisioning=name) as service:
        first, second = service.client(), service.client()
        first.claim(b"car no 1")
        assert len(first.sign(PROVISIONING, bytes(32))) == 64
        second.claim(b"car no 2")
        with pytest.raises(VaultError, match="another car's"):
            second.sign(PROVISIONING, bytes(32))
        assert len(first.sign(PROVISIONING, bytes(32))) == 64
        first.close()
        second.close()


def without(kind: int) -> Callable[[TokenVault], None]:
    def change(vault: TokenVault) -> None:
        adoptable(vault)
        for handle in vault._backend.find([(p11.CKA_CLASS, kind)]):
            vault._backend.destroy(handle)

    return change


def may_not(flag: int) -> Callable[[TokenVault], None]:
    def change(vault: TokenVault) -> None:
        key = envelopes.new_key()
        public, private = imported_pair(SCHEMES["iso2"], b"\x01", b"mine", world.point(key))
        scalar = bytearray(key.private_numbers().private_value.to_bytes(32, "big"))
        private = [(k, False if k == flag else v) for k, v in private]
        vault._backend.create(public)
        vault._backend.create([*private, (p11.CKA_VALUE, scalar)])

    return change


def on_another_curve(vault: TokenVault) -> None:
    common = [(p11.CKA_TOKEN, True), (p11.CKA_ID, b"\x01"), (p11.CKA_LABEL, b"mine")]
    curve = [(p11.CKA_PRIVATE, False), (p11.CKA_EC_PARAMS, b"\x06\x05\x2b\x81\x04\x00\x22")]
    flags = [(p11.CKA_PRIVATE, True), (p11.CKA_SIGN, True), (p11.CKA_DERIVE, True)]
    vault._backend.generate(common + curve, common + flags)


def twice(vault: TokenVault) -> None:
    adoptable(vault)
    adoptable(vault, key=b"\x02")


def the_same_id(vault: TokenVault) -> None:
    adoptable(vault)
    adoptable(vault)


def label_and_id(vault: TokenVault) -> None:
    adoptable(vault, label=b"mine", key=b"\x02")
    adoptable(vault, label=b"other", key=b"\xaa")
    adoptable(vault, label=b"aa", key=b"\x03")


def another_public_half(vault: TokenVault) -> None:
    """The label and CKA_ID of a key, but its public half is another's."""
    adoptable(vault)
    (handle,) = vault._backend.find([(p11.CKA_CLASS, p11.CKO_PUBLIC_KEY)])
    vault._backend.destroy(handle)
    public, _ = imported_pair(SCHEMES["iso2"], b"\x01", b"mine", world.point(envelopes.new_key()))
    vault._backend.create(public)


@pytest.mark.parametrize(
    "change, name, words",
    [
        (lambda vault: None, "mine", "not-found: no private key"),
        (without(p11.CKO_PRIVATE_KEY), "mine", "not-found: no private key"),
        (without(p11.CKO_PUBLIC_KEY), "mine", "refused: .* lacks its public half"),
        (may_not(p11.CKA_SIGN), "mine", "refused: .* may not sign"),
        (may_not(p11.CKA_DERIVE), "mine", "refused: .* may not derive"),
        (on_another_curve, "mine", "refused: pkcs11:.* is not on P-256"),
        (twice, "mine", "refused: mine means each of pkcs11:.*01, pkcs11:.*02"),
        (the_same_id, "mine", "refused: 2 private keys are called"),
        (label_and_id, "aa", "refused: aa means each of"),
        (twice, "pkcs11:object=mine", "refused: 2 private keys are called"),
        (another_public_half, "mine", "refused: the private key is not that of its public half"),
        (adoptable, "pkcs11:type=private", "refused: a key is named by"),
        (adoptable, "pkcs11:object=mine;type=public", "refused: a key is named by"),
    ],
)
def test_an_ambiguous_or_unusable_key_is_not_adopted(
    car_token: CarToken, change: Callable[[TokenVault], Any], name: str, words: str
) -> None:
    vault = car_token.open()
    change(vault)
    before = len(vault._backend.find([]))
    with pytest.raises(VaultError, match=f"^{words}"):
        adoption.adopt(vault, name)
    assert len(vault._backend.find([])) == before
    vault.close()


def test_an_imported_key_serves_and_is_called_imported(each_token: CarToken) -> None:
    vault = each_token.open()
    key = ec.generate_private_key(ec.SECP256R1())
    scalar = bytearray(key.private_numbers().private_value.to_bytes(32, "big"))
    name = adoption.bring(vault, scalar, world.point(key), "from a file")
    assert scalar == bytes(32)
    adopted = adoption.adopt(vault, name)
    assert adopted["custody"] == "imported"
    assert adopted["point"] == world.point(key).hex()
    vault.close()


def test_an_import_that_fails_leaves_nothing(
    car_token: CarToken, monkeypatch: pytest.MonkeyPatch
) -> None:
    vault = car_token.open()
    scalar = bytearray(b"\x01" * 32)
    with pytest.raises(VaultError, match="not that of its public half"):
        adoption.bring(vault, scalar, world.point(envelopes.new_key()), "from a file")
    assert scalar == bytes(32)
    assert vault._backend.find([]) == []
    with pytest.raises(VaultError, match="a label of your own"):
        adoption.bring(vault, bytearray(32), bytes(65), "plugvault-provisioning")
    vault.close()
