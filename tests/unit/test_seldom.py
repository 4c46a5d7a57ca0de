"""A warning that another party may cause at any rate comes once a minute, with the number."""

from __future__ import annotations

import logging

import pytest

from plugvault.seldom import INTERVAL, Seldom

log = logging.getLogger("plugvault.test")


def test_a_flood_is_one_warning_a_minute(caplog: pytest.LogCaptureFixture):
    now = 5.0
    warn = Seldom(log, "refused: {}", lambda: now)
    for number in range(1000):
        warn("from %s", number)
    assert caplog.messages == ["refused: from 0"]
    now += INTERVAL
    warn("100%")
    warn("from %s", 1)
    assert caplog.messages[1:] == ["refused: 100%; 999 more before this"]
    now += 2 * INTERVAL
    warn("from %s", "{}")
    assert caplog.messages[2:] == ["refused: from {}; 1 more before this"]
