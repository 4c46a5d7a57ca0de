"""Wrong inputs at the command line: status 1 or 2, and one line with input and next step."""

from __future__ import annotations

import os
import shlex
import sqlite3
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from plugvault.cases import catalogue
from plugvault.cases.pki import CasePki, point
from plugvault.cases.scene import Scene
from plugvault.cases.seed import Seed
from plugvault.cli.app import main
from plugvault.pools import peers
from plugvault.store import SqlStore

NOW = 1_790_000_000


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with wrong files, and an ecosystem without records."""
    folder = tmp_path_factory.mktemp("wrong")
    pki = CasePki(Seed(1), NOW)
    case = catalogue.BY_ID["EN-001"]
    vehicle = point(Seed(1).key("vehicle"))
    files = {
        "random.bin": os.urandom(64) + b"\xff\xfe",
        "text.txt": b"this is no certificate\n",
        "empty": b"",
        "cut.pem": b"-----BEGIN CERTIFICATE-----\nMIIB\n",
        "broken.json": b'{"a":',
        "list.json": b"[1]",
        "deep.json": b"[" * 200_000,
        "long.json": b'{"a": %s}' % (b"9" * 5000),
        "latin1.json": '{"a": "Müller"}'.encode("latin-1"),
        "env.json": b'{"here": {}}',
        "before.http": b"GET http://127.0.0.1:1/\n\n### two\nGET http://127.0.0.1:1/\n",
        "one.http": b"### one\nGET http://127.0.0.1:1/\n",
        "root.der": pki.v2g_root.der,
        "leaf.der": pki.cps.der,
        "message.exi": case.build(Scene(pki, vehicle, case.id, 1)).message,
        "request.exi": b"\x80\x98\x02",
        "wrong.toml": b"module = [",
        "deep.toml": b"known = " + b"[" * 200_000,
        "long.toml": b"known = " + b"9" * 5000,
        "number.toml": b"known = 1",
        "key.pem": KEY.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()),
        "broken.xml": b"<a>",
        "din.exi": bytes.fromhex("809a0011d020"),
        "frame20.bin": bytes.fromhex("01fe800200000002801000"),
    }
    for name, content in files.items():
        (folder / name).write_bytes(content)
    (folder / "folder").mkdir()
    for name in ("list", "deep"):
        (folder / name).mkdir()
        (folder / name / "manifest.json").write_bytes(files[f"{name}.json"])
        make_ecosystem(folder / f"eco-{name}")
        (folder / f"eco-{name}/partners.json").write_bytes(files[f"{name}.json"])
        (folder / f"eco-{name}/secrets.json").write_bytes(files[f"{name}.json"])
        (folder / f"eco-{name}/boards/aabb").mkdir(parents=True)
        (folder / f"eco-{name}/boards/aabb/board.json").write_bytes(files[f"{name}.json"])
    make_ecosystem(folder / "eco")
    (folder / "damaged").mkdir()
    (folder / "damaged/ecosystem.sqlite").write_bytes(os.urandom(4096))
    make_ecosystem(folder / "newer")
    with sqlite3.connect(folder / "newer/ecosystem.sqlite") as database:
        database.execute("UPDATE alembic_version SET version_num = '9999'")
    database.close()
    return folder


def make_ecosystem(folder: Path) -> None:
    """The database of an ecosystem with a partner p1, and no other record."""
    folder.mkdir(mode=0o700)
    store = SqlStore.sqlite(folder / "ecosystem.sqlite")
    with store.write() as records:
        peers.apply(records, "p1", "https://p1.example", "c1", "the test", NOW)
    store.close()


ECO = "ecosystem --data {0}/eco "
SANDBOX = "station --interface lo --sandbox https://127.0.0.1:1 "
HELP = "--help` says more"
KEY = ec.generate_private_key(ec.SECP256R1())
KNOWN = "campaign {0}/list --module exec:true --known {0}/"
# the command line: words of its one line, the input and the next step
WRONG: dict[str, tuple[str, ...]] = {
    # the command itself
    "inspekt": ("inspekt", "did you mean `inspect`"),
    "exi decod": ("decod", HELP),
    "inspect": ("FILE", HELP),
    "inspect --at yesterday {0}/message.exi": ("yesterday", "--at", HELP),
    "inspect --trust": ("--trust", HELP),
    "cases list --editions 3": ("--editions", HELP),
    "vault test --custody L4": ("--custody", HELP),
    "exi decode --schema din {0}/message.exi": ("din", "iso2"),
    "sandbox --port 65535 --providers aa,bb": ("65536", "name a lower first --port", HELP),
    "sandbox --port 0 --url http://[": ("--url", "http://...", HELP),
    "campaign {0} --module lines:cat --timeout inf": ("--timeout", "86400", HELP),
    "sandbox --keep-events inf": ("--keep-events", "36500", HELP),
    "inspect --at 0 {0}/message.exi": ("'0'", "--at", "Unix seconds of 9 to 11 digits", HELP),
    "cases list --group ''": ("no case matches", "groups are"),
    # a file in the place of a folder
    "sandbox --data {0}/root.der": ("--data", "root.der", "is a file", HELP),
    "sandbox --requests {0}/root.der": ("--requests", "root.der", "is a file", HELP),
    "station --interface lo --data {0}/root.der": ("--data", "root.der", "is a file", HELP),
    "vehicle --interface lo --data {0}/root.der": ("--data", "root.der", "is a file", HELP),
    "vehicle --interface lo --keep {0}/root.der": ("--keep", "root.der", "is a file", HELP),
    "pki import {0}/root.der --data {0}/root.der": ("--data", "root.der", "is a file", HELP),
    "cases make --vehicle {0}/leaf.der --out {0}/root.der": ("--out", "is a file", HELP),
    # files that are not there, or of another kind
    "inspect {0}/nothing": ("nothing", "No such file"),
    "inspect {0}/random.bin": ("random.bin", "unknown format"),
    "inspect {0}/empty": ("empty", "unreadable"),
    "inspect {0}/cut.pem": ("cut.pem", "no END line"),
    "inspect {0}/broken.json": ("broken.json", "not JSON"),
    "inspect {0}/din.exi": ("din.exi", "DIN 70121"),
    "inspect {0}/folder": ("folder", "directory"),
    "inspect {0}/message.exi --trust {0}/text.txt": ("text.txt", "--trust"),
    "inspect {0}/message.exi --trust {0}/leaf.der": ("leaf.der", "trust anchor"),
    "inspect {0}/message.exi --trust {0}/nothing": ("nothing", "No such file"),
    "inspect {0}/message.exi --key {0}/root.der": ("root.der", "no private key"),
    "inspect {0}/message.exi --key {0}/nothing": ("nothing", "No such file"),
    "inspect {0}/message.exi --svg {0}/a.svg": ("--svg", "captures"),
    "exi decode {0}/nothing": ("nothing", "No such file"),
    "exi decode {0}/text.txt": ("text.txt", "header", "--hex or --base64"),
    "exi decode {0}/frame20.bin": ("frame20.bin", "ISO 15118-20", "not supported"),
    "exi encode {0}/broken.json": ("broken.json", "not JSON"),
    "exi encode {0}/broken.xml": ("broken.xml", "not XML"),
    "exi encode {0}/list.json": ("list.json", "one root element",),
    "exi fragment --element Nothing {0}/broken.json": ("broken.json", "not JSON"),
    "explain {0}/nothing": ("nothing", "No such file"),
    "explain {0}/random.bin": ("random.bin", "no message of ISO 15118-2",),
    "explain {0}/message.exi --theirs k=00": ("--theirs", "--test-key or --token"),
    "explain {0}/message.exi --test-key {0}/root.der --theirs x=00": ("root.der", "private key"),
    "explain {0}/message.exi --trust {0}/text.txt": ("text.txt", "no certificate"),
    "explain {0}/message.exi --token car": ("car", "--pin"),
    "explain {0}/message.exi --test-key {0}/key.pem --theirs z=": ("z has no value", "z=HEX"),
    "explain {0}/message.exi --test-key {0}/text.txt": ("text.txt: text and no", "openssl pkey"),
    "inspect {0}/message.exi --key {0}/empty": ("empty: nothing and no", "openssl pkey", HELP),
    "explain {0}/message.exi --token pkcs11:tokn=car": ("known attributes",),
    "pki import {0}/nothing": ("nothing", "No such file"),
    "pki import {0}/folder": ("folder", "no certificate"),
    "pki import {0}/text.txt": ("text.txt", "no certificate"),
    "station --interface lo --json --serve {0}/nothing": ("nothing: No such file or directory",),
    "pki import {0}/root.der --password-file {0}/nothing": ("nothing", "No such file"),
    "cases show KT-999": ("KT-999", "plugvault cases list"),
    "cases list --group XX": ("groups are",),
    "cases make --vehicle {0}/nothing --out {0}/out": ("nothing", "No such file"),
    "cases make --vehicle {0}/text.txt --out {0}/out": ("vehicle's file", "no certificate"),
    "cases make --vehicle {0}/leaf.der --out {0}/eco": ("eco", "choose a new folder"),
    "cases make --vehicle {0}/leaf.der --out {0}/out --only XX-*": ("cases list",),
    "cases make --vehicle {0}/leaf.der --out {0}/out --pki {0}/eco": ("eco", "pki import"),
    "campaign {0}/folder --module exec:true": ("folder", "plugvault cases make"),
    "requests {0}/random.bin": ("random.bin", "--requests DIR"),
    "requests {0}/nothing": ("nothing", "No such file"),
    "requests {0}/one.http --env {0}/text.txt": ("text.txt", "--requests DIR"),
    "requests {0}/empty --env {0}/env.json": ("empty", "line of ###", "--requests DIR"),
    "requests {0}/text.txt --env {0}/env.json": ("text.txt", "line of ###", "--requests DIR"),
    "requests {0}/before.http --env {0}/env.json": ("before.http", "the first one too"),
    "requests {0}/one.http --env {0}/deep.json": ("deep.json", "--requests DIR"),
    # roots to trust
    "requests {0}/one.http --env {0}/env.json --trust {0}/text.txt": ("--trust", "text.txt"),
    "requests {0}/one.http --env {0}/env.json --trust {0}/nothing": ("nothing", "No such file"),
    SANDBOX + "--trust {0}/nothing": ("--trust", "nothing", "No such file", HELP),
    SANDBOX + "--trust {0}/text.txt": ("--trust", "text.txt", "no certificate", HELP),
    ECO + "partners link p1 --client-id c --trust {0}/nothing": ("--trust", "nothing", HELP),
    ECO + "partners link p1 --client-id c --trust {0}/empty": ("--trust", "empty", HELP),
    # JSON of each wrong kind, in each place
    "inspect {0}/deep.json": ("deep.json", "nested too deep"),
    "inspect {0}/long.json": ("long.json", "a number of more than 4300 digits"),
    "exi encode {0}/long.json": ("long.json", "a number of more than 4300 digits"),
    "exi encode {0}/latin1.json": ("latin1.json", "no text in UTF-8"),
    "campaign {0}/list --module exec:true": ("list", "no manifest of this", "cases make"),
    "campaign {0}/deep --module exec:true": ("deep", "nested too deep", "cases make"),
    "campaign diff {0}/deep.json {0}/deep.json": ("deep.json", "campaign run --json"),
    "campaign diff {0}/long.json {0}/list.json": ("long.json", "campaign run --json"),
    "pki import {0}/root.der --data {0}/eco-deep": ("secrets.json", "another --data folder"),
    "pki import {0}/root.der --data {0}/eco-list": ("secrets.json", "another --data folder"),
    "board list --data {0}/text.txt": ("--data", "text.txt", "is a file", HELP),
    "flash /dev/none --data {0}/text.txt": ("--data", "text.txt", "is a file", HELP),
    "board list --data {0}/eco-deep": ("board.json", "nested too deep"),
    "board list --data {0}/eco-list": ("board.json is damaged, or of no known plugvault",),
    ECO.replace("eco ", "eco-deep ") + "partners check p1": ("partners.json", "partners link"),
    ECO.replace("eco ", "eco-list ") + "partners check p1": ("partners.json", "partners link"),
    # the ecosystem
    "ecosystem --data {0}/damaged vehicles list": ("damaged", "--data folder"),
    "ecosystem --data {0}/newer vehicles list": ("later plugvault", "--data folder"),
    "ecosystem --database sqlite:///{0}/nothing vehicles list": ("nothing is not there", HELP),
    "ecosystem --database sqlite:///{0}/folder vehicles list": ("/folder", "not there", HELP),
    "ecosystem --database sqlite:///{0}/root.der vehicles list": ("root.der", "another database"),
    "ecosystem vehicles list": ("--data",),
    "ecosystem --data {0}/folder vehicles list": ("ecosystem.sqlite",),
    ECO + "roots add {0}/text.txt --kind V2G": ("text.txt", "PEM or DER"),
    ECO + "roots add {0}/nothing --kind V2G": ("nothing", "No such file"),
    ECO + "roots add {0}/root.der --kind X": ("X is none of V2G, OEM, MO, PE",),
    ECO + "roots list --kind X": ("X is none of V2G, OEM, MO, PE",),
    ECO + "roots remove x": ("no root x", "roots list"),
    ECO + "roots show x": ("no root x", "roots list"),
    ECO + "contracts list --provider x": ("x is no provider", "partners identifiers"),
    ECO + "contracts list --vehicle x": ("pcid", "match"),
    ECO + "contracts show x": ("x is no EMAID", "contracts list"),
    ECO + "contracts show DEPVAC000000012": ("DEPVAC000000012", "contracts list"),
    ECO + "vehicles show x": ("x", "vehicles list"),
    ECO + "roots approve x --fingerprint 00": ("no change", "roots changes"),
    ECO + "roots refuse x": ("no change", "roots changes"),
    ECO + "partners check x": ("named x", "partners ecosystems"),
    ECO + "partners move x active": ("named x", "partners ecosystems"),
    ECO + "partners suspend x": ("no client x", "partners list"),
    ECO + "partners readmit x": ("no client x", "partners list"),
    ECO + "partners apply p2 'https://h h'": ("url", "without spaces"),
    ECO + "partners apply p2 https://h\x7fh": ("url", "without spaces"),
    ECO + "partners apply p2 https://a:b@h": ("url", "credentials"),
    ECO + "partners apply p2 https://": ("url", "no host"),
    ECO + "partners apply p2 https://[": ("url", "cannot be read"),
    ECO + "partners apply p2 https://h/?a=b": ("url", "query"),
    ECO + "partners apply 'p\x1b[31m' https://h.example": ("name :", "can be shown"),
    ECO + "partners apply ' ' https://h.example": ("name :", "can be shown"),
    ECO + "partners add 'p\x1b[31m' --role OEM": ("name :", "can be shown"),
    ECO + "partners provider GBOCT 'p\x1b[31m'": ("name :", "can be shown"),
    ECO + "events list --limit 0": ("--limit", HELP),
    # tokens
    "vault test --conf {0}/nothing": ("nothing", "SoftHSM's configuration"),
    "vault status --token car --pin 1234": ("PIN", "file:PATH"),
    "vault status --config {0}/wrong.toml": ("wrong.toml", "TOML"),
    "vault status --config {0}/random.bin": ("random.bin", "not TOML: no text in UTF-8"),
    "vault status --config {0}/deep.toml": ("deep.toml", "not TOML: nested too deep"),
    KNOWN + "random.bin": ("random.bin", "not TOML: no text in UTF-8", "cases.md"),
    KNOWN + "deep.toml": ("deep.toml", "not TOML: nested too deep", "cases.md"),
    KNOWN + "long.toml": ("long.toml", "a number of more than 4300 digits", "cases.md"),
    KNOWN + "number.toml": ("number.toml", "no list of tables", "cases.md"),
    KNOWN + "nothing": ("nothing", "No such file"),
    "vault status --config {0}/nothing": ("nothing", "No such file"),
}  # fmt: skip


def run(*arguments: str) -> int:
    try:
        return main(list(arguments))
    except SystemExit as end:
        return int(end.code or 0)


@pytest.mark.parametrize("line", WRONG)
def test_a_wrong_input_is_one_line_with_the_next_step(
    line: str, place: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("PLUGVAULT_CONFIG", "PLUGVAULT_TOKEN", "PLUGVAULT_PIN"):
        monkeypatch.delenv(name, raising=False)
    assert run(*(word.format(place) for word in shlex.split(line))) in (1, 2)
    error = capfd.readouterr().err
    assert len(error.strip().splitlines()) == 1, error
    for words in WRONG[line]:
        assert words in error
