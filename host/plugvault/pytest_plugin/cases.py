"""The cases of `--plugvault-cases DIR`, one for each run of a test with `installation_case`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from plugvault.campaign import cases as campaign_cases
from plugvault.campaign.adapters import of_function
from plugvault.campaign.cases import Campaign, CampaignCase, CampaignError
from plugvault.campaign.run import Runner, tried
from plugvault.campaign.verdicts import NOT_APPLICABLE
from plugvault.campaign.vocabulary import Json

_MUST = {True: "accept", False: "refuse"}


class InstallationCase:
    """One case, as `plugvault cases make` wrote it.

    id, title, must ("accept", "refuse", "either"): of the case. trust: [(kind, DER)], the roots
    that the vehicle trusts. at: its time, Unix seconds. emaid: that its request names, or None.
    good: messages that it must accept first, in this order, but for one with `may_be_refused`, for
    which its store may have no room; message: the case's own; after: a good one that it must
    accept afterwards. Each message has `exi` and `session`, the SessionID of the open request;
    None: no request is open.
    """

    def __init__(self, campaign: Campaign, case: CampaignCase) -> None:
        self._campaign, self._case = campaign, case
        self.id, self.title, self.must = case.id, case.facts["title"], case.must
        self.trust, self.at, self.emaid = campaign.trust, campaign.at, case.emaid
        self.good = (case.twin, *case.before)
        self.message, self.after = case.message, case.after

    def check(self, is_accepted: bool) -> None:
        """Fail the test, with the reason of the case, where the vehicle did not do what it
        must."""
        if self.must not in ("either", _MUST[is_accepted]):
            facts = self._case.facts
            reason = f"{facts['requirement']}: {facts['because']} {facts['gain']}".strip()
            pytest.fail(f"{self.id} {self.title}: must {self.must}. {reason}", pytrace=False)

    def run(self, answer: Callable[[Json], Json]) -> None:
        """Carry out the whole case, as a campaign does, and fail the test by its verdict.

        answer: the module, request -> answer [`plugvault.campaign.vocabulary`]. The test is
        skipped where the module lacks an ability that the case needs.
        """
        runner = Runner(self._campaign, lambda: of_function(answer))
        result = tried(runner, self._case)
        if result.verdict == NOT_APPLICABLE:
            pytest.skip(f"{self.id}: {result.why}")
        if result.deviation:
            text = f"{self.id} {self.title}: {result.verdict}: {result.why}"
            pytest.fail(text, pytrace=False)

    def __repr__(self) -> str:
        return f"InstallationCase({self.id})"


def read(folder: str) -> list[InstallationCase]:
    """The cases of a folder. Raises pytest.UsageError."""
    try:
        campaign = campaign_cases.read(Path(folder))
    except CampaignError as error:
        raise pytest.UsageError(f"--plugvault-cases: {error.detail}") from error
    cases = [case for case in campaign.cases if case.timing is None]  # those are a station's
    return [InstallationCase(campaign, case) for case in cases]
