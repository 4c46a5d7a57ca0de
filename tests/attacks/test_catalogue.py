"""Every case of the catalogue on our module: the answer, its reason, and the state afterwards.

The messages are those that other makers' modules get in a campaign. The other files of this folder
have the attacks that are more than one message to a vehicle.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import Any

import pytest

from evcc.contracts import Contracts
from evcc.iso15118_2.installation import InstallationRequest, RejectedError
from evcc.ports.files import Files
from evcc.trust import Trust
from evcc.vault import PROVISIONING
from fixtures.cars import Car
from plugvault.cases import catalogue
from plugvault.cases.case import ACCEPT, EITHER, REFUSE, Case
from plugvault.cases.pki import CasePki
from plugvault.cases.scene import AFTER, EMAID, TWIN, Scene
from plugvault.cases.seed import Seed

NOW = 1_790_000_000
STAGES = {  # the reasons of our module that have another name in the catalogue
    "message": "decode",
    "unsolicited": "session",
    "not-admitted": "admitted",
    "dh-point": "key-transport",
    "wrapped-length": "key-transport",
    "envelope": "key-transport",
    "vault": "key",
}
# The cause that a refusal names, where another guard of the same stage could refuse by chance.
CAUSE = {
    "PA-001": "expired", "PA-002": "not-yet-valid", "PA-003": "expired", "PA-004": "expired",
    "PA-005": "no-ca-flag", "PA-006": "no-ca-flag", "PA-007": "key-usage", "PA-008": "path-length",
    "PA-009": "leaf-as-ca", "PA-010": "critical-extension", "PA-011": "critical-extension",
    "PA-014": "too-long", "PA-015": "wrong-issuer-key", "PA-020": "root-in-message",
    "PA-026": "curve", "PA-040": "role", "PA-041": "role", "PA-044": "untrusted",
    "PA-051": "expired", "PA-052": "not-yet-valid", "PA-055": "no-ca-flag", "PA-057": "key-usage",
    "PA-059": "leaf-as-ca", "PA-060": "critical-extension",
    "PA-076": "curve", "SG-001": "references", "SG-005": "references", "SG-006": "references",
    "SG-007": "references", "SG-008": "references", "SG-010": "digest", "SG-012": "digest",
    "SG-013": "digest", "SG-020": "algorithm", "SG-022": "algorithm", "SG-024": "algorithm",
    "SG-025": "algorithm", "SG-030": "members", "SG-040": "signature", "SG-045": "signature",
    "SG-053": "signature", "SG-056": "digest", "SE-012": "replayed", "SE-013": "older",
}  # fmt: skip


class CaseCar(Car):
    """A car of the cases' PKI, with the good twin of a case in it, and its state."""

    def __init__(self, pki: CasePki, vault: Any, folder: Path) -> None:
        self.pki, self.vault, self._folder = pki, vault, folder
        self.point = vault.generate_provisioning_key()
        self._lives = 0

    def begin(self) -> None:
        """Begin a case: no contract, and the trust anchors of the cases."""
        for key, _ in list(self.vault.keys()):
            if key != PROVISIONING:
                self.vault.delete(key)
        self._lives += 1
        self.files = Files(str(self._folder / f"life{self._lives}"))
        self.trust = Trust(self.files, self.vault.verify)
        self.trust.install("EU", self.pki.anchors, NOW)
        self.contracts = Contracts(self.files)

    def scene(self, case: Case, name: str = "", **age: int) -> Scene:
        return Scene(self.pki, self.point, f"{case.id}{name}", catalogue.SLOTS[case.id], **age)


@pytest.fixture(scope="module")
def pki() -> CasePki:
    return CasePki(Seed(1), NOW)


@pytest.fixture
def case_car(pki: CasePki, car_token: Any, tmp_path: Path) -> Iterator[CaseCar]:
    vault = car_token.open()
    yield CaseCar(pki, vault, tmp_path)
    vault.close()


def tried(car: CaseCar, case: Case) -> RejectedError | None:
    """The refusal of a case's message, None for an installation. A refusal leaves the state as it
    was, and a good message is installed afterwards."""
    car.begin()
    twin = car.scene(case, " twin", age=TWIN)
    car.installs(twin.response(), request=InstallationRequest(twin.session))
    scene = car.scene(case)
    built = case.build(scene)
    emaid = EMAID if case.announced else None
    for message in built.before:
        with suppress(RejectedError) if case.before_must == EITHER else nullcontext():
            car.installs(message, request=InstallationRequest(scene.session, emaid))
    request = InstallationRequest(scene.session, emaid) if case.asked else None
    before = car.stored()
    try:
        car.installs(built.message, request=request)
    except RejectedError as error:
        assert car.stored() == before, f"{case.id}: a refusal has changed the state"
        after = car.scene(case, " after", age=AFTER)
        car.installs(after.response(), request=InstallationRequest(after.session))
        return error
    return None


@pytest.mark.parametrize("group", [name for name in catalogue.GROUPS if name != "TI"])
def test_our_module_answers_every_case_and_keeps_its_state(
    group: str, case_car: CaseCar, record_property: Any
) -> None:
    cases = catalogue.select(f"{group}-*")
    for case in cases:
        error = tried(case_car, case)
        if error is None:
            assert case.must != REFUSE, f"{case.id} {case.title}: installed"
            continue
        assert case.must != ACCEPT, f"{case.id} {case.title}: {error}"
        cause = getattr(error.cause, "reason", None)
        if case.must == REFUSE:
            stage = STAGES.get(error.reason, error.reason)
            assert stage == case.stage, f"{case.id} {case.title}: {error}"
            assert cause == CAUSE.get(case.id, cause), f"{case.id} {case.title}: {error}"
    record_property("cases", len(cases))


def test_each_cause_is_that_of_a_case() -> None:
    assert set(CAUSE) <= set(catalogue.BY_ID)
