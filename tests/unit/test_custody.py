"""The matrix of provider, runtime and scheme, and the custody of a contract key in each.

A level that is better than the table fails like one that is worse: the documentation of that token
is out of date then.
"""

import hashlib
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

import envelopes
import world
from evcc.vault import PROVISIONING, VaultError, custody
from evcc.vault.cryptoki import CKA_DERIVE, CKA_VALUE
from evcc.vault.pkcs11 import TokenVault, custody_by_scheme, survey_custody
from evcc.vault.schemes import SCHEMES
from fixtures.tokens import CarToken
from plugvault import runtimes
from plugvault.tokens import Hsm, selftest

BOTH = Path(__file__).parents[1] / "both"
sys.path.append(str(BOTH))

import custody_run  # noqa: E402

NOTHING = "nothing is missing"

# By provider and the version of its library: for each way in, what it lacks on this token.
# SoftHSM 2.7's rows are of one built by hand: no distribution that CI has has it.
LACKS = {
    ("softhsm", "2.6"): {
        "L3": "CONCATENATE_DATA_AND_BASE",
        "L2": "unwrapping an EC key by AES_CBC_PAD",
        "L1+": "",
        "L1": "",
    },
    ("softhsm", "2.7"): {
        "L3": "deriving a key by a hash of a secret",
        "L2": "",
        "L1+": "",
        "L1": "",
    },
    ("nss", "3"): {"L3": "", "L2": "", "L1+": "", "L1": ""},
}
_NO_HASH = "L3 needs deriving a key by a hash of a secret"

# (provider, its version, runtime, scheme): the level, and what the next one lacks.
EXPECTED = {
    ("softhsm", "2.6", "cpython", "iso2"): ("L1+", "L2 needs unwrapping an EC key by AES_CBC_PAD"),
    ("softhsm", "2.6", "debian", "iso2"): ("L1+", "L2 needs unwrapping an EC key by AES_CBC_PAD"),
    ("softhsm", "2.7", "cpython", "iso2"): ("L2", _NO_HASH),
    ("softhsm", "2.7", "debian", "iso2"): ("L2", _NO_HASH),
    ("nss", "3", "cpython", "iso2"): ("L3", NOTHING),
    ("nss", "3", "debian", "iso2"): ("L3", NOTHING),
}
# The values between this process and the token, or decrypted here, at each level.
SEEN: dict[str, list[str]] = {
    "L3": [],
    "L2": ["content key"],
    "L1+": ["content key", "scalar"],
    "L1": ["content key", "scalar", "shared secret"],
}
# The uses of a secret on the way: bits of `opening.USES`. Nothing may decrypt.
_WRAP, _UNWRAP, _DERIVE = 1 << 2, 1 << 3, 1 << 6
_Z = ["derive", _DERIVE]
USES: dict[str, list[list[Any]]] = {
    "L3": [
        *[_Z] * 3,
        ["derive", _UNWRAP],  # K
        ["unwrap", _DERIVE],  # the scalar
        ["derive", 0],  # its structure
        ["generate_secret", _WRAP | _UNWRAP],
    ],
    "L2": [_Z, ["create", _UNWRAP]],
    "L1+": [_Z],
    "L1": [_Z],
}


def row_of(token: CarToken) -> tuple[str, str]:
    """Return provider and version of the token, as the tables spell them."""
    with Hsm(token.module, token.conf, token.location.options) as hsm:
        version = hsm.version
    for name, prefix in LACKS:
        if name == token.provider.name and f"{version}.".startswith(f"{prefix}."):
            return name, prefix
    pytest.fail(f"{token.provider.name} {version} is in no table: see what it does, and add it")


@pytest.fixture
def case(each_token: CarToken) -> dict[str, Any]:
    """An envelope that must open, and every secret in it; each is random but the scalar."""
    vault = each_token.open()
    point = vault.generate_provisioning_key()
    vault.close()
    ephemeral = envelopes.new_key()
    recipient = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), point)
    z = ephemeral.exchange(ec.ECDH(), recipient)
    another = world.point(envelopes.new_key())
    bad = [
        envelopes.envelope(point, scalar.to_bytes(32, "big"), another)
        for scalar in (envelopes.KNOWN_KEY, 0, envelopes.N, 2**256 - 1)
    ]
    return {
        **envelopes.envelope(point, envelopes.KNOWN_KEY, ephemeral=ephemeral),
        "bad": bad,
        "secrets": {
            "shared secret": z,
            "content key": hashlib.sha256(b"\0\0\0\1" + z + b"\1UV").digest()[:16],
            "scalar": envelopes.KNOWN_KEY.to_bytes(32, "big"),
        },
    }


def told(runtime: str, token: CarToken, case: dict[str, Any]) -> dict[str, Any]:
    """The output of tests/both/custody_run.py on that interpreter."""
    file = token.folder / "case.json"
    file.write_text(json.dumps(case, default=bytes.hex))
    if runtime == "cpython":
        vault = token.open()
        try:
            report: dict[str, Any] = json.loads(
                json.dumps(custody_run.run(vault, json.loads(file.read_text())))
            )
        finally:
            vault.close()
        return report
    interpreter = runtimes.get(runtime)
    if interpreter is None:
        pytest.skip(f"no interpreter {runtime!r} here; make says why")
    location = token.location
    arguments = [str(location.module), location.label, location.options, str(file)]
    ended = subprocess.run(
        [*interpreter.argv, *interpreter.heap("2M"), str(BOTH / "custody_run.py"), *arguments],
        env={**interpreter.env(BOTH), **location.env()},
        input=token.pin + "\n",
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return json.loads(ended.stdout)  # type: ignore[no-any-return]


@pytest.mark.parametrize("runtime", ["cpython", "debian"])
def test_custody_equals_the_tables_exactly(
    runtime: str, each_token: CarToken, case: dict[str, Any]
) -> None:
    provider, version = row_of(each_token)
    report = told(runtime, each_token, case)
    for scheme, (level, why) in report.pop("best").items():
        assert (level, why) == EXPECTED[provider, version, runtime, scheme]
    assert sorted(report) == sorted(custody.LEVELS)  # MicroPython keeps no order
    for level, result in report.items():
        lacks = LACKS[provider, version][level]
        expected_trial = ["", f"{level} needs {lacks}"] if lacks else [level, NOTHING]
        assert result["trial"] == expected_trial, level
        assert result["custody"] == ("custody" if lacks else [level, True]), level
        # One reason for another's key and for no key, for every error of the library.
        assert set(result["bad"]) == {"custody" if lacks else "key-mismatch"}, level
        # No object that is sensitive was read, while it was there, and none is there any more.
        assert result["readable"] == [], level
        assert result["left"] == [], level
        if not lacks:
            tried, remaining = result["failed"]
            assert tried > 8, level
            assert remaining == 0, level
        assert result["uses"] == ([] if lacks else USES[level]), level
        assert result["seen"] == ([] if lacks else SEEN[level]), level


def test_report_holds_the_level_and_its_reason(each_token: CarToken) -> None:
    level, why = EXPECTED[*row_of(each_token), "cpython", "iso2"]
    assert selftest.report(each_token.location, each_token.pin) == {
        "module": str(each_token.module),
        "token": "car",
        "schemes": {"iso2": {"level": level, "why": why}},
    }


def test_scheme_of_another_hash_and_key_length_is_a_row_more(
    each_token: CarToken, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the KDF of ISO 15118-20: SHA-512, 32 bytes for the cipher's key."""
    longer_scheme = SCHEMES["iso2"]._replace(
        hash=0x270,
        hashed=lambda data: hashlib.sha512(data).digest(),
        hash_derivation=0x395,
        key_length=32,
        other_info=b"longer than the other",
    )
    monkeypatch.setitem(SCHEMES, "other", longer_scheme)
    opened = each_token.open()
    levels = custody_by_scheme(opened)
    opened.close()
    assert levels["other"] == levels["iso2"]
    monkeypatch.setitem(
        SCHEMES, "other", longer_scheme._replace(hash=0x250, hash_derivation=0x393)
    )
    opened = each_token.open()
    levels = custody_by_scheme(opened)
    opened.close()
    assert levels["other"][0] == "L1", "a wrong hash in the token is seen"


class Tampered:
    """The calls of a vault, some of them replaced."""

    def __init__(self, calls: Any, **replaced: Any) -> None:
        self.calls, self.replaced = calls, replaced

    def __getattr__(self, name: str) -> Any:
        return self.replaced.get(name) or getattr(self.calls, name)


@pytest.fixture
def vault(nss_car: CarToken):
    opened = nss_car.open()
    opened.generate_provisioning_key()
    yield opened
    opened.close()


def found_with(vault: TokenVault, **replaced: Any) -> tuple[str, str]:
    calls = vault._backend
    vault._backend, vault._survey_result = Tampered(calls, **replaced), None
    try:
        level, why = custody_by_scheme(vault)["iso2"]
        return level, why
    finally:
        vault._backend, vault._survey_result = calls, None


def refuse(*_: Any) -> Any:
    raise VaultError("unavailable", "made to fail")


@pytest.mark.parametrize(
    ("missing", "level", "why"),
    [
        ("wrap", "L2", "L3 needs wrapping a secret by AES_CBC_PAD"),
        ("generate_secret", "L2", "L3 needs a wrapping key of the token"),
        ("unwrap", "L1+", "L2 needs unwrapping an EC key by AES_CBC_PAD"),
    ],
)
def test_token_without_a_call_gives_the_level_that_does_without(
    vault: TokenVault, missing: str, level: str, why: str
) -> None:
    assert found_with(vault, **{missing: refuse}) == (level, why)


def test_token_that_hashes_no_secret_gives_l1(vault: TokenVault) -> None:
    assert found_with(vault, digest=refuse, unwrap=refuse) == (
        "L1",
        "L1+ needs C_DigestKey of the secret",
    )


def test_token_that_imports_nothing_gives_no_level(vault: TokenVault) -> None:
    assert found_with(vault, create=refuse, unwrap=refuse) == ("", "L1 needs importing an EC key")
    vault._backend = Tampered(vault._backend, create=refuse, unwrap=refuse)
    before = vault.keys()
    with pytest.raises(VaultError, match=r"^custody: L1 needs"):
        vault.open_contract_key(*envelope(vault).values())
    assert vault.keys() == before


@pytest.mark.parametrize("at", range(8))
def test_token_that_lets_an_object_be_read_does_not_have_the_level(
    vault: TokenVault, at: int
) -> None:
    """Any of the eight: Z, three of the KDF, scalar, structure, W, and the key at the end."""
    objects: list[Any] = []
    readable: list[Any] = []
    calls = vault._backend

    def recorded(name: str) -> Any:
        def call(*args: Any) -> Any:
            objects.append(getattr(calls, name)(*args))
            return objects[-1]

        return call

    def attribute(handle: Any, kind: int) -> bytes:
        if (
            kind == CKA_VALUE and len(objects) > 8 and not readable
        ):  # the first look at a whole way
            readable.append(objects[-8:][at])
        if kind == CKA_VALUE and handle in readable:
            return b"x"
        return calls.attribute(handle, kind)  # type: ignore[no-any-return]

    names = ("derive", "unwrap", "generate_secret")
    level = found_with(vault, attribute=attribute, **{name: recorded(name) for name in names})
    assert level == ("L2", "L3 needs objects that cannot be read")


def test_key_that_does_not_prove_itself_in_a_trial_gives_no_level(vault: TokenVault) -> None:
    assert found_with(vault, verify=lambda *_: False) == (
        "",
        "L1 needs a key that can only sign and proves itself",
    )


def test_key_that_could_do_more_than_sign_gives_no_level(vault: TokenVault) -> None:
    attribute = vault._backend.attribute

    def may_derive(handle: Any, kind: int) -> bytes:
        return b"\x01" if kind == CKA_DERIVE else attribute(handle, kind)

    assert found_with(vault, attribute=may_derive) == (
        "",
        "L1 needs a key that can only sign and proves itself",
    )


def test_trial_leaves_nothing(each_token: CarToken) -> None:
    opened = each_token.open()
    try:
        assert opened._backend.find([]) == []
        custody_by_scheme(opened)
        assert opened._backend.find([]) == []
        opened._backend = Tampered(opened._backend, sign=refuse)
        opened._survey_result = None
        custody_by_scheme(opened)
        assert opened._backend.find([]) == []
    finally:
        opened.close()


def test_token_that_makes_no_keys_for_a_trial_is_not_said_to_be_weak(vault: TokenVault) -> None:
    """It may be gone for a moment; the next opening tries again."""
    calls = vault._backend
    vault._backend = Tampered(calls, generate=refuse)
    with pytest.raises(VaultError, match=r"^unavailable"):
        vault.open_contract_key(*envelope(vault).values())
    vault._backend = calls
    assert vault.custody(vault.open_contract_key(*envelope(vault).values())) == "L3"


def test_trial_is_made_once_for_an_open_vault(vault: TokenVault) -> None:
    generated = []
    calls = vault._backend

    def generate(*args: Any) -> Any:
        generated.append(args)
        return calls.generate(*args)

    vault._backend = Tampered(calls, generate=generate)
    for _ in range(2):
        vault.open_contract_key(*envelope(vault).values())
    assert len(generated) == 2  # the receiver's and the sender's


def test_survey_at_the_start_leaves_none_to_an_installation(vault: TokenVault) -> None:
    survey_custody(vault)
    calls = vault._backend
    vault._backend = Tampered(calls, generate=refuse)
    case = envelope(vault)
    vault.open_contract_key(*case.values())


def test_survey_that_fails_at_the_start_is_repeated_at_an_installation(vault: TokenVault) -> None:
    calls = vault._backend
    vault._backend = Tampered(calls, generate=refuse)
    survey_custody(vault)
    vault._backend = calls
    vault.open_contract_key(*envelope(vault).values())


def test_report_of_a_token_without_elliptic_curves_says_so(
    nss_car: CarToken, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("plugvault.cryptoki.backend.HostBackend.generate", refuse)
    level = selftest.report(nss_car.location, nss_car.pin)["schemes"]["iso2"]
    assert level == {
        "level": "",
        "why": "no keys for a trial: unavailable: made to fail",
    }


def envelope(vault: TokenVault) -> dict[str, Any]:
    return envelopes.envelope(vault.public(PROVISIONING), envelopes.KNOWN_KEY)


# A minimum.


@pytest.mark.parametrize("minimum", ["L2", "L3"])
def test_weaker_token_is_refused_before_anything_is_opened(
    car_token: CarToken, minimum: str
) -> None:
    level, why = EXPECTED[*row_of(car_token), "cpython", "iso2"]
    if custody.at_least(level, minimum):
        pytest.skip(f"this one is not weaker than {minimum}")
    expected = f"custody: {minimum} is asked for, this token gives {level} for iso2: {why}"
    with pytest.raises(VaultError, match=f"^{re.escape(expected)}"):
        car_token.open(minimum_custody=minimum)
    car_token.add("other")  # which the library sees: the refused vault has given it back
    car_token.open("other").close()


@pytest.mark.parametrize("minimum", ["", *custody.LEVELS])
def test_strong_token_opens_with_every_minimum(nss_car: CarToken, minimum: str) -> None:
    nss_car.open(minimum_custody=minimum).close()


def test_a_level_above_the_minimum_is_not_required(car_token: CarToken) -> None:
    car_token.open(minimum_custody="L1+").close()


def test_minimum_that_is_no_level_is_refused(car_token: CarToken) -> None:
    with pytest.raises(VaultError, match=r"^refused: custody is one of L1, L1\+, L2, L3"):
        car_token.open(minimum_custody="L4")


def test_weaker_token_is_refused_through_ffi_too(car_token: CarToken) -> None:
    interpreter = runtimes.get("debian")
    if interpreter is None:
        pytest.skip("no interpreter 'debian' here; make says why")
    location = car_token.location
    code = (
        "import sys\nfrom evcc.vault import VaultError, pkcs11\n"
        "for minimum in ('L3', 'L1+'):\n"
        "    try:\n"
        "        pkcs11.open(sys.argv[1], 'car', sys.argv[2], '', minimum).close()\n"
        "        print('open')\n"
        "    except VaultError as e:\n"
        "        print(e.reason)\n"
    )
    file = car_token.folder / "open.py"
    file.write_text(code)
    ended = subprocess.run(
        [*interpreter.argv, file, location.module, car_token.pin],
        env={**interpreter.env(), **location.env()},
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )
    assert ended.stdout.split() == ["custody", "open"]


def test_sealed_for_another_is_a_mismatch_at_every_level(vault: TokenVault) -> None:
    bad = {**envelope(vault), "public": world.point(envelopes.new_key())}
    for level, recipe in custody.RECIPES["aes-cbc"]:
        vault._survey_result = {"iso2": custody.Method(level, "", recipe, custody.NSS)}
        with pytest.raises(VaultError, match=r"^key-mismatch"):
            vault.open_contract_key(*bad.values())
