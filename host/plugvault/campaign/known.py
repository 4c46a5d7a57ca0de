"""Failures that are known: a TOML file, each with a reason and a last day.

    [[known]]
    case = "KT-043"
    reason = "the library reduces the scalar"
    ticket = "ACME-1234"
    until = 2027-03-31

A case that passes although it is known to fail, and an entry after its last day, are deviations;
an entry for a case that does not exist is refused. So the file cannot become outdated unnoticed.
"""

import datetime as dt
from dataclasses import dataclass
from pathlib import Path

from plugvault import toml_file
from plugvault.campaign.cases import Campaign, CampaignError
from plugvault.cases import catalogue


@dataclass(frozen=True)
class Known:
    """One entry. ticket: "" for none; until: the last day."""

    case: str
    reason: str
    ticket: str
    until: dt.date

    def is_over(self, today: dt.date) -> bool:
        """Whether the last day has passed."""
        return today > self.until


_FORM = "cases.md shows a file for --known: [[known]] with case, reason, until"


def read(path: Path) -> dict[str, Known]:
    """{case: its entry}. Raises CampaignError("known")."""
    try:
        rows = toml_file.read(path).get("known", [])
        entries = [
            Known(row["case"], row["reason"], row.get("ticket", ""), row["until"]) for row in rows
        ]
    except OSError as error:
        raise CampaignError("known", f"{path}: {error.strerror}") from error
    except toml_file.TomlError as error:
        raise CampaignError("known", f"{path} is not TOML: {error}; {_FORM}") from error
    except (TypeError, AttributeError) as error:
        raise CampaignError("known", f"{path}: known is no list of tables; {_FORM}") from error
    except KeyError as error:
        raise CampaignError("known", f"{path}: an entry without {error}") from error
    for entry in entries:
        if not all(isinstance(t, str) for t in (entry.case, entry.reason, entry.ticket)):
            raise CampaignError("known", f"{path}: case, reason and ticket of an entry are texts")
        if not isinstance(entry.until, dt.date) or isinstance(entry.until, dt.datetime):
            raise CampaignError("known", f"{path}: until of {entry.case} is a date: 2027-03-31")
    return {entry.case: entry for entry in entries}


def check(entries: dict[str, Known], campaign: Campaign) -> None:
    """Refuse entries for cases that do not exist: CampaignError("known")."""
    ids = {case.id for case in catalogue.CASES} | {case.id for case in campaign.cases}
    if unknown := sorted(set(entries) - ids - set(campaign.left_out)):
        raise CampaignError("known", f"--known: there is no case {', '.join(unknown)}")
