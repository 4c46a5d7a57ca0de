"""The HTML report in a real browser: narrow, light, dark, on paper, offline."""

from __future__ import annotations

import base64
import io
from dataclasses import replace
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from pypdf import PdfReader

from fixtures.browser import Page
from plugvault.campaign import cases as campaign_cases
from plugvault.campaign.adapters import of_function
from plugvault.campaign.explained import with_explanations
from plugvault.campaign.html import to_html
from plugvault.campaign.result import Result
from plugvault.campaign.run import run
from plugvault.cases import catalogue, files
from plugvault.cases.pki import CasePki
from plugvault.cases.seed import Seed

NOW = 1_790_000_000
LONG = "word" * 100  # without a place to break the line
# The texts whose colours have less contrast than WCAG 2.2 asks for (1.4.3, AA).
FAINT = """(() => {
  const channel = c => c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4;
  const parts = text => text.match(/[\\d.]+/g).map(Number);
  const light = ([r, g, b]) => 0.2126 * channel(r / 255) + 0.7152 * channel(g / 255)
    + 0.0722 * channel(b / 255);
  const behind = element => {
    for (let at = element; at; at = at.parentElement) {
      const colour = parts(getComputedStyle(at).backgroundColor);
      if (colour.length === 3 || colour[3] === 1) return colour;
    }
    return [255, 255, 255];
  };
  const faint = new Set();
  for (const element of document.body.querySelectorAll("*")) {
    if (![...element.childNodes].some(n => n.nodeType === 3 && n.data.trim())) continue;
    const [one, other] = [light(parts(getComputedStyle(element).color)), light(behind(element))];
    const ratio = (Math.max(one, other) + 0.05) / (Math.min(one, other) + 0.05);
    if (ratio < 4.5) faint.add(`${element.tagName}.${element.className} ${ratio.toFixed(2)}`);
  }
  return [...faint];
})()"""
# The boxes that reach beyond the window, but for those in an element that scrolls by itself.
WIDE = """[...document.body.querySelectorAll("*")]
  .filter(e => !e.closest(".wide") && e.getBoundingClientRect().right > innerWidth + 0.5)
  .map(e => `${e.tagName}.${e.className}`)"""


@pytest.fixture(scope="module")
def result(tmp_path_factory: pytest.TempPathFactory) -> Result:
    """A module that takes every message, and says much."""
    key = ec.derive_private_key(0xABCDEF, ec.SECP256R1())
    issued = CasePki(Seed(9), NOW).oem_sub2.issue("PVTP0000000000001", dc="OEM", key=key)
    folder = tmp_path_factory.mktemp("cases")
    patterns = ("EN-001", "EN-014", "PA-040", "SG-04[01]", "EM-01*", "KT-04[0-2]", "KT-080")
    files.make(folder, issued.certificate, catalogue.select(*patterns), 1, NOW)

    def answer(request: dict[str, Any]) -> dict[str, Any]:
        if request["op"] == "hello":
            return {"v": 1, "module": "<b>ACME", "version": LONG, "can": []}
        return {"verdict": "accepted", "reason": LONG, "trace": {"z": "00" * 32}}

    campaign = campaign_cases.read(folder)
    ended = run(campaign, lambda: of_function(answer), command=f"plugvault campaign {LONG}")
    ended = replace(ended, again="plugvault campaign cases --module lines:./module")
    return with_explanations(ended, campaign, key)


@pytest.fixture(scope="module")
def shown(result: Result, page: Page, tmp_path_factory: pytest.TempPathFactory) -> Page:
    file = tmp_path_factory.mktemp("report") / "report.html"
    file.write_text(to_html(result), encoding="utf-8")
    page.open(file)
    return page


def test_a_report_asks_for_nothing_and_logs_nothing(shown: Page) -> None:
    requests = [e["request"]["url"] for name, e in shown.events if name.endswith("WillBeSent")]
    assert [url for url in requests if not url.endswith("/report.html")] == []
    assert len(requests) == 1
    logged = ("Runtime.consoleAPICalled", "Runtime.exceptionThrown", "Log.entryAdded")
    assert [event for event in shown.events if event[0] in logged] == []


@pytest.mark.parametrize("width", [420, 1200])
def test_a_report_does_not_scroll_sideways(shown: Page, width: int) -> None:
    shown.show(width)
    assert shown.value("document.documentElement.scrollWidth") <= width
    assert shown.value(WIDE) == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_text_of_a_report_can_be_read(shown: Page, scheme: str) -> None:
    shown.show(1000, scheme)
    assert shown.value(FAINT) == []
    paper = shown.value("getComputedStyle(document.body).backgroundColor")
    assert paper == {"light": "rgb(255, 255, 255)", "dark": "rgb(13, 17, 23)"}[scheme]


def test_a_printed_report_has_every_failure_on_white_paper(shown: Page, result: Result) -> None:
    shown.show(1000, "dark", "print")
    assert shown.value("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert shown.value(FAINT) == []
    document = base64.b64decode(shown.call("Page.printToPDF", printBackground=False)["data"])
    text = "".join(page.extract_text() for page in PdfReader(io.BytesIO(document)).pages)
    words = "".join(text.split())
    failed = [case.id for case in result.deviations]
    assert len(failed) > 10
    assert [ident for ident in failed if f"--only{ident}" not in words] == []
    assert "Signature" in words
