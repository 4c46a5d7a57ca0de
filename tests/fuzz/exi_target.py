"""Fuzz target: evcc.exi on any bytes, in each schema."""

import json
from collections.abc import Iterator
from pathlib import Path

from evcc import exi

VECTORS = Path(__file__).parent.parent / "vectors"


def seeds() -> Iterator[bytes]:
    for row in json.loads((VECTORS / "exi_corpus.json").read_text())["vectors"]:
        if row["form"] == "document":
            yield bytes.fromhex(row["exi"])


def target(data: bytes) -> None:
    """Only ExiError may come out, and what is accepted can be written and says the same."""
    for schema in ("iso2", "sap", "xmldsig"):
        try:
            message = exi.decode(data, schema)
        except exi.ExiError:
            continue
        if exi.decode(exi.encode(message, schema), schema) != message:
            raise AssertionError("written, it says something else")
