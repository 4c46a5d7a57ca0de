"""EXI against messages other codecs made: published ones, and a corpus from the EXIficient engine.

The corpus stands in the repository; the published messages are beside the project (`shared`).
"""

import base64
import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from evcc import exi
from evcc.exi import grammar
from plugvault import exi_json

CORPUS = json.loads((Path(__file__).parent / "exi_corpus.json").read_text())["vectors"]
DOCUMENTS = [row for row in CORPUS if row["form"] == "document"]
FRAGMENTS = [row for row in CORPUS if row["form"] == "fragment"]
HUBJECT = ["hubject_ccp_0", "hubject_ccp_1", "hubject_ccp_2"]


def label(row: dict[str, Any]) -> str:
    ((root, content),) = row["json"].items()
    return next(iter(content["Body"]), "Signature") if root == "V2G_Message" else root


# -- the corpus -------------------------------------------------------------------------------


@pytest.mark.parametrize("row", DOCUMENTS, ids=label)
def test_document_of_another_engine_reads_and_writes(row: dict[str, Any]) -> None:
    data = bytes.fromhex(row["exi"])
    message = exi.decode(data, row["schema"])
    assert exi_json.to_json(message, row["schema"]) == row["json"]
    assert exi.encode(exi_json.from_json(row["json"], row["schema"]), row["schema"]) == data
    assert exi_json.detect(data) == row["schema"]
    assert exi_json.detect_root(row["json"]) == row["schema"]


@pytest.mark.parametrize("row", FRAGMENTS, ids=label)
def test_fragment_of_another_engine_is_the_same(row: dict[str, Any]) -> None:
    ((name, value),) = row["json"].items()
    for document in (row["json"], value):
        arguments = exi_json.fragment_arguments(document, name, row["schema"])
        assert exi.fragment(*arguments).hex() == row["exi"]


def test_corpus_has_every_message_of_the_schemas() -> None:
    tables = grammar.load("iso2")
    names = {tables.name(i) for i in tables.roots()}
    messages = {name for name in names if name.endswith(("Req", "Res"))}
    assert len(messages) == 34
    bodies = [set(row["json"]["V2G_Message"]["Body"]) for row in DOCUMENTS if is_message(row)]
    for name in messages:
        assert bodies.count({name}) >= 3
    sap = {label(row) for row in DOCUMENTS if row["schema"] == "sap"}
    assert sap == {"supportedAppProtocolReq", "supportedAppProtocolRes"}


def is_message(row: dict[str, Any]) -> bool:
    return "V2G_Message" in row["json"]


# -- published messages -----------------------------------------------------------------------


@pytest.mark.parametrize("name", HUBJECT)
def test_published_message_reads_and_writes(shared: Path, name: str) -> None:
    data = (shared / "vectors" / f"{name}.exi").read_bytes()
    document = json.loads((shared / "vectors" / f"{name}.json").read_text())
    message = exi.decode(data)
    assert exi_json.to_json(message) == document
    assert exi_json.from_json(document) == message
    assert exi.encode(message) == data


@pytest.mark.parametrize(("name", "count"), [("hubject_ccp_0", 4), ("hubject_ccp_2", 1)])
def test_published_digests_are_of_our_fragments(shared: Path, name: str, count: int) -> None:
    document = json.loads((shared / "vectors" / f"{name}.json").read_text())
    ((root, body),) = document["V2G_Message"]["Body"].items()
    by_id = {
        value["Id"]: key
        for key, value in {root: body, **body}.items()
        if isinstance(value, dict) and "Id" in value
    }
    references = document["V2G_Message"]["Header"]["Signature"]["SignedInfo"]["Reference"]
    assert len(references) == len(by_id) == count
    for reference in references:
        element = by_id[reference["URI"].removeprefix("#")]
        fragment = exi.fragment(*exi_json.fragment_arguments(document, element))
        digest = hashlib.sha256(fragment).digest()
        assert base64.b64encode(digest).decode() == reference["DigestValue"], element


def test_annex_j_fragment_and_digest_are_ours(shared: Path) -> None:
    row = json.loads((shared / "vectors" / "annexJ_iso2_authorizationreq.json").read_text())
    value = {"Id": "ID1", "GenChallenge": b"Some Random Data"}
    fragment = exi.fragment("AuthorizationReq", value)
    assert fragment.hex() == row["authorization_req_fragment"]
    assert hashlib.sha256(fragment).hexdigest() == row["fragment_sha256"]
