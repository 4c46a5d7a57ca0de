"""EXI 1.0 as ISO 15118 uses it: bit-packed, schema-informed, strict=false, header 0x80.

Messages are dicts of the schema's member names: a complex element is a dict (attributes are
members too; simple content beside attributes is `value`), a member that can occur more than once
is a list, base64Binary and hexBinary are bytes, integers int, boolean bool, everything else str.

Schemas: `iso2` (ISO 15118-2 messages), `sap` (SupportedAppProtocol), `xmldsig` (SignedInfo is
always signed in the form of that schema alone). One grammar walker reads and writes all of them.

Not implemented: other EXI options (value partitions have capacity 0, so references to earlier
values are errors), undeclared content, length facets, which the users of the values check.
"""

from evcc.exi.errors import ExiError as ExiError
from evcc.exi.grammar import forget as forget
from evcc.exi.reader import decode as decode
from evcc.exi.writer import encode as encode
from evcc.exi.writer import fragment as fragment
