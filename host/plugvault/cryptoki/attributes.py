"""The encoding of attributes: python-pkcs11's, and that of the attribute that only NSS has."""

from typing import cast

from pkcs11 import Attribute
from pkcs11.attributes import AttributeMapper

from evcc.vault.cryptoki import CKA_NSS_DB

MAPPER = AttributeMapper()
MAPPER.register_handler(cast(Attribute, CKA_NSS_DB), bytes, bytes)
