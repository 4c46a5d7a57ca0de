"""The parts of a contract key that are ever outside of a token, by each recipe of `evcc.vault`.

    INTERPRETER custody_run.py MODULE LABEL OPTIONS CASE     < PIN

CASE (JSON, bytes in hex): the arguments of `open_contract_key`, and "secrets": the values, by
name, that may be outside of the token at some levels only; "bad": more arguments, each with
another key or none. Prints JSON, by the level of the recipe:

    "trial"     the result of `survey` for this recipe alone: (level, what the next level lacks)
    "readable"  objects, by the call that made them, that were read although they are sensitive:
                themselves, or a copy with weaker attributes
    "left"      objects that the recipe has made and that still exist afterwards
    "failed"    the number of runs in which one call of the token fails, each in its turn, and the
                number of objects that they left
    "uses"      the allowed uses of each secret: [call, sum of places in USES]
    "seen"      secrets that passed between this process and the token, or were decrypted here
    "bad"       the reasons for which the cases of CASE's "bad" are refused
    "custody"   of the key, and whether it signs for the certificate; or the reason of the failure

and under "best" the result of the token's survey. `tests/unit/test_custody.py` has the expected
values.
"""

import json
import sys

from evcc import p256
from evcc.vault import VaultError, custody, pkcs11
from evcc.vault.cryptoki import (
    CKA_CLASS,
    CKA_EXTRACTABLE,
    CKA_SENSITIVE,
    CKA_TOKEN,
    CKA_VALUE,
    CKO_SECRET_KEY,
    USES,
)

MAKERS = ("create", "copy", "derive", "unwrap", "generate_secret")
DIGEST = bytes(range(32))
LESS = (  # attributes that an attacker would give a copy
    [(CKA_SENSITIVE, False)],
    [(CKA_EXTRACTABLE, True)],
    [(CKA_SENSITIVE, False), (CKA_EXTRACTABLE, True)],
)


class Witness:
    """The calls of a vault, recorded: it tries to read every object, and keeps every byte."""

    def __init__(self, calls):
        self.calls = calls
        self.made = []  # (name of the call, object)
        self.readable = []
        self.uses = []
        self.passed = []  # bytes, copied: the vault wipes its own

    def __getattr__(self, name):
        real = getattr(self.calls, name)

        def call(*args):
            self._keep(args)
            result = real(*args)
            self._keep((result,) + args)  # some calls write into what they are given
            if name in MAKERS:
                self.made.append((name, result))
                self._try_to_read(name, result, dict(args[-1]))
            return result

        return call

    def _keep(self, values):
        for value in values:
            if isinstance(value, (bytes, bytearray)):
                self.passed.append(bytes(value))
            elif isinstance(value, (list, tuple)):
                self._keep(value)

    def _try_to_read(self, name, handle, template):
        if template.get(CKA_CLASS) == CKO_SECRET_KEY:
            allowed = [self.calls.attribute(handle, use) for use in USES]
            self.uses.append([name, sum(1 << i for i, is_ in enumerate(allowed) if any(is_))])
        if template.get(CKA_SENSITIVE) is False:  # of L1: so what is tried below can be done
            assert self._reads_copy(handle, [])
        elif name != "copy" and CKA_SENSITIVE not in template:
            pass  # the public half
        elif self._reads(handle) or any(self._reads_copy(handle, less) for less in LESS):
            self.readable.append(name)

    def _reads(self, handle):
        try:
            return bool(self.calls.attribute(handle, CKA_VALUE))
        except VaultError:
            return False

    def _reads_copy(self, handle, less):
        try:
            duplicate = self.calls.copy(handle, [(CKA_TOKEN, False)] + less)
        except VaultError:
            return False
        try:
            return self._reads(duplicate)
        finally:
            self.calls.destroy(duplicate)

    def left(self):
        names = []
        for name, handle in self.made:
            try:
                self.calls.attribute(handle, CKA_CLASS)
                names.append(name)
            except VaultError:
                pass
        return names

    def seen(self, secrets):
        everything = b"|".join(self.passed)
        return sorted(name for name in secrets if secrets[name] in everything)


class Failing:
    """The calls of a vault, of which one fails: the `at`-th that is not there to undo another."""

    def __init__(self, calls, at):
        self.calls = calls
        self.at = at

    def __getattr__(self, name):
        real = getattr(self.calls, name)
        if name in ("destroy", "find", "attribute"):
            return real

        def call(*args):
            self.at -= 1
            if self.at == -1:
                raise VaultError("unavailable", "made to fail")
            return real(*args)

        return call


def failures(vault, case):
    calls, remaining = vault._backend, 0
    before = len(calls.find([]))
    for at in range(40):  # there are not so many calls
        vault._backend = Failing(calls, at)
        try:
            vault.delete(vault.open_contract_key(*case))
            return [at, remaining]
        except VaultError as e:
            assert e.reason == "unavailable", str(e)
            remaining += len(calls.find([])) - before
        finally:
            vault._backend = calls
    raise AssertionError("it never came to its end")


def refused(vault, case):
    try:
        vault.open_contract_key(*case)
        return ""
    except VaultError as e:
        return e.reason


def one_way(vault, level, recipe, case, secrets, bad):
    report = {}
    calls, all_ways = vault._backend, custody.RECIPES
    custody.RECIPES = {"aes-cbc": ((level, recipe),)}
    vault._survey_result = None
    try:
        report["trial"] = pkcs11.custody_by_scheme(vault)["iso2"]
        witness = vault._backend = Witness(calls)
        try:
            key = vault.open_contract_key(*case)
            proved = p256.verify(case[4], DIGEST, vault.sign(key, DIGEST))
            report["custody"] = [vault.custody(key), proved]
            vault.delete(key)
            vault._backend = calls
            report["failed"] = failures(vault, case)
        except VaultError as e:
            report["custody"] = e.reason
        vault._backend = calls
        report["bad"] = [refused(vault, arguments_) for arguments_ in bad]
        report["readable"] = witness.readable
        report["uses"] = witness.uses
        report["left"] = witness.left()
        report["seen"] = witness.seen(secrets)
        return report
    finally:
        vault._backend, custody.RECIPES, vault._survey_result = calls, all_ways, None


def arguments(case_json):
    """The arguments of `open_contract_key` in CASE."""
    case = [case_json["scheme"]]
    case += [bytes.fromhex(case_json[name]) for name in ("dh", "wrapped", "aad", "public")]
    return case


def run(vault, case_json):
    """The printed object, for an open vault."""
    secrets = {name: bytes.fromhex(value) for name, value in case_json["secrets"].items()}
    bad = [arguments(bad_case) for bad_case in case_json["bad"]]
    report = {
        level: one_way(vault, level, recipe, arguments(case_json), secrets, bad)
        for level, recipe in custody.RECIPES["aes-cbc"]
    }
    report["best"] = pkcs11.custody_by_scheme(vault)
    return report


def main(words):
    module, label, options, case = words
    with open(case, encoding="utf-8") as file:
        case_json = json.load(file)
    vault = pkcs11.open(module, label, sys.stdin.readline().strip(), options)
    print(json.dumps(run(vault, case_json)))
    vault.close()


if __name__ == "__main__":
    main(sys.argv[1:])
