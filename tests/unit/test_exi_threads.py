"""Several threads may meet the same grammar while it is still being unfolded."""

import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from evcc import exi
from evcc.exi import grammar

STATUS = {"EVReady": True, "EVErrorCode": "NO_ERROR", "EVRESSSOC": 55}
VALUE = {"Multiplier": -1, "Unit": "V", "Value": 4000}
BODY = {
    "PreChargeReq": {"DC_EVStatus": STATUS, "EVTargetVoltage": VALUE, "EVTargetCurrent": VALUE}
}
MESSAGE = {"V2G_Message": {"Header": {"SessionID": bytes(8)}, "Body": BODY}}


@pytest.fixture
def impatient() -> Iterator[None]:
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(interval)


@pytest.mark.usefixtures("impatient")
def test_threads_unfold_one_grammar_together(monkeypatch: pytest.MonkeyPatch) -> None:
    data = exi.encode(MESSAGE)
    tables = grammar.load("iso2").tables
    with ThreadPoolExecutor(4) as pool:
        for _ in range(60):
            monkeypatch.setitem(grammar._loaded, "iso2", grammar.Grammar(tables))
            reading = [pool.submit(exi.decode, data) for _ in range(4)]
            writing = [pool.submit(exi.encode, MESSAGE) for _ in range(4)]
            assert all(job.result() == MESSAGE for job in reading)
            assert all(job.result() == data for job in writing)
