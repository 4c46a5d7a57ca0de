"""Foreign revocations are learnt before the pools decide, and only from authorized signers."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from cryptography import x509
from cryptography.x509.oid import AuthorityInformationAccessOID

from bundles import WORLD
from fixtures.pools import Pools, authority
from fixtures.responders import Listener
from plugvault import foreign_revocation as learn
from plugvault.foreign_revocation import ForeignRevocation
from plugvault.net import Outbound
from plugvault.pki import path, responder
from plugvault.pki.responder import CertificateStatus, RevocationEntry
from plugvault.pools import certificates
from plugvault.pools.errors import PoolError
from world import NOW, PCID, Issued, issued, root


class Foreign:
    """A foreign CA below a root of RCP, its responder, and an ecosystem that learns from it."""

    def __init__(self, pools: Pools, place: Listener, issuer: Issued | None = None) -> None:
        self.pools, self.place = pools, place
        self.issuer = issuer or pools.world.oem_sub2
        self.leaf = self.issue()
        self.refresh = self.other()

    def other(self, own: tuple[str, ...] = (), networks: tuple[str, ...] = ("127.0.0.0/8",)):
        outbound = Outbound(networks, learn.TIMEOUT)
        now = self.now
        return ForeignRevocation(self.pools.store, own, outbound, now, now)

    def now(self) -> float:
        return self.pools.now

    def issue(self, **changes) -> Issued:
        address = x509.UniformResourceIdentifier(self.place.url)
        access = x509.AccessDescription(AuthorityInformationAccessOID.OCSP, address)
        extension = (x509.AuthorityInformationAccess([access]), False)
        return self.issuer.issue(PCID, dc="OEM", extensions=[extension], **changes)

    def says(self, certificate_status: CertificateStatus, by: Issued | None = None) -> None:
        def answer(request: bytes) -> bytes:
            request_, now = responder.read(request), self.pools.now
            return responder.answer(
                authority(by or self.issuer), request_, certificate_status, now, now + 7200
            )

        self.place.answers = answer

    def revoked(self, reason: str = "keyCompromise") -> RevocationEntry:
        return RevocationEntry(self.leaf.certificate.serial_number, int(NOW) - 60, reason)

    def status(self):
        with self.pools.store.read() as records:
            return records.statuses.get(*path.identity(path.read(self.leaf.der)))


@pytest.fixture
def foreign(pools: Pools) -> Iterator[Foreign]:
    with Listener() as place:
        yield Foreign(pools, place)


def test_a_certificate_revoked_by_its_issuer_is_refused_here(foreign: Foreign):
    foreign.says(foreign.revoked())
    foreign.refresh(foreign.leaf.chain)
    status = foreign.status()
    assert status
    assert (status.revoked, status.reason) == (int(NOW) - 60, "keyCompromise")
    with foreign.pools.store.read() as records, pytest.raises(PoolError, match="revoked"):
        certificates.check(records, foreign.leaf.chain)


@pytest.mark.parametrize("certificate_status", ["good", "unknown"])
def test_a_certificate_that_is_not_revoked_is_not_entered(
    foreign: Foreign, certificate_status: CertificateStatus
):
    foreign.says(certificate_status)
    foreign.refresh(foreign.leaf.chain)
    assert foreign.status() is None
    assert foreign.place.asked == ["application/ocsp-request"]


def test_an_answer_of_a_foreign_signer_revokes_nothing(
    foreign: Foreign, caplog: pytest.LogCaptureFixture
):
    foreign.says(foreign.revoked(), by=root("Stranger").sub("Stranger"))
    foreign.refresh(foreign.leaf.chain)
    assert foreign.status() is None
    assert "signed neither by the issuer nor by its responder" in caplog.text


def test_a_silent_responder_stops_nothing_and_is_left_alone_for_a_while(
    foreign: Foreign, caplog: pytest.LogCaptureFixture
):
    for _ in range(3):
        foreign.refresh(foreign.leaf.chain)
    assert len(foreign.place.asked) == 1
    assert f"from {foreign.place.url}: format" in caplog.text
    foreign.says(foreign.revoked())
    foreign.pools.now += int(learn.BACK_OFF) - 1
    foreign.refresh(foreign.leaf.chain)
    assert foreign.status() is None
    foreign.pools.now += 1
    foreign.refresh(foreign.leaf.chain)
    assert foreign.status()


def test_an_answer_is_not_asked_for_again_while_it_holds(foreign: Foreign):
    foreign.says("good")
    for _ in range(3):
        foreign.refresh(foreign.leaf.chain)
    assert len(foreign.place.asked) == 1
    foreign.says(foreign.revoked())
    foreign.pools.now += int(learn.RECHECK) - 1
    foreign.refresh(foreign.leaf.chain)
    assert len(foreign.place.asked) == 1
    foreign.pools.now += 1
    foreign.refresh(foreign.leaf.chain)
    assert len(foreign.place.asked) == 2
    assert foreign.status()


def test_our_own_cas_are_not_asked(foreign: Foreign):
    issuer, _ = path.identity(path.read(foreign.leaf.der))
    foreign.other(own=(issuer,))(foreign.leaf.chain)
    assert foreign.place.asked == []


def test_an_address_that_is_not_public_is_not_called(
    foreign: Foreign, caplog: pytest.LogCaptureFixture
):
    foreign.says(foreign.revoked())
    foreign.other(networks=())(foreign.leaf.chain)
    assert foreign.place.asked == []
    assert foreign.status() is None
    assert "refused" in caplog.text


def test_a_certificate_below_no_root_of_ours_causes_no_call(pools: Pools):
    with Listener() as place:
        foreign = Foreign(pools, place, root("Stranger").sub("S1", 1).sub("S2"))
        foreign.says(foreign.revoked())
        foreign.refresh(foreign.leaf.chain)
        assert place.asked == []


def test_a_path_without_a_valid_signature_causes_no_call(pools: Pools):
    """A foreign CA with the name and key identifier of a real one, but its own key."""
    real = pools.world.oem_sub2
    with Listener() as place:
        fake = issued(real.certificate, WORLD.cps.key, real.issuer)
        attacker = Foreign(pools, place, fake)
        attacker.says(attacker.revoked())
        attacker.refresh([attacker.leaf.der, *real.chain])
        assert place.asked == []


def test_an_unreadable_certificate_causes_no_call(foreign: Foreign):
    foreign.refresh([foreign.leaf.der, b"0"])
    assert foreign.place.asked == []


def test_a_silent_responder_pauses_every_address_of_its_issuer(pools: Pools):
    with Listener() as silent, Listener() as other:
        foreign = Foreign(pools, silent)
        foreign.refresh(foreign.leaf.chain)
        foreign.place = other
        foreign.refresh(foreign.issue(serial=77).chain)
        assert (len(silent.asked), len(other.asked)) == (1, 0)


def test_a_few_requests_of_one_caller_wait_and_the_others_go_on(foreign: Foreign):
    waiting, released = threading.Semaphore(0), threading.Event()

    def answer(_: bytes) -> bytes:
        waiting.release()
        assert released.wait(20)
        return b""

    foreign.place.answers = answer
    outbound = Outbound(("127.0.0.0/8",), 20)
    refresh = ForeignRevocation(foreign.pools.store, (), outbound, foreign.now, foreign.now)
    with ThreadPoolExecutor(learn.PER_CALLER) as threads:
        slow = [
            threads.submit(refresh, foreign.leaf.chain, "one") for _ in range(learn.PER_CALLER)
        ]
        for _ in slow:
            assert waiting.acquire(timeout=20)
        refresh(foreign.leaf.chain, "one")
        assert len(foreign.place.asked) == learn.PER_CALLER
        released.set()
    foreign.pools.now += int(learn.BACK_OFF)
    refresh(foreign.leaf.chain, "one")
    assert len(foreign.place.asked) == learn.PER_CALLER + 1


def test_all_callers_together_leave_threads_for_other_requests(foreign: Foreign):
    for number in range(learn.AT_ONCE):
        assert foreign.refresh._begin(str(number))
    foreign.refresh(foreign.leaf.chain, "another")
    assert foreign.place.asked == []
    foreign.refresh(foreign.leaf.chain)
    assert len(foreign.place.asked) == 1


def test_a_clock_that_goes_back_does_not_end_the_questions(foreign: Foreign):
    seconds = 0.0
    outbound = Outbound(("127.0.0.0/8",), learn.TIMEOUT)
    refresh = ForeignRevocation(foreign.pools.store, (), outbound, foreign.now, lambda: seconds)
    chain = foreign.leaf.chain
    foreign.pools.now += 365 * 86_400
    foreign.place.answers = lambda _: b"no answer of OCSP"
    refresh(chain)
    foreign.pools.now -= 365 * 86_400
    assert not refresh.is_due(chain)
    seconds += learn.BACK_OFF
    assert refresh.is_due(chain)


def test_a_request_for_which_no_responder_is_asked_is_told(
    foreign: Foreign, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    monkeypatch.setattr(learn, "PER_CALLER", 0)
    foreign.refresh(foreign.leaf.chain, "maker")
    assert "responders are not asked for a request: 0 requests of maker wait" in caplog.text
