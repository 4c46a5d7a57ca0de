"""The same installations and the same refusals on every interpreter, each with a real token."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from plugvault import runtimes
from world import EMAID, NOW, SESSION_ID, World, root

BOTH = Path(__file__).parents[1] / "both"
FIRST, OTHER = "DEPVT0000000X19", "DEPVT0000000Z27"


def response(message: dict[str, Any]) -> Any:
    return message["V2G_Message"]["Body"]["CertificateInstallationRes"]


def cases(world: World, point: bytes) -> list[tuple[str, str | None, str | None, bytes]]:
    """(name, reason, cause, response), in the order they are tried: reason None installs."""

    def response_with(**changes: Any) -> bytes:
        return world.response(point, **changes)

    def swap(message: dict[str, Any]) -> None:
        response(message)["DHpublickey"]["value"] = world.contract.point

    def sha1(info: dict[str, Any]) -> None:
        info["SignatureMethod"]["Algorithm"] = "http://www.w3.org/2000/09/xmldsig#ecdsa-sha1"

    def unsigned(message: dict[str, Any]) -> None:
        del message["V2G_Message"]["Header"]["Signature"]

    foreign_cps = root("V2G Root", NOW).sub("Prov Sub2").issue("CPS Leaf", dc="CPS")
    expired = world.new_contract(EMAID, not_after=NOW - 1)
    off_curve = world.contract.point[:64] + bytes([world.contract.point[64] ^ 1])
    first = response_with(contract=world.new_contract(FIRST))
    renewed = response_with(contract=world.new_contract(FIRST, not_before=NOW - 60))
    n = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
    return [
        ("the first contract", None, None, first),
        ("noise", "message", "header", b"\x55" * 64),
        ("nothing", "message", "truncated", b""),
        ("a cut message", "message", "length", first[:2000]),
        ("8,193 bytes", "message", None, first + bytes(8193 - len(first))),
        ("a failure", "response-code", None, response_with(code="FAILED_NoCertificateAvailable")),
        ("another session", "session", None, response_with(session_id=bytes(8))),
        ("no signature", "signature", None, response_with(edit=unsigned)),
        ("signed by the CPO", "cps-path", "role", response_with(cps=world.cpo)),
        ("a twin of the root", "cps-path", "wrong-issuer-key", response_with(cps=foreign_cps)),
        (
            "three references",
            "signature",
            "references",
            response_with(references=("DHpublickey",) * 3),
        ),
        ("an old algorithm", "signature", "algorithm", response_with(edit_signed_info=sha1)),
        ("a swapped point", "signature", "digest", response_with(edit=swap)),
        ("an expired contract", "contract-path", "expired", response_with(contract=expired)),
        ("another EMAID", "emaid", None, response_with(emaid=OTHER)),
        ("a replay", "not-admitted", "replayed", first),
        ("a point off the curve", "dh-point", None, response_with(dh=off_curve)),
        ("our own point", "dh-point", None, response_with(dh=point)),
        ("47 bytes", "wrapped-length", None, response_with(encrypted=bytes(47))),
        ("another key", "vault", "key-mismatch", response_with(scalar=bytes(31) + b"\1")),
        ("no key", "vault", "key-mismatch", response_with(scalar=bytes(32))),
        ("a key of n", "vault", "key-mismatch", response_with(scalar=n.to_bytes(32, "big"))),
        ("the second contract, zeros behind it", None, None, response_with() + b"\0"),
        ("the first renewed", None, None, renewed),
        ("the first again", "not-admitted", "replayed", first),
        ("a third", None, None, response_with(contract=world.new_contract(OTHER))),
        ("a fourth", None, None, response_with(contract=world.new_contract("DEPVT000000004"))),
        ("a fifth", None, None, response_with(contract=world.new_contract("DEPVT000000005"))),
        (
            "a sixth",
            "not-admitted",
            "full",
            response_with(contract=world.new_contract("DEPVT000000006")),
        ),
    ]


@pytest.mark.parametrize(
    ("kind", "name"), [("pkcs11", "debian"), *(("service", name) for name in runtimes.NAMES)]
)
def test_the_same_verdicts_with_a_real_token(
    kind: str,
    name: str,
    world: World,
    car_token: Any,
    record_property: Callable[[str, object], None],
) -> None:
    runtime = runtimes.get(name)
    if runtime is None:
        pytest.skip(f"no interpreter {name!r} here; make says why")
    vault = car_token.open()
    point = vault.generate_provisioning_key()
    vault.close()
    tried = cases(world, point)
    file = car_token.folder / "cases.json"
    file.write_text(
        json.dumps(
            {
                "now": NOW,
                "session": SESSION_ID.hex(),
                "anchors": [[kind, der.hex()] for kind, der in world.anchors],
                "cases": [
                    {"name": name, "reason": reason, "cause": cause, "response": exi.hex()}
                    for name, reason, cause, exi in tried
                ],
            }
        )
    )
    where = [str(file), str(car_token.folder / "store"), kind]
    if kind == "pkcs11":
        ended = run(runtime, [*where, str(car_token.module), car_token.label], car_token)
    else:
        with car_token.service() as service:
            ended = run(runtime, [*where, str(service.socket_path)], car_token)
    passed = sum(line.startswith("ok ") for line in ended.stdout.splitlines())
    record_property(f"evcc {runtime.name}", passed)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert passed == len(tried)


def run(
    runtime: runtimes.Runtime, arguments: list[str], car_token: Any
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*runtime.argv, *runtime.heap("1M"), str(BOTH / "installation_run.py"), *arguments],
        env={**runtime.env(BOTH), **car_token.store.env()},
        input=car_token.pin + "\n",
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
