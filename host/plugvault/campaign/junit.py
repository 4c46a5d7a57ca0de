"""The result as JUnit XML: a suite for each group; inconclusive cases and deviations are errors
and failures, so that a CI shows them as such."""

from itertools import groupby
from xml.etree import ElementTree as ET

from plugvault.campaign.result import CaseResult, Result
from plugvault.campaign.verdicts import INCONCLUSIVE, NOT_APPLICABLE
from plugvault.cases.catalogue import GROUPS
from plugvault.printable import printable


def to_junit(result: Result) -> bytes:
    """The XML in UTF-8. classname: the requirement; name: id and title."""
    suites = ET.Element("testsuites", name=printable(f"{result.module} {result.version}".strip()))
    for group, members in groupby(result.cases, lambda case: case.id.split("-")[0]):
        cases = list(members)
        suite = ET.SubElement(
            suites,
            "testsuite",
            name=printable(f"{group}: {GROUPS.get(group, '')}"),
            tests=str(len(cases)),
            failures=str(sum(_element(case) == "failure" for case in cases)),
            errors=str(sum(_element(case) == "error" for case in cases)),
            skipped=str(sum(_element(case) == "skipped" for case in cases)),
            timestamp=result.begun,
        )
        for case in cases:
            _add(suite, case)
    if result.not_tried:
        _add_stop(suites, result)
    ET.indent(suites)
    text: bytes = ET.tostring(suites, "utf-8", xml_declaration=True)
    return text + b"\n"


def _element(case: CaseResult) -> str:
    if case.verdict == INCONCLUSIVE and case.deviation:
        return "error"
    if case.deviation:
        return "failure"
    return "skipped" if case.verdict == NOT_APPLICABLE or case.known else ""


def _add(suite: ET.Element, case: CaseResult) -> None:
    seconds = 0.0 if case.message is None else case.message.milliseconds / 1000
    test = ET.SubElement(
        suite,
        "testcase",
        classname=printable(case.facts["requirement"]),
        name=printable(f"{case.id} {case.facts['title']}"),
        time=f"{seconds:.3f}",
    )
    if name := _element(case):
        message = case.deviation or (case.known.reason if case.known else case.why)
        detail = ET.SubElement(test, name, message=printable(message))
        detail.text = printable(f"{case.verdict}. {case.facts['because']} {case.facts['gain']}")


def _add_stop(suites: ET.Element, result: Result) -> None:
    """An error, so that a campaign which its user stopped is no success."""
    suite = ET.SubElement(suites, "testsuite", name="not tried", tests="1", errors="1")
    test = ET.SubElement(suite, "testcase", classname="campaign", name="stopped by the user")
    message = f"not tried: {len(result.not_tried)}"
    ET.SubElement(test, "error", message=message).text = ", ".join(result.not_tried)
