"""Stations with a wrong certificate, or the wrong TLS, against the car on every interpreter."""

from __future__ import annotations

import json
import ssl
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID

from evcc import revocation
from evcc import x509 as car_x509
from fixtures import tls_stations
from fixtures.tls_stations import REVOKED, SUITE, UNKNOWN, answer
from plugvault import runtimes
from world import NOW, World, root

BOTH = Path(__file__).parents[1] / "both"
OCSP_SIGNING = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.OCSP_SIGNING])
WAYS = [
    ("cpython", "cpython"),
    ("debian", "libssl"),
    ("debian", "mbedtls"),
    ("wheel", "mbedtls"),
    ("debian32", "mbedtls"),
]


@dataclass
class Case:
    """A station, and how the car's attempt ends. reason: None: it connects. detail: a part of
    the error's; where it connects: of the findings. without_ocsp: reason on a library that has
    no OCSP, if it differs."""

    name: str
    reason: str | None
    detail: str
    server: tls_stations.Server
    without_ocsp: tuple[str | None, str] | None = None
    options: dict[str, Any] = field(default_factory=dict)

    def expected(self, library: str) -> tuple[str | None, str]:
        if library == "mbedtls" and self.without_ocsp is not None:
            return self.without_ocsp
        return self.reason, self.detail


UNCHECKED = (None, "revocation: not checked")


def chains(world: World, folder: Path) -> Iterator[Case]:
    """Certificates of the wrong kind."""

    def refused(name: str, detail: str, leaf: Any, **settings: Any) -> Case:
        server = tls_stations.context(folder, leaf, **settings)
        return Case(name, "certificate", detail, server)

    cpo = world.cpo
    yield refused("a contract's leaf below an MO root", "role", world.contract)
    yield refused("the CPS in the place of the CPO", "role", world.cps)
    oem = world.provisioning(world.contract.point, key=world.contract.key)
    oem.key = world.contract.key
    yield refused("a vehicle's provisioning certificate", "role", oem)
    mo_cpo = world.mo_sub2.issue("DE*PVT*E0001", dc="CPO")
    yield refused("a CPO's leaf below an MO root", "untrusted", mo_cpo)
    foreign = root("Foreign Root", NOW).sub("CPO Sub2").issue("DE*PVT*E0001", dc="CPO")
    yield refused("a foreign root", "untrusted", foreign)
    twin = root("V2G Root", NOW).sub("CPO Sub2").issue("DE*PVT*E0001", dc="CPO")
    yield refused("a twin of the root", "wrong-issuer-key", twin)
    expired = world.cpo_sub2.issue("DE*PVT*E0001", dc="CPO", not_after=NOW - 1)
    yield refused("an expired leaf", "expired", expired)
    early = world.cpo_sub2.issue("DE*PVT*E0001", dc="CPO", not_before=NOW + 60)
    yield refused("a leaf of tomorrow", "not-yet-valid", early)
    yield refused("a chain without its sub-CAs", "untrusted", cpo, chain=[cpo.der])
    listed = refused("a leaf on the maker's list", "revoked", cpo)
    parsed = car_x509.parse(cpo.der)
    listed.options["revoked"] = [revocation.name(parsed.issuer, parsed.serial).hex()]
    yield listed
    yield Case(
        "an expired leaf while the time is not known",
        None,
        "dates: not judged",
        tls_stations.context(folder, expired),
        options={"now": None},
    )
    yield Case("no OCSP answer", *UNCHECKED, tls_stations.context(folder, cpo))
    with_root = [*cpo.chain, world.v2g_root.der]
    server = tls_stations.context(folder, cpo, chain=with_root)
    yield Case("a station that sends its root too", *UNCHECKED, server)


def answers(world: World, folder: Path) -> Iterator[Case]:
    """OCSP answers; a library without OCSP never asks for them."""
    cpo, sub2 = world.cpo, world.cpo_sub2
    responder = sub2.issue("OCSP Responder", extensions=[(OCSP_SIGNING, True)])
    stranger = root("Stranger", NOW).issue("OCSP Responder", extensions=[(OCSP_SIGNING, False)])
    other = sub2.issue("DE*PVT*E0002", dc="CPO")
    plain = sub2.issue("OCSP Responder")

    def stapled(name: str, reason: str | None, detail: str, data: bytes, **options: Any) -> Case:
        server = tls_stations.context(folder, cpo, staple=data)
        return Case(name, reason, detail, server, UNCHECKED, options)

    good = answer(cpo, NOW)
    yield stapled("a good answer", None, "revocation: good", good)
    delegated = answer(cpo, NOW, signer=responder, certificates=[responder])
    yield stapled("a good answer by a delegated responder", None, "revocation: good", delegated)
    yield stapled("a revoked leaf", "revocation", "revoked", answer(cpo, NOW, REVOKED))
    yield stapled("an unknown leaf", "revocation", "unknown", answer(cpo, NOW, UNKNOWN))
    of_other = stapled(
        "an answer about another leaf", "revocation", "certificate", answer(other, NOW)
    )
    if ssl.OPENSSL_VERSION_INFO >= (3, 6):  # its server holds such an answer back
        of_other.reason, of_other.detail = UNCHECKED
    yield of_other
    yield stapled("a stale answer", "revocation", "stale", answer(cpo, NOW, age=90_000))
    forged = good[:-1] + bytes([good[-1] ^ 1])
    yield stapled("a forged answer", "revocation", "signature", forged)
    by_stranger = answer(cpo, NOW, signer=stranger, certificates=[stranger])
    yield stapled("an answer by a stranger", "revocation", "signature", by_stranger)
    by_plain = answer(cpo, NOW, signer=plain, certificates=[plain])
    yield stapled("an answer by a sister without the purpose", "revocation", "signature", by_plain)
    needed = {"needs_ocsp": True}
    unavailable = ("unavailable", "OCSP")
    required = stapled("a good answer that is required", None, "revocation: good", good, **needed)
    required.without_ocsp = unavailable
    yield required
    server = tls_stations.context(folder, cpo)
    lack = "sends no OCSP answer"
    yield Case("no answer where one is required", "revocation", lack, server, unavailable, needed)


def protocols(world: World, folder: Path) -> Iterator[Case]:
    """Other kinds of TLS, and none."""
    tls13 = ssl.TLSVersion.TLSv1_3
    for name, settings in (
        ("TLS 1.3 only", {"minimum": tls13, "maximum": tls13}),
        ("another cipher suite", {"suites": "ECDHE-ECDSA-AES256-GCM-SHA384"}),
        ("a suite without a certificate", {"suites": "AECDH-AES128-SHA:@SECLEVEL=0"}),
    ):
        server = tls_stations.context(folder, world.cpo, **settings)
        yield Case(name, "handshake", "", server)
    yield Case("silence after the connection", "silence", "", None, options={"limit_ms": 200})


def results(
    runtime: runtimes.Runtime, library: str, made: list[Case], world: World, folder: Path
) -> tuple[list[dict[str, Any]], list[tls_stations.TlsStation]]:
    """The report of the car for each case, and the stations."""
    with tls_stations.running(*[case.server for case in made]) as stations:
        cases = [
            {
                "name": case.name,
                "port": station.port,
                "now": NOW,
                "limit_ms": 10_000,
                "needs_ocsp": False,
                "revoked": [],
                **case.options,
            }
            for case, station in zip(made, stations, strict=True)
        ]
        path = folder / f"{runtime.name}-{library}.json"
        path.write_text(json.dumps({"roots": [world.v2g_root.der.hex()], "cases": cases}))
        ended = subprocess.run(
            [*runtime.argv, *runtime.heap("4M"), str(BOTH / "tls_run.py"), str(path), library],
            env=runtime.env(BOTH),
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
    assert ended.returncode == 0, ended.stderr + ended.stdout
    return [json.loads(line) for line in ended.stdout.splitlines()], stations


def interpreter(name: str) -> runtimes.Runtime:
    """Skips the test where it is not set up."""
    runtime = runtimes.get(name)
    if runtime is None:
        pytest.skip(f"no interpreter {name!r} here; make says why")
    return runtime


@pytest.fixture(scope="module")
def world() -> World:
    return World()


@pytest.mark.parametrize(("name", "library"), WAYS)
def test_a_car_talks_to_a_cpo_of_its_roots_and_to_no_other_station(
    name: str, library: str, world: World, tmp_path: Path
) -> None:
    runtime = interpreter(name)
    made = [*chains(world, tmp_path), *answers(world, tmp_path), *protocols(world, tmp_path)]
    ends, stations = results(runtime, library, made, world, tmp_path)
    assert [end["name"] for end in ends] == [case.name for case in made]
    for case, end, station in zip(made, ends, stations, strict=True):
        reason, detail = case.expected(library)
        assert end["reason"] == reason, (case.name, end)
        assert detail in (end["detail"] or "" if reason else end["findings"]), (case.name, end)
        if reason is None:
            assert end["suite"] == SUITE
        else:
            assert station.received == [], f"{case.name}: a message was sent"


@pytest.mark.parametrize(("name", "library"), WAYS)
def test_a_station_without_the_key_of_its_chain_is_never_secured(
    name: str, library: str, world: World, tmp_path: Path
) -> None:
    """Mbed TLS does not say when a handshake is done, and one version of it takes any order."""
    runtime = interpreter(name)
    server = tls_stations.WithoutKey(tls_stations.context(tmp_path, world.cpo))
    case = Case("no key", None, "", server, options={"limit_ms": 500})
    ((end,), _) = results(runtime, library, [case], world, tmp_path)
    assert end["reason"] in ("handshake", "silence"), end
