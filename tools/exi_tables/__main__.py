"""Make the grammar tables of `evcc.exi`, and the namespaces of `plugvault.exi_xml`, from XML
schemas.

    python tools/exi_tables SCHEMAS [--out firmware/evcc/exi] [--names host/plugvault/exi_names.py]

SCHEMAS is a directory with the layout of the published schemas (`iso15118_2/`, beside it
`xmldsig-core-schema.xsd` and `V2G_CI_AppProtocol.xsd`). The schemas belong to others and stay
out of the repository; the tables made from them are committed.
"""

import argparse
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
FIRMWARE = HERE.parents[1] / "firmware"
NAMES = HERE.parents[1] / "host/plugvault/exi_names.py"
sys.path[:0] = [str(HERE), str(FIRMWARE)]

from programs import Tables, rows  # noqa: E402
from xsd import Schema  # noqa: E402

SCHEMAS = {
    "iso2": ("iso15118_2/V2G_CI_MsgDef.xsd", "ISO 15118-2:2013 messages, with XML Signature"),
    "sap": ("V2G_CI_AppProtocol.xsd", "ISO 15118-2 SupportedAppProtocol handshake"),
    "xmldsig": ("xmldsig-core-schema.xsd", "XML Signature alone: the grammar of SignedInfo"),
}
PARTS = ("elements", "offsets", "code", "names", "pairs")


def render(title: str, tables: Tables) -> str:
    """The Python source of one table module."""
    text = [f'"""{title}. Made by tools/exi_tables, not for editing."""', ""]
    text += [f"ATTRIBUTES = {tables.attributes}"]
    for label in PARTS:
        text += [f"{label.upper()} = (", *rows(getattr(tables, label)), ")"]
    return "\n".join([*text, ""])


def render_names(tables: dict[str, Tables]) -> str:
    """The Python source of the namespaces: a digit for each element, then for each attribute."""
    uris = sorted({uri for each in tables.values() for uri in each.uris})
    text = [
        '"""The namespaces of the names in `evcc.exi`\'s tables, for XML: a digit of URIS each.'
    ]
    text += ["", "Made by tools/exi_tables, not for editing.", '"""', ""]
    text += ["URIS = (", *(f'    "{uri}",' for uri in uris), ")", "NAMES = {"]
    for name, each in tables.items():
        digits = "".join(str(uris.index(uri)) for uri in each.uris)
        lines = [digits[at : at + 80] for at in range(0, len(digits), 80)]
        text += [f'    "{name}": (', *(f'        "{line}"' for line in lines), "    ),"]
    return "\n".join([*text, "}", ""])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("schemas", type=Path)
    parser.add_argument("--out", type=Path, default=FIRMWARE / "evcc" / "exi")
    parser.add_argument("--names", type=Path, default=NAMES)
    options = parser.parse_args()
    made = {name: Tables(Schema(options.schemas / path)) for name, (path, _) in SCHEMAS.items()}
    options.names.write_text(render_names(made))
    for name, (_, title) in SCHEMAS.items():
        tables = made[name]
        (options.out / f"{name}.py").write_text(render(title, tables))
        print(name, *(f"{part} {len(getattr(tables, part))}" for part in PARTS), "bytes")


main()
