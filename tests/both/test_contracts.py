import hashlib

from evcc.contracts import RETIRED, Contract, ContractError, Contracts
from evcc.ports.files import StoreError
from evcc.record import pack
from evcc.vault import VaultError
from helpers import raises
from memory import KeyList, MemoryFiles, point

NOW = 1_800_000_000


def contract(n, emaid=None, not_before=NOW - 10, not_after=NOW + 10):
    return Contract(
        emaid or "DEABCC00000000" + str(n),
        bytes([n]) * 16,
        hashlib.sha256(point(bytes([n]) * 16)).digest(),
        "L1+",
        "Operator",
        not_before,
        not_after,
        hashlib.sha256(leaf(n)).digest()[:16],
    )


def leaf(n):
    return b"leaf %d" % n


def chain(n):
    return [leaf(n), b"sub 2", b"sub 1"]


def filled(count=1, files=None):
    contracts = Contracts(files or MemoryFiles())
    for n in range(count):
        contracts.commit(contract(n), chain(n))
    return contracts


def admit(contracts, c):
    contracts.admit(c.emaid, c.fingerprint, c.not_before)


def test_a_contract_survives_a_restart_whole():
    files = MemoryFiles()
    filled(2, files)
    again = Contracts(files)
    assert [c.emaid for c in again.all()] == ["DEABCC000000000", "DEABCC000000001"]
    c = again.get("DEABCC000000001")
    assert (c.key, c.custody, c.operator) == (b"\1" * 16, "L1+", "Operator")
    assert (c.not_before, c.not_after, c.fingerprint) == (
        NOW - 10,
        NOW + 10,
        hashlib.sha256(leaf(1)).digest()[:16],
    )
    assert again.chain(c.emaid) == chain(1)


def test_a_date_of_the_year_9999_is_kept():
    files = MemoryFiles()
    Contracts(files).commit(contract(1, not_after=253402300799), chain(1))
    assert Contracts(files).all()[0].not_after == 253402300799


def test_the_first_contract_is_active_and_a_second_changes_nothing():
    contracts = filled(2)
    assert contracts.active().emaid == "DEABCC000000000"


def test_choosing_survives_a_restart():
    files = MemoryFiles()
    filled(3, files).choose("DEABCC000000002")
    assert Contracts(files).active().emaid == "DEABCC000000002"


def test_choosing_an_unknown_contract_is_refused():
    raises(ContractError, "not-found", filled().choose, "DEABCC000000009")


def test_a_failed_choice_leaves_the_old_one():
    files = MemoryFiles()
    contracts = filled(2, files)
    files.budget = 0
    raises(StoreError, "full", contracts.choose, "DEABCC000000001")
    assert contracts.active().emaid == "DEABCC000000000"
    assert Contracts(files).active().emaid == "DEABCC000000000"


def test_the_same_emaid_replaces_and_stays_active():
    files = MemoryFiles()
    contracts = filled(2, files)
    old = contracts.commit(contract(7, "DEABCC000000000"), chain(7))
    assert old == b"\0" * 16
    again = Contracts(files)
    assert [c.key[0] for c in again.all()] == [7, 1]
    assert again.active().key[0] == 7
    assert "chain-" + "00" * 16 not in files.names()


def test_a_sixth_contract_is_refused_and_a_replacement_is_not():
    contracts = filled(5)
    raises(ContractError, "full", admit, contracts, contract(6))
    admit(contracts, contract(6, "DEABCC000000000"))


def test_an_older_certificate_does_not_replace_a_newer():
    contracts = filled()
    older = contract(6, "DEABCC000000000", NOW - 11)
    raises(ContractError, "older", admit, contracts, older)


def test_what_is_installed_or_was_cannot_be_installed_again():
    contracts = filled()
    raises(ContractError, "replayed", admit, contracts, contract(0))
    contracts.commit(contract(7, "DEABCC000000000"), chain(7))
    raises(ContractError, "replayed", admit, contracts, contract(0))
    contracts.delete("DEABCC000000000")
    raises(ContractError, "replayed", admit, contracts, contract(7, "DEABCC000000000"))


def test_the_memory_of_old_certificates_is_bounded():
    files = MemoryFiles()
    contracts = Contracts(files)
    for n in range(RETIRED + 5):
        contracts.commit(contract(n, "DEABCC000000000"), chain(n))
    size = len(files.read("contracts"))
    for n in range(RETIRED + 5, RETIRED + 50):
        contracts.commit(contract(n, "DEABCC000000000"), chain(n))
    assert len(files.read("contracts")) == size


def test_deleting_the_active_contract_chooses_no_other():
    contracts = filled(2)
    assert contracts.delete("DEABCC000000000") == b"\0" * 16
    assert contracts.active() is None
    raises(ContractError, "not-found", contracts.usable, NOW)
    raises(ContractError, "not-found", contracts.delete, "DEABCC000000000")


def test_an_expired_contract_is_not_used():
    contracts = filled()
    assert contracts.usable(NOW).emaid == "DEABCC000000000"
    assert contracts.usable(NOW + 10).emaid == "DEABCC000000000"
    raises(ContractError, "expired", contracts.usable, NOW + 11)
    raises(ContractError, "expired", contracts.usable, NOW - 11)


def test_a_full_disk_at_any_write_leaves_the_old_contract():
    for budget in (0, 1):
        files = MemoryFiles()
        contracts = filled(1, files)
        before = dict(files.content)
        files.budget = budget
        raises(StoreError, "full", contracts.commit, contract(7, "DEABCC000000000"), chain(7))
        assert files.content == before
        assert contracts.all()[0].key[0] == 0


def test_what_is_committed_stays_committed_when_the_old_chain_cannot_be_removed():
    """To its owner an error means the old contract, whose key it would keep, and lose the new."""
    files = MemoryFiles()
    contracts = filled(2, files)
    files.stuck = True
    assert contracts.commit(contract(7, "DEABCC000000000"), chain(7)) == b"\0" * 16
    assert contracts.delete("DEABCC000000001") == b"\1" * 16
    assert [c.key[0] for c in Contracts(files).all()] == [7]
    files.stuck = False
    assert len(Contracts(files).recover(KeyList([b"\7" * 16]))) == 2


def test_a_full_disk_is_named_even_where_nothing_can_be_removed():
    files = MemoryFiles()
    contracts = filled(1, files)
    files.budget, files.stuck = 1, True
    raises(StoreError, "full", contracts.commit, contract(7), chain(7))


def test_a_restart_removes_what_no_contract_owns():
    files = MemoryFiles()
    filled(1, files)
    files.content["chain-" + "09" * 16] = b"left over"
    vault = KeyList([b"provisioning", b"\0" * 16, b"\x09" * 16])
    assert len(Contracts(files).recover(vault)) == 2
    assert vault.held == [b"provisioning", b"\0" * 16]
    assert files.names() == ["chain-" + "00" * 16, "contracts"]


def test_what_cannot_be_removed_is_named_and_no_reason_not_to_start():
    class ReadOnly(MemoryFiles):
        def delete(self, name):
            raise StoreError("read-only", name)

    class Away(KeyList):
        def delete(self, key):
            raise VaultError("unavailable")

    files = ReadOnly()
    filled(1, files)
    files.content["chain-" + "09" * 16] = b"left over"
    vault = Away([b"\0" * 16, b"\x09" * 16])
    found = Contracts(files).recover(vault)
    assert len(found) == 2 and all(" stays: " in sentence for sentence in found)


def test_a_contract_whose_key_is_gone_half_torn_or_anothers_is_named_and_not_used():
    zero, one = b"\0" * 16, b"\1" * 16

    class Another(KeyList):
        def keys(self):
            return [(zero, point(one)), (one, point(one))]

    for vault in (
        KeyList([one]),
        KeyList([zero, one], halves=[zero]),
        KeyList([zero, one], torn=[zero]),
        Another([zero, one]),
    ):
        contracts = filled(2)
        found = contracts.recover(vault)
        assert len(found) == 1 and "DEABCC000000000" in found[0]
        raises(ContractError, "key-lost", contracts.usable, NOW)
        assert contracts.usable(NOW, "DEABCC000000001").key == one
        assert vault.held[-1] == one


def test_a_contract_whose_chain_is_gone_or_anothers_is_named_and_not_used():
    for damage in (lambda f, name: f.delete(name), lambda f, name: f.write(name, pack(chain(5)))):
        files = MemoryFiles()
        contracts = filled(2, files)
        damage(files, "chain-" + "00" * 16)
        found = contracts.recover(KeyList([b"\0" * 16, b"\1" * 16]))
        assert len(found) == 1 and "chain of DEABCC000000000" in found[0]
        raises(ContractError, "key-lost", contracts.usable, NOW)
        assert contracts.usable(NOW, "DEABCC000000001").key == b"\1" * 16


def test_what_was_damaged_may_be_installed_once_more_and_what_is_whole_may_not():
    contracts = filled(1)
    for n in (7, 8):
        raises(ContractError, "replayed", admit, contracts, contract(0))
        contracts.recover(KeyList([]))
        admit(contracts, contract(0))
        again = contract(n, "DEABCC000000000")
        again.fingerprint = contract(0).fingerprint
        contracts.commit(again, chain(0))
        assert contracts.recover(KeyList([again.key])) == []


def test_one_answer_lost_is_no_key_lost_and_a_vault_that_is_gone_is_said_to_be():
    class Flaky(KeyList):
        left = 2

        def _answer(self, operation, *arguments):
            if self.left:
                self.left -= 1
                raise VaultError("unavailable")
            return operation(self, *arguments)

        def keys(self):
            return self._answer(KeyList.keys)

        def sign(self, key, digest):
            return self._answer(KeyList.sign, key, digest)

    class Dead(KeyList):
        def random(self, n):
            raise VaultError("unavailable")

    contracts = filled(1)
    assert contracts.recover(Flaky([b"\0" * 16])) == []
    raises(VaultError, "unavailable", contracts.recover, Dead([b"\0" * 16]))


def test_a_key_without_a_name_is_removed_like_any_that_no_contract_owns():
    vault = KeyList([b"\0" * 16, b""], halves=[b""])
    assert len(filled(1).recover(vault)) == 1
    assert vault.held == [b"\0" * 16]


def test_without_an_index_no_key_is_removed():
    vault = KeyList([b"\1" * 16])
    assert len(Contracts(MemoryFiles()).recover(vault)) == 1
    assert vault.held == [b"\1" * 16]


def test_a_damaged_index_or_chain_is_named():
    files = MemoryFiles()
    contracts = filled(1, files)
    files.content["chain-" + "00" * 16] = b"?"
    raises(ContractError, "damaged", contracts.chain, "DEABCC000000000")
    del files.content["chain-" + "00" * 16]
    raises(ContractError, "damaged", contracts.chain, "DEABCC000000000")
    files.content["contracts"] = files.content["contracts"][:-1]
    raises(ContractError, "damaged", Contracts, files)
