"""EXIficient as a process: EXI to XML and back, by the schemas of EcoG's package.

EcoG's Python runs this file with the folder of the schemas; `fixtures.ecog` talks to it in lines
of JSON. Its grammars are made from the XSD files, not those compiled into the package, which
depart from them (`host/docs/peers.md`).

    {"do": "decode", "schema": "iso2", "fragment": false, "exi": hex}  ->  {"xml": text}
    {"do": "encode", "schema": "iso2", "fragment": false, "xml": text} ->  {"exi": hex}
    {"do": "own-decode" | "own-encode", "namespace": …, "exi" | "json": …, "rounds": n}
                                       ->  of EcoG's own codec: the result and the µs of one call

An answer may be {"error": text} instead.
"""

from __future__ import annotations

import json
import logging
import sys
import time
from pathlib import Path
from typing import Any

from iso15118.shared.exificient_exi_codec import ExificientEXICodec
from py4j.protocol import Py4JError, Py4JJavaError

SCHEMAS = {
    "iso2": "iso15118_2/V2G_CI_MsgDef.xsd",
    "sap": "V2G_CI_AppProtocol.xsd",
    "xmldsig": "xmldsig-core-schema.xsd",
}


class Exificient:
    """The engine in one Java process. A grammar is made at its first use."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.own = ExificientEXICodec()
        self._java = self.own.gateway.jvm
        self._factories: dict[tuple[str, bool], Any] = {}
        parsers = self._java.javax.xml.parsers.SAXParserFactory.newInstance()
        parsers.setNamespaceAware(True)
        self._reader = parsers.newSAXParser().getXMLReader()
        transformers = self._java.javax.xml.transform.TransformerFactory.newInstance()
        self._transformer = transformers.newTransformer()

    def decode(self, exi: bytes, schema: str, fragment: bool) -> str:
        stream = self._java.java.io.ByteArrayInputStream(exi)
        source = self._java.com.siemens.ct.exi.main.api.sax.EXISource(
            self._factory(schema, fragment)
        )
        source.setInputSource(self._java.org.xml.sax.InputSource(stream))
        writer = self._java.java.io.StringWriter()
        result = self._java.javax.xml.transform.stream.StreamResult(writer)
        self._transformer.transform(source, result)
        return str(writer.toString())

    def encode(self, xml: str, schema: str, fragment: bool) -> bytes:
        stream = self._java.java.io.ByteArrayOutputStream()
        result = self._java.com.siemens.ct.exi.main.api.sax.EXIResult(
            self._factory(schema, fragment)
        )
        result.setOutputStream(stream)
        self._reader.setContentHandler(result.getHandler())
        text = self._java.java.io.StringReader(xml)
        self._reader.parse(self._java.org.xml.sax.InputSource(text))
        return bytes(stream.toByteArray())

    def _factory(self, schema: str, fragment: bool) -> Any:
        """The options of ISO 15118: bit-packed, strict=false, no string table for values."""
        factory = self._factories.get((schema, fragment))
        if factory is None:
            exi = self._java.com.siemens.ct.exi
            grammars = exi.grammars.GrammarFactory.newInstance().createGrammars(
                str(self._folder / SCHEMAS[schema])
            )
            factory = exi.core.helpers.DefaultEXIFactory.newInstance()
            factory.setGrammars(grammars)
            factory.setFragment(fragment)
            factory.setValuePartitionCapacity(0)
            self._factories[schema, fragment] = factory
        return factory


def answer(engine: Exificient, request: dict[str, Any]) -> dict[str, Any]:
    kind = request["do"]
    if kind == "decode":
        exi = bytes.fromhex(request["exi"])
        return {"xml": engine.decode(exi, request["schema"], request["fragment"])}
    if kind == "encode":
        exi = engine.encode(request["xml"], request["schema"], request["fragment"])
        return {"exi": exi.hex()}
    namespace, rounds = request["namespace"], request.get("rounds", 1)
    own, argument = engine.own.encode, request.get("json")
    if kind == "own-decode":
        own, argument = engine.own.decode, bytes.fromhex(request["exi"])
    started = time.perf_counter()
    for _ in range(rounds):
        result = own(argument, namespace)
    microseconds = (time.perf_counter() - started) / rounds * 1e6
    if kind == "own-decode":
        return {"json": result, "microseconds": microseconds}
    return {"exi": bytes(result).hex(), "microseconds": microseconds}


def main() -> None:
    logging.disable(logging.CRITICAL)
    engine = Exificient(Path(sys.argv[1]))
    for line in sys.stdin:
        try:
            said = answer(engine, json.loads(line))
        except Py4JJavaError as error:
            said = {"error": str(error.java_exception.toString())}
        except (Py4JError, Exception) as error:  # noqa: BLE001 - the caller judges it
            said = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(said), flush=True)
    engine.own.gateway.shutdown()


if __name__ == "__main__":
    main()
