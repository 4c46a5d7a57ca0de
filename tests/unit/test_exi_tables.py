"""tools/exi_tables: a schema of our own, with shapes the V2G schemas use little or not at all.

The expected bytes were made from the same schema and values with the EXIficient engine
(bit-packed, strict off, value partition capacity 0).
"""

import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from evcc import exi
from evcc.exi import grammar

sys.path.append(str(Path(__file__).parents[2] / "tools" / "exi_tables"))

from programs import Tables
from xsd import Schema, SchemaError

NAME = "of our own"
HEAD = """<xs:schema xmlns:xs="http://www.w3.org/2001/XMLSchema" xmlns="urn:x"
    targetNamespace="urn:x" elementFormDefault="qualified">"""
ORDER = """
  <xs:element name="Order">
    <xs:complexType>
      <xs:sequence>
        <xs:element name="Line" minOccurs="2" maxOccurs="5" type="xs:unsignedByte"/>
        <xs:sequence minOccurs="0" maxOccurs="unbounded">
          <xs:element name="Left" type="xs:boolean"/>
        </xs:sequence>
        <xs:choice minOccurs="0">
          <xs:element name="Gift" type="xs:string" minOccurs="0" maxOccurs="3"/>
          <xs:element ref="Payment"/>
        </xs:choice>
        <xs:element name="End" type="small"/>
      </xs:sequence>
      <xs:attribute name="b" type="xs:string"/>
      <xs:attribute name="a" type="level" use="required"/>
      <xs:attribute name="c" type="xs:string"/>
    </xs:complexType>
  </xs:element>
  <xs:element name="Payment" type="PaymentType" abstract="true"/>
  <xs:complexType name="PaymentType" abstract="true"><xs:sequence/></xs:complexType>
  <xs:element name="Cash" substitutionGroup="Payment">
    <xs:complexType><xs:complexContent><xs:extension base="PaymentType"><xs:sequence>
      <xs:element name="Amount" type="xs:positiveInteger"/>
    </xs:sequence></xs:extension></xs:complexContent></xs:complexType>
  </xs:element>
  <xs:element name="Card" substitutionGroup="Payment">
    <xs:complexType><xs:complexContent><xs:extension base="PaymentType"><xs:sequence>
      <xs:element name="Number" type="xs:hexBinary"/>
    </xs:sequence></xs:extension></xs:complexContent></xs:complexType>
  </xs:element>
  <xs:complexType name="notes"><xs:sequence>
    <xs:element name="Note" type="xs:string"/><xs:element name="Blob" type="xs:base64Binary"/>
  </xs:sequence></xs:complexType>
  <xs:complexType name="marked"><xs:sequence>
    <xs:element name="Note"><xs:complexType><xs:simpleContent><xs:extension base="xs:string">
      <xs:attribute name="a" type="xs:string"/><xs:attribute name="m" type="xs:string"/>
    </xs:extension></xs:simpleContent></xs:complexType></xs:element>
    <xs:element name="Blob"><xs:complexType><xs:simpleContent>
      <xs:extension base="xs:base64Binary"><xs:attribute name="m" type="xs:string"/></xs:extension>
    </xs:simpleContent></xs:complexType></xs:element>
  </xs:sequence></xs:complexType>
  <xs:simpleType name="level"><xs:restriction base="xs:string">
    <xs:enumeration value="low"/><xs:enumeration value="high"/><xs:enumeration value="top"/>
  </xs:restriction></xs:simpleType>
  <xs:simpleType name="small"><xs:restriction base="xs:int">
    <xs:minInclusive value="-5"/><xs:maxInclusive value="4090"/>
  </xs:restriction></xs:simpleType>
"""
END = {"a": "low", "End": -5}
VECTORS = [
    ({**END, "Line": [0, 1]}, "80420000160000"),
    (
        {**END, "a": "top", "b": "x", "c": "y", "Line": [0, 1, 2, 3, 4]},
        "8048037800de4000020020018011400000",
    ),
    ({**END, "Line": [0, 1, 2], "Left": [True, False]}, "8042000010010a028000"),
    (
        {
            "a": "low",
            "Line": [0, 1, 2, 3],
            "Left": [True, True],
            "Gift": ["a", "b", "c"],
            "End": 4090,
        },
        "804200001001000c504406c2006c4006c63ffc",
    ),
    ({**END, "Line": [0, 1], "Gift": ["a"]}, "804200001201b0900000"),
    ({**END, "Line": [0, 1], "Cash": {"Amount": 300}}, "80420000142b00800000"),
    ({**END, "Line": [0, 1], "Card": {"Number": b"\0\xff"}}, "804200001300803fc00000"),
]


def tables(folder: Path, text: str) -> Tables:
    (folder / "x.xsd").write_text(f"{HEAD}{text}</xs:schema>")
    return Tables(Schema(folder / "x.xsd"))


@pytest.fixture
def own(tmp_path: Path) -> Iterator[str]:
    table_module = tables(tmp_path, ORDER)
    parts = ("attributes", "elements", "offsets", "code", "names", "pairs")
    module = SimpleNamespace(**{part.upper(): getattr(table_module, part) for part in parts})
    grammar._loaded[NAME] = grammar.Grammar(module)
    yield NAME
    del grammar._loaded[NAME]


@pytest.mark.parametrize(("order", "expected"), VECTORS)
def test_order_is_coded_as_another_engine_does(own: str, order: Any, expected: str) -> None:
    assert exi.encode({"Order": order}, own).hex() == expected
    assert exi.decode(bytes.fromhex(expected), own) == {"Order": order}


def test_root_of_a_substitution_group(own: str) -> None:
    assert exi.encode({"Card": {"Number": b"\xab"}}, own).hex() == "80000d58"


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("Note", {"m": "q", "value": "hello"}, "808181b8cc1da195b1b1bf74"),
        ("Note", {"value": "hello"}, "808983b432b63637ee80"),
        ("Note", "hello", "808983b432b63637ee80"),
        ("Card", {"Number": b"\xab"}, "802006acd0"),
    ],
)
def test_fragment_is_coded_as_another_engine_does(
    own: str, name: str, value: Any, expected: str
) -> None:
    assert exi.fragment(name, value, own).hex() == expected


@pytest.mark.parametrize("value", [b"x", {"value": b"x"}])
def test_octets_have_no_form_in_the_relaxed_grammar(own: str, value: Any) -> None:
    with pytest.raises(exi.ExiError) as caught:
        exi.fragment("Blob", value, own)
    assert caught.value.reason == "unsupported"


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"Line": [0]}, "missing"),
        ({"Line": [0] * 6}, "bounds"),
        ({"Gift": ["a"] * 4}, "bounds"),
        ({"Gift": ["a"], "Cash": {"Amount": 1}}, "unknown"),
        ({"Cash": {"Amount": 0}}, "value"),
        ({"End": -6}, "value"),
        ({"End": 4091}, "value"),
        ({"Payment": {}}, "unsupported"),
    ],
)
def test_order_outside_the_schema_is_refused(own: str, change: Any, reason: str) -> None:
    with pytest.raises(exi.ExiError) as caught:
        exi.encode({"Order": {**END, "Line": [0, 1], **change}}, own)
    assert caught.value.reason == reason


def element(type_: str) -> str:
    return f'<xs:element name="A"><xs:complexType>{type_}</xs:complexType></xs:element>'


REFUSED = {
    "a type inside itself": element(
        '<xs:sequence><xs:element ref="A" minOccurs="0"/></xs:sequence>'
    ),
    "one name twice in a state": element(
        '<xs:choice><xs:element name="B" type="xs:string"/>'
        '<xs:element name="B" type="xs:byte"/></xs:choice>'
    ),
    "a repeated sequence": element(
        '<xs:sequence maxOccurs="unbounded"><xs:element name="B" type="xs:string"/>'
        '<xs:element name="C" type="xs:string"/></xs:sequence>'
    ),
    "a group three times": element(
        '<xs:choice maxOccurs="3"><xs:element name="B" type="xs:string"/></xs:choice>'
    ),
    "one name of two types of one shape": element(
        '<xs:sequence><xs:element name="B" type="xs:string"/><xs:element ref="C"/></xs:sequence>'
    )
    + '<xs:element name="C"><xs:complexType><xs:sequence>'
    '<xs:element name="B" type="xs:byte"/></xs:sequence></xs:complexType></xs:element>',
    "a list": '<xs:simpleType name="T"><xs:list itemType="xs:byte"/></xs:simpleType>'
    '<xs:element name="A" type="T"/>',
    "a pattern": '<xs:element name="A"><xs:simpleType><xs:restriction base="xs:string">'
    '<xs:pattern value="[AB]+"/></xs:restriction></xs:simpleType></xs:element>',
    "a float": '<xs:element name="A" type="xs:float"/>',
    "nil": '<xs:element name="A" type="xs:string" nillable="true"/>',
    "any attribute": element("<xs:sequence/><xs:anyAttribute/>"),
    "xs:all": element('<xs:all><xs:element name="B" type="xs:string"/></xs:all>'),
    "a named group": '<xs:group name="G"><xs:sequence/></xs:group>',
}


@pytest.mark.parametrize("text", REFUSED.values(), ids=REFUSED.keys())
def test_unsupported_schema_constructs_are_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(SchemaError):
        tables(tmp_path, text)
