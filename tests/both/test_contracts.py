import hashlib

from evcc.contracts import Contract, ContractError, Contracts
from evcc.envelopes import MISMATCHES, ROOM, EnvelopeError
from evcc.pause import set_pause
from evcc.ports.files import StoreError
from evcc.ports.stream import PortError
from evcc.record import pack, unpack
from evcc.vault import PROVISIONING, VaultError
from helpers import Pauses, raises
from memory import KeyList, MemoryFiles, point

NOW = 1_800_000_000


def contract(n, emaid=None, not_before=NOW - 10, not_after=NOW + 10):
    return Contract(
        emaid or "DEABCC0000000%dX" % n,
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


def begun(contracts, n, vault=None):
    """Contract n on its way in: (the contract, its envelope's point)."""
    c = contract(n, "DEABCC00000000X")
    c.key = contracts.begin(vault or KeyList([]), sender(n), b"w" * 48, c.fingerprint)
    c.public = hashlib.sha256(point(c.key)).digest()
    return c, sender(n)


def sender(n):
    return b"\4" + bytes([n]) * 64


def install(contracts, n, vault=None):
    c, point = begun(contracts, n, vault)
    contracts.commit(c, chain(n), point)
    return c


def admit(contracts, c, offered=None):
    contracts.admit(c.emaid, c.fingerprint, c.not_before, offered)


def test_a_contract_survives_a_restart_whole():
    files = MemoryFiles()
    filled(2, files)
    again = Contracts(files)
    assert [c.emaid for c in again.all()] == ["DEABCC00000000X", "DEABCC00000001X"]
    c = again.get("DEABCC00000001X")
    assert (c.key, c.custody, c.operator) == (b"\1" * 16, "L1+", "Operator")
    assert (c.not_before, c.not_after, c.fingerprint) == (
        NOW - 10,
        NOW + 10,
        hashlib.sha256(leaf(1)).digest()[:16],
    )
    assert again.chain(c.emaid) == chain(1)


def test_a_link_lost_in_a_pause_of_a_commit_leaves_the_old_contracts():
    files = MemoryFiles()
    contracts, stored = filled(1, files), []

    def lose_link():
        stored.append(files.read("contracts"))
        if len(stored) == 2:
            raise PortError("closed", "the other end is gone")

    set_pause(Pauses(lose_link))
    try:
        raises(PortError, "closed", contracts.commit, contract(1), chain(1))
    finally:
        set_pause(None)
    for held in (contracts, Contracts(files)):
        assert [c.emaid for c in held.all()] == ["DEABCC00000000X"]


def test_no_pause_of_a_commit_comes_after_its_commit_point():
    files = MemoryFiles()
    contracts, stored = filled(1, files), []
    before = files.read("contracts")
    set_pause(Pauses(lambda: stored.append(files.read("contracts"))))
    try:
        contracts.commit(contract(1), chain(1))
    finally:
        set_pause(None)
    assert stored == [before] * 2


def test_a_date_of_the_year_9999_is_kept():
    files = MemoryFiles()
    Contracts(files).commit(contract(1, not_after=253402300799), chain(1))
    assert Contracts(files).all()[0].not_after == 253402300799


def test_a_commit_that_fails_leaves_its_envelope_unopened():
    """And an envelope of a contract that was installed before stays an opened one."""
    for budget in (0, 1):
        files = MemoryFiles()
        contracts = filled(files=files)
        c, dh_point = begun(contracts, 2)
        files.budget = budget
        raises(StoreError, "full", contracts.commit, c, chain(2), dh_point)
        assert not contracts.envelopes.opened(c.fingerprint)
        files.budget = None
        contracts.commit(c, chain(2), dh_point)
        files.budget = budget
        raises(StoreError, "full", contracts.commit, c, chain(2), dh_point)
        assert contracts.envelopes.opened(c.fingerprint)


def test_the_first_contract_is_active_and_a_second_changes_nothing():
    contracts = filled(2)
    assert contracts.active().emaid == "DEABCC00000000X"


def test_choosing_survives_a_restart():
    files = MemoryFiles()
    filled(3, files).choose("DEABCC00000002X")
    assert Contracts(files).active().emaid == "DEABCC00000002X"


def test_the_choice_of_none_survives_a_restart():
    files = MemoryFiles()
    contracts = filled(2, files)
    contracts.choose("")
    assert contracts.active() is None
    assert Contracts(files).active() is None
    contracts.choose("")
    files.budget = 0
    raises(StoreError, "full", contracts.choose, "DEABCC00000001X")
    assert contracts.active() is None


def test_choosing_an_unknown_contract_is_refused():
    raises(ContractError, "not-found", filled().choose, "DEABCC00000009X")


def test_a_failed_choice_leaves_the_old_one():
    files = MemoryFiles()
    contracts = filled(2, files)
    files.budget = 0
    raises(StoreError, "full", contracts.choose, "DEABCC00000001X")
    assert contracts.active().emaid == "DEABCC00000000X"
    assert Contracts(files).active().emaid == "DEABCC00000000X"


def test_the_same_emaid_replaces_and_stays_active():
    files = MemoryFiles()
    contracts = filled(2, files)
    old = contracts.commit(contract(7, "DEABCC00000000X"), chain(7))
    assert old == b"\0" * 16
    again = Contracts(files)
    assert [c.key[0] for c in again.all()] == [7, 1]
    assert again.active().key[0] == 7
    assert "chain-" + "00" * 16 not in files.names()


def test_a_sixth_contract_is_refused_and_a_replacement_is_not():
    contracts = filled(5)
    raises(ContractError, "full", admit, contracts, contract(6))
    admit(contracts, contract(6, "DEABCC00000000X"))


def test_an_older_certificate_does_not_replace_a_newer():
    contracts = filled()
    older = contract(6, "DEABCC00000000X", NOW - 11)
    raises(ContractError, "older", admit, contracts, older)


def test_an_installed_or_removed_contract_cannot_be_installed_again():
    contracts = Contracts(MemoryFiles())
    for n in (0, 7):
        install(contracts, n)
        raises(ContractError, "replayed", admit, contracts, contract(0, "DEABCC00000000X"))
    contracts.delete("DEABCC00000000X")
    raises(ContractError, "replayed", admit, contracts, contract(7, "DEABCC00000000X"))


def test_only_the_maker_brings_a_removed_contract_back():
    contracts = Contracts(MemoryFiles())
    removed = contract(0, "DEABCC00000000X")
    install(contracts, 0)
    raises(ContractError, "replayed", admit, contracts, removed, removed.emaid)
    contracts.delete(removed.emaid)
    raises(ContractError, "replayed", admit, contracts, removed)
    admit(contracts, removed, removed.emaid)
    install(contracts, 7)
    raises(ContractError, "replayed", admit, contracts, removed, removed.emaid)


def test_a_removed_contract_stays_out_after_any_number_of_others():
    files = MemoryFiles()
    contracts = Contracts(files)
    for n in range(ROOM):
        install(contracts, n)
    contracts.delete("DEABCC00000000X")
    again = Contracts(files)
    for n in range(ROOM):
        raises(ContractError, "replayed", admit, again, contract(n, "DEABCC00000000X"))
    raises(EnvelopeError, "full", again.begin, KeyList([]), sender(ROOM), b"w" * 48, b"new")


def test_an_envelope_is_on_record_before_the_vault_is_asked():
    files = MemoryFiles()
    begun(Contracts(files), 1)
    again = Contracts(files)
    raises(EnvelopeError, "seen", again.begin, KeyList([]), sender(1), b"W" * 48, b"other")
    begun(again, 1)  # the very same may come again


def test_an_envelope_that_cannot_be_written_down_is_not_begun():
    files = MemoryFiles(budget=0)
    contracts = Contracts(files)
    raises(StoreError, "full", begun, contracts, 1)
    assert len(contracts.envelopes) == 0 and files.names() == []


def test_mismatches_are_counted_over_restarts_and_lifted_only_by_unlocking():
    files = MemoryFiles()
    for n in range(MISMATCHES):
        contracts = Contracts(files)
        assert not contracts.envelopes.locked
        begun(contracts, n)
        contracts.failed(sender(n), True)
    contracts = Contracts(files)
    raises(EnvelopeError, "locked", begun, contracts, MISMATCHES)
    files.budget = 0
    raises(StoreError, "full", contracts.unlock)
    assert contracts.envelopes.locked
    files.budget = None
    contracts.unlock()
    begun(Contracts(files), MISMATCHES)


def test_a_mismatch_on_a_full_disk_counts_until_it_can_be_stored():
    files = MemoryFiles()
    contracts = Contracts(files)
    begun(contracts, 1)
    files.budget = 0
    contracts.failed(sender(1), True)
    assert contracts.envelopes.mismatches == 1
    raises(EnvelopeError, "mismatched", begun, contracts, 1)


def test_a_power_cut_before_the_outcome_counts_as_a_mismatch():
    files = MemoryFiles()
    for n in range(MISMATCHES):
        begun(Contracts(files), n)
    raises(EnvelopeError, "locked", begun, Contracts(files), MISMATCHES)


def test_an_outcome_that_is_no_mismatch_does_not_count():
    files = MemoryFiles()
    for n in range(2 * MISMATCHES):
        contracts = Contracts(files)
        begun(contracts, n)
        contracts.failed(sender(n), False)
    for n in range(2 * MISMATCHES, 4 * MISMATCHES):
        install(Contracts(files), n)
    assert Contracts(files).envelopes.mismatches == 0


def test_an_envelope_in_the_vault_is_stored_as_a_mismatch_once():
    files = MemoryFiles()
    contracts = Contracts(files)
    begun(contracts, 1)
    assert Contracts(files).envelopes.mismatches == 1
    contracts.failed(sender(1), True)
    assert Contracts(files).envelopes.mismatches == 1


def test_the_key_that_a_session_holds_is_destroyed_after_it():
    contracts = Contracts(MemoryFiles())
    old, other = install(contracts, 1), contract(7)
    contracts.commit(other, chain(7))
    assert contracts.hold(old.emaid) is old
    new, sealed = begun(contracts, 2)
    assert contracts.commit(new, chain(2), sealed) is None
    for n in range(3, 20):
        begun(contracts, n)  # the journal has no room for all of them
    vault = KeyList([old.key, other.key, new.key])
    contracts.release(vault)
    assert vault.held == [other.key, new.key]
    contracts.hold(new.emaid)
    contracts.release(vault)  # nothing has replaced it
    assert vault.held == [other.key, new.key]
    assert contracts.commit(contract(8, new.emaid), chain(8)) == new.key


def test_an_emaid_with_and_without_its_check_digit_is_one_contract():
    whole, plain = "DEABCC00000000X", "DEABCC00000000"
    for first, second in ((whole, plain), (plain, whole), (whole, plain + "Z")):
        files = MemoryFiles()
        contracts = Contracts(files)
        contracts.commit(contract(1, first), chain(1))
        raises(ContractError, "older", admit, contracts, contract(2, second, NOW - 11))
        assert contracts.commit(contract(3, second), chain(3)) == b"\1" * 16
        assert [c.emaid for c in Contracts(files).all()] == [second]
        assert Contracts(files).usable(NOW, first).emaid == second
        fields = unpack(files.content["contracts"])
        twin = [first.encode()] + fields[5:9] + [fields[9][:16] + b"\0", fields[10]]
        files.content["contracts"] = pack(fields + twin)
        raises(ContractError, "damaged", Contracts, files)


def test_an_operators_name_is_cut_to_what_a_status_has_room_for():
    assert Contract("", b"", b"", "", "o" * 41, 0, 0, b"").operator == "o" * 40


def test_deleting_the_active_contract_chooses_no_other():
    contracts = filled(2)
    assert contracts.delete("DEABCC00000000X") == b"\0" * 16
    assert contracts.active() is None
    raises(ContractError, "not-found", contracts.usable, NOW)
    raises(ContractError, "not-found", contracts.delete, "DEABCC00000000X")


def test_an_expired_contract_is_not_used():
    contracts = filled()
    assert contracts.usable(NOW).emaid == "DEABCC00000000X"
    assert contracts.usable(NOW + 10).emaid == "DEABCC00000000X"
    raises(ContractError, "expired", contracts.usable, NOW + 11)
    raises(ContractError, "expired", contracts.usable, NOW - 11)


def test_a_full_disk_at_any_write_leaves_the_old_contract():
    for budget in (0, 1):
        files = MemoryFiles()
        contracts = filled(1, files)
        before = dict(files.content)
        files.budget = budget
        raises(StoreError, "full", contracts.commit, contract(7, "DEABCC00000000X"), chain(7))
        assert files.content == before
        assert contracts.all()[0].key[0] == 0


def test_a_commit_stays_when_the_old_chain_cannot_be_removed():
    """An error would tell the caller to keep the old contract and to lose the new key."""
    for error in (StoreError("read-only", "the old chain"), MemoryError()):
        files = MemoryFiles()
        contracts = filled(2, files)
        files.stuck = error
        assert contracts.commit(contract(7, "DEABCC00000000X"), chain(7)) == b"\0" * 16
        assert contracts.delete("DEABCC00000001X") == b"\1" * 16
        assert [c.key[0] for c in Contracts(files).all()] == [7]
        files.stuck = None
        assert len(Contracts(files).recover(KeyList([b"\7" * 16]))) == 2


def test_a_full_disk_is_named_even_where_nothing_can_be_removed():
    files = MemoryFiles()
    contracts = filled(1, files)
    files.budget, files.stuck = 1, StoreError("read-only", "all")
    raises(StoreError, "full", contracts.commit, contract(7), chain(7))


def test_a_restart_removes_leftovers_and_replaced_keys():
    files = MemoryFiles()
    contracts = Contracts(files)
    old, new = install(contracts, 1), install(contracts, 2)
    cut_off, _ = begun(contracts, 3)
    files.content["chain-" + "09" * 16] = b"left over"
    vault = KeyList([PROVISIONING, old.key, new.key, cut_off.key])
    assert len(Contracts(files).recover(vault)) == 3
    assert vault.held == [PROVISIONING, new.key]
    assert len(files.names()) == 2


def test_the_journal_keeps_the_last_keys_to_delete_and_no_more():
    files = MemoryFiles()
    contracts = Contracts(files)
    keys = [begun(contracts, n)[0].key for n in range(20)]
    vault = KeyList(keys)
    assert len(Contracts(files).recover(vault)) == 20
    assert vault.held == keys[:4]


def test_a_restart_removes_the_key_of_a_contract_that_was_removed():
    files = MemoryFiles()
    contracts = Contracts(files)
    key = install(contracts, 1).key
    contracts.delete("DEABCC00000000X")
    vault = KeyList([key])
    assert len(Contracts(files).recover(vault)) == 1
    assert vault.held == []


def test_an_unnamed_key_stays_until_it_is_discarded():
    files = MemoryFiles()
    contract_ = install(Contracts(files), 1)
    stray = b"\0" * 15 + b"?"
    vault = KeyList([contract_.key, stray])
    contracts = Contracts(files)
    assert contracts.recover(vault) == ["a key that no contract names stays: " + "00" * 15 + "3f"]
    assert vault.held == [contract_.key, stray] and contracts.unnamed == [stray]
    contracts.discard_unnamed(vault)
    assert vault.held == [contract_.key] and contracts.unnamed == []


def test_discarding_removes_unnamed_keys_except_undeletable_ones():
    class Vault(KeyList):
        def delete(self, key):
            raise VaultError(self.reason)

    contracts, vault = Contracts(MemoryFiles()), Vault([])
    contracts.unnamed, vault.reason = [b"k" * 16], "unavailable"
    raises(VaultError, "unavailable", contracts.discard_unnamed, vault)
    assert contracts.unnamed == [b"k" * 16]
    vault.reason = "not-found"
    contracts.discard_unnamed(vault)
    assert contracts.unnamed == []


def test_an_older_index_costs_no_key():
    """A copy of the index is put back, and the car started and used."""
    files = MemoryFiles()
    contracts = Contracts(files)
    first = install(contracts, 1)
    copy = files.content["contracts"]
    second = install(contracts, 2)
    newer, files.content["contracts"] = files.content["contracts"], copy
    vault = KeyList([second.key])  # the first one's was removed
    again = Contracts(files)
    messages = again.recover(vault)
    assert "older than the token" in messages[1] and second.key in again.unnamed
    third = install(again, 3)
    vault.held.append(third.key)
    messages = Contracts(files).recover(vault)
    assert vault.held == [second.key, third.key] and first.key not in vault.held
    assert len(messages) == 1 and "stays" in messages[0]  # the newest contract is newer than both
    files.content["contracts"] = newer
    assert Contracts(files).chain("DEABCC00000000X") == chain(2)


def test_an_index_from_within_an_installation_costs_no_key():
    for n in (2, 1):  # a new contract, and the same one renewed
        files = MemoryFiles()
        contracts = Contracts(files)
        first = install(contracts, 1)
        new, sealed = begun(contracts, 2)
        new.emaid = "DEABCC0000000%dX" % n
        copy = files.content["contracts"]
        contracts.commit(new, chain(2), sealed)
        files.content["contracts"] = copy
        vault = KeyList([first.key, new.key] if n == 2 else [new.key])
        for _ in range(2):
            again = Contracts(files)
            assert any("stays" in sentence for sentence in again.recover(vault))
            assert again.unnamed == [new.key] and new.key in vault.held
            assert "chain-" + new.key.hex() in files.names()
            again.choose("")  # writes the index


def test_a_car_claims_its_keys_and_a_new_car_draws_its_owner_id():
    files = MemoryFiles()

    class Random(KeyList):
        def random(self, n):
            return b"R" * n

    vault = Random([])
    assert Contracts(files).recover(vault) == []
    assert vault.owner == b"R" * 8 == Contracts(files).owner
    again = KeyList([])
    Contracts(files).recover(again)
    assert again.owner == b"R" * 8


def test_undeletable_files_and_keys_are_named_and_do_not_stop_the_start():
    class ReadOnly(MemoryFiles):
        def delete(self, name):
            raise StoreError("read-only", name)

    class Away(KeyList):
        def delete(self, key):
            raise VaultError("unavailable")

    files = ReadOnly()
    contracts = Contracts(files)
    contract_, (cut_off, _) = install(contracts, 1), begun(contracts, 2)
    files.content["chain-" + "09" * 16] = b"left over"
    vault = Away([contract_.key, cut_off.key])
    messages = Contracts(files).recover(vault)
    assert len(messages) == 2 and all(" stays: " in sentence for sentence in messages)


def test_a_contract_with_a_missing_or_wrong_key_is_named_and_not_used():
    first_key, second_key = b"\0" * 16, b"\1" * 16

    class Another(KeyList):
        def keys(self):
            return [(first_key, point(second_key)), (second_key, point(second_key))]

    for vault in (
        KeyList([second_key]),
        KeyList([first_key, second_key], halves=[first_key]),
        KeyList([first_key, second_key], torn=[first_key]),
        Another([first_key, second_key]),
    ):
        contracts = filled(2)
        messages = contracts.recover(vault)
        assert len(messages) == 1 and "DEABCC00000000X" in messages[0]
        raises(ContractError, "key-lost", contracts.usable, NOW)
        assert contracts.usable(NOW, "DEABCC00000001X").key == second_key
        assert vault.held[-1] == second_key


def test_a_contract_with_a_missing_or_wrong_chain_is_named_and_not_used():
    for damage in (lambda f, name: f.delete(name), lambda f, name: f.write(name, pack(chain(5)))):
        files = MemoryFiles()
        contracts = filled(2, files)
        damage(files, "chain-" + "00" * 16)
        messages = contracts.recover(KeyList([b"\0" * 16, b"\1" * 16]))
        assert len(messages) == 1 and "chain of DEABCC00000000X" in messages[0]
        raises(ContractError, "key-lost", contracts.usable, NOW)
        assert contracts.usable(NOW, "DEABCC00000001X").key == b"\1" * 16


def test_a_damaged_contract_may_be_installed_again_and_an_intact_one_may_not():
    contracts = filled(1)
    for n in (7, 8):
        raises(ContractError, "replayed", admit, contracts, contract(0))
        contracts.recover(KeyList([]))
        admit(contracts, contract(0))
        again = contract(n, "DEABCC00000000X")
        again.fingerprint = contract(0).fingerprint
        contracts.commit(again, chain(0))
        assert contracts.recover(KeyList([again.key])) == []


def test_a_lost_answer_is_no_lost_key_and_a_missing_vault_is_an_error():
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


def test_an_index_with_impossible_fields_is_damaged():
    for change in (
        lambda fields: fields + fields[11:18],
        lambda fields: fields[:16] + [fields[9]] + fields[17:],  # as active as the first
        lambda fields: [b"\2" + fields[0][1:]] + fields[1:],
        lambda fields: [b"\1\x80" + fields[0][2:]] + fields[1:],  # as many writes as none does
        lambda fields: fields[:3],
        lambda fields: fields[:1] + [b"seven b"] + fields[2:],
        lambda fields: fields[:2] + [b"a key cut off"] + fields[3:],
        lambda fields: fields[:9] + [fields[9][:16] + b"\2"] + fields[10:],
        lambda fields: fields[:6] + [b"31 bytes"] + fields[7:],
        lambda fields: fields[:10] + [b"15 bytes"] + fields[11:],
    ):
        files = MemoryFiles()
        filled(2, files)
        files.content["contracts"] = pack(change(unpack(files.content["contracts"])))
        raises(ContractError, "damaged", Contracts, files)


def test_a_damaged_index_or_chain_is_named():
    files = MemoryFiles()
    contracts = filled(1, files)
    files.content["chain-" + "00" * 16] = b"?"
    raises(ContractError, "damaged", contracts.chain, "DEABCC00000000X")
    del files.content["chain-" + "00" * 16]
    raises(ContractError, "damaged", contracts.chain, "DEABCC00000000X")
    files.content["contracts"] = files.content["contracts"][:-1]
    raises(ContractError, "damaged", Contracts, files)
